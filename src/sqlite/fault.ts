/** Turns SQLite's errors into Spillway's, which say what happened and what to do. */
import { SpillwayError } from '../model/error.ts'

export const retryAfterMs = 1_000

/** Returns the primary result code of an error of SQLite; undefined for any other error. */
export function sqliteCode(error: unknown): number | undefined {
  const { code, errcode } = (error ?? {}) as { code?: string; errcode?: number }
  return code === 'ERR_SQLITE_ERROR' && errcode !== undefined ? errcode & 0xff : undefined
}

const busy = 5
const locked = 6
const full = 13
/** SQLITE_READONLY_DBMOVED: SQLite itself reports it with a rollback journal only. */
const moved = 1032

export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error)
  return code === busy || code === locked
}

/** The files of an open database are not the ones at their paths. The message says which, and what to do. */
export class FileDisplaced extends Error {
  override readonly name = 'FileDisplaced'
  readonly code = 'ERR_SQLITE_ERROR'
  readonly errcode: number

  /** `maybe`: the cause may be another process at work, so that callers wait as they wait for a lock. */
  constructor(message: string, maybe = false) {
    super(message)
    this.errcode = maybe ? busy : moved
  }
}

/** A file cannot be used as it is, and waiting does not help. The message says why, and what to do. */
export class FileUnusable extends Error {
  override readonly name = 'FileUnusable'
}

/**
 * Whether a COMMIT that failed with this error certainly had no effect. Any other error, such as a failed fsync, may have left a
 * complete commit in the log file, which is found when the file is next opened.
 */
export function isCertainlyUndone(error: unknown): boolean {
  return isBusy(error) || sqliteCode(error) === full
}

const reasons: Record<number, string> = {
  7: 'there is no memory left; free some',
  8: 'its file cannot be written; check the rights of the file and its folder, and that the disk is not mounted read-only',
  10: 'the disk or its file system reports an error; check that it has space and look into the log of the system',
  11: 'its file is damaged; stop Spillway and put a backup in its place, without the -wal and -shm beside it',
  13: 'its disk (or quota) is full; free some space',
  14: 'its file cannot be opened; check the rights of the file and its folder, and the limit of open files',
  26: 'its file is not a SQLite database; move it to another place, or name another file',
}

/** Adds what to do to a few of SQLite's own messages, which say only what happened. Returns other messages unchanged. */
export function withAdvice(message: string): string {
  if (message === 'disk I/O error') return `${message}: ${reasons[10]}`
  if (/^database (table )?is locked/.test(message))
    return `${message}: another process writes to it; end what has it open (Prisma Studio, a sqlite3 shell), if it does not end by itself`
  return message
}

/** Returns the reason of an error of the file itself; undefined for an error of a statement, and for a lock. */
export function fileReason(error: unknown): string | undefined {
  if (error instanceof FileDisplaced || error instanceof FileUnusable) return error.message
  return reasons[sqliteCode(error) ?? -1]
}

/** Returns why the database failed, and what to do. `busyMs`: how long the caller waited for a lock. */
export function reasonOf(error: unknown, busyMs: number): string {
  const reason = fileReason(error)
  if (reason !== undefined) return reason
  if (isBusy(error)) {
    return `another process has kept its file locked for more than ${busyMs} ms; end what has it open (Prisma Studio, a sqlite3 shell)`
  }
  const { errstr, message } = error as { errstr?: string; message: string }
  if (/^no such (table|column)/.test(message)) {
    return `its file lacks a table or column (${message}); stop Spillway and put a backup in its place, without the -wal and -shm beside it`
  }
  return errstr ?? message
}

/** Errors of a file that do not end by waiting: READONLY, CORRUPT, CANTOPEN, NOTADB. */
const fatal = new Set([8, 11, 14, 26])

const names: Record<number, string> = {
  5: 'SQLITE_BUSY',
  6: 'SQLITE_LOCKED',
  7: 'SQLITE_NOMEM',
  8: 'SQLITE_READONLY',
  10: 'SQLITE_IOERR',
  11: 'SQLITE_CORRUPT',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  26: 'SQLITE_NOTADB',
}

/** Returns a short code for /readyz, of an error of SQLite or of a SpillwayError that it caused. */
export function codeOf(error: unknown): string {
  const cause = error instanceof SpillwayError ? error.cause : error
  if (cause instanceof FileDisplaced) return 'FILE_DISPLACED'
  if (cause instanceof FileUnusable) return 'FILE_UNUSABLE'
  return names[sqliteCode(cause) ?? -1] ?? 'SQLITE_ERROR'
}

/** Returns why waiting for this file at startup would not help; undefined if it may. A running process waits for any error. */
export function fatalAtStartup(error: unknown): string | undefined {
  return error instanceof FileUnusable || fatal.has(sqliteCode(error) ?? -1) ? fileReason(error) : undefined
}

export function unavailable(reason: string, cause?: unknown): SpillwayError {
  return new SpillwayError(
    'QUEUE_UNAVAILABLE',
    `The embedded queue is unavailable: ${reason}. Nothing was changed; try again.`,
    {
      retryAfterMs,
      cause,
    },
  )
}

export function unknown(reason: string, cause?: unknown): SpillwayError {
  return new SpillwayError(
    'OUTCOME_UNKNOWN',
    `The embedded queue failed during a change: ${reason}. It may have been done.`,
    {
      retryAfterMs,
      cause,
    },
  )
}
