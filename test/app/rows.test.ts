/** Rows under load and under change: one query for all readers of a page, and never a page older than a published event. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { Rows } from '../../src/app/rows.ts'
import type { Cache } from '../../src/cache/cache.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { RedisCache, RedisVersions } from '../../src/cache/redis.ts'
import type { Reader } from '../../src/db/store.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Content, type ContentRow, contentRow, models } from '../harness/contents.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { sqliteStore, type TestStore } from '../harness/stores.ts'

/** Longer than any test: a stale page must not be dropped for its age. */
const ttlMs = 60_000

interface Cached {
  /** The API's, and the worker's: two processes. */
  caches: [Cache, Cache]
  /** Undefined: it cannot become unavailable. */
  proxy: TestProxy | undefined
}

async function onRedis(open: (url: string) => Cache): Promise<Cached> {
  const proxy = await startProxy(inject('redisUrl'))
  const url = freshRedisUrl()
  return { caches: [open(proxy.url(url)), open(url)], proxy }
}

const caches: [string, () => Promise<Cached>][] = [
  ['on Redis', () => onRedis((url) => new RedisCache(parseRedisUrl(url), { ttlMs, log: quiet() }))],
  [
    'in memory, the version on Redis',
    () =>
      onRedis((url) => new MemoryCache({ ttlMs, versions: new RedisVersions(parseRedisUrl(url), { log: quiet() }) })),
  ],
  [
    'in memory',
    async () => {
      const buffer = new SharedArrayBuffer(SharedVersions.bytes)
      const open = () => new MemoryCache({ ttlMs, versions: new SharedVersions(buffer) })
      return { caches: [open(), open()], proxy: undefined }
    },
  ],
]

/** The store, counting its queries; each result waits behind `gate`, as over a slow network. */
function slow(store: Reader) {
  let gate = Promise.resolve()
  let running = 0
  const seen = { pages: 0, finds: 0, atOnce: 0 }
  return {
    seen,
    /** Queries that begin from now on do not return before the function is called. */
    extendLease(): () => void {
      const { promise, resolve } = Promise.withResolvers<void>()
      gate = promise
      return () => {
        resolve()
        gate = Promise.resolve()
      }
    },
    reader: {
      hasReplica: store.hasReplica,
      async page(model, query) {
        seen.pages += 1
        running += 1
        seen.atOnce = Math.max(seen.atOnce, running)
        const wait = gate
        try {
          const rows = await store.page(model, query)
          await wait
          return rows
        } finally {
          running -= 1
        }
      },
      find(model, ids) {
        seen.finds += 1
        return store.find(model, ids)
      },
    } satisfies Reader,
  }
}

