/** Opens the embedded queue's file: checks that it is one, creates its tables, and locks its store. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { FileUnusable, isBusy, reasonOf } from '../sqlite/fault.ts'
import { assertSound, type OpenFile, openSqlite, pragma } from '../sqlite/open.ts'
import { lockStore } from '../sqlite/store-lock.ts'

const version = 2
/** "Spil": marks a file as Spillway's. */
const applicationId = 0x5370696c

export interface OpenQueue extends OpenFile {
  /** Locks the store while it is open; undefined if this process writes to no store. */
  lock: DatabaseSync | undefined
}

/** Opens the queue's file, or creates it. Throws an error that says what is wrong with it, and what to do. */
export async function openQueueDatabase(
  path: string,
  options: { busyMs: number; maxPages: number | undefined; store: string | undefined; note: (text: string) => void },
): Promise<OpenQueue> {
  const since = performance.now()
  for (;;) {
    let file: OpenFile | undefined
    let lock: DatabaseSync | undefined
    try {
      file = openSqlite(path, { check, note: options.note })
      if (options.store !== undefined) lock = lockStore(path, options.store, options.note)
      assertSound(file)
      prepare(file.db)
      if (options.maxPages !== undefined) file.db.exec(`PRAGMA max_page_count = ${options.maxPages}`)
      return { ...file, lock }
    } catch (error) {
      file?.db.close()
      lock?.close()
      if (!isBusy(error) || performance.now() - since > options.busyMs) {
        throw new Error(`The embedded queue cannot use ${path}: ${reasonOf(error, options.busyMs)}.`, { cause: error })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function prepare(db: DatabaseSync): void {
  db.exec('BEGIN IMMEDIATE')
  // Another process may have created the tables in between.
  if (check(db) === 'empty') {
    db.exec(sql('schema.sql'))
    db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${version}`)
  }
  db.exec(sql('recount.sql'))
  // A new file gets an epoch, and so does a file whose epoch another program deleted, so that earlier cursors expire.
  const epoch = 'INSERT INTO epoch SELECT ? WHERE NOT EXISTS (SELECT 1 FROM epoch)'
  db.prepare(epoch).run(randomBytes(9).toString('base64url'))
  db.exec('COMMIT')
}

function check(db: DatabaseSync): 'empty' | 'ours' {
  const { tables } = db.prepare('SELECT count(*) AS tables FROM sqlite_schema').get() as { tables: number }
  if (tables === 0) return 'empty'
  if (pragma(db, 'application_id') !== applicationId) {
    throw new FileUnusable('it is the database of something else; give the queue a file of its own')
  }
  const found = pragma(db, 'user_version')
  if (found !== version) {
    throw new FileUnusable(
      `it has version ${found}, and this release of Spillway knows version ${version}; use the release that made it`,
    )
  }
  return 'ours'
}

function sql(name: string): string {
  return readFileSync(new URL(name, import.meta.url), 'utf8')
}
