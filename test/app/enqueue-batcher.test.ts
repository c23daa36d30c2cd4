/** EnqueueBatcher with many saves at once: few calls, in order, bounded, and a result for each request. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { EnqueueBatcher } from '../../src/app/enqueue-batcher.ts'
import type { Enqueued, Item, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { item } from '../suites/queue.ts'

const capacity = 30_000

async function redis(): Promise<{ queue: Queue; proxy: TestProxy; cleanup(): Promise<void> }> {
  const proxy = await startProxy(inject('redisUrl'))
  const address = parseRedisUrl(proxy.url(freshRedisUrl()))
  const queue = new RedisQueue(address, { capacity, log: quiet() })
  await queue.connection.whenReady(5_000)
  return {
    queue,
    proxy,
    async cleanup() {
      await queue.close()
      await proxy.close()
    },
  }
}

async function sqlite(): Promise<{ queue: Queue; cleanup(): Promise<void> }> {
  const { queue, cleanup } = await testSqlite({ capacity })
  return { queue: await queue(), cleanup }
}

/** The queue, counting its calls; each waits behind `gate` before it is made, as with a slow Redis. */
function slow(queue: Queue) {
  let gate = Promise.resolve()
  let running = 0
  const calls: number[] = []
  const seen = { calls, largest: 0, atOnce: 0, bytesAtOnce: 0 }
  let bytes = 0
  return {
    seen,
    extendLease(): () => void {
      const { promise, resolve } = Promise.withResolvers<void>()
      gate = promise
      return () => {
        resolve()
        gate = Promise.resolve()
      }
    },
    async enqueue(requests: readonly (readonly Item[])[]) {
      calls.push(requests.flat().length)
      const size = requests.flat().reduce((sum, { body }) => sum + body.length, 0)
      seen.largest = Math.max(seen.largest, size)
      bytes += size
      seen.bytesAtOnce = Math.max(seen.bytesAtOnce, bytes)
      running += 1
      seen.atOnce = Math.max(seen.atOnce, running)
      try {
        await gate
        return await queue.enqueue(requests)
      } finally {
        running -= 1
        bytes -= size
      }
    },
  }
}

const one = (content = 'something', id: string = randomUUID()) => item(id, content)
const many = (count: number) => Array.from({ length: count }, () => one())
const code = (outcome: PromiseSettledResult<Enqueued[]>) =>
  outcome.status === 'fulfilled' ? outcome.value.map(({ status }) => status).join() : outcome.reason.code

