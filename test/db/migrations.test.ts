/** Migrations: applied once even if several processes start, recorded as Prisma's CLI does, with the result that the schemas describe. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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
      mysqlDialect({ url, concurrency: 1, client: given.prisma.mysql, tables: ['Content'], log: quiet() }),
  },
  sqlite: {
    url: async () => `file:${join(dir, `${++made}.db`)}`,
    dialect: (url: string) => sqliteDialect(url, given.prisma.sqlite, quiet()),
  },
}
const folder = (kind: string) => new URL(`../../prisma/${kind}/migrations/`, import.meta.url)

/** The models of a schema.prisma, as far as ours go. */
async function schema(kind: string) {
  const text = await readFile(
    new URL(kind === 'mysql' ? '../../prisma/schema.prisma' : '../../prisma/sqlite/schema.prisma', import.meta.url),
    'utf8',
  )
  return [...text.matchAll(/^model (\w+) \{\n([\s\S]*?)^\}/gm)].map(([, name = '', body = '']) => {
    const lines = body
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line && !line.startsWith('//'))
    return {
      name,
      columns: lines
        .filter((line) => !line.startsWith('@@'))
        .map((line) => {
          const [column = '', type = '', ...attributes] = line.split(/\s+/)
          return {
            column,
            type: type.replace('?', ''),
            nullable: type.endsWith('?'),
            id: attributes.includes('@id'),
            native: attributes.find((attribute) => attribute.startsWith('@db.'))?.slice(4),
          }
        }),
      indexes: lines.flatMap((line) => {
        const [, columns] = /^@@index\(\[(.*)\]\)$/.exec(line) ?? []
        return columns ? [columns.split(/,\s*/)] : []
      }),
    }
  })
}

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
    await cp(folder(kind), new URL(`${name}/`, to), { recursive: true, filter: (source) => !source.includes('_init') })
    await writeFile(new URL(`${name}/migration.sql`, to), sql)
  }
  const account = (dialect: Dialect) =>
    dialect.primary.$queryRawUnsafe<Record<string, unknown>[]>('SELECT * FROM _prisma_migrations ORDER BY started_at')

  test('are applied once by several stores that start at the same time', async () => {
    const url = await newUrl()
    const stores = Array.from({ length: 4 }, () => contentStore({ url, concurrency: 1, log: quiet() }))
    try {
      await Promise.all(stores.map((store) => store.prepare(AbortSignal.timeout(30_000))))
    } finally {
      await Promise.all(stores.map((store) => store.close()))
    }
    const names = (await readdir(folder(kind), { withFileTypes: true }))
      .filter((e) => e.isDirectory())
      .map(({ name }) => name)
    await using(url, async (database, dialect) => {
      const rows = await account(dialect)
      expect(rows.map((row) => row.migration_name)).toEqual(names.sort())
      const file = await readFile(new URL(`${names[0]}/migration.sql`, folder(kind)))
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
        expect(await first.hasTable('Content')).toBe(false)
        await first.unlock(true)
        expect(await applied).toHaveLength(1)
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
        'CREATE TABLE Note (id INTEGER PRIMARY KEY);\nINSERT INTO Note VALUES (1);\n',
      )
      expect(first).toHaveLength(1)
      expect(await migrate(database, quiet())).toEqual(['20990101000000_note'])
      expect(await dialect.primary.$queryRawUnsafe('SELECT id FROM Note')).toEqual([{ id: 1 }])
    })
  })

  test('stop the start if an applied one was changed, and nothing is applied', async () => {
    await using(await newUrl(), async (real) => {
      const database = { ...real, folder: await ownFolder() }
      const [name] = await migrate(database, quiet())
      await writeFile(new URL(`${name}/migration.sql`, database.folder), '-- changed\n')
      await add(database.folder, '20990101000000_note', 'CREATE TABLE Note (id INTEGER PRIMARY KEY);')
      await expect(migrate(database, quiet())).rejects.toThrow(
        /was changed after it had been applied.*Restore the file/,
      )
      expect(await database.hasTable('Note')).toBe(false)
    })
  })

  test('of a newer release are ignored with a warning', async () => {
    await using(await newUrl(), async (real) => {
      const database = { ...real, folder: await ownFolder() }
      await add(database.folder, '20990101000000_note', 'CREATE TABLE Note (id INTEGER PRIMARY KEY);')
      await migrate(database, quiet())
      const log = quiet()
      expect(await migrate(real, log)).toEqual([])
      expect(log.said).toEqual([expect.stringContaining('does not know')])
    })
  })

  test('that fail stop the start with an error that says what to do', async () => {
    await using(await newUrl(), async (real, dialect) => {
      const database = { ...real, folder: await ownFolder() }
      const broken = 'CREATE TABLE Note (id INTEGER PRIMARY KEY);\nINSERT INTO Nowhere VALUES (1);\n'
      await add(database.folder, '20990101000000_note', broken)
      await expect(migrate(database, quiet())).rejects.toThrow(/20990101000000_note failed/)
      if (transactional) {
        // It was rolled back, so that fixing the file is enough.
        expect(await database.hasTable('Note')).toBe(false)
        await add(database.folder, '20990101000000_note', 'CREATE TABLE Note (id INTEGER PRIMARY KEY);')
      } else {
        const again = await migrate(database, quiet()).catch((e: Error) => e.message)
        expect(again).toMatch(/was begun and did not finish.*DELETE FROM _prisma_migrations WHERE migration_name/)
        expect((await account(dialect)).at(-1)).toMatchObject({
          finished_at: null,
          logs: expect.stringContaining('Nowhere'),
        })
        await dialect.primary.$executeRawUnsafe('DROP TABLE Note')
        await dialect.primary.$executeRawUnsafe(
          "DELETE FROM _prisma_migrations WHERE migration_name = '20990101000000_note'",
        )
        await add(database.folder, '20990101000000_note', 'CREATE TABLE Note (id INTEGER PRIMARY KEY);')
      }
      expect((await migrate(database, quiet())).at(-1)).toBe('20990101000000_note')
    })
  })
})

