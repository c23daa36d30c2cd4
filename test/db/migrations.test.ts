/** Migrations: applied once even if several processes start, recorded as Prisma's CLI does, with the result that the schemas describe. */
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TablesSql } from '../../prisma/generator/definitions.ts'
import { tables } from '../../prisma/mysql/generated/tables.ts'
import { differenceOf } from '../../src/commands/migration-sql.ts'
import type { Dialect } from '../../src/db/dialect.ts'
import { type Migratable, migrate } from '../../src/db/migrate.ts'
import { mysqlDialect } from '../../src/db/mysql.ts'
import { sqliteDialect } from '../../src/db/sqlite.ts'
import { given } from '../harness/contents.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore } from '../harness/stores.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
let dir: string
beforeAll(async () => {
  server = await startMariadb()
  dir = await mkdtemp(join(tmpdir(), 'spillway-migrations-'))
}, 60_000)
afterAll(async () => {
  await server.cleanup()
  await rm(dir, { recursive: true })
})

let made = 0
const latin = async () => {
  const name = `latin_${++made}`
  await server.sql(`CREATE DATABASE ${name} DEFAULT CHARACTER SET latin1`)
  return `${server.url}${name}`
}
const databases = {
  mysql: {
    url: latin,
    dialect: (url: string): Dialect =>
      mysqlDialect({
        url,
        concurrency: 1,
        client: given.prisma.mysql,
        folder: given.prisma.folder,
        tables: ['Content'],
        log: quiet(),
      }),
  },
  sqlite: {
    url: async () => `file:${join(dir, `${++made}.db`)}`,
    dialect: (url: string) =>
      sqliteDialect(url, { client: given.prisma.sqlite, folder: given.prisma.folder, log: quiet() }),
  },
}
const folder = (kind: string) => new URL(`../../prisma/${kind}/migrations/`, import.meta.url)

const names = async (kind: string) =>
  (await readdir(folder(kind), { withFileTypes: true })).flatMap((e) => (e.isDirectory() ? [e.name] : [])).sort()
/** A table of the schema; which ones there are is the user's business. */
const someTable = Object.values(tables)[0]!.dbName

