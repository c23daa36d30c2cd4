/**
 * FA1 and FA2: variables that a session inherits from its server. Each hostile value is set for all new sessions; then the store migrates,
 * writes and reads, and other connections check the rows. The server's user has rights on its database only.
 */
import { randomBytes } from 'node:crypto'
import type { Connection } from 'mariadb'
import { uuidv7 } from 'uuidv7'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { PrismaStore } from '../../src/db/prisma.ts'
import { Content } from '../harness/contents.ts'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { connect, startMariadb } from '../harness/mariadb.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore, prismaOf } from '../harness/stores.ts'
import { faultOf } from '../suites/store.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
/** An administrator's connection that is older than all cases: its session inherits no hostile value. */
let admin: Connection
let defaults: Map<string, string>

async function globals(): Promise<Map<string, string>> {
  const rows: { Variable_name: string; Value: string }[] = await admin.query('SHOW GLOBAL VARIABLES')
  return new Map(rows.map(({ Variable_name, Value }) => [Variable_name, Value]))
}

beforeAll(async () => {
  server = await startMariadb()
  admin = await connect(server.url)
  await admin.query("CREATE USER app@'%'")
  defaults = await globals()
}, 60_000)
afterAll(async () => {
  admin.destroy()
  await server.cleanup()
})

/** Restores the variables that a case has set. */
afterEach(async () => {
  const now = await globals()
  for (const [name, value] of defaults) {
    if (now.get(name) === value) continue
    await admin.query(`SET GLOBAL ${name} = ${/^[\d.]+$/.test(value) ? value : `'${value}'`}`)
  }
})

/** A database on which the user has all rights; its URL, for that user. */
async function database(port = server.port): Promise<{ name: string; url: string }> {
  const name = `s_${randomBytes(6).toString('hex')}`
  await admin.query(`CREATE DATABASE ${name}`)
  await admin.query(`GRANT ALL ON ${name}.* TO app@'%'`)
  return { name, url: `mysql://app@127.0.0.1:${port}/${name}` }
}

const at = new Date('2026-03-29T01:30:00.123Z')
const row = (content: string, i = 0) => ({
  id: uuidv7(),
  content,
  createdAt: new Date(+at + i),
  savedAt: new Date(+at + 1),
})

