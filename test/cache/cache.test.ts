import { MemoryCache, SharedVersion } from '../../src/cache/memory.ts'
import { RedisCache, RedisVersion } from '../../src/cache/redis.ts'
import { parseRedisUrl } from '../../src/redis/connection.ts'
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