describe.each(caches)('with the cache %s', (_, make) => {
  let cached: Cached
  let stored: TestStore
  let store: ReturnType<typeof slow>
  let rows: Rows
  let clock = Date.UTC(2026, 0, 1)
  const first = { take: 20, skip: 0, where: {} }
  /** The page `first` in the cache. */
  const page = 'Content,primary,20,0,,{}'
  const current = (key = page, cache = cached.caches[0]) => cache.get('Content', key)

  beforeEach(async () => {
    cached = await make()
    stored = await sqliteStore()
    store = slow(stored.store)
    rows = new Rows({ models, store: store.reader, cache: cached.caches[0] })
    await Promise.all(cached.caches.map((cache) => eventually(async () => (await current('x', cache)).version)))
  })
  afterEach(async () => {
    await Promise.all(cached.caches.map((cache) => cache.close()))
    await cached.proxy?.close()
    await stored.cleanup()
  })

  /** One more row, without an invalidation and an event. */
  async function commit(content = 'something'): Promise<ContentRow> {
    const at = new Date(clock++)
    const row = contentRow(content, { createdAt: at, savedAt: at })
    await stored.store.insert(Content, [row])
    return row
  }

  /** As a worker does it: when this resolves, the event may be published. */
  async function save(content?: string): Promise<ContentRow> {
    const row = await commit(content)
    await cached.caches[1].invalidate(['Content'])
    return row
  }

  const all = <T>(count: number, ask: () => Promise<T>) => Promise.all(Array.from({ length: count }, ask))

  test('Rows runs one query for a thousand readers of a page at once, and none for the next thousand', async () => {
    const row = await save('line\nbreak \0 "quotes" 🙂')
    const pages = await all(1_000, () => rows.page(Content, first))
    expect(store.seen).toMatchObject({ pages: 1 })
    for (const page of pages) expect(page).toEqual([row])
    // A set has no answer: the page is cached as soon as it arrives.
    await holds(async () => expect((await current()).value).toBeDefined())
    expect(await all(1_000, () => rows.page(Content, first))).toEqual(pages)
    expect(store.seen.pages).toBe(1)
  })

  const row = ['0198c7a2-0000-7000-8000-000000000000', 'of another program', 0, 0]
  test.each([
    '',
    'null',
    '{}',
    '7',
    '[[',
    '[null]',
    '[{"id":"x"}]',
    '[["x","x",0]]',
    '[["x","x","0","0"]]',
    '[["x","x",1e300,0]]',
    '[["x",null,0,0]]',
    JSON.stringify(Array.from({ length: 21 }, () => row)),
  ])('Rows treats a damaged cached page as a miss (%#)', async (value) => {
    const row = await save()
    const { version } = await current(page, cached.caches[1])
    // As another process of another release would store it.
    cached.caches[0].set(page, version!, value, performance.now())
    await holds(async () => expect((await current()).value).toBe(value))
    expect(await rows.page(Content, first)).toEqual([row])
    expect(store.seen.pages).toBe(1)
    await holds(async () => expect((await current()).value).toContain(row.id))
  })

  test('Rows runs one query for each page', async () => {
    for (let n = 0; n < 30; n++) await save(String(n))
    const pages = await all(200, () =>
      Promise.all([5, 10, -5].map((take) => rows.page(Content, { take, skip: 0, where: {} }))),
    )
    expect(store.seen.pages).toBe(3)
    for (const [five, ten, last] of pages) {
      expect([five, ten, last].map((page) => page!.length)).toEqual([5, 10, 5])
      expect(ten!.slice(0, 5)).toEqual(five)
      expect(last!.map(({ content }) => content)).toEqual(['4', '3', '2', '1', '0'])
    }
  })

  test('Rows reads a page again after an invalidation', async () => {
    await save()
    await all(100, () => rows.page(Content, first))
    const row = await save('new')
    const pages = await all(1_000, () => rows.page(Content, first))
    for (const page of pages) expect(page[0]).toEqual(row)
    expect(store.seen.pages).toBe(2)
  })

  test('Rows.find reads the ids of one tick in one query for each bounded number of rows', async () => {
    const saved = await Promise.all(Array.from({ length: 20 }, () => commit()))
    const found = await Promise.all(saved.flatMap(({ id }) => [rows.find(Content, id), rows.find(Content, id)]))
    expect(found).toEqual(saved.flatMap((row) => [row, row]))
    expect(await rows.find(Content, randomUUID())).toBeUndefined()
    expect(store.seen.finds).toBe(2)
    // The number of the longest rows in 16 MiB.
    await Promise.all(Array.from({ length: 257 }, () => rows.find(Content, randomUUID())))
    expect(store.seen.finds).toBe(4)
  })

  describe('P5: Rows after an invalidation', () => {
    test('does not return a slow read that began before the commit', async () => {
      await save('old')
      const release = store.extendLease()
      const early = rows.page(Content, first)
      await holds(() => expect(store.seen.pages).toBe(1))
      const row = await save('new')
      const late = rows.page(Content, first)
      await holds(() => expect(store.seen.pages).toBe(2))
      release()
      expect((await late)[0]).toEqual(row)
      expect((await early)[0]!.content).toBe('old')
      // Whichever of the two was cached last.
      for (let n = 0; n < 20; n++) expect((await rows.page(Content, first))[0]).toEqual(row)
    })

    test('does not return a read that began before the commit and ends after the invalidation', async () => {
      await save('old')
      const release = store.extendLease()
      const early = rows.page(Content, first)
      await holds(() => expect(store.seen.pages).toBe(1))
      const row = await save('new')
      release()
      expect((await early)[0]!.content).toBe('old')
      for (let n = 0; n < 20; n++) expect((await rows.page(Content, first))[0]).toEqual(row)
    })

    test('does not return a page that was read between commit and invalidation', async () => {
      await save('old')
      const row = await commit('new')
      expect((await rows.page(Content, first))[0]).toEqual(row)
      await cached.caches[1].invalidate(['Content'])
      const next = await commit('newer')
      // Before the invalidation either page is right, and a cached one is valid until the invalidation.
      await rows.page(Content, first)
      await cached.caches[1].invalidate(['Content'])
      expect((await rows.page(Content, first))[0]).toEqual(next)
    })

    test('returns every published row, in any interleaving of many readers with a worker', {
      timeout: 60_000,
    }, async () => {
      let published = -1
      let looks = 0
      let working = true
      const wrong: string[] = []
      const reading = Array.from({ length: 20 }, async () => {
        while (working) {
          const known = published
          const [newest] = await rows.page(Content, { take: 1, skip: 0, where: {} })
          looks += 1
          if (known >= 0 && Number(newest?.content ?? -1) < known) wrong.push(`${newest?.content} after ${known}`)
          await new Promise((resolve) => setImmediate(resolve))
        }
      })
      for (let n = 0; n < 150; n++) {
        await save(String(n))
        published = n
        if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      working = false
      await Promise.all(reading)
      expect(wrong).toEqual([])
      expect(looks).toBeGreaterThan(500)
    })
  })

  test('Rows rejects all readers while the store is unavailable, and caches nothing of it', async () => {
    const row = await save()
    await stored.sql('ALTER TABLE Content RENAME TO Elsewhere')
    const unavailable = { code: 'STORE_UNAVAILABLE' }
    const asked = await Promise.allSettled([
      ...Array.from({ length: 50 }, () => rows.page(Content, first)),
      rows.find(Content, row.id),
    ])
    for (const outcome of asked) expect(outcome).toMatchObject({ status: 'rejected', reason: unavailable })
    await stored.sql('ALTER TABLE Elsewhere RENAME TO Content')
    expect(await rows.page(Content, first)).toEqual([row])
    expect(await rows.find(Content, row.id)).toEqual(row)
  })

  test('Rows refuses a cursor that names no content, and returns an empty page at the end of the list', async () => {
    const row = await save()
    const refused = { code: 'BAD_USER_INPUT' }
    for (const cursor of [randomUUID(), 'x', row.id.toUpperCase()])
      await expect(rows.page(Content, { take: 5, skip: 1, cursor, where: {} })).rejects.toMatchObject(refused)
    expect(await rows.page(Content, { take: 5, skip: 1, cursor: row.id, where: {} })).toEqual([])
    expect(await rows.page(Content, { take: 5, skip: 0, cursor: row.id, where: {} })).toEqual([row])
  })

  describe('Rows while the cache is unavailable', () => {
    /** False if it cannot become unavailable. */
    async function disconnected(): Promise<boolean> {
      cached.proxy?.set('cut')
      if (cached.proxy) await eventually(async () => (await current('x')).version === undefined)
      return cached.proxy !== undefined
    }

    test('runs one query of a page at a time, and one more for all readers that come meanwhile', async () => {
      await save('old')
      if (!(await disconnected())) return void expect((await current('x')).version).toBeDefined()
      const release = store.extendLease()
      const early = all(1_000, () => rows.page(Content, first))
      await holds(() => expect(store.seen.pages).toBe(1))
      const row = await save('new')
      const late = all(1_000, () => rows.page(Content, first))
      // By now they know that the cache is unavailable.
      await rows.find(Content, row.id)
      await eventually(async () => (await current('y')).version === undefined)
      expect(store.seen.pages).toBe(1)
      release()
      // The readers that came first share the first query; all that came while it ran share the second.
      for (const page of await early) expect(page.at(-1)!.content).toBe('old')
      for (const page of await late) expect(page[0]).toEqual(row)
      expect(store.seen).toMatchObject({ pages: 2, atOnce: 1 })
    })

    test('caches nothing, and uses the cache again when it is back', async () => {
      await save('old')
      if (!(await disconnected())) return void expect((await current('x')).version).toBeDefined()
      expect(await rows.page(Content, first)).toHaveLength(1)
      cached.proxy!.set('pass')
      await eventually(async () => (await current('x')).version)
      expect((await current()).value).toBeUndefined()
      const before = store.seen.pages
      await rows.page(Content, first)
      await holds(async () => expect((await current()).value).toBeDefined())
      await all(100, () => rows.page(Content, first))
      expect(store.seen.pages).toBe(before + 1)
    })
  })
})
