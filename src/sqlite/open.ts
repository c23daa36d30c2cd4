/**
 * The one way to open a SQLite file, for the queue and for the store. Invariant: an open file is one that the caller's check recognized, in
 * WAL mode, readable by its owner only, with every setting below read back, and guarded. Any other file is left unchanged, with an error
 * that says what it is.
 */
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { FileUnusable } from './fault.ts'
import { asideOf, FileGuard, headerOf, pathsOf } from './guard.ts'
import { makeFile, makeFolder, tighten } from './rights.ts'

export interface OpenFile {
  db: DatabaseSync
  guard: FileGuard
}

export interface OpenOptions {
  /** Throws FileUnusable for a file that is not the caller's. Must not write. */
  check?: (db: DatabaseSync) => void
  /** Called with what an operator should know, though the file can be used. */
  note?: (text: string) => void
}

/** Short, because SQLite's own busy handler blocks the thread; callers wait longer by themselves. */
const busyTimeoutMs = 20
/** The largest database that `PRAGMA quick_check` reads at the start: half a gigabyte a second if the file is cached. */
const checkedBytes = 256 * 1024 * 1024

// biome-ignore format: one reason a line
const settings: readonly (readonly [name: string, value: number])[] = [
  ['synchronous', 2], // FULL: a commit is on disk when it returns
  ['fullfsync', 1], // on macOS, where fsync alone does not reach the disk
  ['checkpoint_fullfsync', 1],
  ['wal_autocheckpoint', 4_000], // a larger log means fewer, longer checkpoints
  ['journal_size_limit', 64 * 1024 * 1024], // the log shrinks to it after a spike, or a long read
  ['cache_size', -32 * 1024], // KiB a connection
  ['temp_store', 2], // in memory: no content in files of other folders
  ['mmap_size', 0], // a damaged disk is an error, not the end of the process
  ['foreign_keys', 1],
  ['recursive_triggers', 0],
  ['trusted_schema', 0], // a file that was tampered with runs nothing
  ['cell_size_check', 1], // damage is found where it is read
]

/** Opens a file, or creates it. Throws SQLite's errors, and FileUnusable for a fault that does not end by waiting. */
export function openSqlite(path: string, { check, note = () => {} }: OpenOptions = {}): OpenFile {
  makeFolder(dirname(path))
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found && !found.isFile())
      throw new FileUnusable(
        'it is a folder or a device, not a regular file; move it to another place, or name another file',
      )
    if ((found?.nlink ?? 1) > 1)
      throw new FileUnusable(
        'it has another name (a hard link), and SQLite keeps a log for each name; remove the other name, or make it a symbolic link',
      )
    if (!found?.size) putOrphanAside(path, note)
    if (!found) makeFile(path)
    assertLogIsWhole(pathsOf(path).wal)
  } catch (error) {
    if (error instanceof FileUnusable) throw error
    throw new FileUnusable(
      `its file cannot be opened (${(error as NodeJS.ErrnoException).code}); check the rights of the file and its folder`,
      { cause: error },
    )
  }
  return openExisting(path, { ...(check && { check }), note })
}

/** Opens a file that exists. For one that does not, throws CANTOPEN and creates none. */
export function openExisting(path: string, { check, note = () => {} }: OpenOptions = {}): OpenFile {
  const url = pathToFileURL(path)
  url.searchParams.set('mode', 'rw')
  const db = new DatabaseSync(url, { timeout: busyTimeoutMs })
  try {
    check?.(db)
    const { main, wal, shm } = pathsOf(path)
    tighten([main, wal, shm], note)
    const mode = pragma(db, 'journal_mode = WAL')
    if (mode !== 'wal') {
      throw new FileUnusable(
        `SQLite keeps it in journal mode ${mode}; it needs WAL, which network file systems do not have: use a local disk`,
      )
    }
    for (const [name, value] of settings) set(db, name, value)
    // Opens the log.
    db.prepare('SELECT count(*) FROM sqlite_schema').get()
    return { db, guard: new FileGuard(db, path) }
  } catch (error) {
    db.close()
    throw error
  }
}

/** Reads a small database from end to end; in a large one, damage is found only when it is read. Throws SQLite's errors, and FileUnusable. */
export function assertSound({ db }: OpenFile): void {
  const bytes = Number(pragma(db, 'page_count')) * Number(pragma(db, 'page_size'))
  if (bytes > checkedBytes) return
  const found = pragma(db, 'quick_check(1)')
  if (found !== 'ok') {
    throw new FileUnusable(
      `it is damaged (${found}); stop Spillway and put a backup in its place, without the -wal and -shm beside it`,
    )
  }
}

/** Returns the first value that a PRAGMA answers with. */
export function pragma(db: DatabaseSync, text: string): unknown {
  return Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]
}

/** Returns a statement by its name. Throws where the .sql file has no statement of that name, which is a defect. */
export type Statements = (name: string) => StatementSync

/** Prepares the statements of a .sql file, each headed by `-- name: its name`. */
export function prepareAll(db: DatabaseSync, file: URL): Statements {
  const statements = new Map<string, StatementSync>()
  const [, ...parts] = readFileSync(file, 'utf8').split(/^-- name: /m)
  for (const part of parts) {
    const end = part.indexOf('\n')
    statements.set(part.slice(0, end).trim(), db.prepare(part.slice(end)))
  }
  return (name) => {
    const statement = statements.get(name)
    if (!statement) throw new Error(`${file.pathname} has no statement named "${name}"`)
    return statement
  }
}

function set(db: DatabaseSync, name: string, value: number): void {
  db.exec(`PRAGMA ${name} = ${value}`)
  const now = pragma(db, name)
  if (now !== value) throw new FileUnusable(`SQLite keeps ${name} at ${now}, expected ${value}`)
}

/** Moves a log without a database, because SQLite would remove it, and it may have the only copy of acknowledged saves. */
function putOrphanAside(path: string, note: (text: string) => void): void {
  const { wal } = existsSync(path) ? pathsOf(path) : { wal: `${path}-wal` }
  if (!statSync(wal, { throwIfNoEntry: false })?.size) return
  const aside = asideOf(wal)
  renameSync(wal, aside)
  note(
    `${path} is missing or empty, but its write-ahead log exists: the log was moved to ${aside}; a new file is created`,
  )
}

/** Throws for a log with a damaged header: SQLite would treat it as empty, and its commits would be lost without an error. */
function assertLogIsWhole(wal: string): void {
  if (!statSync(wal, { throwIfNoEntry: false })?.size) return
  const header = headerOf(wal)
  if (header.length < 32 || header.every((byte) => byte === 0)) return
  if (!isWalHeader(header)) {
    throw new FileUnusable(
      `its write-ahead log ${wal} is damaged; put a backup of both in place, or move the log to another place, which loses the last commits`,
    )
  }
}

/** https://www.sqlite.org/walformat.html: a magic number, the version, and a checksum of the first 24 bytes. */
function isWalHeader(header: Buffer): boolean {
  const magic = header.readUInt32BE(0)
  if (magic >>> 1 !== 0x377f0682 >>> 1 || header.readUInt32BE(4) !== 3_007_000) return false
  const word = (at: number) => (magic & 1 ? header.readUInt32BE(at) : header.readUInt32LE(at))
  let [s0, s1] = [0, 0]
  for (let at = 0; at < 24; at += 8) {
    s0 = (s0 + word(at) + s1) >>> 0
    s1 = (s1 + word(at + 4) + s0) >>> 0
  }
  return s0 === header.readUInt32BE(24) && s1 === header.readUInt32BE(28)
}
