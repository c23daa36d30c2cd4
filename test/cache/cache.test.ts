import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { RedisCache, RedisVersions } from '../../src/cache/redis.ts'
import { cacheKeysOf } from '../../src/model/narrow.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { models } from '../harness/models.ts'
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

describe('RedisCache', () => {
  let cache: RedisCache
  let redis: Redis
  let prefix: string
  beforeEach(async () => {
    const address = parseRedisUrl(freshRedisUrl())
    prefix = `{${address.prefix}:cache}:`
    cache = new RedisCache(address, { ttlMs, log: quiet() })
    redis = new Redis(inject('redisUrl'))
    await holds(async () => expect(await cache.version(['Content'])).toBeDefined())
  })
  afterEach(async () => {
    await cache.close()
    redis.disconnect()
  })

  const store = async (cacheKey: string, pageKey: string) => {
    const { version } = await cache.get(cacheKey, pageKey)
    cache.set(pageKey, version!, `page of ${cacheKey}`, performance.now())
    await holds(async () => expect((await cache.get(cacheKey, pageKey)).value).toBe(`page of ${cacheKey}`))
  }

  test('returns no page whose version was evicted alone, and keeps those of other keys', async () => {
    await store('Comment.postId.1', 'one')
    await store('Comment.postId.2', 'two')
    expect(await redis.del(`${prefix}version:Comment.postId.1`)).toBe(1)
    expect((await cache.get('Comment.postId.1', 'one')).value).toBeUndefined()
    expect((await cache.get('Comment.postId.2', 'two')).value).toBe('page of Comment.postId.2')
  })

  test('returns no page under the version of another key', async () => {
    await store('Comment.postId.1', 'one')
    expect((await cache.get('Comment.postId.2', 'one')).value).toBeUndefined()
  })

  test('keeps at most 1,024 versions of one narrowing, however many values are saved', async () => {
    const model = models.get('Comment')!
    const row = (author: string) => ({ id: '', createdAt: new Date(), savedAt: new Date(), postId: 'p', author })
    for (let n = 0; n < 10; n += 1) {
      const keys = Array.from({ length: 1_000 }, (_, i) => cacheKeysOf(model, row(`${n} ${i}`))).flat()
      await cache.invalidate([...new Set(keys)])
    }
    const versions = await redis.keys(`${prefix.replace(/[{}]/g, '\\$&')}version:Comment*`)
    // Of all comments, of one post, and of 10,000 authors, alone and with the post.
    expect(versions.length).toBeGreaterThan(2_000)
    expect(versions.length).toBeLessThanOrEqual(2 + 2 * 1_024)
  })
})
