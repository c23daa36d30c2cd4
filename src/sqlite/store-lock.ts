/**
 * The lock that gives a queue file one store. Without it, processes with different stores that share a queue file would write its messages to
 * different stores. Invariant: all processes that have the lock at one time named the same store. The lock is SQLite's own, on a small file
 * beside the queue's, so that the system releases it when the process ends in any way. A queue that no process uses may get another store.
 */
import { existsSync, realpathSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { FileUnusable, isBusy } from './fault.ts'
import { makeFile, tighten } from './rights.ts'

/** How long it waits for a process that locks the same store at the same moment. */
const patienceMs = 1_000

/** Locks until the returned database is closed. Throws FileUnusable if another process has the lock with another store. */
export function lockStore(queuePath: string, store: string, note: (text: string) => void): DatabaseSync {
  const path = `${realpathSync(queuePath)}-store`
  if (!existsSync(path)) makeFile(path)
  tighten([path], note)
  const db = new DatabaseSync(path, { timeout: patienceMs })
  try {
    db.exec('CREATE TABLE IF NOT EXISTS store (name TEXT NOT NULL)')
    if (lockedStore(db) !== store) {
      db.exec('ROLLBACK')
      // Waits until no process has the lock.
      db.exec('BEGIN EXCLUSIVE; DELETE FROM store')
      db.prepare('INSERT INTO store VALUES (?)').run(store)
      db.exec('COMMIT')
      if (lockedStore(db) !== store) throw otherStore()
    }
    return db
  } catch (error) {
    db.close()
    throw isBusy(error) ? otherStore(error) : error
  }
}

/** Begins a read, which locks out every write of another process, and returns the store that is named. */
function lockedStore(db: DatabaseSync): unknown {
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
