/** The contract of every Cache. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Cache } from '../../src/cache/cache.ts'
import { holds } from '../harness/eventually.ts'

export interface CacheMaker {
  ttlMs: number
  /** One more connection to the same cache, as another process has it. */
  open(): Promise<Cache>
}

export function cacheSuite(name: string, make: () => Promise<CacheMaker>): void {
  describe(`The cache ${name}`, () => {
    let maker: CacheMaker
    let cache: Cache
    let other: Cache
    beforeAll(async () => {
      maker = await make()
      cache = await maker.open()
      other = await maker.open()
      await holds(async () => expect((await cache.get('Content', 'x')).version).toBeDefined())
      await holds(async () => expect((await other.get('Content', 'x')).version).toBeDefined())
    })
    afterAll(async () => {
      await Promise.all([cache?.close(), other?.close()])
    })

    const keep = async (key: string, value: string) => {
      const { version } = await cache.get('Content', key)
      cache.set(key, version!, value, performance.now())
      await holds(async () => expect((await cache.get('Content', key)).value).toBe(value))
    }

    test('returns a page unchanged', async () => {
      const value = JSON.stringify({ text: 'line\nbreak \0 "quotes" 🙂' })
      await keep(randomUUID(), value)
      await keep(randomUUID(), '')
    })

    test('returns nothing for a key that was never set', async () => {
      expect((await cache.get('Content', randomUUID())).value).toBeUndefined()
    })

    test('returns no earlier page after an invalidation, in every process', async () => {
      const [a, b] = [randomUUID(), randomUUID()]
      await keep(a, 'one')
      await keep(b, 'two')
      const before = await cache.get('Content', a)
      await other.invalidate(['Content'])
      const after = await cache.get('Content', a)
      expect(after.value).toBeUndefined()
      expect(after.version).not.toBe(before.version)
      expect((await cache.get('Content', b)).value).toBeUndefined()
    })

    test('does not return a page that was read under an earlier version', async () => {
      const key = randomUUID()
      const { version } = await cache.get('Content', key)
      await other.invalidate(['Content'])
      cache.set(key, version!, 'stale', performance.now())
      // A later set on the same connection has arrived: so has the stale one, if it was sent.
      await keep(randomUUID(), 'fence')
      expect((await cache.get('Content', key)).value).toBeUndefined()
    })

    test('never uses a version twice', async () => {
      const versions = new Set<string>()
      for (let i = 0; i < 20; i++) {
        versions.add((await cache.get('Content', 'x')).version!)
        await other.invalidate(['Content'])
      }
      expect(versions.size).toBe(20)
    })

    test('answers many reads at once, each with its own page', async () => {
      const keys = Array.from({ length: 50 }, () => randomUUID())
      await Promise.all(keys.map((key) => keep(key, `value of ${key}`)))
      const found = await Promise.all([...keys, ...keys].map((key) => cache.get('Content', key)))
      expect(found.map(({ value }) => value)).toEqual([...keys, ...keys].map((key) => `value of ${key}`))
    })

    test('returns no page after its time to live', async () => {
      const key = randomUUID()
      await keep(key, 'short-lived')
      await holds(async () => expect((await cache.get('Content', key)).value).toBeUndefined(), {
        timeoutMs: maker.ttlMs * 5,
      })
    })

    test('counts the time to live of a page from when the store was read', async () => {
      const { version } = await cache.get('Content', 'x')
      const [old, half] = [randomUUID(), randomUUID()]
      const now = performance.now()
      cache.set(old, version!, 'read long ago', now - maker.ttlMs)
      cache.set(half, version!, 'read a while ago', now - maker.ttlMs / 4)
      await keep(randomUUID(), 'fence')
      expect((await cache.get('Content', old)).value).toBeUndefined()
      // In another process, too.
      for (const view of [cache, other]) {
        const found = await view.get('Content', half)
        if (view === other && found.value === undefined) continue
        expect(Math.abs(found.readAt - (now - maker.ttlMs / 4))).toBeLessThan(100)
      }
    })

    test('keeps the pages of other cache keys valid after an invalidation', async () => {
      const [mine, others] = [randomUUID(), randomUUID()]
      const set = async (cacheKey: string, pageKey: string) => {
        const { version } = await cache.get(cacheKey, pageKey)
        cache.set(pageKey, version!, `page of ${cacheKey}`, performance.now())
        await holds(async () => expect((await cache.get(cacheKey, pageKey)).value).toBe(`page of ${cacheKey}`))
      }
      await set('Comment.postId.1', mine)
      await set('Comment.postId.2', others)
      await other.invalidate(['Comment', 'Comment.postId.1'])
      expect((await cache.get('Comment.postId.1', mine)).value).toBeUndefined()
      expect((await cache.get('Comment.postId.2', others)).value).toBe('page of Comment.postId.2')
    })

    test('returns a version of several keys that changes when one of them is invalidated', async () => {
      const keys = ['Comment', 'Comment.postId.3', 'Memo']
      const before = await cache.version(keys)
      expect(await other.version(keys)).toBe(before)
      await other.invalidate(['Content'])
      expect(await cache.version(keys)).toBe(before)
      const seen = new Set([before])
      for (const key of keys) {
        await other.invalidate([key])
        seen.add(await cache.version(keys))
      }
      expect(seen.size).toBe(4)
    })

    test('invalidates as many keys at once as the rows of some batches can have', async () => {
      // Some models with ten narrowings each: Lua's unpack takes about 8,000 values.
      const keys = Array.from({ length: 20_000 }, (_, i) => `Comment.author+postId.${i}`)
      const some = [keys[0]!, keys[9_999]!, keys.at(-1)!]
      const before = await Promise.all(some.map((key) => cache.version([key])))
      await other.invalidate(keys)
      const after = await Promise.all(some.map((key) => cache.version([key])))
      expect(after.every((version, i) => version !== undefined && version !== before[i])).toBe(true)
    })

    test('may be closed twice', async () => {
      const third = await maker.open()
      await third.close()
      await third.close()
    })
  })
}
