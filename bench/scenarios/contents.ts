/** Reading a page of 50 from the cache, while 20 batches a second are saved, each of which makes every cached page worthless. */
import { Redis } from 'ioredis'
import { once, requestOf, run } from '../client.ts'
import { type Contender, type Process, type Running, startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { CpuMeter } from '../process-figures.ts'
import { saveManyBody } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import { drained } from './embedded.ts'

const connections = 64
const page = 50
const batchSize = 10
const batchesPerSecond = 20
const jsonHeaders = { 'content-type': 'application/json' }
const columns = 'id content createdAt savedAt'
const connection = `{ edges { node { ${columns} } } pageInfo { hasNextPage endCursor } }`
const list = `{ ${columns} }`

/** As many documents as there are to be, which differ in an alias. */
const documents = (count: number, selection: string): string[] =>
  Array.from({ length: count }, (_, n) => {
    const alias = count === 1 ? 'contents' : `page${String(n).padStart(3, '0')}: contents`
    return `{ ${alias}(first: ${page}) ${selection} }`
  })

/** Spillway, which saves the batches whoever is measured: the load beside is the same for all. */
let api: Process
let length: number
/** What else has to hear that the pages changed. */
const invalidated = new Set<() => Promise<unknown>>()

function reading(parts: Parts, { url, pid, stop }: Process, queries: readonly string[]): Running {
  const { seconds, warmUpSeconds } = parts.pace
  const requests = queries.map((query) => requestOf(url, '/graphql', JSON.stringify({ query })))
  return {
    async measure() {
      const batches = await batchesAnnounced(parts)
      const since = performance.now()
      const meter = new CpuMeter({ API: [pid], cache: [parts.cache.pid] })
      const done = await run({ url, connections, requests, check, seconds, warmUpSeconds, meter })
      const { rate, count, errors, latency } = done
      const beside = ((await batchesAnnounced(parts)) - batches) / ((performance.now() - since) / 1_000)
      return {
        rate,
        p50: latency.quantile(0.5),
        p99: latency.quantile(0.99),
        ...meter.perOperation(count),
        'batches/s': beside,
        errors,
      }
    },
    stop,
  }
}

function check(body: string): void {
  const [contents] = Object.values<{ edges?: unknown[] } & unknown[]>(JSON.parse(body).data)
  if (typeof contents !== 'string' && (contents!.edges ?? contents!).length !== page)
    throw new Error(`a page of ${page} was asked for: ${body.slice(0, 300)}`)
}

async function batchesAnnounced(parts: Parts): Promise<number> {
  return Number(await parts.redis.cli('XLEN', '{spillway:events}:log'))
}

const peer = (name: string, file: string, role: 'peer' | 'limit', count: number): Contender => ({
  name,
  role,
  start: async (parts) => {
    const process = await startPeer(file, { ...parts.env, LENGTH: String(length) })
    const invalidate = () => fetch(`${process.url}/invalidate`).then((response) => response.text())
    if (file === 'yoga-cached') invalidated.add(invalidate)
    const running = reading(parts, process, documents(count, list))
    return {
      ...running,
      stop: async () => {
        invalidated.delete(invalidate)
        await running.stop()
      },
    }
  },
})

const limit = 'node:http sending a constant string of that size'
const nearest = 'Mercurius + jit over a page that Redis caches'

const contentsOf = (name: string, title: string, count: number): Scenario => ({
  name,
  title: `${title}, with ${batchesPerSecond} batches/s being saved`,
  figure: 'rate',
  unit: '/s',
  note: `Beside each contender a Spillway of its own saves ${batchesPerSecond} batches of ${batchSize} a second, and each batch ends the life of every cached page, the peers' too. The peers' answers have no edges and no pageInfo. On a miss, Mercurius reads the page once, however many ask; the response cache of Yoga is in its own memory and is told at once.`,
  contenders: [
    {
      name: 'Spillway',
      role: 'ours',
      start: async (parts, execArgv) =>
        reading(parts, await startSpillway('api', parts.env, execArgv), documents(count, connection)),
    },
    peer(limit, 'constant', 'limit', count),
    peer(nearest, 'mercurius-page', 'peer', count),
    peer('Yoga + response cache in memory', 'yoga-cached', 'peer', count),
  ],
  targets: [
    { beside: limit, atLeast: 0.85 },
    { beside: nearest, atLeast: 4 },
    { beside: nearest, figure: 'CPU µs', unit: 'µs' },
    { beside: 'Yoga + response cache in memory' },
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
    const [query] = documents(count, connection)
    const requests = [requestOf(api.url, '/graphql', JSON.stringify({ query }))]
    length = Buffer.byteLength(await once({ url: api.url, requests, check }))
    const cache = new Redis(parts.cache.url)
    let n = 0
    const timer = setInterval(async () => {
      await save(batchSize, n++).catch(() => {})
      await Promise.allSettled([cache.del(`contents:${page}`), ...[...invalidated].map((invalidate) => invalidate())])
    }, 1_000 / batchesPerSecond)
    return async () => {
      clearInterval(timer)
      await drained(api.url)
      cache.disconnect()
      await Promise.all([api.stop(), worker.stop()])
    }
  },
})

export const contents = contentsOf('contents', `contents of ${page}, cached`, 1)
export const contentsMany = contentsOf(
  'contents-1000',
  `contents of ${page}, cached, by 1,000 different requests`,
  1_000,
)
