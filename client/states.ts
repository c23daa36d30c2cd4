/**
 * The states of a save, of an outbox and of a follow, each with the states that may come next. Invariant: nothing else changes a state. A
 * transition that is not listed is not made, and reported: tests fail for it.
 */

type Table = Readonly<Record<string, readonly string[]>>
export type StateOf<T extends Table> = keyof T & string

export const saveStates = {
  /** For its turn. */
  waiting: ['sending', 'refused'],
  /** Back to `waiting`: in a batch that the server refused for another save. */
  sending: ['queued', 'retrying', 'refused', 'failed', 'waiting'],
  /** The last request failed, and another one follows. */
  retrying: ['sending', 'refused'],
  /** It stays, with a problem, where its end cannot be known. */
  queued: ['saved', 'failed', 'queued'],
  /** To `waiting` by `$outbox.retry()`; discarded, it stays refused. */
  refused: ['waiting', 'refused'],
  saved: [],
  /** A dead letter. */
  failed: [],
} as const satisfies Table

export const outboxStates = {
  idle: ['sending', 'closed'],
  sending: ['sending', 'waiting', 'idle', 'refused', 'closed'],
  /** For the next try. */
  waiting: ['sending', 'idle', 'refused', 'closed'],
  /** Nothing but refused saves is left. */
  refused: ['sending', 'idle', 'refused', 'closed'],
  closed: [],
} as const satisfies Table

export const followStates = {
  /** Nobody subscribes. */
  idle: ['reading', 'connecting', 'closed'],
  /** A page. */
  reading: ['connecting', 'waiting', 'refused', 'idle', 'closed'],
  connecting: ['live', 'waiting', 'refused', 'idle', 'closed'],
  live: ['waiting', 'refused', 'idle', 'closed'],
  /** For the next try. */
  waiting: ['reading', 'connecting', 'idle', 'closed'],
  /** It is tried again, slowly: a token may come. */
  refused: ['reading', 'connecting', 'idle', 'closed'],
  closed: [],
} as const satisfies Table

/** For tests. */
export const watch: { change?(table: Table, from: string, to: string, isListed: boolean): void } = {}

export function next<T extends Table>(table: T, from: StateOf<T>, to: StateOf<T>): StateOf<T> {
  const isListed = table[from]!.includes(to)
  watch.change?.(table, from, to, isListed)
  return isListed ? to : from
}
