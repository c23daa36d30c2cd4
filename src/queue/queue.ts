/**
 * The queue keeps an acknowledged save until its row is committed and its events are published.
 * Invariant: an id that `enqueue` added is, at every moment, pending, or saved, or a dead letter.
 * Each step from one of these states to the next is atomic and durable.
 *
 * It has two interfaces for its two kinds of users: the API enqueues and reads states (Queue), a
 * worker receives and acknowledges (Consumer).
 *
 * Units: `at` is a time in milliseconds since 1970; a name that ends in `Ms` is a duration.
 *
 * Errors: unless its comment says otherwise, a method that returns a promise may reject with one of
 * two SpillwayErrors, and with no other. QUEUE_UNAVAILABLE: certainly nothing was changed.
 * OUTCOME_UNKNOWN: the change may have been made; not of a method that changes nothing. A caller may
 * repeat the same call after both.
 */
import type { Failure, SpillwayError } from '../model/error.ts'
import type { Operations, Pause } from './operations.ts'

/**
 * A message to enqueue (glossary: item). The queue does not decode the body; it reads only the time in it,
 * for the age of the oldest message.
 */
export interface Item {
  id: string
  /**
   * Equal digests mean equal contents: this tells a retry from a conflict. At most 64 characters,
   * none of them a space.
   */
  digest: string
  /** When the API enqueued it. */
  at: number
  body: string
  /**
   * The API generated the id for this call, so that no client can have used it before: the queue
   * does not look it up.
   */
  fresh?: boolean
}

/** What the queue knows of an id, or of one content of an id. */
export interface SaveState {
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  digest: string
  /** When this content was enqueued. */
  at: number
  /** How many dead letters of the id have the code ID_CONFLICT: later saves of other content. */
  conflicts: number
  /** With FAILED only. */
  failure?: Failure
}

/**
 * REPLICATED: as FSYNC, and replicas have it, too: the loss of the primary with its disk loses
 * nothing, once a replica that has it is promoted. FSYNC: a save is on disk before it is
 * acknowledged. EVERYSEC: a power cut may lose about one second. MEMORY: a restart may lose all.
 */
export type Durability = 'REPLICATED' | 'FSYNC' | 'EVERYSEC' | 'MEMORY'

export interface QueueStatus {
  /** Messages that are neither acknowledged nor dead-lettered; those in flight included. */
  depth: number
  /** How many of them are leased to a consumer. */
  inFlight: number
  /** The age of the oldest of them; 0 for an empty queue. */
  oldestAgeMs: number
  deadLetters: number
  capacity: number
  durability: Durability
  /** Undefined while persisting is not paused. */
  paused?: Pause | undefined
  /** Of a queue of several shards: each of them. What a shard that is unavailable has is not in the sums. */
  shards?: readonly ShardState[]
  /** Only where saves wait for replicas. */
  replicas?: ReplicaState
}

export interface ReplicaState {
  /** How many must have a save. */
  required: number
  /** How many are connected, of several shards at the one that has the fewest; undefined if the server does not answer. */
  connected: number | undefined
  /** How many calls of this process were not confirmed in time. */
  unconfirmed: number
}

export interface ShardState {
  shard: number
  /** Why it is unavailable; undefined if it answers. */
  code: string | undefined
}

export interface DeadLetter {
  /** The queue's own name of the dead letter. It is never used again, also not when its message becomes a dead letter again. */
  handle: string
  /** The id of the message; for one without an id, the handle. */
  id: string
  failure: Failure
  /** The message as it was enqueued. */
  body: string
}

/** A part of the dead letters; by default all, oldest first. The bounds are handles that `deadLetters` returned, and are exclusive. */
export interface DeadLetterRange {
  newerThan?: string | undefined
  olderThan?: string | undefined
  newestFirst?: boolean
}

/** What one step of `retry` or `discard` did. */
export interface DeadLetterStep {
  /** With how many of the given handles it is done, from the first one on; with at least one. */
  done: number
  /** The handles of those that it moved or deleted. */
  changed: string[]
}

