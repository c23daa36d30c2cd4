/**
 * The queue: where an acknowledged save is until its row is committed and announced. Invariant: an id that `accept` took is, at every
 * moment, pending, or buried, or saved; each step from one to the next is atomic and durable.
 *
 * Two readers, two interfaces: the API accepts and asks (Queue), a worker takes and settles (Consumer).
 */
import { hash } from 'node:crypto'
import type { Failure, SpillwayError } from '../model/error.ts'

/** A message as the queue sees it: it looks into the body only to tell its age. */
export interface Item {
  id: string
  /** Same digest, same content: what tells a retry from a conflict. At most 64 characters, none of them a space. */
  digest: string
  /** When it was accepted, in milliseconds since 1970. */
  at: number
  body: string
  /** Its id was made just now, and nobody knows it yet: it is not looked up. */
  fresh?: boolean
}

/** Returns the digest of a content: 132 bits of SHA-256, as 22 characters of base64url. */
export function digestOf(content: string): string {
  return hash('sha256', content, 'base64url').slice(0, 22)
}

/** Where a save stands, as far as the queue knows. */
export interface SaveState {
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  digest: string
  /** Milliseconds since 1970. */
  at: number
  /** How many dead letters of its id have the code ID_CONFLICT: later saves of other content. */
  conflicts: number
  /** With FAILED. */
  failure?: Failure
}

/** FSYNC: on disk before it is acknowledged. EVERYSEC: a power cut may cost about a second of it. MEMORY: a restart may cost all. */
export type Durability = 'FSYNC' | 'EVERYSEC' | 'MEMORY'

export interface QueueStatus {
  /** Messages accepted and neither settled nor buried; those in flight included. */
  depth: number
  /** Of these, how many a worker holds. */
  inFlight: number
  /** Age of the oldest of them; 0 when there is none. */
  oldestAgeMs: number
  deadLetters: number
  capacity: number
  durability: Durability
}

export interface DeadLetter {
  /** The id of the message; where it had none, the queue's own handle of it. */
  id: string
  failure: Failure
  /** The message as it was. */
  body: string
}

export interface Queue {
  /**
   * Accepts each group whole or not at all; the whole call is one atomic step, durable when it resolves. At most 1,000 items a call,
   * or one group. Per group: what became of each item, in order, or why the group was refused (QUEUE_FULL, ID_CONFLICT).
   * An item whose id is known with the same digest is not added again: `duplicate`, with where the first stands. An id that is known
   * with other digests only: the group is refused with ID_CONFLICT. Known is what is pending, what is in the same call, what is
   * remembered as saved (at least the last 50,000), and what is a dead letter. Dead letters with the code ID_CONFLICT do not take an id
   * for others: the store tells which content it has. Throws QUEUE_UNAVAILABLE: certainly nothing was accepted; OUTCOME_UNKNOWN: it
   * may have been.
   */
  enqueue(groups: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]>
  /**
   * Where these ids stand, in order; undefined for one that is neither pending, nor among those saved lately, nor buried. An id stands as
   * its first content does: pending wins over saved, saved over a dead letter, and of these an ID_CONFLICT is the last. With a digest:
   * where that content of each id stands.
   */
  find(ids: readonly string[], digest?: string): Promise<(SaveState | undefined)[]>
  /** Does what accepting a save takes, with a durable write, and changes nothing. Undefined when it was done; else a code that says why
   *  not. Never throws. */
  probe(): Promise<string | undefined>
  status(): Promise<QueueStatus>
  /** Dead letters, oldest first, at most `first` and some 4 MB, after the given handle (exclusive). A malformed one is among them, with
   *  the code UNDECODABLE. */
  deadLetters(
    first: number,
    after?: string,
  ): Promise<{ deadLetters: { handle: string; deadLetter: DeadLetter }[]; more: boolean }>
  /**
   * Back into the queue under the ids they had, of each id one: its own before ID_CONFLICT ones, none while the id is pending. How many
   * letters that were. Unknown ids are passed over. Each letter moves atomically; where an error comes after some have moved, it is
   * OUTCOME_UNKNOWN.
   */
  retry(ids: readonly string[]): Promise<number>
  /** All letters of these ids, gone for good. How many that were. Errors as for retry. */
  discard(ids: readonly string[]): Promise<number>
  /** A consumer of its own. `name` is stable for a worker slot: what a dead one of the same name left, the next one takes first. */
  consumer(name: string): Consumer
  /** Finishes what was asked and lets go. May be called twice. */
  close(): Promise<void>
}

export interface Enqueued extends SaveState {
  duplicate: boolean
}

/** A message in the queue, as a worker holds it. */
export interface Entry {
  /** What the queue knows it by; opaque. */
  handle: string
  /** The id it was accepted under; undefined for a foreign object that somebody else put there. */
  id: string | undefined
  body: string
  /** How often it was handed out, this time included: 1 for the first. What a consumer gave back by closing was not handed out. */
  deliveries: number
}

export interface DeadLetterInput {
  entry: Entry
  failure: Failure
  /** With ID_CONFLICT, where it is known: the row that has the id. The queue remembers it as saved, so that the next conflict is refused. */
  existing?: { digest: string; at: number } | undefined
}

export interface Consumer {
  /**
   * The next entries: those of dead workers first, then new ones, oldest first. Waits up to `waitMs` for the first; [] when there is
   * none by then, or when the queue is out of reach (it goes on trying by itself and never throws for that). `rows` and `bytes` bound
   * what comes back; bytes roughly, and one entry always fits. One call at a time.
   */
  receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]>
  /** Their ids are pending no longer, they are saved; the entries themselves stay where they are, to be announced, and come back if this
   *  consumer dies before it settles them. Of an entry that somebody else confirmed or settled meanwhile nothing changes. Throws
   *  like settle. */
  markSaved(entries: readonly Entry[]): Promise<void>
  /** Done: gone from the queue, atomically, and confirmed where they were not yet. An entry that somebody else settled meanwhile is
   *  passed over. Throws QUEUE_UNAVAILABLE or OUTCOME_UNKNOWN; calling it again is harmless. */
  ack(entries: readonly Entry[]): Promise<void>
  /** Out of the queue and into the dead letters, each atomically. Throws like settle; calling it again is harmless. */
  deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void>
  /** Says that these are still being worked on, so that nobody takes them for a dead worker's. Throws like settle. */
  extendLease(entries: readonly Entry[]): Promise<void>
  /** Counts, durably, one try of this entry by itself and tells how many there were, this one included. Throws like settle. */
  countAttempt(entry: Entry): Promise<number>
  /** Takes back one try that `attempt` counted: its end was no fault of the entry. Throws like settle. */
  withdrawAttempt(entry: Entry): Promise<void>
  /** Does what taking and settling entries takes, and changes nothing. Answers as Queue.probe does. */
  probe(): Promise<string | undefined>
  /** Gives back what it took and did not settle, as if it had not been handed out, and lets go. A take under way resolves. May be called twice. */
  close(): Promise<void>
}
