/** The store on MariaDB, or MySQL: the contract, on a server with hostile settings. Faults are in faults.test.ts. */
import { uuidv7 } from 'uuidv7'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Rows } from '../../src/app/rows.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { parseMysqlUrl } from '../../src/db/address.ts'
import { limitsOf } from '../../src/db/mysql.ts'
import type { PrismaStore } from '../../src/db/prisma.ts'
import { Content, type ContentRow, models } from '../harness/contents.ts'
import { engine } from '../harness/engine.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore, prismaOf } from '../harness/stores.ts'
import { storeSuite } from '../suites/store.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
const zone = process.env.TZ

beforeAll(async () => {
  // Neither the process nor the server is on UTC, and neither is on the other's time.
  process.env.TZ = 'America/St_Johns'
  server = await startMariadb({
    args: ['--default-time-zone=+05:30', '--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'],
  })
}, 60_000)
afterAll(async () => {
  if (zone === undefined) delete process.env.TZ
  else process.env.TZ = zone
  await server.cleanup()
})

const open = async (url: string) => {
  const store = await contentStore({ url, concurrency: 2, log: quiet() })
  await store.prepare(AbortSignal.timeout(20_000))
  return store
}

let databases = 0
/** With the worst default character set there is. */
async function database(): Promise<string> {
  const name = `latin_${++databases}`
  await server.sql(`CREATE DATABASE ${name} DEFAULT CHARACTER SET latin1`)
  return name
}

storeSuite(engine.name, async () => {
  const name = await database()
  return {
    open: () => open(`${server.url}${name}`),
    async peek(id) {
      const [found] = await server.sql(
        `SELECT HEX(content) AS hex, CAST(createdAt AS CHAR) AS createdAt FROM ${name}.Content WHERE id = '${id}'`,
      )
      return found as { hex: string; createdAt: string }
    },
    clean: async () => void (await server.sql(`DROP DATABASE ${name}`)),
  }
})

