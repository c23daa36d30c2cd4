/**
 * The dead letters of the embedded queue. Invariant: a look-up, or a transaction, reads or writes a bounded number of dead letters, however
 * many an id has. The table `conflict` has the number of ID_CONFLICTs of each id.
 */
import { readFailure } from '../model/error.ts'
import type { Statements } from '../sqlite/open.ts'
import { type DeadLetter, type DeadLetterRange, handlesAtOnce, type SaveState } from './queue.ts'

const pageBytes = 4 * 1024 * 1024
/** The bodies that one transaction copies. */
const stepBytes = 4 * 1024 * 1024

interface DeadLetterRow {
  seq: number
  id: string
  digest: string
  at: number
  body: string
  code: string
  message: string
  attempts: number
  failed_at: number
}

interface ShortRow {
  id: string
  isConflict: 0 | 1
  length: number
}

interface Retriable {
  done: number
  deadLetters: { handle: string; id: string }[]
}

/** Its methods must be called in a transaction of the write queue. */
export class DeadLetterTables {
  readonly #sql: Statements

  constructor(sql: Statements) {
    this.#sql = sql
  }

  conflicts(id: string): number {
    return (this.#sql('conflicts').get(id) as { count: number } | undefined)?.count ?? 0
  }

  /** Whether a dead letter makes the id known: one without the code ID_CONFLICT. */
  makesKnown(id: string): boolean {
    return this.#sql('dead letter of id').get(id, 0) !== undefined
  }

  /** Returns the save state by a dead letter of the id, an ID_CONFLICT only if there is no other; with a digest, of that content. */
  saveState(id: string, digest: string | undefined): SaveState | undefined {
    for (const isConflict of [0, 1]) {
      const found =
        digest === undefined
          ? this.#sql('dead letter of id').get(id, isConflict)
          : this.#sql('dead letter with').get(id, isConflict, digest)
      if (!found) continue
      const row = found as unknown as DeadLetterRow
      return {
        status: 'FAILED',
        digest: row.digest,
        at: row.at,
        conflicts: this.conflicts(id),
        failure: failureOf(row),
      }
    }
    return undefined
  }

  page(limit: number, range: DeadLetterRange): { deadLetters: DeadLetter[]; more: boolean } {
    const { newerThan = 0, olderThan = Number.MAX_SAFE_INTEGER, newestFirst = false } = range
    const statement = this.#sql(newestFirst ? 'dead letters, newest first' : 'dead letters')
    const deadLetters: DeadLetter[] = []
    let bytes = 0
    for (const found of statement.iterate(Number(newerThan), Number(olderThan), limit + 1)) {
      const row = found as unknown as DeadLetterRow
      bytes += row.body.length
      if (deadLetters.length >= limit || (deadLetters.length > 0 && bytes > pageBytes))
        return { deadLetters, more: true }
      deadLetters.push({ handle: String(row.seq), id: row.id, failure: failureOf(row), body: row.body })
    }
    return { deadLetters, more: false }
  }

  /** How many dead letters the id has, and the handles of the first ones, ID_CONFLICTs last. */
  handlesOf(id: string): { count: number; handles: string[] } {
    const { count } = this.#sql('number of dead letters').get(id) as { count: number }
    const rows = this.#sql('handles of id').all(id, handlesAtOnce) as { seq: number }[]
    return { count, handles: rows.map(({ seq }) => String(seq)) }
  }

  /** The id of the dead letter; undefined if there is none. */
  idAt(handle: string): string | undefined {
    return (this.#sql('dead letter at').get(Number(handle)) as unknown as ShortRow | undefined)?.id
  }

  /** Those of the dead letters that may be enqueued again, one of each id, and with how many of the handles a step is done with them. */
  retriable(handles: readonly string[], isPending: (id: string) => boolean): Retriable {
    const deadLetters: Retriable['deadLetters'] = []
    const moved = new Set<string>()
    let bytes = 0
    for (const [done, handle] of handles.entries()) {
      const found = this.#sql('dead letter at').get(Number(handle)) as unknown as ShortRow | undefined
      bytes += found?.length ?? 0
      if (done > 0 && bytes > stepBytes) return { done, deadLetters }
      if (!found || moved.has(found.id) || isPending(found.id)) continue
      if (found.isConflict === 1 && this.makesKnown(found.id)) continue
      moved.add(found.id)
      deadLetters.push({ handle, id: found.id })
    }
    return { done: handles.length, deadLetters }
  }

  /** Enqueues the dead letter again. Returns the `seq` of the message. */
  retry(handle: string): number {
    const { lastInsertRowid } = this.#sql('put back').run(Number(handle))
    this.discard(handle)
    return Number(lastInsertRowid)
  }

  /** Deletes the dead letter. Returns whether there was one. */
  discard(handle: string): boolean {
    return this.#sql('drop dead letter').run(Number(handle)).changes > 0
  }
}

function failureOf({ code, message, attempts, failed_at, at }: DeadLetterRow) {
  return readFailure({ code, message, attempts, failedAt: failed_at }, at)
}
