/**
 * The index of the dead letters on Redis, deleted or changed by another program: the next call that needs it rebuilds it, in bounded steps,
 * and every dead letter can be found.
 */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { afterEach, describe, expect, test } from 'vitest'
import type { Failure } from '../../src/model/error.ts'
import type { Entry, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { type QueueKeys, queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { discardIds, retryIds } from '../harness/dead-letters.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis } from '../harness/redis.ts'
import { item } from '../suites/queue.ts'

const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(1_000) }
const conflict: Failure = { ...failure, code: 'ID_CONFLICT' }

const close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.splice(0).reverse()) await closing()
})

interface Scene {
  queue: RedisQueue
  client: Redis
  keys: QueueKeys
  dead: string
  late: string
}

/** A queue with two dead letters: a rejected one, and a conflict. */
async function scene(url = freshRedisUrl()): Promise<Scene> {
  const address = parseRedisUrl(url)
  const queue = new RedisQueue(address, { capacity: 100_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  const [dead, late] = [randomUUID(), randomUUID()] as [string, string]
  await queue.enqueue([[item(dead, 'dead'), item(late, 'late')]])
  const consumer = queue.consumer('w')
  const entries = (await eventually(async () => {
    const received = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)
    return received.length > 0 && received
  })) as Entry[]
  await consumer.deadLetter([
    { entry: entries[0]!, failure },
    { entry: entries[1]!, failure: conflict },
  ])
  return { queue, client: queue.connection.client, keys: queueKeys(hashTag(address, '0')), dead, late }
}

const changes: Record<string, (scene: Scene) => Promise<unknown>> = {
  deleted: ({ client, keys }) => client.del(keys.deadIds),
  'one member short': async ({ client, keys }) => client.zrem(keys.deadIds, (await members(client, keys))[0]!),
  'without one member, with another of no dead letter': async ({ client, keys }) => {
    await client.zrem(keys.deadIds, ...(await members(client, keys)))
    await client.zadd(keys.deadIds, 0, '36:odd', 0, Buffer.from([0xff, 0x00, 0x20, 0xfe]), 0, '1:a 0 - 5-5')
  },
  'beside one of release 0.1': ({ client, keys, dead }) => client.hset(keys.oldDeadIndex, dead, 'digest 1-1'),
  'beside one of release 0.1 that is of another type': ({ client, keys }) => client.set(keys.oldDeadIndex, 'odd'),
}
const members = (client: Redis, { deadIds }: QueueKeys) => client.zrangebylex(deadIds, '-', '+')

const uses: Record<string, (scene: Scene) => Promise<unknown>> = {
  enqueue: async ({ queue, dead }) => {
    const replies = await queue.enqueue([[item(dead, 'dead')], [item(dead, 'other')], [item(randomUUID(), 'x')]])
    expect(replies).toMatchObject([
      [{ status: 'FAILED', duplicate: true }],
      { code: 'ID_CONFLICT' },
      [{ status: 'QUEUED', duplicate: false }],
    ])
  },
  find: async ({ queue, dead, late }) =>
    expect(await queue.find([dead, late])).toMatchObject([{ status: 'FAILED' }, { status: 'FAILED', conflicts: 1 }]),
  retry: async ({ queue, dead, late }) => {
    expect(await retryIds(queue, [late, dead])).toBe(2)
    expect(await queue.find([dead, late])).toMatchObject([{ status: 'QUEUED' }, { status: 'QUEUED', conflicts: 0 }])
  },
  discard: async ({ queue, dead, late }) => expect(await discardIds(queue, [dead, late])).toBe(2),
}

describe.each(Object.entries(changes))('The index of the dead letters, %s,', (_, change) => {
  test.each(Object.entries(uses))('is rebuilt by the next %s', async (_, use) => {
    const at = await scene()
    const before = await members(at.client, at.keys)
    await change(at)
    await use(at)
    expect(await at.client.exists(at.keys.oldDeadIndex)).toBe(0)
    const left = await at.client.xlen(at.keys.dead)
    expect(await members(at.client, at.keys)).toEqual(left === 2 ? before : [])
  })
})

test('The index of the dead letters follows what another program added to them and deleted', async () => {
  const { queue, client, keys, dead, late } = await scene()
  const [[handle]] = (await client.xrange(keys.dead, '-', '+')) as [[string, string[]]]
  await client.xdel(keys.dead, handle)
  expect(await queue.find([dead, late])).toMatchObject([undefined, { status: 'FAILED' }])
  const foreign = (await client.xadd(keys.dead, '*', 'm', 'no id'))!
  await client.xadd(keys.dead, '*', 'id', dead, 'f', 'no JSON', 'd', 'two words')
  expect(await queue.find([dead])).toMatchObject([{ status: 'FAILED', failure: { code: 'UNDECODABLE' } }])
  expect(await members(client, keys)).toHaveLength(3)
  expect(await discardIds(queue, [foreign, dead])).toBe(2)
  expect(await members(client, keys)).toHaveLength(1)
})

test('The index of 20,000 dead letters, deleted, is rebuilt in steps, while fresh saves are enqueued', {
  timeout: 120_000,
}, async () => {
  const server = await startRedis({ args: ['--appendfsync', 'no'] })
  close.push(() => server.stop())
  const { queue, client, keys, dead } = await scene(server.url)
  const fill = `for n = 1, 1000 do
    redis.call('XADD', KEYS[1], '*', 'id', ARGV[1] .. n, 'm', ARGV[2], 'f', '{}', 'd', 'digest', 'at', '5')
  end`
  for (let n = 0; n < 20; n++) await client.eval(fill, 1, keys.dead, `${n}-`, 'x'.repeat(2_000))
  await client.del(keys.deadIds)
  await server.cli('CONFIG', 'RESETSTAT')
  const asking = [queue, (await another(server.url)) as Queue].map((one) =>
    eventually(() => one.find([dead, '7-77']).catch(() => undefined), { timeoutMs: 60_000 }),
  )
  expect(await queue.enqueue([[{ ...item(randomUUID(), 'x'), fresh: true }]])).toMatchObject([[{ status: 'QUEUED' }]])
  for (const found of await Promise.all(asking))
    expect(found).toMatchObject([{ status: 'FAILED' }, { status: 'FAILED' }])
  expect(await client.zcard(keys.deadIds)).toBe(20_002)
  // A step reads at most 200 dead letters, in about 2 ms.
  const stats = await client.info('commandstats')
  expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])).toBeGreaterThanOrEqual(100)
})

async function another(url: string): Promise<RedisQueue> {
  const queue = new RedisQueue(parseRedisUrl(url), { capacity: 100_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  return queue
}

test('The index of the dead letters, deleted, is rebuilt on a full server', async () => {
  const server = await startRedis()
  close.push(() => server.stop())
  const { queue, client, keys, dead, late } = await scene(server.url)
  await client.del(keys.deadIds)
  await client.config('SET', 'maxmemory', '1')
  expect(await queue.find([dead])).toMatchObject([{ status: 'FAILED' }])
  expect(await discardIds(queue, [dead, late])).toBe(2)
})