describe(`A store on ${engine.name}`, () => {
  let url: string
  let store: PrismaStore
  const row = (content: string) => ({ id: uuidv7(), content, createdAt: new Date(), savedAt: new Date() })
  beforeAll(async () => {
    url = `${server.url}${await database()}`
    store = await open(url)
  })
  afterAll(() => store.close())

  test('has strict sessions that escape with backslashes, whatever the server’s default', async () => {
    const [global] = await prismaOf(store).$queryRaw<
      { g: string; s: string }[]
    >`SELECT @@GLOBAL.sql_mode AS g, @@SESSION.sql_mode AS s`
    expect(global?.g).toContain('NO_BACKSLASH_ESCAPES')
    expect(global?.s).toBe('STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION')
    await expect(store.insert(Content, [{ ...row('a'), id: 'x'.repeat(37) }])).rejects.toMatchObject({
      kind: 'rejected',
      vendorCode: '1406',
    })
    expect(await store.page(Content, { take: 1, skip: 0, where: {} })).toEqual([])
  })

  test('writes dates as Prisma’s own client does', async () => {
    const data = { ...row('by Prisma'), createdAt: new Date('2026-03-29T01:30:00.120Z') }
    await prismaOf(store).content.create({ data })
    const ours = { ...data, id: uuidv7() }
    await store.insert(Content, [ours])
    expect(await store.find(Content, [ours.id])).toEqual([ours])
    const kinds = await prismaOf(store).$queryRaw<{ n: bigint }[]>`SELECT COUNT(DISTINCT createdAt) AS n FROM Content`
    expect(kinds).toEqual([{ n: 1n }])
  })

  test('reads a page in the middle of many rows by a range of the index, and looks up ids by the primary key', async () => {
    const createdAt = new Date('2020-01-01')
    await store.insert(
      Content,
      Array.from({ length: 2_000 }, (_, i) => ({ ...row('x'), createdAt: new Date(+createdAt + i) })),
    )
    const plan = (sql: string) =>
      prismaOf(store).$queryRawUnsafe<{ type: string; key: string; Extra: string }[]>(
        `EXPLAIN FORMAT=TRADITIONAL ${sql}`,
      )
    const at = "'2020-01-01 00:00:00.100'"
    const [page] = await plan(
      `SELECT * FROM Content WHERE createdAt <= ${at} AND (createdAt < ${at} OR id <= 'x') ORDER BY createdAt DESC, id DESC LIMIT 20`,
    )
    expect(page).toMatchObject({
      type: 'range',
      key: 'Content_createdAt_id_idx',
      Extra: expect.not.stringContaining('filesort'),
    })
    const [one] = await plan(`SELECT * FROM Content WHERE id = '${uuidv7()}' AND 1 = 1`)
    expect(one?.Extra ?? '').not.toContain('where; Using')
    const [some] = await plan(`SELECT * FROM Content WHERE id IN ('${uuidv7()}', '${uuidv7()}')`)
    expect(some).toMatchObject({ type: 'range', key: 'PRIMARY' })
  })

  test('reads pages from the replica, find and existing from the primary', async () => {
    const replica = await database()
    const both = await contentStore({ url, readUrl: `${server.url}${replica}`, concurrency: 2, log: quiet() })
    const seed = await open(`${server.url}${replica}`)
    const [here, there] = [row('primary'), row('replica')]
    try {
      await both.prepare(AbortSignal.timeout(20_000))
      await seed.insert(Content, [there])
      await both.insert(Content, [here])
      expect(await both.page(Content, { take: 10, skip: 0, where: {} })).toEqual([there])
      expect(await prismaOf(both).content.findMany()).toEqual([there])
      expect(await both.find(Content, [here.id, there.id])).toEqual([here])
      expect(await both.existing(Content, [here.id, there.id])).toEqual([here])
    } finally {
      await both.close()
      await seed.close()
    }
  })

  describe('with a read replica that lags reads each page from one server (FA17):', () => {
    let both: PrismaStore
    let lagging: PrismaStore
    let primaryUrl: string
    let replicaUrl: string
    /** Newest first. The replica has the older half of them. */
    let rows: ContentRow[]
    beforeEach(async () => {
      primaryUrl = `${server.url}${await database()}`
      replicaUrl = `${server.url}${await database()}`
      lagging = await open(replicaUrl)
      both = await contentStore({ url: primaryUrl, readUrl: replicaUrl, concurrency: 2, log: quiet() })
      await both.prepare(AbortSignal.timeout(20_000))
      rows = Array.from({ length: 10 }, (_, i) => ({ ...row(`${i}`), createdAt: new Date(1_800_000_000_000 - i) }))
      await both.insert(Content, rows)
      await lagging.insert(Content, rows.slice(5))
    })
    afterEach(async () => {
      await both.close()
      await lagging.close()
    })

    test('the primary after a row that the replica lacks, in both directions', async () => {
      for (const skip of [0, 1]) {
        for (const i of [0, 2, 4]) {
          const cursor = rows[i]!.id
          expect(await both.page(Content, { take: 3, skip, cursor, where: {} })).toEqual(
            rows.slice(i + skip, i + skip + 3),
          )
          const before = rows.slice(0, i + 1 - skip).slice(-3)
          expect(await both.page(Content, { take: -3, skip, cursor, where: {} })).toEqual(before)
        }
      }
    })

    test('the replica after a row that it has', async () => {
      await prismaOf(lagging).content.updateMany({ data: { content: 'read from the replica' } })
      const page = await both.page(Content, { take: 3, skip: 1, cursor: rows[5]!.id, where: {} })
      expect(page!.map(({ id, content }) => [id, content])).toEqual(
        rows.slice(6, 9).map(({ id }) => [id, 'read from the replica']),
      )
    })

    test('the primary if the replica has no row after the cursor', async () => {
      expect(await both.page(Content, { take: -3, skip: 1, cursor: rows[5]!.id, where: {} })).toEqual(rows.slice(2, 5))
      expect(await both.page(Content, { take: 3, skip: 1, cursor: rows[9]!.id, where: {} })).toEqual([])
      await prismaOf(lagging).content.deleteMany()
      expect(await both.page(Content, { take: 3, skip: 0, where: {} })).toEqual(rows.slice(0, 3))
      expect(await both.page(Content, { take: -3, skip: 0, where: {} })).toEqual(rows.slice(-3))
    })

    test('neither for a cursor that names no row on both', async () => {
      expect(await both.page(Content, { take: 3, skip: 1, cursor: uuidv7(), where: {} })).toBeUndefined()
    })

    test('neither, but STORE_UNAVAILABLE, for a page of the primary while it is unavailable', async () => {
      const proxy = await startProxy(server.url)
      const url = proxy.url(primaryUrl)
      const through = await contentStore({ url, readUrl: replicaUrl, concurrency: 1, log: quiet() })
      try {
        proxy.set('cut')
        expect(await through.page(Content, { take: 3, skip: 1, cursor: rows[5]!.id, where: {} })).toEqual(
          rows.slice(6, 9),
        )
        await expect(through.page(Content, { take: 3, skip: 1, cursor: rows[2]!.id, where: {} })).rejects.toMatchObject(
          {
            code: 'STORE_UNAVAILABLE',
          },
        )
      } finally {
        await through.close()
        await proxy.close()
      }
    })

    test('and caches no end of the list that only the replica has, so that a crawl returns every row once', async () => {
      const cache = new MemoryCache({ ttlMs: 60_000, versions: new SharedVersions() })
      const contents = new Rows({ models, store: both, cache })
      for (let round = 0; round < 2; round++) {
        const seen: string[] = []
        let cursor = rows[0]!.id
        for (;;) {
          const page = await contents.page(Content, { take: 3, skip: 1, cursor, where: {} })
          if (page.length === 0) break
          seen.push(...page.map(({ id }) => id))
          cursor = seen.at(-1)!
        }
        expect(seen).toEqual(rows.slice(1).map(({ id }) => id))
      }
      await expect(contents.page(Content, { take: 3, skip: 1, cursor: uuidv7(), where: {} })).rejects.toMatchObject({
        code: 'BAD_USER_INPUT',
      })
      await cache.close()
    })
  })

  test('leaves room for the worst escaping in its limits, also on small servers', () => {
    expect(limitsOf(16 * 1024 * 1024, 4)).toEqual({ rows: 16_383, bytes: 7_338_048 })
    expect(limitsOf(64 * 1024 * 1024, 4).bytes).toBe(8 * 1024 * 1024)
    const { rows, bytes } = limitsOf(1024 * 1024, 4)
    expect(rows).toBeGreaterThanOrEqual(1_000)
    expect(rows * 128 + 2 * bytes).toBeLessThan(1024 * 1024)
  })

  test('parses its URL, and reports an invalid one without the password', () => {
    expect(parseMysqlUrl('mysql://a%40b:p%2Fw@[::1]:3307,h.example,10.0.0.1:3/my%20db?ssl=true', 'X')).toEqual({
      hosts: [
        { host: '::1', port: 3307 },
        { host: 'h.example', port: 3306 },
        { host: '10.0.0.1', port: 3 },
      ],
      config: { user: 'a@b', password: 'p/w', database: 'my db', ssl: true },
    })
    const { config } = parseMysqlUrl('mysql://h/d?sslaccept=accept_invalid_certs', 'X')
    expect(config.ssl).toEqual({ rejectUnauthorized: false })
    for (const bad of ['mysql://u:hunter2@h:99999/d', 'mysql://u:hunter2@h', 'mysql://u:hunter2@h/d?sslmode=x']) {
      const error = (() => {
        try {
          parseMysqlUrl(bad, 'DATABASE_URL')
        } catch (e) {
          return e as Error
        }
      })()
      expect(error?.message).toContain('DATABASE_URL')
      expect(`${error?.message} ${JSON.stringify(error)} ${error?.cause}`).not.toContain('hunter2')
    }
  })
})