describe.each([
  ['RedisQueue', redis],
  ['SqliteQueue', sqlite],
] as const)('EnqueueBatcher in front of a %s', (_, make) => {
  let made: Awaited<ReturnType<typeof redis | typeof sqlite>>
  let queue: ReturnType<typeof slow>
  let batcher: EnqueueBatcher

  beforeEach(async () => {
    made = await make()
    queue = slow(made.queue)
    batcher = new EnqueueBatcher({ queue })
  })
  afterEach(() => made.cleanup())

  async function queued(): Promise<(string | undefined)[]> {
    const consumer = made.queue.consumer('w')
    const ids: (string | undefined)[] = []
    const { depth } = await made.queue.status()
    await holds(async () => {
      ids.push(...(await consumer.receive({ rows: 1_000, bytes: 1e8 }, 200)).map(({ id }) => id))
      expect(ids).toHaveLength(depth)
    })
    return ids
  }

  test('enqueues the saves of one tick in one call, and gives each its own result', async () => {
    const all = many(15)
    const replies = await Promise.all(all.map((one) => batcher.enqueue([one])))
    expect(queue.seen.calls).toEqual([15])
    expect(replies).toEqual(
      all.map(({ digest, at }) => [{ status: 'QUEUED', digest, at, conflicts: 0, duplicate: false }]),
    )
    expect(await queued()).toEqual(all.map(({ id }) => id))
  })

  test('sends sixteen waiting saves before the tick ends, while fewer than four calls run', async () => {
    const all = many(200)
    await Promise.all(all.map((one) => batcher.enqueue([one])))
    expect(queue.seen.calls).toEqual([16, 16, 16, 16, 136])
    expect(await queued()).toEqual(all.map(({ id }) => id))
  })

  test('bounds the items of a call, and sends a larger request alone and whole', async () => {
    const [small, large] = [many(2_600), many(1_500)]
    const done = [...small.slice(0, 1_300).map((one) => [one]), large, ...small.slice(1_300).map((one) => [one])]
    const replies = await Promise.all(done.map((request) => batcher.enqueue(request)))
    expect(queue.seen.calls).toEqual([16, 16, 16, 16, 1_000, 236, 1_500, 1_000, 300])
    expect(replies.map((reply) => reply.length)).toEqual(done.map((request) => request.length))
    expect(await queued()).toEqual(done.flat().map(({ id }) => id))
  })

  test('runs four calls at a time, and sends waiting saves in their order', async () => {
    const release = queue.extendLease()
    const all = many(3_000)
    const accepting: Promise<unknown>[] = []
    for (let n = 0; n < 3_000; n += 100) {
      accepting.push(...all.slice(n, n + 100).map((one) => batcher.enqueue([one])))
      await new Promise((resolve) => setImmediate(resolve))
    }
    // Four calls; the next saves wait.
    expect(queue.seen.calls).toEqual([16, 16, 16, 16])
    release()
    await Promise.all(accepting)
    expect(queue.seen.atOnce).toBe(4)
    // The waiting saves share calls.
    expect(queue.seen.calls.length).toBeLessThanOrEqual(4 + Math.ceil(2_936 / 256) + 1)
    expect(await queued()).toEqual(all.map(({ id }) => id))
  })

  test('rejects only the request that the queue refused', async () => {
    const received = one('first')
    await batcher.enqueue([received])
    const requests = [
      [one()],
      [one('second', received.id)],
      [one(), one('second', received.id)],
      [received],
      [one(), one()],
      [],
    ]
    const outcomes = await Promise.allSettled(requests.map((request) => batcher.enqueue(request)))
    expect(outcomes.map(code)).toEqual(['QUEUED', 'ID_CONFLICT', 'ID_CONFLICT', 'QUEUED', 'QUEUED,QUEUED', ''])
    expect(outcomes[3]).toMatchObject({ value: [{ duplicate: true }] })
    expect(queue.seen.calls).toEqual([1, 7])
    expect(await queued()).toEqual([received, requests[0]![0]!, ...requests[4]!].map(({ id }) => id))
  })

  test('starts no call while the ones before have some megabytes', { timeout: 60_000 }, async () => {
    const release = queue.extendLease()
    const accepting = Array.from({ length: 12 }, () => batcher.enqueue([one('x'.repeat(3 * 1_048_576))]))
    await holds(async () => expect(queue.seen.atOnce).toBe(2))
    release()
    await Promise.all(accepting)
    expect(queue.seen.bytesAtOnce).toBeLessThan(7 * 1_048_576)
    expect((await made.queue.status()).depth).toBe(12)
  })

  describe('refuses with QUEUE_FULL', () => {
    const full = { code: 'QUEUE_FULL', retryAfterMs: expect.any(Number) }

    test('more than a bounded number of waiting saves', { timeout: 60_000 }, async () => {
      const release = queue.extendLease()
      const all = many(20_000)
      const accepting = all.map((one) => batcher.enqueue([one]))
      const since = performance.now()
      await expect(batcher.enqueue([one()])).rejects.toMatchObject(full)
      await expect(batcher.enqueue(many(1_000))).rejects.toMatchObject(full)
      // At once, without waiting.
      expect(performance.now() - since).toBeLessThan(1_000)
      release()
      await Promise.all(accepting)
      await batcher.enqueue([one()])
      expect((await made.queue.status()).depth).toBe(20_001)
    })

    test('more than a bounded number of waiting bytes', { timeout: 60_000 }, async () => {
      const release = queue.extendLease()
      const large = () => one('x'.repeat(262_144))
      const items = Array.from({ length: 255 }, large)
      const accepting = items.map((item) => batcher.enqueue([item]))
      await expect(batcher.enqueue([large()])).rejects.toMatchObject(full)
      // A small save still fits.
      items.push(one())
      accepting.push(batcher.enqueue([items.at(-1)!]))
      release()
      // A disk that is slow with 64 MB costs a connection, which is not what this is about: a client sends such a save again.
      const outcomes = await Promise.allSettled(accepting)
      for (const [i, outcome] of outcomes.entries()) {
        if (outcome.status === 'fulfilled') continue
        expect(['QUEUE_UNAVAILABLE', 'OUTCOME_UNKNOWN']).toContain(code(outcome))
        await holds(() => batcher.enqueue([items[i]!]))
      }
      await batcher.enqueue([large()])
      expect((await made.queue.status()).depth).toBe(257)
      // No call is so large that it blocks Redis for long.
      expect(queue.seen.largest).toBeLessThanOrEqual(1_048_576)
    })

    test('saves beyond the capacity of the queue', { timeout: 60_000 }, async () => {
      for (let n = 0; n < 30; n++) await made.queue.enqueue([many(1_000)])
      const outcomes = await Promise.allSettled([
        batcher.enqueue([one()]),
        batcher.enqueue(many(5)),
        batcher.enqueue([]),
      ])
      expect(outcomes.map(code)).toEqual(['QUEUE_FULL', 'QUEUE_FULL', ''])
      expect(outcomes[0]).toMatchObject({ reason: full })
    })
  })
})

