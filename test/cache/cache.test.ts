import { Redis } from 'ioredis'
import { expect, inject, test } from 'vitest'
import { MemoryCache, SharedVersion } from '../../src/cache/memory.ts'
import { RedisCache, RedisVersion } from '../../src/cache/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { cacheSuite } from '../suites/cache.ts'

const ttlMs = 3_000

cacheSuite('on Redis', async () => {
  const address = parseRedisUrl(freshRedisUrl())
  return { ttlMs, open: async () => new RedisCache(address, { ttlMs, log: quiet() }) }
})

cacheSuite('in memory, one process', async () => {
  const version = new SharedVersion()
  return { ttlMs, open: async () => new MemoryCache({ ttlMs, version: new SharedVersion(version.buffer) }) }
})

cacheSuite('in memory, the version on Redis', async () => {
  const address = parseRedisUrl(freshRedisUrl())
  return { ttlMs, open: async () => new MemoryCache({ ttlMs, version: new RedisVersion(address, { log: quiet() }) }) }
})

test.each(['', '1', 'x\nvalue', '\nvalue', '1.5\nvalue', '-1\nvalue', '1e3\nvalue', '["of release 0.1"]'])(
  'RedisCache takes a page without the time it was read at for a miss: %j',
  async (text) => {
    const address = parseRedisUrl(freshRedisUrl())
    const cache = new RedisCache(address, { ttlMs, log: quiet() })
    const redis = new Redis(inject('redisUrl'))
    const version = await holds(async () => {
      const { version } = await cache.get('x')
      expect(version).toBeDefined()
      return version
    })
    await redis.set(`{${address.prefix}:cache}:page:x`, `${version}\n${text}`)
    expect(await cache.get('x')).toMatchObject({ version, value: undefined })
    await cache.close()
    redis.disconnect()
  },
)
