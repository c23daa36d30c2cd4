/**
 * P13 for real: the queue's primary is killed under load, its disk is lost, and a replica that lagged is promoted. Every save is sent to both
 * APIs at once, so that one of them acknowledges a duplicate. A proxy before the primary is what a failover looks like from outside.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import type { TestRedis } from '../harness/redis.ts'
import { primaryArgs, startReplica } from '../harness/replica.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

const lagMs = 20

let stack: Stack
let primary: TestRedis
let replica: TestRedis
/** Before the primary, and between the two. */
let front: TestProxy
let link: TestProxy
const opened: { close(): Promise<unknown> }[] = []

beforeAll(async () => {
  stack = await Stack.start({
    redisArgs: primaryArgs,
    env: { QUEUE_REPLICAS: '1' },
    intervals: { reclaimMs: 4_000 },
    queueUrl: async (url) => {
      front = await startProxy(url)
      opened.push(front)
      return front.url(url)
    },
  })
  primary = stack.redis
})
afterAll(async () => {
  await stack?.stop()
  for (const one of opened.reverse()) await one.close()
})

/** A replica of the primary of now that gets each write later than it is made. */
async function addReplica(): Promise<void> {
  link = await startProxy(primary.url)
  link.set({ kind: 'delay', ms: lagMs })
  opened.push(link)
  replica = await startReplica(link)
  const { cleanup } = replica
  opened.push({ close: cleanup })
}

/** The primary and its disk are lost, with all that is on the way to the replica. */
async function failOver(): Promise<void> {
  const killed = primary.stop('SIGKILL')
  link.set('cut')
  await killed
  await rm(primary.dir, { recursive: true })
  await replica.cli('REPLICAOF', 'NO', 'ONE')
  front.retarget(replica.url)
  primary = replica
  // The events log is read there.
  Object.assign(stack, { redis: primary })
}

/** Saves each id through both APIs at once, without pause, until the returned function is called. */
function writeTwice(clients: number): () => Promise<void> {
  const writing = new AbortController()
  const { signal } = writing
  const client = async (n: number) => {
    for (let i = 0; !signal.aborted; i++) {
      const [id, content] = [randomUUID(), `content ${n} ${i}`]
      await Promise.all([0, 1].map((api) => stack.save(id, content, api, signal)))
    }
  }
  const done = Promise.all(Array.from({ length: clients }, (_, n) => client(n)))
  done.catch(() => {})
  return async () => {
    writing.abort()
    await done
  }
}

const ready = async (status: number, queue: object) => {
  const response = await fetch(`${stack.url}/readyz`)
  expect(await response.json()).toMatchObject({ queue })
  expect(response.status).toBe(status)
}
const unavailable = { status: 503, code: 'QUEUE_UNAVAILABLE' }

test('P13: an API without the replica that it needs refuses saves, logs that once, and goes on when the replica has come', async () => {
  await holds(() => ready(503, { state: 'unavailable', code: 'REPLICAS' }))
  expect(await stack.once('too early')).toMatchObject(unavailable)
  const said = stack.api
    .logs()
    .split('\n')
    .filter((line) => line.includes('QUEUE_REPLICAS=1 asks for 1'))
  expect(said).toHaveLength(1)
  await addReplica()
  await holds(() => ready(200, { state: 'ready', durability: 'REPLICATED' }))
  expect(await stack.once('with a replica')).toMatchObject({ status: 202 })
})

test('P13: no acknowledged save is lost in three failovers to a lagging replica after the loss of the primary with its disk', async () => {
  const stop = writeTwice(8)
  for (let failover = 1; failover <= 3; failover++) {
    // Once the workers go on: what they write is lost, too. Twice all that is acknowledged is still in the queue.
    if (failover !== 2) for (const worker of stack.workers) worker.kill('SIGSTOP')
    await stack.more(150)
    await failOver()
    for (const worker of stack.workers) worker.kill('SIGCONT')
    await addReplica()
    await stack.more(100)
  }
  await stop()
  const verdict = await stack.verdict('the primary killed, its disk lost, a lagging replica promoted (three times)')
  record('B30', 'redis + mariadb', verdict)
  expectSound(verdict)
}, 120_000)

test('P13: a save that the only replica did not confirm is not acknowledged, and its retry is saved once', async () => {
  const id = randomUUID()
  replica.pause()
  try {
    const started = performance.now()
    for (const api of [...stack.apis, stack.api]) {
      const answer = await stack.once('frozen', { id, api })
      expect(answer).toMatchObject({ status: 503, code: 'OUTCOME_UNKNOWN' })
      expect(answer.message).toContain(`0 of 1 replicas confirmed it in time`)
      expect(answer.message).toContain(`Retry with the id ${id}: it is saved once`)
    }
    expect(performance.now() - started).toBeLessThan(10_000)
    const metrics = await (await fetch(`${stack.url}/metrics`)).text()
    expect(metrics).toMatch(/^spillway_queue_replicas 1$/m)
    expect(metrics).toMatch(/^spillway_queue_replicas_required 1$/m)
    expect(metrics).toMatch(/^spillway_queue_unconfirmed_total [1-9]/m)
  } finally {
    replica.resume()
  }
  const stop = writeTwice(4)
  expect(await stack.save(id, 'frozen')).toBe(true)
  await stack.more(20)
  await replica.stop('SIGKILL')
  await holds(async () => expect(await stack.once('gone')).toMatchObject(unavailable))
  await holds(() => ready(503, { state: 'unavailable', code: 'REPLICAS' }))
  // The workers go on.
  await holds(async () => expect(await stack.client.queue()).toEqual({ depth: 0, inFlight: 0 }))
  await replica.restart()
  await stack.more(20)
  await stop()
  const verdict = await stack.verdict('the only replica frozen, then gone for a while')
  record('B31', 'redis + mariadb', verdict)
  expectSound(verdict)
}, 60_000)
