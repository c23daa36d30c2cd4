import { randomUUID } from 'node:crypto'
import { afterAll, describe, expect, test } from 'vitest'
import { SpillwayError } from '../../src/model/error.ts'
import type { Item } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { withShard } from '../../src/queue/shard-of.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { statusOf } from '../harness/states.ts'
import { item, type QueueBench, queueSuite } from '../suites/queue.ts'

const reclaimMs = 1_000
const shards = 3
const most = 1
const log = quiet()

interface ShardedBench extends QueueBench {
  shard: RedisQueue
  prefix: string
}

queueSuite<ShardedBench>(
  'ShardedQueue',
  async ({ capacity }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const queues: ShardedQueue[] = []
    // Most of it is the capacity of the shard whose ids the suite takes where that matters.
    const little = Math.floor(capacity / 200)
    const open = (shard: number) => {
      const part = shard === most ? capacity - 2 * little : little
      return new RedisQueue(address, { capacity: part, reclaimMs, log, shard })
    }
    const one = open(2)
    expect(await one.connection.whenReady(5_000)).toBe(true)
    return {
      shard: one,
      prefix: address.prefix,
      reclaimMs,
      open: async () => {
        const queue = new ShardedQueue(open, { shards, log })
        queues.push(queue)
        await queue.whenReady(5_000)
        return queue
      },
      cleanup: async () => {
        await Promise.all([...queues, one].map((queue) => queue.close()))
      },
    }
  },
  async ({ shard, prefix }) => {
    const { stream } = queueKeys(hashTag({ prefix }, '2'))
    await shard.connection.client.xadd(stream, '*', 'colour', 'red', 'who', randomUUID())
  },
  { newId: () => withShard(randomUUID(), most, shards), ofShards: true },
)

