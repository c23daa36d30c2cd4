/** SQLite's errors in Spillway's terms: what happened, and what to do about it. */
import { SpillwayError } from '../model/error.ts'

export const retryAfterMs = 1_000

/** The primary result code, or undefined where it is no error of SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  const { code, errcode } = error as { code?: string; errcode?: number }
  return code === 'ERR_SQLITE_ERROR' && errcode !== undefined ? errcode & 0xff : undefined
}

const busy = 5
const locked = 6
const full = 13

export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error)
  return code === busy || code === locked
}

/**
 * Whether a COMMIT that failed like this certainly had no effect. Anything else, such as a failed fsync, may have left a complete
 * commit in the log file, which the next to open it would find.
 */
export function isCertainlyUndone(error: unknown): boolean {
  return isBusy(error) || sqliteCode(error) === full
}

const reasons: Record<number, string> = {
  7: 'there is no memory left; free some',
  8: 'its file cannot be written; check the rights of the file and its folder',
  10: 'the disk reports an error; look into the log of the system',
  11: 'its file is damaged; stop Spillway and put a backup in its place',
  13: 'its disk (or quota) is full; free some space',
  14: 'its file cannot be opened; check the rights of the file and its folder, and the limit of open files',
  26: 'its file is not a SQLite database',
}

export function reasonOf(error: unknown, busyMs: number): string {
  if (isBusy(error)) {
    return `another process has kept its file locked for more than ${busyMs} ms; end what has it open (Prisma Studio, a sqlite3 shell)`
  }
  const { errstr, message } = error as { errstr?: string; message: string }
  return reasons[sqliteCode(error) ?? -1] ?? errstr ?? message
}

export function unavailable(reason: string, cause?: unknown): SpillwayError {
  return new SpillwayError(
    'QUEUE_UNAVAILABLE',
    `The embedded queue cannot do this now: ${reason}. Nothing was changed; try again.`,
    {
      retryAfterMs,
      cause,
    },
  )
}

export function unknown(reason: string, cause?: unknown): SpillwayError {
  return new SpillwayError('OUTCOME_UNKNOWN', `The embedded queue was asked, but ${reason}. It may have been done.`, {
    retryAfterMs,
    cause,
  })
}
