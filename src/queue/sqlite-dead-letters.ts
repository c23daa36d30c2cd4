/**
 * The dead letters of the embedded queue. Invariant: a look-up, or a transaction, reads or writes a bounded number of dead letters, however
 * many an id has. The table `conflict` has the number of ID_CONFLICTs of each id.
 */
import { readFailure } from '../model/error.ts'
import type { Statements } from '../sqlite/open.ts'
import type { DeadLetter, SaveState } from './queue.ts'

const pageBytes = 4 * 1024 * 1024
const discardedAtOnce = 200

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

  page(first: number, after: number): { deadLetters: { handle: string; deadLetter: DeadLetter }[]; more: boolean } {
    const deadLetters = []
    let bytes = 0
    for (const found of this.#sql('dead letters').iterate(after, first + 1)) {
      const row = found as unknown as DeadLetterRow
      bytes += row.body.length
      if (deadLetters.length >= first || (deadLetters.length > 0 && bytes > pageBytes))
        return { deadLetters, more: true }
      deadLetters.push({ handle: String(row.seq), deadLetter: { id: row.id, failure: failureOf(row), body: row.body } })
    }
    return { deadLetters, more: false }
  }

  /** Enqueues one dead letter of the id again, ID_CONFLICTs last. Returns the `seq` of the message; undefined if the id has none. */
  retry(id: string): number | undefined {
    const found = this.#sql('first dead letter').get(id) as { seq: number } | undefined
    if (!found) return undefined
    const { lastInsertRowid } = this.#sql('put back').run(found.seq)
    this.#sql('drop dead letter').run(found.seq)
    return Number(lastInsertRowid)
  }

  /** Deletes dead letters. Returns how many, and with how many of the ids it is done. */
  discard(ids: readonly string[]): [count: number, done: number] {
    let count = 0
    for (const [done, id] of ids.entries()) {
      count += Number(this.#sql('discard').run(id, discardedAtOnce - count).changes)
      if (count >= discardedAtOnce) return [count, done]
    }
    return [count, ids.length]
  }
}

function failureOf({ code, message, attempts, failed_at, at }: DeadLetterRow) {
  return readFailure({ code, message, attempts, failedAt: failed_at }, at)
}
