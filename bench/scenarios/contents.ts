/** Reading a page of 50 from the cache, while 20 batches a second are saved, each of which makes every cached page worthless. */
import { Redis } from 'ioredis'
import { once, requestOf, run } from '../client.ts'
import { type Contender, type Process, type Running, startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { saveManyBody } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import { drained } from './embedded.ts'

const connections = 64
const page = 50
const batchSize = 10
const batchesPerSecond = 20
const jsonHeaders = { 'content-type': 'application/json' }
const ours = `{ contents(first: ${page}) { edges { node { id content createdAt savedAt } } pageInfo { hasNextPage endCursor } } }`
const theirs = `{ contents(first: ${page}) { id content createdAt savedAt } }`

/** Spillway, which saves the batches whoever is measured: the load beside is the same for all. */
let api: Process
let length: number

function reading(parts: Parts, url: string, query: string, stop: () => Promise<void>): Running {
  const { seconds, warmUpSeconds } = parts.pace
  const requests = [requestOf(url, '/graphql', JSON.stringify({ query }))]
  return {
    async measure() {
      const batches = await batchesAnnounced(parts)
      const since = performance.now()
      const { rate, errors, latency } = await run({ url, connections, requests, check, seconds, warmUpSeconds })
      const beside = ((await batchesAnnounced(parts)) - batches) / ((performance.now() - since) / 1_000)
      return { rate, p50: latency.quantile(0.5), p99: latency.quantile(0.99), 'batches/s': beside, errors }
    },
    stop,
  }
}

function check(body: string): void {
  const { contents } = JSON.parse(body).data
  if (typeof contents !== 'string' && (contents.edges ?? contents).length !== page)
    throw new Error(`a page of ${page} was asked for: ${body.slice(0, 300)}`)
}

async function batchesAnnounced(parts: Parts): Promise<number> {
  return Number(await parts.redis.cli('XLEN', '{spillway:events}:log'))
}

const peer = (name: string, file: string, role: 'peer' | 'limit'): Contender => ({
  name,
  role,
  start: async (parts) => {
    const { url, stop } = await startPeer(file, { ...parts.env, LENGTH: String(length) })
    return reading(parts, url, theirs, stop)
  },
})

export const contents: Scenario = {
  name: 'contents',
  title: `contents of ${page}, cached, with ${batchesPerSecond} batches/s being saved`,
  figure: 'rate',
  unit: '/s',
  note: `Beside each contender Spillway's API and a worker save ${batchesPerSecond} batches of ${batchSize} a second, and each batch ends the life of every cached page, the peer's too. The peer's answer has no edges and no pageInfo.`,
  contenders: [
    { name: 'Spillway', role: 'ours', start: async (parts) => reading(parts, api.url, ours, async () => {}) },
    peer('node:http sending a constant string of that size', 'constant', 'limit'),
    peer('Mercurius + jit over a cached page', 'mercurius-page', 'peer'),
  ],
  targets: [
    { beside: 'node:http sending a constant string of that size', atLeast: 0.8 },
    { beside: 'Mercurius + jit over a cached page', atLeast: 4 },
  ],
  stage: async (parts) => {
    await parts.reset()
    api = await startSpillway('api', parts.env)
    const worker = await startSpillway('worker', parts.env)
    const save = async (size: number, n: number) => {
      const response = await fetch(`${api.url}/graphql`, {
        method: 'POST',
        headers: jsonHeaders,
        body: saveManyBody(size, n),
      })
      await response.text()
    }
    await save(1_000, 0)
    await drained(api.url)
    const requests = [requestOf(api.url, '/graphql', JSON.stringify({ query: ours }))]
    length = Buffer.byteLength(await once({ url: api.url, requests, check }))
    const cache = new Redis(parts.cache.url)
    let n = 0
    const timer = setInterval(async () => {
      await save(batchSize, n++).catch(() => {})
      await cache.del(`contents:${page}`)
    }, 1_000 / batchesPerSecond)
    return async () => {
      clearInterval(timer)
      await drained(api.url)
      cache.disconnect()
      await Promise.all([api.stop(), worker.stop()])
    }
  },
}
