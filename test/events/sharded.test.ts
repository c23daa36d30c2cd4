import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import type { Position } from '../../src/events/events.ts'
import { Follower } from '../../src/events/follower.ts'
import { RedisEventLog, type RedisEventLogOptions } from '../../src/events/redis.ts'
import { parseRedisUrl, type RedisAddress } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { contentOf, contents, savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { eventsSuite } from '../suites/events.ts'

eventsSuite(
  'RedisEventLog of 3 shards',
  async ({ retentionMs, retentionBytes }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const logs: RedisEventLog[] = []
    return {
      open: async () => {
        const log = new RedisEventLog(address, { retentionMs, retentionBytes, models, log: quiet(), shards: 3 })
        logs.push(log)
        await holds(async () => expect(await log.tail()).toBeDefined())
        await holds(async () => expect(await log.probe()).toBeUndefined())
        return log
      },
      cleanup: async () => {
        await Promise.all(logs.map((log) => log.close()))
      },
    }
  },
  { wakesWithEntries: false },
)

describe('RedisEventLog of 3 shards', () => {
  const retention = { retentionMs: 60_000, retentionBytes: 1_000_000 }
  const stack = new AsyncDisposableStack()
  let url: string
  let address: RedisAddress
  let redis: Redis
  let log: RedisEventLog
  beforeEach(async () => {
    url = freshRedisUrl()
    address = parseRedisUrl(url)
    redis = new Redis(inject('redisUrl'))
    log = await open(3)
  })
  afterEach(() => redis.disconnect())
  afterAll(() => stack.disposeAsync())

  async function open(shards: number, more: Partial<RedisEventLogOptions> = {}): Promise<RedisEventLog> {
    const log = new RedisEventLog(address, { ...retention, models, log: quiet(), shards, ...more })
    stack.defer(() => log.close())
    await holds(async () => expect(await log.probe()).toBeUndefined())
    return log
  }
  const textKeys = async () =>
    (await redis.keys(`{${address.prefix}:events:*`)).filter((key) => !key.endsWith(':probe'))
  const append = (name: string) => log.append([[savedEvent(name)]])
  const read = async (from: RedisEventLog, after: Position) =>
    (await from.read(after, 16)).flatMap(({ events }) => events.map(contentOf))

  test('is read with any number of shards, and goes on in one order when that changes', async () => {
    const start = await log.tail()
    const plain = await open(1)
    await append('by three')
    const middle = await log.tail()
    await plain.append([[savedEvent('by one')]])
    await append('by three again')
    for (const reader of [log, plain]) {
      expect(await read(reader, start)).toEqual(['by three', 'by one', 'by three again'])
      expect(await read(reader, middle)).toEqual(['by one', 'by three again'])
    }
  })

  test('reports lost events as CURSOR_EXPIRED to the readers before them, never skips them, and goes on behind them', async () => {
    const start = await log.tail()
    await append('one')
    const [before] = [await log.tail(), await append('lost')]
    const known = await textKeys()
    const follower = new Follower({ events: log, log: quiet() })
    stack.defer(() => follower.close())
    await redis.del(...known)
    const behind = await log.tail()
    await append('two')
    await expect(log.read(before, 16)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    await expect(log.read(start, 16)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    expect(await read(log, behind)).toEqual(['two'])
    // A subscriber that is there gets the error once, subscribes again, and goes on.
    follower.start()
    const feed = await holds(() => follower.feed(contents))
    await append('three')
    await holds(async () => expect((await feed.next())?.map(({ event }) => contentOf(event))).toEqual(['three']))
    await expect(follower.feed(contents, { position: before, index: 0 })).rejects.toMatchObject({
      code: 'CURSOR_EXPIRED',
    })
  })

  test('waits for a shard that is unavailable, and reads what comes before it', async () => {
    const proxies = await Promise.all([0, 1, 2].map(() => startProxy(inject('redisUrl'))))
    for (const proxy of proxies) stack.defer(() => proxy.close())
    const addressOf = (shard: number) => parseRedisUrl(proxies[shard]!.url(url))
    const reader = await open(3, { addressOf })
    const start = await log.tail()
    for (let n = 0; n < 3; n += 1) await append(`${n}`)
    expect(await read(reader, start)).toEqual(['0', '1', '2'])
    const refs = await redis.xrange(`{${address.prefix}:events}:log`, '-', '+')
    const shardOf = refs.map(([, fields]) => JSON.parse(fields[3]!).shard as number)
    expect(shardOf.toSorted()).toEqual([0, 1, 2])
    proxies[shardOf[1]!]!.set('cut')
    await holds(async () => expect(await read(reader, start)).toEqual(['0']))
    const first = (await reader.read(start, 16))[0]!.position
    await expect(reader.read(first, 16)).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' })
    proxies[shardOf[1]!]!.set('pass')
    await holds(async () => expect(await read(reader, first)).toEqual(['1', '2']))
  })

  test('removes the events that it trims from their shards', async () => {
    const small = await open(3, { retentionBytes: 20_000 })
    for (let n = 0; n < 40; n += 1) await small.append([[savedEvent('x'.repeat(2_000))]])
    const entries = await redis.xlen(`{${address.prefix}:events}:log`)
    expect(entries).toBeLessThan(12)
    await holds(async () => expect((await textKeys()).length).toBe(entries))
    const [key] = await textKeys()
    expect(await redis.pttl(key!)).toBeGreaterThan(retention.retentionMs)
  })
})
