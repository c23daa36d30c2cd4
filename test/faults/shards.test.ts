/**
 * Three shards and the sequencer, each on a Redis of its own, of which one is killed for a while under load: two APIs with a subscriber each,
 * two workers. What the others have goes on, nothing is lost or doubled, and both subscribers see one order without a gap.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type App, makeApp } from '../../src/app/app.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { PrismaStore } from '../../src/db/prisma.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SpillwayError } from '../../src/model/error.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { shardOf, withShard } from '../../src/queue/shard-of.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Worker } from '../../worker/worker.ts'
import { Content, given, models } from '../harness/contents.ts'
import { contents } from '../harness/events.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshDatabase, type TestDatabase } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { statusOf } from '../harness/states.ts'
import { record } from './table.ts'

const shards = 3
const log = quiet()
const stack = new AsyncDisposableStack()
/** Those of the shards, and the sequencer's. */
let servers: TestRedis[]
let database: TestDatabase
let apis: App[]
/** The ids that each subscriber got, in their order. */
let orders: string[][]
/** Acknowledged: id -> content. */
const acknowledged = new Map<string, string>()

beforeAll(async () => {
  servers = await Promise.all(Array.from({ length: shards + 1 }, () => startRedis()))
  for (const server of servers) stack.defer(() => server.cleanup())
  database = await freshDatabase()
  const cacheVersions = new SharedVersions()
  const addressOf = (shard: number) => parseRedisUrl(servers[shard]!.url)
  const open = async () => {
    const store = stack.adopt(
      await PrismaStore.open({ url: database.url, concurrency: 2, models, clients: given.prisma, log }),
      (store) => store.close(),
    )
    await store.prepare(new AbortController().signal)
    const options = { capacity: 100_000, reclaimMs: 2_000, log }
    const queue = stack.adopt(
      new ShardedQueue((shard) => new RedisQueue(addressOf(shard), { ...options, shard }), { shards, log }),
      (queue) => queue.close(),
    )
    const retention = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }
    const events = stack.adopt(
      new RedisEventLog(addressOf(shards), { ...retention, models, log, shards, addressOf }),
      (events) => events.close(),
    )
    const cache = new MemoryCache({ ttlMs: 10_000, versions: cacheVersions })
    await queue.whenReady(5_000)
    await holds(async () => expect(await events.probe()).toBeUndefined())
    return { models, store, queue, events, cache, log }
  }
  apis = await Promise.all([1, 2].map(async () => makeApp(await open())))
  for (const [n, { follower }] of apis.entries()) {
    follower.start()
    stack.defer(() => follower.close())
    void subscribe(n)
  }
  for (const name of ['one', 'two']) {
    const { queue, ...deps } = await open()
    const worker = new Worker(
      { consumer: queue.consumer(name), ...deps },
      { models, batch: 100, concurrency: 2, maxAttempts: 5, cacheTtlMs: 10_000, extendLeaseEveryMs: 500, log },
    )
    worker.start()
    stack.defer(() => worker.stop())
  }
}, 60_000)
afterAll(() => stack.disposeAsync())

async function subscribe(n: number): Promise<void> {
  orders ??= [[], []]
  const feed = await apis[n]!.follower.feed(contents)
  stack.defer(() => feed.close())
  for (;;) {
    const events = await feed.next()
    if (!events) return
    for (const { event } of events) if (event.type === 'saved') orders[n]!.push(event.row.id)
  }
}

const saving = {
  model: Content,
  grant: { subject: undefined, scopes: new Set(['write']), expiresAt: undefined, claims: {} },
}

/** Saves one; returns its id, or the code of its refusal. */
async function save(api: number, content: string, id?: string): Promise<{ id?: string; code?: string }> {
  try {
    const receipt = await apis[api]!.saves.save(saving, { values: { content }, ...(id && { id }) })
    acknowledged.set(receipt.id, content)
    return { id: receipt.id }
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error
    return { code: error.code }
  }
}

const idOf = (shard: number) => withShard(randomUUID(), shard, shards)

/** Saves without pause until `stop`: half with ids of clients, of every shard, each of which is retried until it is acknowledged. */
function write() {
  let stopped = false
  const refused = { ours: 0, clients: 0 }
  const retried = new Set<Promise<void>>()
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
  const retry = async (api: number, content: string, id: string) => {
    while ((await save(api, content, id)).code) {
      refused.clients += 1
      await pause(20)
    }
  }
  const client = async (n: number) => {
    for (let i = 0; !stopped; i += 1) {
      const content = `content ${n} ${i}`
      if (i % 2 === 0 && (await save(n % 2, content)).code) refused.ours += 1
      else if (i % 2 === 1 && retried.size < 20) {
        const one = retry(n % 2, content, idOf((i >> 1) % shards)).finally(() => retried.delete(one))
        retried.add(one)
      }
      await pause(4)
    }
  }
  const clients = Promise.all(Array.from({ length: 6 }, (_, n) => client(n)))
  return {
    refused,
    async stop() {
      stopped = true
      await clients
      await Promise.all(retried)
    },
  }
}

