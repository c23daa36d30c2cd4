/** Streams with an entry of the highest possible id, after which Redis adds none: nothing is written, and the error says what to do. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { afterEach, expect, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import type { Failure } from '../../src/model/error.ts'
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
import { item } from '../suites/queue.ts'

const highest = '18446744073709551615-18446744073709551615'
const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(1_000) }
const refused = {
  code: 'QUEUE_UNAVAILABLE',
  message: expect.stringMatching(/highest possible id.*delete the key.*Nothing was changed/),
}

const close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.splice(0).reverse()) await closing()
})

async function scene(): Promise<{ queue: RedisQueue; consumer: Consumer; client: Redis; keys: QueueKeys }> {
  const address = parseRedisUrl(freshRedisUrl())
  const queue = new RedisQueue(address, { capacity: 100, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  return {
    queue,
    consumer: queue.consumer('w'),
    client: queue.connection.client,
    keys: queueKeys(hashTag(address, '0')),
  }
}

const received = (consumer: Consumer, count: number): Promise<Entry[]> => {
  const all: Entry[] = []
  return eventually(async () => {
    all.push(...(await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)))
    return all.length >= count && all
  }) as Promise<Entry[]>
}

test('RedisQueue.enqueue rejects with QUEUE_UNAVAILABLE while its stream can get no entry, and works once the stream is deleted', async () => {
  const { queue, consumer, client, keys } = await scene()
  const before = item(randomUUID(), 'before')
  await queue.enqueue([[before]])
  await client.xadd(keys.stream, highest, 'odd', 'one')
  const [id, other] = [randomUUID(), randomUUID()]
  await expect(queue.enqueue([[item(id, 'a')]])).rejects.toMatchObject(refused)
  await expect(queue.enqueue([[{ ...item(other, 'b'), fresh: true }]])).rejects.toMatchObject(refused)
  expect(await queue.find([id, other])).toEqual([undefined, undefined])
  expect(await queue.probe()).toBe('EXHAUSTED')
  // As the error message advises.
  const [good, odd] = await received(consumer, 2)
  expect(await consumer.probe()).toBe('EXHAUSTED')
  await consumer.ack([good!])
  await consumer.deadLetter([{ entry: odd!, failure }])
  expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
  await client.del(keys.stream)
  expect(await queue.enqueue([[item(id, 'a')]])).toMatchObject([[{ status: 'QUEUED', duplicate: false }]])
  expect(await received(consumer, 1)).toMatchObject([{ id }])
})

test('RedisQueue.enqueue removes what it added before its stream was exhausted', async () => {
  const { queue, client, keys } = await scene()
  await client.xadd(keys.stream, '18446744073709551615-18446744073709551613', 'odd', 'one')
  const all = Array.from({ length: 5 }, (_, n) => item(randomUUID(), `content ${n}`))
  await expect(queue.enqueue([all.slice(0, 1), all.slice(1)])).rejects.toMatchObject(refused)
  expect(await client.xlen(keys.stream)).toBe(1)
  expect(await client.exists(keys.pending)).toBe(0)
  expect(await queue.find(all.map(({ id }) => id))).toEqual(all.map(() => undefined))
})

test('RedisQueue.retry and replace do not touch dead letters while the stream can get no entry', async () => {
  const { queue, consumer, client, keys } = await scene()
  const one = item(randomUUID(), 'one')
  await queue.enqueue([[one]])
  await consumer.deadLetter((await received(consumer, 1)).map((entry) => ({ entry, failure })))
  await client.xadd(keys.stream, highest, 'odd', 'one')
  await expect(retryIds(queue, [one.id])).rejects.toMatchObject(refused)
  const [handle] = (await queue.deadLettersOf([one.id]))[0]!.handles
  await expect(queue.replace(handle!, item(one.id, 'other'))).rejects.toMatchObject(refused)
  expect(await queue.find([one.id])).toMatchObject([{ status: 'FAILED' }])
})

test('RedisQueue lists, indexes and discards a dead letter with the highest possible id, and adds none after it', async () => {
  const { queue, consumer, client, keys } = await scene()
  const [one, two] = [item(randomUUID(), 'one'), item(randomUUID(), 'two')]
  await queue.enqueue([[one, two]])
  const entries = await received(consumer, 2)
  await consumer.countAttempt(entries[0]!)
  await client.xadd(keys.dead, highest, 'id', 'odd', 'm', '', 'f', '{}', 'd', 'digest')
  await expect(consumer.deadLetter(entries.map((entry) => ({ entry, failure })))).rejects.toMatchObject(refused)
  expect(await consumer.countAttempt(entries[0]!)).toBe(2)
  expect(await queue.find([one.id, 'odd'])).toMatchObject([{ status: 'QUEUED' }, { status: 'FAILED' }])
  const page = await queue.deadLetters(10)
  expect(page).toMatchObject({ deadLetters: [{ handle: highest, id: 'odd' }], more: false })
  expect(await queue.deadLetters(10, { newerThan: highest })).toEqual({ deadLetters: [], more: false })
  expect(await discardIds(queue, ['odd'])).toBe(1)
  await client.del(keys.dead)
  await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
  expect(await queue.find([one.id, two.id])).toMatchObject([{ status: 'FAILED' }, { status: 'FAILED' }])
})

test('RedisEventLog.append rejects with QUEUE_UNAVAILABLE while its stream can get no entry, and its probe fails', async () => {
  const address = parseRedisUrl(freshRedisUrl())
  const { queue } = await scene()
  const { client } = queue.connection
  const log = new RedisEventLog(address, { retentionMs: 60_000, retentionBytes: 1_000, models, log: quiet() })
  close.push(() => log.close())
  await eventually(() => log.tail())
  const key = `{${address.prefix}:events}:log`
  await client.xadd(key, highest, 'odd', 'one')
  const event = savedEvent('x')
  await expect(log.append([[event]])).rejects.toMatchObject(refused)
  expect(await log.probe()).toBe('EXHAUSTED')
  await client.del(key)
  await log.append([[event]])
  expect(await log.probe()).toBeUndefined()
})
