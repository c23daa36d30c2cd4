/**
 * One queue file, one store: processes that share a queue file write its messages to whichever store each of them has. Invariant: while a
 * process holds the lock, every other holder named the same store. The lock is SQLite's own, on a small file beside the queue's: the system
 * releases it when the process ends, however it ends. A queue that no process uses may be given another store.
 */
import { existsSync, realpathSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { FileUnusable, isBusy } from './fault.ts'
import { makeFile, tighten } from './rights.ts'

/** How long a process that names the same store at the same moment may take. */
const patienceMs = 1_000

/** The lock is held until the returned database is closed. Throws FileUnusable where another process holds it with another store. */
export function lockStore(queuePath: string, store: string, note: (text: string) => void): DatabaseSync {
  const path = `${realpathSync(queuePath)}-store`
  if (!existsSync(path)) makeFile(path)
  tighten([path], note)
  const db = new DatabaseSync(path, { timeout: patienceMs })
  try {
    db.exec('CREATE TABLE IF NOT EXISTS store (name TEXT NOT NULL)')
    if (held(db) !== store) {
      db.exec('ROLLBACK')
      // Waits until no process holds the lock.
      db.exec('BEGIN EXCLUSIVE; DELETE FROM store')
      db.prepare('INSERT INTO store VALUES (?)').run(store)
      db.exec('COMMIT')
      if (held(db) !== store) throw otherStore()
    }
    return db
  } catch (error) {
    db.close()
    throw isBusy(error) ? otherStore(error) : error
  }
}

/** Begins to read, which other processes may do, too, and which none may write meanwhile. */
function held(db: DatabaseSync): unknown {
  db.exec('BEGIN')
  return db.prepare('SELECT name FROM store').get()?.name
}

function otherStore(cause?: unknown): FileUnusable {
  return new FileUnusable(
    'another process uses it with another DATABASE_URL, and rows of one would go to the store of the other; expected one store ' +
      'for a queue. Give this process a QUEUE_URL of its own, or the same DATABASE_URL, or end the other process',
    { cause },
  )
}
