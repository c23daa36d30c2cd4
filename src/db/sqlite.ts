/** The embedded store: one file, Node's own SQLite, several processes at it. */
import { resolve } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import { PrismaClient as SqliteClient } from '../../prisma/sqlite/generated/client.ts'
import type { Dialect, Limits } from './dialect.ts'
import { classifySqlite } from './faults.ts'
import type { Migratable } from './migrate.ts'
import { NodeSqlite, openSqlite, sqliteTimestamp, whileBusy } from './node-sqlite.ts'

/** How long a statement waits for another process' lock: longer than a checkpoint, or than somebody's edit in Studio. */
const PATIENCE_MS = 10_000
/** SQLite takes 32,766 parameters, four to a row; more than this does not make it faster. */
const MAX_ROWS = 4_000
/** SQLite would take a gigabyte; the event loop stands still meanwhile. */
const MAX_BYTES = 8 * 1024 * 1024

/** The absolute path in a `file:` URL, which may be relative to where the process was started. */
export function sqlitePath(url: string): string {
  const path = url.startsWith('file://') ? fileURLToPath(url) : resolve(url.slice('file:'.length))
  if (!/^file:[^?#]+$/.test(url) || path.includes(':memory:')) {
    throw new Error(
      `DATABASE_URL must be a file, such as file:./data/spillway.db or file:///var/lib/spillway.db; got ${url}`,
    )
  }
  return path
}

export function sqliteDialect(url: string): Dialect {
  const path = sqlitePath(url)
  const adapter = new NodeSqlite(path, PATIENCE_MS)
  const client = new SqliteClient({ adapter }) as unknown as PrismaClient
  return {
    primary: client,
    replica: client,
    timestamp: sqliteTimestamp,
    async limits(): Promise<Limits> {
      const [row] = await mended(path, () =>
        client.$queryRawUnsafe<{ text: string }[]>("SELECT 'a' || char(0) || 'b' AS text"),
      )
      if (row?.text !== 'a\0b') {
        throw new Error(
          `Node ${process.version} cuts text from SQLite at a NUL. Run Spillway on Node 24, or use a mysql:// store`,
        )
      }
      return { rows: MAX_ROWS, bytes: MAX_BYTES }
    },
    migratable: async () =>
      sqliteMigratable(path, await mended(path, () => whileBusy(PATIENCE_MS, () => openSqlite(path)))),
    close: () => client.$disconnect(),
  }
}

/** What is wrong with a file at the start and stays wrong however long one waits; while running, it may be somebody's mistake of a minute. */
const hopeless: Record<number, string> = {
  8: 'it cannot be written: check the rights of the file and its folder, and that the disk is not mounted read-only',
  11: 'it is damaged: put a backup in its place',
  14: 'it cannot be opened: check the rights of the file and its folder',
  26: 'it is not a SQLite database: move it away, or set DATABASE_URL to another file',
}

/** Says what somebody has to mend, in place of an error that would be waited out. */
async function mended<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const what = hopeless[Number(classifySqlite(error).vendorCode) & 0xff]
    if (what === undefined) throw error
    throw new Error(`The store cannot use ${path}: ${what}.`, { cause: error })
  }
}

function sqliteMigratable(path: string, db: DatabaseSync): Migratable {
  return {
    folder: new URL('../../prisma/sqlite/migrations/', import.meta.url),
    accountTable: new URL('./migrations.sqlite.sql', import.meta.url),
    transactional: true,
    lock: () =>
      mended(path, async () => {
        await whileBusy(PATIENCE_MS, () => db.exec('BEGIN IMMEDIATE'))
        // Of a file that cannot be written SQLite says so only now, and there may be nothing to apply.
        const { user_version } = db.prepare('PRAGMA user_version').get() as { user_version: number }
        db.exec(`PRAGMA user_version = ${user_version}`)
      }),
    unlock: async (keep) => db.exec(keep ? 'COMMIT' : 'ROLLBACK'),
    hasTable: async (name) => db.prepare('SELECT 1 FROM sqlite_schema WHERE name = ?').get(name) !== undefined,
    run: async (script) => db.exec(script),
    // Prisma's engine keeps dates in SQLite as milliseconds.
    query: async (sql, ...args) =>
      db.prepare(sql).all(...args.map((arg) => (arg instanceof Date ? arg.getTime() : arg))),
    close: async () => db.close(),
  }
}
