import { Redis } from 'ioredis'
import { expect, inject, test } from 'vitest'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { RedisCache, RedisVersions } from '../../src/cache/redis.ts'
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
  const buffer = new SharedArrayBuffer(SharedVersions.bytes)
  return { ttlMs, open: async () => new MemoryCache({ ttlMs, versions: new SharedVersions(buffer) }) }
})

cacheSuite('in memory, the versions on Redis', async () => {
  const address = parseRedisUrl(freshRedisUrl())
  return { ttlMs, open: async () => new MemoryCache({ ttlMs, versions: new RedisVersions(address, { log: quiet() }) }) }
})

test.each(['', '1', 'x\nvalue', '\nvalue', '1.5\nvalue', '-1\nvalue', '1e3\nvalue', '["of release 0.1"]'])(
  'RedisCache takes a page without the time it was read at for a miss: %j',
  async (text) => {
    const address = parseRedisUrl(freshRedisUrl())
    const cache = new RedisCache(address, { ttlMs, log: quiet() })
    const redis = new Redis(inject('redisUrl'))
    const version = await holds(async () => {
      const { version } = await cache.get('Content', 'x')
      expect(version).toBeDefined()
      return version
    })
    await redis.set(`{${address.prefix}:cache}:page:x`, `${version}\n${text}`)
    expect(await cache.get('Content', 'x')).toMatchObject({ version, value: undefined })
    await cache.close()
    redis.disconnect()
  },
)