describe('EnqueueBatcher with a Redis that fails', () => {
  let made: Awaited<ReturnType<typeof redis>>
  let batcher: EnqueueBatcher
  beforeEach(async () => {
    made = await redis()
    batcher = new EnqueueBatcher({ queue: made.queue })
  })
  afterEach(() => made.cleanup())

  test('rejects each request of a call without an answer with OUTCOME_UNKNOWN and its own ids, and a retry enqueues nothing twice', async () => {
    // The server has the script, so that the next call is one command.
    await batcher.enqueue([one('warm')])
    made.proxy.set({ kind: 'cut-before-reply', times: 1, when: (request) => request.includes('something') })
    const requests = [[one()], [one(), one()], [one()]]
    const outcomes = await Promise.allSettled(requests.map((request) => batcher.enqueue(request)))
    expect(made.proxy.kept()).toBe(1)
    for (const [n, outcome] of outcomes.entries()) {
      const ids = requests[n]!.map(({ id }) => id)
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: {
          code: 'OUTCOME_UNKNOWN',
          ids,
          message: expect.stringContaining(ids[0]!),
          retryAfterMs: expect.any(Number),
        },
      })
    }
    await eventually(async () => (await made.queue.status()).depth)
    const replies = await holds(() => Promise.all(requests.map((request) => batcher.enqueue(request))))
    expect(replies.flat().map(({ duplicate }) => duplicate)).toEqual([true, true, true, true])
    expect((await made.queue.status()).depth).toBe(5)
  })

  test.each([
    ['of the client', {}],
    ['of the server', { fresh: true }],
  ])('enqueues no second message after a lost answer: an id %s', async (_, how) => {
    await batcher.enqueue([one('warm')])
    made.proxy.set({ kind: 'cut-before-reply', times: 1, when: (request) => request.includes('something') })
    const lost = { ...one(), ...how }
    const [outcome] = await Promise.allSettled([batcher.enqueue([lost])])
    expect(made.proxy.kept()).toBe(1)
    const { depth } = await holds(() => made.queue.status())
    expect(depth).toBe(2)
    // The client retries, not the process.
    expect(code(outcome)).toBe('OUTCOME_UNKNOWN')
    expect(await made.queue.find([lost.id])).toMatchObject([{ status: 'QUEUED' }])
  })

  test('rejects with QUEUE_UNAVAILABLE at once while Redis cannot be reached, and enqueues nothing', async () => {
    made.proxy.set('cut')
    await eventually(() => !(made.queue as RedisQueue).connection.ready)
    const all = many(100)
    const since = performance.now()
    const outcomes = await Promise.allSettled(all.map((one) => batcher.enqueue([one])))
    expect(performance.now() - since).toBeLessThan(2_000)
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'QUEUE_UNAVAILABLE', ids: undefined } })
    }
    made.proxy.set('pass')
    await holds(() => batcher.enqueue([one()]))
    expect((await made.queue.status()).depth).toBe(1)
  })

  test('does not count failed saves as waiting', { timeout: 60_000 }, async () => {
    made.proxy.set('cut')
    await eventually(() => !(made.queue as RedisQueue).connection.ready)
    for (let n = 0; n < 3; n++) {
      const outcomes = await Promise.allSettled(many(15_000).map((one) => batcher.enqueue([one])))
      expect(new Set(outcomes.map(code))).toEqual(new Set(['QUEUE_UNAVAILABLE']))
    }
    made.proxy.set('pass')
    await holds(() => batcher.enqueue([one()]))
  })
})