describe.each(Object.entries(databases))('Migrations on %s', (kind, { url: newUrl, dialect: make }) => {
  const transactional = kind === 'sqlite'

  async function using<T>(url: string, work: (database: Migratable, dialect: Dialect) => Promise<T>): Promise<T> {
    const dialect = make(url)
    try {
      const database = await dialect.migratable(AbortSignal.timeout(20_000))
      try {
        return await work(database, dialect)
      } finally {
        await database.close()
      }
    } finally {
      await dialect.close()
    }
  }
  /** With a folder of migrations of the test's own, that begins as the real one. */
  async function ownFolder(): Promise<URL> {
    const path = join(dir, `folder-${++made}`)
    await cp(folder(kind), path, { recursive: true })
    return pathToFileURL(`${path}/`)
  }
  const add = async (to: URL, name: string, sql: string) => {
    await mkdir(new URL(`${name}/`, to), { recursive: true })
    await writeFile(new URL(`${name}/migration.sql`, to), sql)
  }
  const account = (dialect: Dialect) =>
    dialect.primary.$queryRawUnsafe<Record<string, unknown>[]>('SELECT * FROM _prisma_migrations ORDER BY started_at')

  test('are applied once by several stores that start at the same time', async () => {
    const url = await newUrl()
    const stores = await Promise.all(
      Array.from({ length: 4 }, () => contentStore({ url, concurrency: 1, log: quiet() })),
    )
    try {
      await Promise.all(stores.map((store) => store.prepare(AbortSignal.timeout(30_000))))
    } finally {
      await Promise.all(stores.map((store) => store.close()))
    }
    const all = await names(kind)
    await using(url, async (database, dialect) => {
      const rows = await account(dialect)
      expect(rows.map((row) => row.migration_name)).toEqual(all)
      const file = await readFile(new URL(`${all[0]}/migration.sql`, folder(kind)))
      expect(rows[0]).toMatchObject({
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        checksum: createHash('sha256').update(file).digest('hex'),
        logs: null,
        rolled_back_at: null,
      })
      expect(Number(rows[0]?.applied_steps_count)).toBe(1)
      // Prisma's dates, in UTC: read back they are now.
      for (const name of ['started_at', 'finished_at'])
        expect(Math.abs(Date.now() - +(rows[0]![name] as Date))).toBeLessThan(60_000)
      expect(await migrate(database, quiet())).toEqual([])
    })
  })

  test('wait while another runner has the lock', async () => {
    const url = await newUrl()
    await using(url, (first) =>
      using(url, async (second) => {
        await first.lock()
        let over = false
        const applied = migrate(second, quiet()).finally(() => {
          over = true
        })
        // Long enough for the second one to apply them several times.
        await Promise.race([applied, new Promise((resolve) => setTimeout(resolve, 500))])
        expect(over).toBe(false)
        expect(await first.hasTable(someTable)).toBe(false)
        await first.unlock(true)
        expect(await applied).toEqual(await names(kind))
      }),
    )
  })

  test('are applied in order: a new one after the applied ones', async () => {
    await using(await newUrl(), async (real, dialect) => {
      const database = { ...real, folder: await ownFolder() }
      const first = await migrate(database, quiet())
      await add(
        database.folder,
        '20990101000000_note',
        'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);\nINSERT INTO SpillwayTest VALUES (1);\n',
      )
      expect(first).toEqual(await names(kind))
      expect(await migrate(database, quiet())).toEqual(['20990101000000_note'])
      expect(await dialect.primary.$queryRawUnsafe('SELECT id FROM SpillwayTest')).toEqual([{ id: 1 }])
    })
  })

  test('stop the start if an applied one was changed, and nothing is applied', async () => {
    await using(await newUrl(), async (real) => {
      const database = { ...real, folder: await ownFolder() }
      const [name] = await migrate(database, quiet())
      await writeFile(new URL(`${name}/migration.sql`, database.folder), '-- changed\n')
      await add(database.folder, '20990101000000_note', 'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);')
      await expect(migrate(database, quiet())).rejects.toThrow(
        /was changed after it had been applied.*Restore the file/,
      )
      expect(await database.hasTable('SpillwayTest')).toBe(false)
    })
  })

  test('of a newer release are ignored with a warning', async () => {
    await using(await newUrl(), async (real) => {
      const database = { ...real, folder: await ownFolder() }
      await add(database.folder, '20990101000000_note', 'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);')
      await migrate(database, quiet())
      const log = quiet()
      expect(await migrate(real, log)).toEqual([])
      expect(log.said).toEqual([expect.stringContaining('does not know')])
    })
  })

  test('that fail stop the start with an error that says what to do', async () => {
    await using(await newUrl(), async (real, dialect) => {
      const database = { ...real, folder: await ownFolder() }
      const broken = 'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);\nINSERT INTO Nowhere VALUES (1);\n'
      await add(database.folder, '20990101000000_note', broken)
      await expect(migrate(database, quiet())).rejects.toThrow(/20990101000000_note failed/)
      if (transactional) {
        // It was rolled back, so that fixing the file is enough.
        expect(await database.hasTable('SpillwayTest')).toBe(false)
        await add(database.folder, '20990101000000_note', 'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);')
      } else {
        const again = await migrate(database, quiet()).catch((e: Error) => e.message)
        expect(again).toMatch(/was begun and did not finish.*DELETE FROM _prisma_migrations WHERE migration_name/)
        expect((await account(dialect)).at(-1)).toMatchObject({
          finished_at: null,
          logs: expect.stringContaining('Nowhere'),
        })
        await dialect.primary.$executeRawUnsafe('DROP TABLE SpillwayTest')
        await dialect.primary.$executeRawUnsafe(
          "DELETE FROM _prisma_migrations WHERE migration_name = '20990101000000_note'",
        )
        await add(database.folder, '20990101000000_note', 'CREATE TABLE SpillwayTest (id INTEGER PRIMARY KEY);')
      }
      expect((await migrate(database, quiet())).at(-1)).toBe('20990101000000_note')
    })
  })
})