async function open(url: string, log = quiet()): Promise<PrismaStore> {
  const store = await contentStore({ url, concurrency: 2, log })
  try {
    await store.prepare(AbortSignal.timeout(20_000))
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

/** Migrates, writes and reads, and compares the rows with those of another connection. */
async function judge(target: { name: string; url: string }): Promise<void> {
  const { name, url } = target
  const store = await open(url)
  await admin.query(`USE ${name}`)
  try {
    const tables = await admin.query(
      'SELECT DISTINCT engine AS engine FROM information_schema.tables WHERE table_schema = DATABASE()',
    )
    expect(tables).toEqual([{ engine: 'InnoDB' }])

    const rows = Array.from({ length: 10 }, (_, i) => row(`${i} '" \\ \0 😀`, i))
    await store.insert(Content, rows)
    const seen = await admin.query(
      'SELECT id, HEX(content) AS hex, CAST(createdAt AS CHAR) AS at FROM Content ORDER BY id',
    )
    expect(seen).toEqual(
      rows.map(({ id, content, createdAt }) => ({
        id,
        hex: Buffer.from(content).toString('hex').toUpperCase(),
        at: createdAt.toISOString().slice(0, -1).replace('T', ' '),
      })),
    )
    // Ten receipts at once are one look-up.
    const found = await store.find(
      Content,
      rows.map(({ id }) => id),
    )
    expect(found.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual(rows)
    expect(await store.page(Content, { take: 20, skip: 0, where: {} })).toEqual(rows.toReversed())
    expect(await store.page(Content, { take: -3, skip: 1, cursor: rows[4]!.id, where: {} })).toEqual(
      rows.slice(5, 8).toReversed(),
    )

    await admin.query("ALTER TABLE Content ADD CONSTRAINT polite CHECK (content <> 'bad')")
    expect(await faultOf(store.insert(Content, [row('bad')]))).toMatchObject({ kind: 'rejected' })
    expect(await faultOf(store.insert(Content, [{ ...row('x'), id: 'x'.repeat(37) }]))).toMatchObject({
      kind: 'rejected',
    })

    const uncommitted = row('uncommitted')
    await admin.beginTransaction()
    await admin.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [uncommitted.id, uncommitted.content])
    expect(await store.existing(Content, [uncommitted.id])).toEqual([])
    await admin.query('ROLLBACK')

    expect(await prismaOf(store).content.updateMany({ data: { content: 'changed' } })).toEqual({ count: 10 })
    await prismaOf(store).$transaction((tx) => tx.content.create({ data: row('in a transaction', 20) }))
    expect(await admin.query('SELECT content, COUNT(*) AS n FROM Content GROUP BY content ORDER BY content')).toEqual([
      { content: 'changed', n: 10n },
      { content: 'in a transaction', n: 1n },
    ])
  } finally {
    await admin.query('ROLLBACK')
    await store.close()
  }
}

describe(`A store on ${engine.name} works in sessions that inherit`, () => {
  test.each([
    'autocommit = 0',
    "completion_type = 'CHAIN'",
    "completion_type = 'RELEASE'",
    'sql_select_limit = 0',
    'sql_select_limit = 3',
    'max_join_size = 1',
    `${engine.isolation} = 'SERIALIZABLE'`,
    `${engine.isolation} = 'READ-UNCOMMITTED'`,
    `${engine.readOnly} = 1`,
    'sql_safe_updates = 1',
    'sql_auto_is_null = 1',
    'foreign_key_checks = 0',
    'unique_checks = 0',
    "time_zone = '+05:30'",
    "sql_mode = ''",
    'max_sort_length = 64',
    'sort_buffer_size = 1024',
    'wait_timeout = 1',
    'net_read_timeout = 1',
    'default_storage_engine = MyISAM',
    "init_connect = 'SET autocommit = 0, sql_select_limit = 1'",
    "init_connect = 'START TRANSACTION READ ONLY'",
    "init_connect = 'START TRANSACTION'",
    "init_connect = 'SET NAMES latin1, character_set_results = utf16'",
    "init_connect = 'SET character_set_results = NULL'",
    "init_connect = 'USE information_schema'",
    "init_connect = 'SET TRANSACTION READ ONLY'",
    ...engine.hostile,
  ])('%s', async (setting) => {
    const target = await database()
    await admin.query(`SET GLOBAL ${setting}`)
    await judge(target)
  })
})

/** Whatever an error wraps. */
const _messages = (error: unknown): string =>
  error instanceof Error ? `${error.message}\n${_messages(error.cause)}` : String(error)

describe(`A store on ${engine.name}`, () => {
  test.runIf(engine.name === 'MariaDB')('works in sessions whose user has a MAX_STATEMENT_TIME (MariaDB)', async () => {
    await admin.query("ALTER USER app@'%' WITH MAX_STATEMENT_TIME 0.000001")
    try {
      await judge(await database())
    } finally {
      await admin.query("ALTER USER app@'%' WITH MAX_STATEMENT_TIME 0")
    }
  })

  test('keeps the session of a connection, through errors and releases', async () => {
    const target = await database()
    await admin.query("SET GLOBAL autocommit = 0, sql_select_limit = 3, completion_type = 'CHAIN'")
    const store = await open(target.url)
    try {
      const known = row('once')
      await store.insert(Content, [known])
      const seen = new Map<string, Set<string>>()
      for (let i = 0; i < 60; i++) {
        if (i % 3 === 0) expect(await faultOf(store.insert(Content, [known]))).toMatchObject({ kind: 'duplicate' })
        const [found] = await prismaOf(store).$queryRaw<{ id: bigint; session: string }[]>`
          SELECT CONNECTION_ID() AS id, CONCAT_WS(' ', IF(@@autocommit, 'ON', 'OFF'), @@sql_select_limit, @@completion_type) AS session`
        const id = String(found!.id)
        seen.set(id, (seen.get(id) ?? new Set()).add(found!.session))
      }
      expect(seen.size).toBeLessThanOrEqual(6)
      for (const sessions of seen.values()) expect([...sessions]).toEqual(['ON 18446744073709551615 NO_CHAIN'])
    } finally {
      await store.close()
    }
  })

  test('is independent of SET GLOBAL on a running server: older and newer connections behave alike (FA2)', async () => {
    const target = await database()
    const store = await open(target.url)
    try {
      const rows = Array.from({ length: 10 }, (_, i) => row(`${i}`, i))
      await store.insert(Content, rows)
      await admin.query('SET GLOBAL autocommit = 0, sql_select_limit = 3, max_join_size = 1')
      const connections = await admin.query(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)
      for (const { id } of connections) await admin.query(`KILL ${id}`).catch(() => {})
      await holds(async () =>
        expect(
          await store.find(
            Content,
            rows.map(({ id }) => id),
          ),
        ).toHaveLength(10),
      )
      const later = row('later', 20)
      await store.insert(Content, [later])
      expect(await admin.query(`SELECT content FROM ${target.name}.Content WHERE id = ?`, [later.id])).toHaveLength(1)
      expect(await store.page(Content, { take: 20, skip: 0, where: {} })).toEqual([later, ...rows.toReversed()])
    } finally {
      await store.close()
    }
  })
})

/** A server that lets no session set the variables: it has an upper limit for them. */
describe(`A store on a ${engine.name} that does not keep what a session sets`, () => {
  let capped: Awaited<ReturnType<typeof startMariadb>>
  const complaint =
    /the session variable max_sort_length is "64" although Spillway set it to "1024" \(setting it failed: .*\)\. .* must let each session have these values: set them/
  beforeAll(async () => {
    capped = await startMariadb({ args: ['--max-sort-length=64', '--maximum-max-sort-length=100'] })
    await capped.sql("CREATE USER app@'%'")
    await capped.sql("GRANT ALL ON *.* TO app@'%'")
  }, 60_000)
  afterAll(() => capped.cleanup())

  test('refuses to start, and names the variable, what it found, what it expected and what to do', async () => {
    await capped.sql('CREATE DATABASE refused')
    const error = await open(`mysql://app@127.0.0.1:${capped.port}/refused`).catch((e: unknown) => e)
    expect((error as Error).message).toMatch(/^DATABASE_URL: /)
    expect((error as Error).message).toMatch(complaint)
    expect(await capped.sql('SHOW TABLES FROM refused')).toEqual([])
  })

  test('refuses to start where it is the read replica', async () => {
    const { url } = await database()
    await capped.sql('CREATE DATABASE replica')
    const readUrl = `mysql://app@127.0.0.1:${capped.port}/replica`
    const store = await contentStore({ url, readUrl, concurrency: 2, log: quiet() })
    try {
      const error = await store.prepare(AbortSignal.timeout(20_000)).catch((e: unknown) => e)
      expect((error as Error).message).toMatch(/^DATABASE_READ_URL: /)
      expect((error as Error).message).toMatch(complaint)
    } finally {
      await store.close()
    }
  })

  test('starts where the read replica is unavailable', async () => {
    const { url } = await database()
    const store = await contentStore({ url, readUrl: 'mysql://app@127.0.0.1:1/replica', concurrency: 2, log: quiet() })
    try {
      await store.prepare(AbortSignal.timeout(20_000))
    } finally {
      await store.close()
    }
  })

  test('is unavailable when such a server appears at run time, logs it once, and sends it no statement', async () => {
    const proxy = await startProxy(server.url)
    const target = await database(proxy.port)
    await capped.sql(`CREATE DATABASE ${target.name}`)
    const log = quiet()
    const store = await open(target.url, log)
    try {
      await capped.sql(
        `CREATE TABLE ${target.name}.Content (id CHAR(36), content TEXT, createdAt DATETIME, savedAt DATETIME)`,
      )
      log.said.length = 0
      proxy.retarget(capped.url)
      proxy.disconnect()
      const fault = await holds(async () => {
        const found = await faultOf(store.insert(Content, [row('lost')]))
        expect(found.message).toMatch(complaint)
        return found
      })
      expect(fault).toMatchObject({ kind: 'unavailable', vendorCode: 'SESSION' })
      for (let i = 0; i < 5; i++)
        expect(await faultOf(store.insert(Content, [row('lost')]))).toMatchObject({ kind: 'unavailable' })
      await expect(store.page(Content, { take: 1, skip: 0, where: {} })).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
      })
      expect(log.said.filter((line) => line.includes('max_sort_length'))).toHaveLength(1)
      expect(await capped.sql(`SELECT * FROM ${target.name}.Content`)).toEqual([])

      proxy.retarget(server.url)
      proxy.disconnect()
      await holds(() => store.insert(Content, [row('kept')]))
      expect(await admin.query(`SELECT content FROM ${target.name}.Content`)).toEqual([{ content: 'kept' }])
    } finally {
      await store.close()
      await proxy.close()
    }
  })
})
