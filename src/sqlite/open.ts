/**
 * Opens the database file, making it where there is none. Invariant: it is ours, of this version, in WAL mode and writable when this
 * returns; a file that is anything else is left as it was, with an error that says what it is.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { isBusy, reasonOf } from './fault.ts'

const version = 2
/** "Spil": what tells our files from those of others. */
const applicationId = 0x5370696c

export async function openDatabase(
  path: string,
  options: { busyMs: number; maxPages: number | undefined },
): Promise<DatabaseSync> {
  const since = performance.now()
  for (;;) {
    let db: DatabaseSync | undefined
    try {
      db = new DatabaseSync(path)
      prepare(db)
      if (options.maxPages !== undefined) db.exec(`PRAGMA max_page_count = ${options.maxPages}`)
      return db
    } catch (error) {
      db?.close()
      if (!isBusy(error) || performance.now() - since > options.busyMs) {
        throw new Error(`The embedded queue cannot use ${path}: ${reasonOf(error, options.busyMs)}.`, { cause: error })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function prepare(db: DatabaseSync): void {
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]
  const check = () => {
    const { tables } = db.prepare('SELECT count(*) AS tables FROM sqlite_schema').get() as { tables: number }
    if (tables === 0) return 'empty'
    if (pragma('application_id') !== applicationId) {
      throw new Error('it is the database of something else; give the queue a file of its own')
    }
    const found = pragma('user_version')
    if (found !== version) {
      throw new Error(
        `it has version ${found}, and this release of Spillway knows version ${version}; use the release that made it`,
      )
    }
    return 'ours'
  }
  check()
  const mode = pragma('journal_mode = WAL')
  if (mode !== 'wal') throw new Error(`it cannot be used in WAL mode (${mode}); put it on a local disk`)
  // Short: the lane waits for locks itself, without blocking the thread.
  db.exec('PRAGMA busy_timeout = 20; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY')
  // A larger log file means fewer, longer checkpoints; what a spike made of it is given back.
  db.exec('PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864')
  db.exec('BEGIN IMMEDIATE')
  // Another process may have been faster.
  if (check() === 'empty') {
    db.exec(sql('schema.sql'))
    db.prepare('INSERT INTO epoch VALUES (?)').run(randomBytes(9).toString('base64url'))
    db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${version}`)
  }
  db.exec(sql('recount.sql'))
  db.exec('COMMIT')
}

function sql(name: string): string {
  return readFileSync(new URL(name, import.meta.url), 'utf8')
}