describe('ShardedQueue.enqueue of a request with ids of several shards', () => {
  const reservedMs = 1_500
  const stack = new AsyncDisposableStack()
  const address = parseRedisUrl(freshRedisUrl())
  const openShard = (shard: number, capacity = 1_000) => {
    const queue = new RedisQueue(address, { capacity, reclaimMs, reservedMs, log, shard })
    stack.defer(() => queue.close())
    return queue
  }
  const open = async (capacity?: number) => {
    const queue = new ShardedQueue((shard) => openShard(shard, capacity), { shards, log })
    stack.defer(() => queue.close())
    await queue.whenReady(5_000)
    return queue
  }
  afterAll(() => stack.disposeAsync())

  const idOf = (shard: number) => withShard(randomUUID(), shard, shards)
  const spanning = (content: string) => [0, 1, 2].map((shard) => item(idOf(shard), content))
  const statesOf = async (queue: ShardedQueue, request: readonly Item[]) =>
    (await queue.find(request.map(({ id }) => id))).map(statusOf)

  test('adds all of them, and a retry is a duplicate', async () => {
    const queue = await open()
    const request = spanning('whole')
    const added = request.map(({ digest, at }) => ({ status: 'QUEUED', digest, at, conflicts: 0, duplicate: false }))
    expect(await queue.enqueue([request])).toEqual([added])
    expect(await queue.enqueue([request])).toEqual([added.map((one) => ({ ...one, duplicate: true }))])
    expect(await queue.status()).toMatchObject({ depth: 3 })
  })

  test('adds none if one shard has other content of an id, or is full', async () => {
    const queue = await open()
    const request = spanning('refused')
    await queue.enqueue([[item(request[1]!.id, 'first')]])
    expect(await queue.enqueue([request])).toMatchObject([{ code: 'ID_CONFLICT' }])
    expect(await statesOf(queue, request)).toEqual([undefined, 'QUEUED', undefined])
    const small = await open(2)
    await small.enqueue([[item(idOf(2), 'one')], [item(idOf(2), 'two')]])
    const late = spanning('late')
    expect(await small.enqueue([late])).toMatchObject([{ code: 'QUEUE_FULL' }])
    expect(await statesOf(queue, late)).toEqual([undefined, undefined, undefined])
  })

  test('adds each request whole or not at all, while others have some of its ids', { timeout: 60_000 }, async () => {
    const queues = [await open(), await open()]
    const ids = Array.from({ length: 12 }, (_, n) => idOf(n % shards))
    for (let round = 0; round < 15; round += 1) {
      const fresh = ids.map((id) => `${id.slice(0, -12)}${randomUUID().slice(-12, -4)}${id.slice(-4)}`)
      const requests = Array.from({ length: 6 }, (_, n) =>
        // Each has some ids of its neighbours, in another order.
        Array.from({ length: 5 }, (_, k) =>
          item(fresh[(n * 2 + k * (n % 2 ? 1 : 5)) % fresh.length]!, `${round}-${n}`),
        ),
      )
      const results = await Promise.all(requests.map((request, n) => queues[n % 2]!.enqueue([request])))
      for (const [n, [result]] of results.entries()) {
        const request = requests[n]!
        const states = await queues[0]!.find(request.map(({ id }) => id))
        const own = states.map(
          (state) => state && !(state instanceof SpillwayError) && state.digest === request[0]!.digest,
        )
        if (!(result instanceof SpillwayError)) expect(own).toEqual(request.map(() => true))
        else {
          expect(['ID_CONFLICT', 'QUEUE_UNAVAILABLE']).toContain(result.code)
          expect(own.filter(Boolean)).toEqual([])
        }
      }
      expect(results.some(([result]) => Array.isArray(result))).toBe(true)
    }
  })

  test('is completed by a retry when its process dies between two commits; until the reservations end, it is told to try again', async () => {
    const queue = await open()
    const request = spanning('half')
    const parts = [0, 1, 2].map((shard) => openShard(shard))
    await Promise.all(parts.map((part) => part.connection.whenReady(5_000)))
    for (const [shard, part] of parts.entries()) await part.reserve([request[shard]!], 'dead')
    await parts[1]!.commit([request[1]!], 'dead')
    expect(await statesOf(queue, request)).toEqual([undefined, 'QUEUED', undefined])
    expect(await queue.enqueue([[item(request[0]!.id, 'of another client')]])).toMatchObject([
      { code: 'QUEUE_UNAVAILABLE', message: expect.stringContaining('another request') },
    ])
    await holds(async () => {
      const [retried] = await queue.enqueue([request])
      expect(retried).toMatchObject([{ duplicate: false }, { duplicate: true }, { duplicate: false }])
    })
    expect(await statesOf(queue, request)).toEqual(['QUEUED', 'QUEUED', 'QUEUED'])
  })
})

test('ShardedQueue pauses and resumes persisting while a shard is unavailable, and says that the call must be repeated', async () => {
  const url = freshRedisUrl()
  await using stack = new AsyncDisposableStack()
  const proxy = await startProxy(url)
  stack.defer(() => proxy.close())
  const open = (shard: number) =>
    new RedisQueue(parseRedisUrl(shard === 1 ? proxy.url(url) : url), { capacity: 10, reclaimMs, log, shard })
  const queue = stack.adopt(new ShardedQueue(open, { shards: 2, log }), (one) => one.close())
  await queue.whenReady(5_000)
  const { operations } = queue
  const isPaused = async () => (await queue.status()).paused?.by
  const partly = (done: string) => ({
    code: 'OUTCOME_UNKNOWN',
    message: `Persisting is not ${done} in every shard: 1 of 2 are unavailable. Repeat the call when they are back.`,
  })
  proxy.set('cut')
  await expect(operations.pause('ann')).rejects.toMatchObject(partly('paused'))
  expect(await isPaused()).toBe('ann')
  proxy.set('pass')
  await holds(() => operations.pause('bob'))
  expect(await isPaused()).toBe('ann')
  proxy.set('cut')
  await expect(operations.resume()).rejects.toMatchObject(partly('resumed'))
  proxy.set('pass')
  // The shard that was unavailable still has the pause.
  await holds(async () => expect(await isPaused()).toBe('bob'))
  await operations.resume()
  expect(await isPaused()).toBeUndefined()
})
