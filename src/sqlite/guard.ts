/**
 * Proves that the files of an open database are the ones at its path. Invariant: a commit between two successful calls of
 * `assertWritable` is in the files that the next start opens.
 *
 * SQLite goes on writing to files that were removed, renamed, replaced or overwritten, and reports success. So the guard compares
 * device and inode of the database, its write-ahead log (-wal) and its index (-shm) with those that were opened. For a file whose content
 * was changed (a copy over the file, a truncation) it compares time and size: the database file changes in checkpoints only, and SQLite
 * counts these.
 */
import { type BigIntStats, closeSync, openSync, readSync, realpathSync, renameSync, statSync } from 'node:fs'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { FileDisplaced, isBusy, sqliteCode } from './fault.ts'

type Part = 'main' | 'wal' | 'shm'

/** How a file at a path relates to the one that was opened. */
type State = 'same' | 'missing' | 'other'

const names: Record<Part, string> = { main: 'file', wal: 'write-ahead log (-wal)', shm: 'index (-shm)' }

const walHeaderBytes = 32
const frameHeaderBytes = 24
/** Longer than any checkpoint: one of another process changes the file before SQLite counts it. */
const checkpointMs = 3_000

export class FileGuard {
  readonly #db: DatabaseSync
  readonly #paths: Record<Part, string>
  readonly #opened: Record<Part, BigIntStats>
  /** Returns the state of checkpoints; undefined for a SQLite too old for it, where the guard does not check for changed content. */
  readonly #checkpoints: StatementSync | undefined
  readonly #frameBytes: number
  #main: BigIntStats
  #walSize: bigint
  #log: Log
  #suspectSince: number | undefined
  /** The paths to which log and index were moved, because the database was replaced. */
  readonly #aside = new Map<Part, string>()

  /** The database must be in WAL mode and must have been read from, so that its log is open. Throws FileDisplaced. */
  constructor(db: DatabaseSync, path: string) {
    this.#db = db
    this.#paths = pathsOf(path)
    const { main, wal, shm } = this.#stats()
    if (!main || !wal || !shm) throw displaced('main')
    this.#opened = { main, wal, shm }
    this.#frameBytes = frameHeaderBytes + Number(Object.values(db.prepare('PRAGMA page_size').get()!)[0])
    const { version } = db.prepare('SELECT sqlite_version() AS version').get() as { version: string }
    const [, minor] = version.split('.').map(Number)
    if (minor! >= 51) this.#checkpoints = db.prepare('PRAGMA wal_checkpoint(NOOP)')
    this.#main = main
    this.#walSize = wal.size
    this.#log = this.#refresh()
  }

  get path(): string {
    return this.#paths.main
  }

  /** Throws FileDisplaced unless the files at the paths are those that are open. */
  assertInPlace(): void {
    this.#inPlace()
  }

  /**
   * Throws FileDisplaced unless the next start will find what is committed now. Must not be called in a transaction. An error that isBusy
   * may be a checkpoint of another process; if it is none, the error changes after a few seconds.
   */
  assertWritable(): void {
    const { main, wal } = this.#inPlace()
    if (main.mtimeNs === this.#main.mtimeNs && main.size === this.#main.size && wal.size >= this.#walSize) return
    const log = this.#refresh()
    const part = this.#overwrittenPart(main, wal, log)
    if (part) throw this.#overwritten(part)
    this.#accept(main, wal, log)
    this.#suspectSince = undefined
  }

  /**
   * Must be called after each commit, which may have made a checkpoint. Throws FileDisplaced if the commit is in other files. A change
   * that no checkpoint explains yet is left to the next assertWritable, which can wait.
   */
  committed(): void {
    const { main, wal } = this.#inPlace()
    const log = this.#refresh(this.#log)
    if (!this.#overwrittenPart(main, wal, log)) this.#accept(main, wal, log)
  }

  /** The part that changed since the last call and whose change no checkpoint explains. */
  #overwrittenPart(main: BigIntStats, wal: BigIntStats, log: Log): Part | undefined {
    if (main.size === 0n) return 'main'
    if (!this.#checkpoints) return undefined
    if (main.mtimeNs !== this.#main.mtimeNs && !hasCheckpoint(this.#log, log)) return 'main'
    const logged = log.frames > 0 ? walHeaderBytes + log.frames * this.#frameBytes : 0
    return Number(wal.size) < logged ? 'wal' : undefined
  }

  #accept(main: BigIntStats, wal: BigIntStats, log: Log): void {
    this.#main = main
    this.#walSize = wal.size
    this.#log = log
  }

  #overwritten(part: Part): FileDisplaced {
    this.#suspectSince ??= performance.now()
    return new FileDisplaced(
      `its ${names[part]} was overwritten by another program; restart Spillway`,
      performance.now() - this.#suspectSince < checkpointMs,
    )
  }

  /** Returns what is wrong with the files, and rescues committed data where it can. Called at intervals, outside of transactions. */
  inspect(): FileDisplaced | undefined {
    try {
      this.#repair()
      this.assertWritable()
    } catch (error) {
      if (error instanceof FileDisplaced) return error
      // For example a disk that fails: the next commit reports it.
      if (sqliteCode(error) === undefined) throw error
    }
    return undefined
  }

  #repair(): void {
    const stats = this.#stats()
    const main = this.#state('main', stats.main)
    try {
      if (main === 'other') this.#putAside()
      if (main === 'same') {
        this.#putBack()
        const isUnchanged = stats.main!.mtimeNs === this.#main.mtimeNs
        // Another process may have begun a log of its own, with an index of its own.
        const isOurs =
          this.#state('wal', stat(this.#paths.wal)) === 'missing' && this.#state('shm', stats.shm) !== 'other'
        if (isUnchanged && isOurs) this.#rescue()
      }
    } catch {
      // The disk may be read-only or full by now; the next call tries again.
    }
  }