/** How many handles `deadLettersOf` returns of an id, and how many a step of `retry` or `discard` takes. */
export const handlesAtOnce = 100

export interface Queue {
  readonly operations: Operations
  /** Call before saves are accepted: where processes must know of each other, they do when it resolves. Does not reject. */
  prepare?(): Promise<void>
  /**
   * Enqueues each request whole or not at all. The call is one atomic step, and it is durable when
   * the promise resolves. A call has at most 1,000 items, or one request.
   *
   * Returns one result per request, in order: what became of each item, or why the request was
   * refused (QUEUE_FULL, ID_CONFLICT), or OUTCOME_UNKNOWN where too few replicas confirmed in time
   * that they have its items, duplicates included. With several shards a request may also have a
   * result of its own QUEUE_UNAVAILABLE or OUTCOME_UNKNOWN, and only the requests of one shard are
   * one atomic step. An item whose id is known with the same digest is not added
   * again; its result is a `duplicate` with the state of the first. If the id is known, but not with
   * the digest of the item, the queue refuses the item's request with ID_CONFLICT.
   *
   * An id is known while it is pending, in the same call, among the ids saved last (at least
   * 50,000), or a dead letter. A dead letter with the code ID_CONFLICT makes the id known for its
   * own content only: the database decides whether other contents are conflicts.
   */
  enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]>
  /**
   * Of a queue of several shards only: a number for the shard of all ids of the request, or for all requests with
   * ids of several shards. A call of `enqueue` with requests of one number waits for no other shard.
   */
  shardOf?(request: readonly Item[]): number
  /** Of a queue of several shards only: changes a new random id to one of a shard that takes saves now. */
  homeId?(id: string): string
  /**
   * Returns the save state of each id, in order; undefined for an id that is not known. An id with
   * several contents has the state of the pending one, else of the saved one, else of a dead
   * letter, and of an ID_CONFLICT last. With a digest: the state of that content of each id. With
   * several shards: the error of an id whose shard does not answer.
   *
   * It does not wait for replicas: a save that `enqueue` did not acknowledge may be QUEUED here and
   * be lost by a failover. Only `enqueue` acknowledges, also when it is repeated.
   */
  find(ids: readonly string[], digest?: string): Promise<(SaveState | SpillwayError | undefined)[]>
  /**
   * Does what `enqueue` needs, with a durable write, and changes nothing. Returns undefined if it
   * succeeded, else a short code of the reason. Never rejects.
   */
  probe(): Promise<string | undefined>
  status(): Promise<QueueStatus>
  /**
   * Returns dead letters: at most `limit`, and about 4 MB, and whether the range has more. A malformed
   * dead letter has the code UNDECODABLE. Rejects with BAD_USER_INPUT if a bound is not a handle.
   */
  deadLetters(limit: number, range?: DeadLetterRange): Promise<{ deadLetters: DeadLetter[]; more: boolean }>
  /** Returns one dead letter; undefined if there is none with the handle, or it is no handle. */
  deadLetter(handle: string): Promise<DeadLetter | undefined>
  /**
   * Returns of each id, in order, how many dead letters it has and the handles of the first
   * `handlesAtOnce`: those without the code ID_CONFLICT first, in the same order each time.
   */
  deadLettersOf(ids: readonly string[]): Promise<{ count: number; handles: string[] }[]>
  /**
   * Enqueues dead letters again under their ids, in one atomic step: of the handles at most the first
   * `handlesAtOnce`, and about 4 MB. A dead letter stays where its id is pending; and one with the code
   * ID_CONFLICT where its id has one without, because the id belongs to the content of that one.
   * Unknown handles are ignored. A dry run returns the same, and changes nothing.
   */
  retry(handles: readonly string[], options?: { dryRun?: boolean }): Promise<DeadLetterStep>
  /**
   * Enqueues the item in place of a dead letter of its id, in one atomic step, whatever the capacity. Returns the item's save state; undefined
   * if there is no dead letter with the handle and the id. Rejects with ID_CONFLICT where `retry` would leave the dead letter.
   */
  replace(handle: string, item: Item): Promise<SaveState | undefined>
  /** Deletes dead letters permanently, in one atomic step as `retry`. */
  discard(handles: readonly string[]): Promise<DeadLetterStep>
  /**
   * Returns a new consumer. `name` is the same for each worker process of one slot: a new consumer
   * receives first what an ended consumer of its name has not acknowledged.
   */
  consumer(name: string): Consumer
  /** Waits for the calls under way, closes the consumers, and disconnects. May be called twice. */
  close(): Promise<void>
}

