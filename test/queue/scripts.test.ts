/**
 * The scripts on wrong keys (FA7): of a wrong type, missing, or with entries of other programs. A script either succeeds, or fails with
 * "Nothing was changed", and nothing was.
 */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { type Failure, SpillwayError } from '../../src/model/error.ts'
import type { Consumer, Entry } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { type QueueKeys, queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { discardIds, retryIds } from '../harness/dead-letters.ts'
import { savedEvent } from '../harness/events.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis } from '../harness/redis.ts'
import { item } from '../suites/queue.ts'

const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(1_000) }
const conflict: Failure = { ...failure, code: 'ID_CONFLICT' }
const lots = { rows: 100, bytes: 1_000_000 }

/** A queue with pending, saved and dead-lettered messages. */
interface Scene {
  queue: RedisQueue
  consumer: Consumer
  client: Redis
  keys: QueueKeys
  pending: string
  saved: string
  dead: string
  late: string
  /** The entries of the worker; the second one has an attempt. */
  entries: [Entry, Entry]
  /** Of the dead letters. */
  handles: string[]
}

const close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.splice(0).reverse()) await closing()
})

async function scene(url = freshRedisUrl()): Promise<Scene> {
  const address = parseRedisUrl(url)
  const queue = new RedisQueue(address, { capacity: 100, reclaimMs: 60_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  const consumer = queue.consumer('w')
  const receive = () =>
    eventually(async () => {
      const entries = await consumer.receive(lots, 100)
      return entries.length > 0 && entries
    })
  const [pending, saved, dead, late] = Array.from({ length: 4 }, () => randomUUID()) as [string, string, string, string]
  await queue.enqueue([[item(saved, 'saved'), item(dead, 'dead'), item(late, 'late')]])
  const [first, second, third] = (await receive()) as Entry[]
  await consumer.ack([first!])
  await consumer.deadLetter([
    { entry: second!, failure },
    { entry: third!, failure: conflict },
  ])
  await queue.enqueue([[item(randomUUID(), 'one'), item(randomUUID(), 'two')]])
  const entries = (await receive()) as [Entry, Entry]
  await consumer.countAttempt(entries[1])
  await queue.enqueue([[item(pending, 'pending')]])
  const keys = queueKeys(hashTag(address, '0'))
  const handles = (await queue.deadLetters(10)).deadLetters.map(({ handle }) => handle)
  return { queue, consumer, client: queue.connection.client, keys, pending, saved, dead, late, entries, handles }
}

const steps: Record<string, (scene: Scene) => Promise<unknown>> = {
  'enqueue, new': ({ queue }) =>
    queue.enqueue([[item(randomUUID(), 'a')], [{ ...item(randomUUID(), 'b'), fresh: true }]]),
  'enqueue, fresh only': ({ queue }) => queue.enqueue([[{ ...item(randomUUID(), 'b'), fresh: true }]]),
  'enqueue, known': ({ queue, pending, saved, dead, late }) =>
    queue.enqueue([
      [item(pending, 'pending')],
      [item(saved, 'saved')],
      [item(dead, 'dead')],
      [item(late, 'late')],
      [item(randomUUID(), 'x')],
    ]),
  'enqueue, conflicts': ({ queue, pending, saved, dead, late }) =>
    queue.enqueue([pending, saved, dead, late].map((id) => [item(id, 'other')])),
  find: ({ queue, pending, saved, dead, late }) => queue.find([pending, saved, dead, late, randomUUID()]),
  'find with a digest': ({ queue, pending, dead, late }) => queue.find([pending, dead, late], item('', 'late').digest),
  markSaved: ({ consumer, entries }) => consumer.markSaved(entries),
  ack: ({ consumer, entries }) => consumer.ack(entries),
  deadLetter: ({ consumer, entries: [a, b] }) =>
    consumer.deadLetter([
      { entry: a, failure },
      { entry: b, failure: conflict, existing: { digest: 'd', at: 5 } },
    ]),
  retry: ({ queue, dead, late }) => retryIds(queue, [dead, late, randomUUID()]),
  discard: ({ queue, dead, late }) => discardIds(queue, [dead, late, randomUUID()]),
  'retry of handles': ({ queue, handles }) => queue.retry(['5-5', ...handles]),
  'retry of handles, dry': ({ queue, handles }) => queue.retry(['5-5', ...handles], { dryRun: true }),
  'replace, of a dead letter': ({ queue, dead, handles: [handle] }) => queue.replace(handle!, item(dead, 'new')),
  'replace, of an ID_CONFLICT': ({ queue, late, handles: [, handle] }) => queue.replace(handle!, item(late, 'new')),
  'replace, of an unknown handle': ({ queue, dead }) => queue.replace('5-5', item(dead, 'new')),
  'discard of handles': ({ queue, handles }) => queue.discard(['5-5', ...handles]),
  deadLetters: ({ queue }) => queue.deadLetters(10),
  'deadLetters, newest first': ({ queue }) => queue.deadLetters(10, { newestFirst: true }),
  deadLettersOf: ({ queue, dead, late }) => queue.deadLettersOf([dead, late, randomUUID()]),
  extendLease: ({ consumer, entries }) => consumer.extendLease(entries),
  countAttempt: ({ consumer, entries }) => consumer.countAttempt(entries[1]),
  withdrawAttempt: ({ consumer, entries }) => consumer.withdrawAttempt(entries[1]),
  status: ({ queue }) => queue.status(),
}

/** Everything in the keys, byte for byte. */
async function contents({ client, keys }: Pick<Scene, 'client'> & { keys: object }): Promise<Record<string, string>> {
  const names = Object.values(keys) as string[]
  const dumps = await Promise.all(names.map((key) => client.dumpBuffer(key)))
  return Object.fromEntries(names.map((key, i) => [key, dumps[i]?.toString('base64') ?? '']))
}

/** Runs `act`. If it fails, nothing must have changed, and the error must say so. */
async function checked(at: Scene, act: (at: Scene) => Promise<unknown>, what: string): Promise<'done' | 'refused'> {
  const before = await contents(at)
  try {
    await act(at)
    return 'done'
  } catch (error) {
    expect(error, what).toBeInstanceOf(SpillwayError)
    expect(error, what).toMatchObject({
      code: 'QUEUE_UNAVAILABLE',
      message: expect.stringContaining('Nothing was changed'),
    })
    expect(await contents(at), what).toEqual(before)
    return 'refused'
  }
}

const names = Object.keys(queueKeys(''))

describe.each(Object.entries(steps))('RedisQueue, %s,', (step, act) => {
  test('rejects with QUEUE_UNAVAILABLE and changes nothing if a key has the wrong type', {
    timeout: 60_000,
  }, async () => {
    const outcomes = new Set<string>()
    for (const name of names) {
      const at = await scene()
      const key = at.keys[name as keyof QueueKeys]
      await at.client.multi().del(key).set(key, 'of the wrong type').exec()
      outcomes.add(await checked(at, act, `${step} with ${name} of the wrong type`))
    }
    expect(outcomes).toContain('refused')
  })

  test('works if a key is missing', { timeout: 60_000 }, async () => {
    for (const name of names) {
      const at = await scene()
      await at.client.del(at.keys[name as keyof QueueKeys])
      // Without its stream the queue has no consumer group; the next `receive` of a worker creates it again.
      const mayRefuse = name === 'stream' && step === 'extendLease'
      expect(['done', mayRefuse && 'refused'], `${step} without ${name}`).toContain(
        await checked(at, act, `${step} without ${name}`),
      )
    }
  })
})

const oddities: Record<string, (scene: Scene) => Promise<unknown>> = {
  'pending values that are none': ({ client, keys, pending, entries }) =>
    client.hset(keys.pending, pending, 'odd', entries[0].id!, '', entries[1].id!, 'digest 5 no-handle', '', 'x'),
  'saved values that are none': ({ client, keys, saved, dead }) => client.hset(keys.saved, saved, 'odd', dead, ''),
  'saved values of the generation before that are none': ({ client, keys, saved }) =>
    client.hset(keys.savedBefore, saved, 'odd', '', ''),
  'attempts that are no number': ({ client, keys, entries }) => client.hset(keys.attempts, entries[1].handle, 'odd'),
  'index members that are none': ({ client, keys, dead, late }) =>
    client.zadd(
      keys.deadIds,
      0,
      'odd',
      5,
      `36:${dead} 0 `,
      0,
      `36:${late} 1 digest`,
      0,
      `36:${dead} 0 digest odd-handle`,
    ),
  'index members whose dead letters do not exist': ({ client, keys, dead, late }) =>
    client.zadd(keys.deadIds, 0, `36:${dead} 0 ! 1-1`, 0, `36:${late} 1 ! 2-2`),
  'an index of release 0.1 that is none': ({ client, keys, dead, late, pending }) =>
    client.hset(keys.oldDeadIndex, dead, 'odd', late, '', pending, 'digest 1-1 digest'),
  'dead letters that lack fields': async ({ client, keys, dead }) => {
    await client.xadd(keys.dead, '*', 'colour', 'red')
    await client.xadd(keys.dead, '*', 'id', dead, 'f', 'no JSON')
    await client.xadd(keys.dead, '*', 'id', dead, 'f', '{"code":5,"attempts":-1,"failedAt":"never"}', 'd', 'two words')
    await client.xadd(keys.dead, '*', 'm', 'no id', 'f', 'null', 'd', '', 'at', 'odd')
  },
  'entries that lack fields': async ({ client, keys, pending }) => {
    await client.xadd(keys.stream, '*', 'colour', 'red')
    await client.xadd(keys.stream, '*', 'id', pending)
    await client.xadd(keys.stream, '*', 'm', 'no id', 'd', 'odd')
  },
}

describe.each(Object.entries(oddities))('RedisQueue, with %s,', (_, put) => {
  test('answers every call', { timeout: 60_000 }, async () => {
    for (const [step, act] of Object.entries(steps)) {
      const at = await scene()
      await put(at)
      expect(await checked(at, act, step), step).toBe('done')
    }
  })
})

describe('RedisQueue', () => {
  test('enqueues an id whose dead letter does not exist, and 19 others beside it (FA7)', async () => {
    for (const lose of [
      ({ client, keys }: Scene) => client.del(keys.dead),
      async ({ client, keys }: Scene) => {
        for (const [handle] of await client.xrange(keys.dead, '-', '+')) await client.xdel(keys.dead, handle)
      },
      ({ client, keys }: Scene) => client.set(keys.dead, 'x').then(() => client.del(keys.dead)),
    ]) {
      const at = await scene()
      await lose(at)
      const ids = Array.from({ length: 19 }, (): string => randomUUID()).toSpliced(7, 0, at.dead)
      const replies = await at.queue.enqueue(ids.map((id) => [item(id, 'dead')]))
      expect(replies).toMatchObject(ids.map(() => [{ status: 'QUEUED', duplicate: false, conflicts: 0 }]))
      expect(await at.queue.find(ids)).toMatchObject(ids.map(() => ({ status: 'QUEUED' })))
    }
  })

  test('retries a dead letter whose id is pending for an entry that another program deleted', async () => {
    const { queue, client, keys, dead } = await scene()
    const handle = (await client.xadd(keys.stream, '*', 'id', dead, 'm', 'other', 'd', 'digest 5'))!
    await client.hset(keys.pending, dead, `digest 5 ${handle}`)
    expect(await retryIds(queue, [dead])).toBe(0)
    await client.xdel(keys.stream, handle)
    expect(await retryIds(queue, [dead])).toBe(1)
    expect(await queue.find([dead], item('', 'dead').digest)).toMatchObject([{ status: 'QUEUED' }])
    expect(await retryIds(queue, [dead])).toBe(0)
  })

  test('returns malformed dead letters as UNDECODABLE beside the others, and discards them (FD7)', async () => {
    const at = await scene()
    const { client, keys, queue, dead } = at
    await oddities['dead letters that lack fields']!(at)
    const { deadLetters } = await queue.deadLetters(10)
    expect(deadLetters.map(({ body: _, ...rest }) => rest)).toMatchObject([
      { id: dead, failure },
      { id: at.late, failure: conflict },
      { failure: { code: 'UNDECODABLE', attempts: 0, failedAt: expect.any(Date) } },
      { id: dead, failure: { code: 'UNDECODABLE' } },
      { id: dead, failure: { code: 'UNDECODABLE', attempts: 0 } },
      { failure: { code: 'UNDECODABLE' } },
    ])
    for (const { failure } of deadLetters) expect(Number.isNaN(+failure.failedAt)).toBe(false)
    const [lost, nameless] = [deadLetters[2]!, deadLetters[5]!]
    expect([lost.id, nameless.id]).toEqual([lost.handle, nameless.handle])
    expect(await retryIds(queue, [lost.id])).toBe(0)
    expect(await retryIds(queue, [nameless.id])).toBe(1)
    expect(await discardIds(queue, [lost.id])).toBe(1)
    expect(await client.xlen(keys.dead)).toBe(4)
  })

  test('dead-letters, acknowledges, counts attempts, pauses and resumes on a full server, and enqueues nothing there', async () => {
    const server = await startRedis()
    close.push(() => server.stop())
    const at = await scene(server.url)
    const { client, consumer, queue, keys, entries } = at
    await consumer.countAttempt(entries[0])
    await client.config('SET', 'maxmemory', '1')
    // Redis refuses it, or the queue does, which has read the state of the server in between.
    const refused = await queue.enqueue([[item(randomUUID(), 'x')]]).catch((error) => [error])
    expect(refused).toMatchObject([{ code: expect.stringMatching(/QUEUE_UNAVAILABLE|QUEUE_FULL/) }])
    expect(await consumer.countAttempt(entries[0])).toBe(2)
    await consumer.deadLetter([{ entry: entries[0], failure }])
    await consumer.ack([entries[1]])
    expect(await queue.find([at.dead, at.pending])).toMatchObject([{ status: 'FAILED' }, { status: 'QUEUED' }])
    expect((await queue.deadLetters(10)).deadLetters).toHaveLength(3)
    expect(await discardIds(queue, [at.dead])).toBe(1)
    expect(await client.xlen(keys.stream)).toBe(1)
    await queue.operations.pause('ann')
    await queue.operations.pause('bob')
    expect((await queue.status()).paused).toMatchObject({ by: 'ann' })
    await queue.operations.resume()
    expect((await queue.status()).paused).toBeUndefined()
  })
})

describe('RedisEventLog.append', () => {
  const event = savedEvent('x')
  let log: RedisEventLog
  let client: Redis
  let keys: { log: string; meta: string; sizes: string }
  let queue: RedisQueue
  beforeEach(async () => {
    const address = parseRedisUrl(freshRedisUrl())
    queue = new RedisQueue(address, { capacity: 1, log: quiet() })
    client = queue.connection.client
    log = new RedisEventLog(address, { retentionMs: 60_000, retentionBytes: 200, models, log: quiet() })
    close.push(
      () => log.close(),
      () => queue.close(),
    )
    const key = (name: string) => `{${address.prefix}:events}:${name}`
    keys = { log: key('log'), meta: key('meta'), sizes: key('sizes') }
    await eventually(() => log.tail())
    for (let i = 0; i < 3; i++) await log.append([[event]])
  })
  const append = () => log.append([[event]])

  test.each(['log', 'meta', 'sizes'] as const)(
    'rejects with QUEUE_UNAVAILABLE and changes nothing if %s has the wrong type',
    async (name) => {
      await client.multi().del(keys[name]).set(keys[name], 'x').exec()
      const before = await contents({ client, keys })
      await expect(append()).rejects.toMatchObject({
        code: 'QUEUE_UNAVAILABLE',
        message: expect.stringContaining('Nothing was changed'),
      })
      expect(await contents({ client, keys })).toEqual(before)
    },
  )

  test.each<[string, () => Promise<unknown>]>([
    ['sizes that are none', () => client.lpush(keys.sizes, 'odd', '5-5', '5-5 x', '99999999999999999999999-1 5', '')],
    ['numbers that are none', () => client.hset(keys.meta, 'bytes', 'nan', 'last', '"odd"')],
    ['an epoch that has to be quoted', () => client.hset(keys.meta, 'epoch', 'a"b\\')],
    ['sizes missing', () => client.del(keys.sizes)],
    ['meta missing', () => client.del(keys.meta)],
    ['the log missing', () => client.del(keys.log)],
  ])('works with %s', async (_, put) => {
    await put()
    for (let i = 0; i < 10; i++) await append()
    const newest = await client.xrevrange(keys.log, '+', '-', 'COUNT', 1)
    expect(newest[0]![0]).toBe(await client.hget(keys.meta, 'last'))
    // Each append trims it to its bound.
    expect(await client.llen(keys.sizes)).toBeLessThan(6)
    expect(Number(await client.hget(keys.meta, 'bytes'))).toBeLessThan(1_000)
  })
})