  /** Moves our log and index, because a process that opens the file that replaced ours would apply our log to it. */
  #putAside(): void {
    for (const part of ['wal', 'shm'] as const) {
      if (this.#state(part, stat(this.#paths[part])) !== 'same') continue
      const aside = asideOf(this.#paths[part])
      renameSync(this.#paths[part], aside)
      this.#aside.set(part, aside)
    }
  }

  #putBack(): void {
    for (const [part, aside] of this.#aside) {
      if (this.#state(part, stat(this.#paths[part])) === 'missing') renameSync(aside, this.#paths[part])
    }
    this.#aside.clear()
  }

  /** Copies commits from a log that is no longer at its path into the database file; else they would be lost with the process. */
  #rescue(): void {
    this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()
    this.#main = stat(this.#paths.main) ?? this.#main
  }

  #inPlace(): { main: BigIntStats; wal: BigIntStats } {
    const stats = this.#stats()
    for (const part of ['main', 'wal', 'shm'] as const)
      if (this.#state(part, stats[part]) !== 'same') throw displaced(part)
    return { main: stats.main!, wal: stats.wal! }
  }

  #stats(): Record<Part, BigIntStats | undefined> {
    const { main, wal, shm } = this.#paths
    return { main: stat(main), wal: stat(wal), shm: stat(shm) }
  }

  #state(part: Part, found: BigIntStats | undefined): State {
    if (!found) return 'missing'
    const { ino, dev } = this.#opened[part]
    return found.ino === ino && found.dev === dev ? 'same' : 'other'
  }

  /** Returns the state of the log. Reads its header again only if it may have changed since `before`. */
  #refresh(before?: Log): Log {
    if (!this.#checkpoints) return { frames: 0, checkpointed: 0, header: '' }
    const { log: frames, checkpointed } = this.#checkpoints.get() as { log: number; checkpointed: number }
    const goesOn = before !== undefined && before.header !== '' && frames > before.frames
    return { frames, checkpointed, header: goesOn ? before.header : headerOf(this.#paths.wal).toString('base64') }
  }
}

/** The state of the write-ahead log, as SQLite reports it. */
interface Log {
  frames: number
  /** How many frames were copied into the database file. */
  checkpointed: number
  /** Differs each time SQLite starts the log again from its beginning. */
  header: string
}

function hasCheckpoint(before: Log, now: Log): boolean {
  return now.checkpointed !== before.checkpointed || now.header !== before.header
}

/** Returns a function that inspects the files, and notes when one of them is not in its place, and when it is again. */
export function inspector(guard: FileGuard, owner: string, note: (text: string) => void): () => void {
  let lastLogged: string | undefined
  return () => {
    const found = guard.inspect()
    const reason = isBusy(found) ? undefined : found?.message
    if (reason === lastLogged) return
    lastLogged = reason
    if (reason === undefined) note(`${owner} (${guard.path}) has its files in place again, and goes on`)
    else note(`${owner} (${guard.path}) is unavailable: ${reason}`)
  }
}

/** SQLite resolves links when it opens the database, and creates log and index beside the file itself. */
export function pathsOf(path: string): Record<Part, string> {
  const real = realpathSync(path)
  return { main: path, wal: `${real}-wal`, shm: `${real}-shm` }
}

/** Returns a path beside it for a log whose database is not there. */
export function asideOf(wal: string): string {
  return `${wal}.${Date.now()}.orphan`
}

/** Returns the header of a log; shorter or empty if it has none. SQLite has no locks on this file that closing it would drop. */
export function headerOf(wal: string): Buffer {
  const header = Buffer.alloc(walHeaderBytes)
  try {
    const file = openSync(wal, 'r')
    try {
      return header.subarray(0, readSync(file, header))
    } finally {
      closeSync(file)
    }
  } catch {
    return Buffer.alloc(0)
  }
}

function stat(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false })
  } catch {
    // The folder is a file now, or may not be entered any more.
    return undefined
  }
}

function displaced(part: Part): FileDisplaced {
  return new FileDisplaced(`its ${names[part]} was moved, deleted or replaced; put it back or restart Spillway`)
}
