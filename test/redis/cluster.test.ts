/** Connections to a Redis Cluster: where they go, what they send again, and what a script does while its slot is moved. */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { RedisCache } from '../../src/cache/redis.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { RedisConnection } from '../../src/redis/connection.ts'
import { startCluster, type TestCluster } from '../harness/cluster.ts'
import { models } from '../harness/contents.ts'
import { freePort } from '../harness/daemon.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { cacheSuite } from '../suites/cache.ts'
import { eventsSuite } from '../suites/events.ts'
import { item } from '../suites/queue.ts'

let cluster: TestCluster
let single: TestRedis
const open: { close(): unknown }[] = []

beforeAll(async () => {
  ;[cluster, single] = await Promise.all([startCluster({ masters: 2, args: ['--appendonly', 'no'] }), startRedis()])
}, 90_000)
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
})
afterAll(async () => {
  await Promise.all([cluster?.cleanup(), single?.cleanup()])
})

function connect(url: string, tag: string) {
  const lines: object[] = []
  const add = (fields: object) => void lines.push(fields)
  const log = { info: add, warn: add, error: add }
  const connection = new RedisConnection(parseRedisUrl(url), { role: 'queue', tag, log })
  open.push(connection)
  return { connection, lines }
}

const nodeWithout = async (key: string): Promise<TestRedis> => {
  const owner = await cluster.ownerOf(key)
  return cluster.nodes.find((node) => node !== owner)!
}

test('RedisConnection goes to the node of its hash tag, from any node, and past dead ones', async () => {
  const dead = await freePort()
  for (const tag of ['{a}', '{b}', '{c}', '{d}']) {
    for (const { port } of cluster.nodes) {
      const { connection, lines } = connect(`redis+cluster://127.0.0.1:${port}`, tag)
      await eventually(() => connection.ready)
      await connection.ask((client) => client.set(`${tag}:x`, port))
      expect(await (await cluster.ownerOf(`${tag}:x`)).cli('GET', `${tag}:x`)).toBe(String(port))
      // To go from node to node is no trouble.
      expect(lines).toEqual([])
    }
    const { connection } = connect(`redis+cluster://127.0.0.1:${dead},127.0.0.1:${cluster.nodes[0]!.port}`, tag)
    await eventually(() => connection.ready)
  }
})

test('RedisConnection sends each command once that a moved slot has refused, and those in flight beside it', async () => {
  const key = '{counted}:x'
  const { connection } = connect(cluster.url, '{counted}')
  await eventually(() => connection.ready)
  const results: Promise<unknown>[] = []
  let counting = true
  const count = async () => {
    while (counting) {
      for (let i = 0; i < 20; i++) results.push(connection.ask((client) => client.incr(key)))
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }
  const done = count()
  for (let i = 0; i < 3; i++) {
    const before = results.length
    await eventually(() => results.length > before + 100)
    await cluster.moveSlot(key, await nodeWithout(key))
  }
  counting = false
  await done
  const settled = await Promise.allSettled(results)
  const counted = settled.filter(({ status }) => status === 'fulfilled').length
  // None was lost with a connection: a node that refuses one has answered all before it.
  const reasons = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []))
  expect(reasons.filter((code) => code !== 'QUEUE_UNAVAILABLE')).toEqual([])
  expect(Number(await (await cluster.ownerOf(key)).cli('GET', key))).toBe(counted)
  expect(counted).toBeGreaterThan(300)
})

test('RedisConnection says that a URL of a cluster names a single Redis', async () => {
  const { connection, lines } = connect(single.url.replace('redis:', 'redis+cluster:').replace('/0', ''), '{a}')
  await holds(async () => expect(await connection.probe(async () => undefined)).toBe('NOT_CLUSTER'))
  expect(lines).toEqual([expect.objectContaining({ code: 'NOT_CLUSTER', reason: expect.stringContaining('redis://') })])
})

test('RedisQueue changes nothing, or everything, while the slot of its keys is moved', {
  timeout: 60_000,
}, async () => {
  const address = parseRedisUrl(`${cluster.url}?prefix=moving`)
  const keys = queueKeys(hashTag(address, '0'))
  const queue = new RedisQueue(address, { capacity: 1_000, log: quiet() })
  open.push(queue)
  await eventually(() => queue.connection.ready)
  const from = await cluster.ownerOf(keys.stream)
  const to = await nodeWithout(keys.stream)
  await queue.enqueue([[item(randomUUID(), 'one'), item(randomUUID(), 'two')]])
  const consumer = queue.consumer('w')
  const entries = await holds(async () => {
    const entries = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)
    expect(entries).toHaveLength(2)
    return entries
  })
  expect(await consumer.countAttempt(entries[0]!)).toBe(1)
  // Every key of the scripts exists, so that the node would run them.
  for (const key of [keys.saved, keys.savedBefore]) await from.cli('HSET', key, 'other', '- 1 -')
  await from.cli('XADD', keys.dead, '0-1', 'id', 'other')
  await from.cli('ZADD', keys.deadIds, 0, 'other')

  const slot = Number(await from.cli('CLUSTER', 'KEYSLOT', keys.stream))
  await to.cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await cluster.idOf(from))
  await from.cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', await cluster.idOf(to))
  const failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date() } as const
  const refused = { code: 'QUEUE_UNAVAILABLE' }
  await expect(consumer.countAttempt(entries[0]!)).rejects.toMatchObject(refused)
  await expect(consumer.deadLetter(entries.map((entry) => ({ entry, failure })))).rejects.toMatchObject(refused)
  await expect(consumer.ack(entries)).rejects.toMatchObject(refused)
  await expect(queue.enqueue([[item(randomUUID(), 'three')]])).rejects.toMatchObject(refused)
  expect(await from.cli('HGETALL', keys.attempts)).toEqual([entries[0]!.handle, '1'])
  expect(await from.cli('XLEN', keys.dead)).toBe(1)
  expect(await from.cli('HLEN', keys.pending)).toBe(2)
  expect(await from.cli('XLEN', keys.stream)).toBe(2)

  for (const node of [from, to]) await node.cli('CLUSTER', 'SETSLOT', slot, 'STABLE')
  expect(await holds(() => consumer.countAttempt(entries[0]!))).toBe(2)
  await holds(() => consumer.ack(entries))
  expect(await from.cli('EXISTS', keys.attempts, keys.pending)).toBe(0)
})

cacheSuite('on a cluster', async () => {
  const address = parseRedisUrl(`${cluster.url}?prefix=pages`)
  return { ttlMs: 3_000, open: async () => new RedisCache(address, { ttlMs: 3_000, log: quiet() }) }
})

let logs = 0
eventsSuite('RedisEventLog on a cluster', async ({ retentionMs, retentionBytes }) => {
  logs += 1
  const address = parseRedisUrl(`${cluster.url}?prefix=log${logs}`)
  const opened: RedisEventLog[] = []
  return {
    open: async () => {
      const log = new RedisEventLog(address, { retentionMs, retentionBytes, models, log: quiet() })
      opened.push(log)
      await holds(async () => expect(await log.tail()).toBeDefined())
      return log
    },
    cleanup: async () => {
      await Promise.all(opened.map((log) => log.close()))
    },
  }
})