const more = async (count: number) => {
  const goal = acknowledged.size + count
  await eventually(() => acknowledged.size >= goal, { timeoutMs: 30_000 })
}

async function judge(id: string, fault: string): Promise<void> {
  await holds(async () => expect(await apis[0]!.queue.status()).toMatchObject({ depth: 0, inFlight: 0 }), {
    timeoutMs: 60_000,
  })
  const rows = await database.sql('SELECT id, content FROM Content')
  const contentOf = new Map(rows.map(({ id, content }) => [id, content]))
  const lost = [...acknowledged].filter(([id]) => !contentOf.has(id)).length
  const altered = [...acknowledged].filter(([id, content]) => contentOf.get(id) !== content).length - lost
  await holds(() => {
    for (const order of orders) expect(rows.filter(({ id }) => !order.includes(id))).toEqual([])
    expect(orders[0]!.length).toBe(orders[1]!.length)
  })
  const unannounced = rows.filter(({ id }) => !orders[0]!.includes(id)).length
  const counts = { acknowledged: acknowledged.size, rows: acknowledged.size - lost, deadLetters: 0 }
  record(id, 'redis + mariadb', { fault, ...counts, lost, doubled: rows.length - contentOf.size, altered, unannounced })
  expect({ lost, altered, unannounced }).toEqual({ lost: 0, altered: 0, unannounced: 0 })
  expect(orders[1]).toEqual(orders[0])
}

test('B32: one of three shards is killed for a while, and holds up its own ids only', {
  timeout: 120_000,
}, async () => {
  const writing = write()
  await more(300)
  const away = 1
  await servers[away]!.stop('SIGKILL')
  // Every process has noticed.
  await holds(async () => {
    for (const { queue } of apis)
      expect((await queue.status()).shards).toMatchObject([
        { code: undefined },
        { shard: away, code: 'ECONNREFUSED' },
        {},
      ])
  })
  const refused = writing.refused.ours
  const since = performance.now()
  // Ours get another home shard; those of clients in other shards are saved and published as ever.
  for (let n = 0; n < 50; n += 1) expect(await save(n % 2, `ours ${n}`)).toEqual({ id: expect.any(String) })
  expect(writing.refused.ours).toBe(refused)
  const others = [0, 2].map(idOf)
  for (const [n, id] of others.entries()) expect(await save(n, 'of another shard', id)).toEqual({ id })
  const theirs = idOf(away)
  expect(await save(0, 'of the shard', theirs)).toEqual({ code: 'QUEUE_UNAVAILABLE' })
  // A request of several shards is refused whole.
  const together = [0, 1, 2].map((shard) => ({ id: idOf(shard), values: { content: 'together' } }))
  await expect(apis[0]!.saves.saveMany(saving, together)).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' })
  const found = await apis[0]!.queue.find([...others, theirs, together[0]!.id, together[2]!.id])
  expect(found.slice(2).map(statusOf)).toEqual(['QUEUE_UNAVAILABLE', undefined, undefined])
  expect(await apis[0]!.queue.probe()).toBeUndefined()
  const before = new Set(acknowledged.keys())
  await more(200)
  // The workers go on with what the other shards have.
  const recent = [...others, ...[...acknowledged.keys()].filter((id) => !before.has(id))]
  await holds(async () => {
    const states = await apis[1]!.queue.find(recent)
    expect(states.map(statusOf).filter((status) => status !== 'SAVED')).toEqual([])
  })
  console.log(`a shard was away for ${Math.round(performance.now() - since)} ms`)
  await servers[away]!.restart()
  await holds(async () => expect(await save(0, 'of the shard', theirs)).toEqual({ id: theirs }))
  await more(100)
  await writing.stop()
  await judge('B32', 'one of three shards killed for a while under load')
})

test("B33: the sequencer's Redis is killed for a while: saves go on, and their events come in one order", {
  timeout: 120_000,
}, async () => {
  const writing = write()
  await more(100)
  const { ours } = writing.refused
  await servers[shards]!.stop('SIGKILL')
  await more(300)
  expect(writing.refused.ours).toBe(ours)
  await servers[shards]!.restart()
  await more(100)
  await writing.stop()
  await judge('B33', "the sequencer's Redis killed for a while under load")
  const spread = Array.from(
    { length: shards },
    (_, shard) => [...acknowledged.keys()].filter((id) => shardOf(id, shards) === shard).length,
  )
  expect(Math.min(...spread), 'saves of each shard').toBeGreaterThan(100)
})