describe('The migrations create what prisma/schema.prisma defines, in a database with another default character set,', () => {
  /** Describes every table of the schema in the database of the migrations, and in one made from the definitions of the schema. */
  async function described(
    kind: 'mysql' | 'sqlite',
    describeTable: (database: Migratable, name: string) => Promise<{ columns: unknown[] }>,
  ) {
    const file = new URL('../../prisma/mysql/generated/definitions.json', import.meta.url)
    const wanted: TablesSql = JSON.parse(await readFile(file, 'utf8'))[kind]
    const results = []
    for (const fromSchema of [false, true]) {
      const dialect = databases[kind].dialect(await databases[kind].url())
      try {
        const database = await dialect.migratable(AbortSignal.timeout(20_000))
        try {
          if (fromSchema) await database.run(differenceOf({}, wanted, kind).statements.join('\n'))
          else await migrate(database, quiet())
          const found: Record<string, { columns: unknown[] }> = {}
          for (const name of Object.keys(wanted)) found[name] = await describeTable(database, name)
          results.push(found)
        } finally {
          await database.close()
        }
      } finally {
        await dialect.close()
      }
    }
    return results
  }
  const rows = async (database: Migratable, sql: string) => (await database.query(sql)).map((row) => ({ ...row }))

  test('on MySQL: columns, character sets, indexes and foreign keys', async () => {
    const [migrated, defined] = await described('mysql', async (database, name) => {
      const where = `table_schema = DATABASE() AND table_name = '${name}'`
      return {
        columns: await rows(
          database,
          `SELECT column_name, column_type, is_nullable, column_default, character_set_name, collation_name
           FROM information_schema.columns WHERE ${where} ORDER BY column_name`,
        ),
        indexes: await rows(
          database,
          `SELECT index_name, seq_in_index, column_name, non_unique, sub_part, index_type
           FROM information_schema.statistics WHERE ${where} ORDER BY index_name, seq_in_index`,
        ),
        references: await rows(
          database,
          `SELECT constraint_name, column_name, ordinal_position, referenced_table_name, referenced_column_name
           FROM information_schema.key_column_usage WHERE ${where} AND referenced_table_name IS NOT NULL
           ORDER BY constraint_name, ordinal_position`,
        ),
        table: await rows(database, `SELECT engine, table_collation FROM information_schema.tables WHERE ${where}`),
      }
    })
    expect(migrated).toEqual(defined)
    for (const { columns } of Object.values(defined!)) expect(columns.length).toBeGreaterThan(3)
  })

  test('on SQLite: columns, indexes and foreign keys', async () => {
    const [migrated, defined] = await described('sqlite', async (database, name) => {
      const indexes = await rows(
        database,
        `SELECT name, "unique" FROM pragma_index_list('${name}') WHERE origin = 'c' ORDER BY name`,
      )
      const keys = []
      for (const index of indexes)
        keys.push(await rows(database, `SELECT seqno, name, "desc" FROM pragma_index_xinfo('${index.name}') WHERE key`))
      return {
        columns: await rows(
          database,
          `SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info('${name}') ORDER BY name`,
        ),
        indexes,
        keys,
        references: await rows(
          database,
          `SELECT "table", seq, "from", "to", on_update, on_delete FROM pragma_foreign_key_list('${name}') ORDER BY "from"`,
        ),
      }
    })
    expect(migrated).toEqual(defined)
    for (const { columns } of Object.values(defined!)) expect(columns.length).toBeGreaterThan(3)
  })
})