/** What `enqueue` returns of an item. */
export interface Enqueued extends SaveState {
  duplicate: boolean
}

/** A message that a consumer has received. */
export interface Entry {
  /** The queue's own name of the entry. Its form is not part of the contract. */
  handle: string
  /** Its id; undefined for an object that another program added to the queue. */
  id: string | undefined
  body: string
  /**
   * How often it was received, this time included; 1 the first time. Entries that a consumer
   * returned by `close` are not counted.
   */
  deliveries: number
}

export interface DeadLetterInput {
  entry: Entry
  failure: Failure
  /**
   * With ID_CONFLICT, if it is known: the row that has the id. The queue keeps it as a saved id, so
   * that it refuses the next conflict.
   */
  existing?: { digest: string; at: number } | undefined
}

/**
 * One worker's connection to the queue. A call with an entry that another consumer has acknowledged
 * or dead-lettered ignores it.
 */
export interface Consumer {
  /**
   * Leases the next entries to this consumer and returns them: first entries of ended workers, then
   * new ones, oldest first. It waits up to `waitMs` for the first entry. Returns [] when there is
   * none by then, and when the queue is unavailable: it reconnects by itself and does not reject.
   * `rows` bounds how many entries are returned; `bytes` bounds their size roughly, and one entry
   * is always returned. Only one call at a time.
   */
  receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]>
  /**
   * Changes the save state of the entries' ids from pending to saved, because their rows are
   * committed. The entries stay in the queue until `ack`, and are received again if this consumer
   * ends before.
   */
  markSaved(entries: readonly Entry[]): Promise<void>
  /**
   * Removes the entries, atomically, because their events are published; marks them saved where
   * they are not yet.
   */
  ack(entries: readonly Entry[]): Promise<void>
  /** Of a queue of shards only: the shard of an entry. Steps with entries of one shard wait for no other. */
  shardOf?(entry: Entry): number
  /** Of a queue of shards only: how many it receives from. Others may be added. */
  shardCount?(): number
  /** Moves the entries to the dead letters, each one atomically. */
  deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void>
  /** Renews the lease of the entries, so that no other consumer receives them. */
  extendLease(entries: readonly Entry[]): Promise<void>
  /**
   * Lets go of entries that it received: their lease ends at a random moment from a quarter of its
   * time on. Then they are received again, by this consumer or by another one, and that delivery is
   * counted. At the end of a whole lease, the consumer that released them would often be the first.
   */
  release(entries: readonly Entry[]): Promise<void>
  /**
   * Adds one attempt of this entry, durably, and returns how many there were, this one included.
   */
  countAttempt(entry: Entry): Promise<number>
  /**
   * Subtracts one attempt that `countAttempt` added, because the attempt did not end through a
   * fault of the entry.
   */
  withdrawAttempt(entry: Entry): Promise<void>
  /**
   * Does what receiving and acknowledging entries needs, and changes nothing. Returns as
   * `Queue.probe` does.
   */
  probe(): Promise<string | undefined>
  /**
   * Returns the entries that it received and did not acknowledge to the queue, as if they had not
   * been received, and disconnects. A `receive` under way resolves. Does not reject. May be called
   * twice.
   */
  close(): Promise<void>
}
