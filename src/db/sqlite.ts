/** The embedded store: one file, which several processes open with Node's own SQLite. */
import { resolve } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import type { Log } from '../model/log.ts'
import { FileUnusable, fatalAtStartup } from '../sqlite/fault.ts'
import type { FileGuard } from '../sqlite/guard.ts'
import { assertSound, type OpenFile, openSqlite, pragma } from '../sqlite/open.ts'
import type { Client, ClientClass, Dialect, ServerLimits } from './dialect.ts'
import type { Migratable } from './migrate.ts'
import { NodeSqlite, sqliteTimestamp, whileBusy } from './node-sqlite.ts'
import { sqliteTable } from './sqlite-table.ts'

/** How long a statement waits for another process' lock: longer than a checkpoint, or than an edit in Studio. */
const PATIENCE_MS = 10_000
/** Of one statement. */
const MAX_PARAMETERS = 32_766
/** More rows do not make it faster. */
const MAX_ROWS = 4_000
/** SQLite would allow a gigabyte, but it blocks the event loop meanwhile. */
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

/** "SpSt": marks a file as Spillway's store, unlike the queue's file and those of other programs. */
const APPLICATION_ID = 0x53705374

export interface SqliteOptions {
  client: ClientClass
  /** Of the Prisma schema. */
  folder: URL
  log: Log
}

export function sqliteDialect(url: string, { client: PrismaClient, folder, log }: SqliteOptions): Dialect {
  const path = sqlitePath(url)
  const note = (text: string) => log.warn({}, text)
  const adapter = new NodeSqlite(path, { patienceMs: PATIENCE_MS, note })
  const client = new PrismaClient({ adapter }) as Client
  let checked = false
  return {
    primary: client,
    replica: client,
    async execute(sql, args) {
      await client.$connect()
      return await adapter.execute(sql, args)
    },
    // No read waits for a lock.
    readsOfOneModel: Number.POSITIVE_INFINITY,
    timestamp: sqliteTimestamp,
    async limits(): Promise<ServerLimits> {
      if (!checked) {
        await usable(path, () => whileBusy(PATIENCE_MS, () => checkFile(path, note)))
        checked = true
      }
      return (columns) => ({ rows: Math.min(MAX_ROWS, Math.floor(MAX_PARAMETERS / columns)), bytes: MAX_BYTES })
    },
    table: (name) => sqliteTable(name, client, adapter),
    migratable: () =>
      usable(path, async () =>
        sqliteMigratable(path, folder, await whileBusy(PATIENCE_MS, () => openSqlite(path, { check }))),
      ),
    close: () => client.$disconnect(),
  }
}

/** Creates the file if there is none, and checks it. */
function checkFile(path: string, note: (text: string) => void): void {
  const file = openSqlite(path, { check, note })
  try {
    assertSound(file)
    const row = file.db.prepare("SELECT 'a' || char(0) || 'b' AS text").get()
    if (row?.text !== 'a\0b') {
      throw new Error(
        `Node ${process.version} cuts text from SQLite at a NUL. Run Spillway on Node 24, or use a mysql:// store`,
      )
    }
  } finally {
    file.db.close()
  }
}

/** A file of an earlier release has no application id, but a table of migrations. */
function check(db: DatabaseSync): void {
  const id = pragma(db, 'application_id')
  if (id === APPLICATION_ID) return
  const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all()
  if (id === 0 && (tables.length === 0 || tables.some(({ name }) => name === '_prisma_migrations'))) return
  throw new FileUnusable('it is the database of something else; give the store a file of its own')
}

/** Runs `work`; turns an error that waiting cannot fix into one that says what to do. */
async function usable<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const reason = fatalAtStartup(error)
    if (reason === undefined) throw error
    throw new Error(`The store cannot use ${path}: ${reason}.`, { cause: error })
  }
}

function sqliteMigratable(path: string, folder: URL, { db, guard }: OpenFile): Migratable {
  return {
    folder: new URL('sqlite/migrations/', folder),
    accountTable: new URL('./migrations.sqlite.sql', import.meta.url),
    transactional: true,
    lock: () =>
      usable(path, async () => {
        await whileBusy(PATIENCE_MS, () => db.exec('BEGIN IMMEDIATE'))
        // SQLite reports a read-only file only at a write, and there may be no migration to write.
        db.exec(`PRAGMA application_id = ${APPLICATION_ID}`)
      }),
    unlock: (keep) => usable(path, () => end(db, guard, keep)),
    hasTable: (name) =>
      usable(path, () => db.prepare('SELECT 1 FROM sqlite_schema WHERE name = ?').get(name) !== undefined),
    run: (script) => usable(path, () => db.exec(script)),
    // Prisma's engine stores dates in SQLite as milliseconds.
    query: (sql, ...args) =>
      usable(path, () => db.prepare(sql).all(...args.map((arg) => (arg instanceof Date ? arg.getTime() : arg)))),
    close: async () => db.close(),
  }
}

function end(db: DatabaseSync, guard: FileGuard, keep: boolean): void {
  // SQLite rolls back by itself after some errors.
  if (keep || db.isTransaction) db.exec(keep ? 'COMMIT' : 'ROLLBACK')
  if (keep) guard.committed()
}
