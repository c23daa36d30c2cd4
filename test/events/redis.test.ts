import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl, type RedisAddress } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { eventsSuite } from '../suites/events.ts'

eventsSuite('RedisEventLog', async ({ retentionMs, retentionBytes }) => {
  const address = parseRedisUrl(freshRedisUrl())
  const logs: RedisEventLog[] = []
  return {
    open: async () => {
      const log = new RedisEventLog(address, { retentionMs, retentionBytes, models, log: quiet() })
      logs.push(log)
      await holds(async () => expect(await log.tail()).toBeDefined())
      return log
    },
    cleanup: async () => {
      await Promise.all(logs.map((log) => log.close()))
    },
  }
})

describe('RedisEventLog', () => {
  const event = savedEvent('x')
  const key = (name: string) => `{${address.prefix}:events}:${name}`
  let address: RedisAddress
  let log: RedisEventLog
  let redis: Redis
  beforeEach(async () => {
    address = parseRedisUrl(freshRedisUrl())
    redis = new Redis(inject('redisUrl'))
    log = new RedisEventLog(address, { retentionMs: 60_000, retentionBytes: 1_000_000, models, log: quiet() })
    await holds(async () => expect(await log.tail()).toBeDefined())
  })
  afterEach(async () => {
    await log.close()
    redis.disconnect()
  })

  test("skips another program's entry", async () => {
    const start = await log.tail()
    await log.append([[event]])
    const first = await log.tail()
    await redis.xadd(key('log'), '*', 'foreign', 'entry')
    await log.append([[event]])
    expect(await log.read(start, 16)).toHaveLength(2)
    expect(await log.read(first, 16)).toHaveLength(1)
  })

  test('reports a damaged entry as CURSOR_EXPIRED, and reads the entries behind it', async () => {
    const start = await log.tail()
    await log.append([[event]])
    const first = await log.tail()
    const damaged = await redis.xadd(key('log'), '*', 'p', `${first.major}-${first.minor}`, 'd', '[{"type":"sav')
    await redis.hset(key('meta'), 'last', damaged!)
    const second = await log.tail()
    await log.append([[event]])
    expect(await log.read(start, 16)).toHaveLength(1)
    await expect(log.read(first, 16)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    expect(await log.read(second, 16)).toHaveLength(1)
  })

  test('reads up to an entry that is missing, and reports a cursor before it as CURSOR_EXPIRED', async () => {
    const start = await log.tail()
    const ends = []
    for (let n = 0; n < 4; n += 1) {
      await log.append([[event]])
      ends.push(await log.tail())
    }
    await redis.xdel(key('log'), `${ends[2]!.major}-${ends[2]!.minor}`)
    expect((await log.read(start, 16)).map(({ position }) => position)).toEqual(ends.slice(0, 2))
    await expect(log.read(ends[1]!, 16)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    expect(await log.read(ends[2]!, 16)).toHaveLength(1)
  })

  test('reads as many small entries as it is asked for, and few large ones', async () => {
    const start = await log.tail()
    await log.append(Array.from({ length: 100 }, () => [event]))
    expect(await log.read(start, 99)).toHaveLength(99)
    const small = await log.tail()
    for (let n = 0; n < 8; n += 1) await log.append([[savedEvent('x'.repeat(100_000))]])
    expect(await log.read(small, 99)).toHaveLength(3)
  })

  test('never uses an id twice, even if the clock stands still and the tail was lost', async () => {
    await redis.eval(
      "redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '99999999999999-0', 'p', ''))",
      1,
      key('log'),
    )
    await log.append([[event]])
    const kept = await log.tail()
    const dumps = await Promise.all(['log', 'meta', 'sizes'].map((name) => redis.dumpBuffer(key(name))))
    await log.append([[event]])
    const lost = await log.tail()
    for (const [i, name] of ['log', 'meta', 'sizes'].entries()) await redis.restore(key(name), 0, dumps[i]!, 'REPLACE')
    await log.append([[event]])
    await expect(log.read(lost, 16)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    expect(await log.read(kept, 16)).toHaveLength(1)
  })
})
