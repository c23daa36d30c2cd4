/**
 * Applies the migrations in prisma/<database>/migrations: plain SQL, in the order of their names, each once, even if several processes
 * start at the same moment. Prisma's CLI would download an engine for this; so Spillway applies them itself, and records them as the CLI
 * does (`_prisma_migrations`, sha-256 of the file). Invariant: between `lock` and `unlock` no other runner works on the database.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { Log } from '../model/log.ts'

/** Begins a line of a migration that a person has to complete before it may run. */
export const BY_HAND = '-- WRITE BY HAND:'

/** One connection to a database that can be locked. */
export interface Migratable {
  /** The folder of the migrations: a folder for each, with its migration.sql. */
  readonly folder: URL
  /** The file with the statement that makes `_prisma_migrations`. */
  readonly accountTable: URL
  /** Whether a migration that fails is rolled back. */
  readonly transactional: boolean
  /** Waits until no other runner has the lock. */
  lock(): Promise<void>
  /** Commits, or rolls back where that is possible. */
  unlock(keep: boolean): Promise<void>
  hasTable(name: string): Promise<boolean>
  run(script: string): Promise<void>
  query(sql: string, ...args: (string | Date)[]): Promise<Record<string, unknown>[]>
  close(): Promise<void>
}

/** Applies the missing migrations and returns their names. Does not close the connection. */
export async function migrate(database: Migratable, log: Log): Promise<string[]> {
  const migrations = await readMigrations(database.folder)
  await database.lock()
  let keep = !database.transactional
  try {
    if (!(await database.hasTable('_prisma_migrations')))
      await database.run(await readFile(database.accountTable, 'utf8'))
    const missing = missingOf(migrations, await account(database), log)
    for (const { name, script } of missing) {
      if (!script.split('\n').some((line) => line.startsWith(BY_HAND))) continue
      throw new Error(
        `Migration ${name} is not complete: write the statements that its line "${BY_HAND} …" asks for into ${name}/migration.sql, and delete the line`,
      )
    }
    for (const migration of missing) await apply(database, migration)
    keep = true
    return missing.map(({ name }) => name)
  } finally {
    await database.unlock(keep)
  }
}

interface Migration {
  name: string
  script: string
  checksum: string
}

interface Recorded {
  name: string
  checksum: string
  finished: boolean
}

async function readMigrations(folder: URL): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  return Promise.all(
    names.sort().map(async (name) => {
      const file = await readFile(new URL(`${name}/migration.sql`, folder))
      return { name, script: file.toString('utf8'), checksum: createHash('sha256').update(file).digest('hex') }
    }),
  )
}

async function account(database: Migratable): Promise<Recorded[]> {
  const rows = await database.query(
    'SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY started_at',
  )
  return rows.map((row) => ({
    name: String(row.migration_name),
    checksum: String(row.checksum),
    finished: row.finished_at !== null,
  }))
}

function missingOf(migrations: Migration[], recorded: Recorded[], log: Log): Migration[] {
  for (const { name, checksum, finished } of recorded) {
    const file = migrations.find((migration) => migration.name === name)
    if (!finished) {
      throw new Error(
        `Migration ${name} was begun and did not finish (the column "logs" of its row in _prisma_migrations says why). ` +
          'Repair the database by hand. Then, to run the migration again: ' +
          `DELETE FROM _prisma_migrations WHERE migration_name = '${name}'; or, if all of it is applied now: ` +
          `UPDATE _prisma_migrations SET finished_at = started_at, applied_steps_count = 1 WHERE migration_name = '${name}'.`,
      )
    }
    if (!file) {
      // An older release runs beside a newer one during a rolling upgrade.
      log.warn({ migration: name }, 'the database has a migration that this release does not know; going on')
    } else if (file.checksum !== checksum) {
      throw new Error(
        `Migration ${name} was changed after it had been applied (sha-256 ${checksum.slice(0, 12)}… then, ` +
          `${file.checksum.slice(0, 12)}… now). Restore the file, and put the change into a new migration.`,
      )
    }
  }
  return migrations.filter(({ name }) => !recorded.some((row) => row.name === name))
}

async function apply(database: Migratable, { name, script, checksum }: Migration): Promise<void> {
  const id = randomUUID()
  await database.query(
    'INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, applied_steps_count) VALUES (?, ?, ?, ?, 0)',
    id,
    checksum,
    name,
    new Date(),
  )
  try {
    await database.run(script)
  } catch (error) {
    if (database.transactional) {
      throw new Error(`Migration ${name} failed and was rolled back; fix the cause and start again`, { cause: error })
    }
    await database.query('UPDATE _prisma_migrations SET logs = ? WHERE id = ?', (error as Error).message, id)
    throw new Error(`Migration ${name} failed midway; the next start says what to do`, { cause: error })
  }
  await database.query(
    'UPDATE _prisma_migrations SET finished_at = ?, applied_steps_count = 1 WHERE id = ?',
    new Date(),
    id,
  )
}