describe('The migrations create', () => {
  test('the same models, columns, types and indexes on both databases', async () => {
    const common = (models: Awaited<ReturnType<typeof schema>>) =>
      models.map((model) => ({ ...model, columns: model.columns.map(({ native: _, ...column }) => column) }))
    const [mysql, sqlite] = [common(await schema('mysql')), common(await schema('sqlite'))]
    expect(mysql).toEqual(sqlite)
    expect(mysql[0]).toMatchObject({ name: 'Content', indexes: [['createdAt', 'id']], columns: { length: 4 } })
  })

  test('the columns, keys and character sets of the schema on MySQL, in a database with another default', async () => {
    const dialect = databases.mysql.dialect(await databases.mysql.url())
    try {
      const database = await dialect.migratable(AbortSignal.timeout(20_000))
      await migrate(database, quiet())
      const ask = (sql: string) => database.query(sql)
      const tables = await ask(
        "SELECT table_name AS t FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name NOT LIKE '\\_%'",
      )
      const models = await schema('mysql')
      expect(tables.map(({ t }) => t).sort()).toEqual(models.map(({ name }) => name).sort())
      const types: Record<string, string> = {
        'Char(36)': 'char(36)',
        MediumText: 'mediumtext',
        'DateTime(3)': 'datetime(3)',
      }
      for (const { name, columns, indexes } of models) {
        const found = await ask(
          `SELECT column_name AS c, column_type AS t, is_nullable AS n, column_key AS k, column_default AS d FROM information_schema.columns
           WHERE table_schema = DATABASE() AND table_name = '${name}' ORDER BY ordinal_position`,
        )
        expect(found.map(({ c, t, n, d }) => ({ c, t, n, d }))).toEqual(
          columns.map(({ column, native, nullable }) => ({
            c: column,
            t: types[native!],
            n: nullable ? 'YES' : 'NO',
            d: null,
          })),
        )
        const keys = await ask(
          `SELECT index_name AS i, GROUP_CONCAT(column_name ORDER BY seq_in_index) AS c, MIN(non_unique) AS n FROM information_schema.statistics
           WHERE table_schema = DATABASE() AND table_name = '${name}' GROUP BY index_name ORDER BY index_name`,
        )
        expect(keys.map(({ i, c, n }) => `${i} ${c} ${n}`)).toEqual([
          ...indexes.map((of) => `${name}_${of.join('_')}_idx ${of.join(',')} 1`),
          `PRIMARY ${columns
            .filter(({ id }) => id)
            .map(({ column }) => column)
            .join(',')} 0`,
        ])
      }
      const charsets = await ask(
        `SELECT column_name AS c, CONCAT(character_set_name, ' ', collation_name) AS s FROM information_schema.columns
         WHERE table_schema = DATABASE() AND table_name = 'Content' AND collation_name IS NOT NULL ORDER BY ordinal_position`,
      )
      expect(charsets.map(({ c, s }) => `${c} ${s}`)).toEqual(['id ascii ascii_bin', 'content utf8mb4 utf8mb4_bin'])
      const [table] = await ask(
        "SELECT table_collation AS c FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'Content'",
      )
      expect(table?.c).toMatch(/^utf8mb4_/)
      await database.close()
    } finally {
      await dialect.close()
    }
  })

  test('the columns, keys and indexes of the schema on SQLite', async () => {
    const dialect = databases.sqlite.dialect(await databases.sqlite.url())
    try {
      const database = await dialect.migratable(AbortSignal.timeout(20_000))
      await migrate(database, quiet())
      const models = await schema('sqlite')
      const tables = await database.query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'",
      )
      expect(tables.map(({ name }) => name).sort()).toEqual(models.map(({ name }) => name).sort())
      const types: Record<string, string> = { String: 'TEXT', DateTime: 'DATETIME' }
      for (const { name, columns, indexes } of models) {
        const found = await database.query(
          `SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info('${name}')`,
        )
        expect(found.map((column) => ({ ...column }))).toEqual(
          columns.map(({ column, type, nullable, id }) => ({
            name: column,
            type: types[type],
            notnull: nullable ? 0 : 1,
            dflt_value: null,
            pk: id ? 1 : 0,
          })),
        )
        const made = await database.query(
          `SELECT name FROM pragma_index_list('${name}') WHERE origin = 'c' ORDER BY name`,
        )
        expect(made.map((index) => index.name)).toEqual(indexes.map((of) => `${name}_${of.join('_')}_idx`))
        for (const of of indexes) {
          const index = await database.query(
            `SELECT name FROM pragma_index_info('${name}_${of.join('_')}_idx') ORDER BY seqno`,
          )
          expect(index.map((column) => column.name)).toEqual(of)
        }
      }
      await database.close()
    } finally {
      await dialect.close()
    }
  })
})
