/**
 * The events log: saved and failed messages, in the one order that every subscriber sees. Only the log has the order; a wake-up means that
 * the log has more entries. Invariant: positions only grow; each entry names its predecessor, so that a reader notices a gap.
 */
import { type Failure, SpillwayError } from '../model/error.ts'
import type { Model, Row } from '../model/model.ts'
import type { HistoryStore } from './history.ts'

export interface SavedEvent {
  type: 'saved'
  model: Model
  row: Row
}

export interface FailedEvent {
  type: 'failed'
  /** Of the save; for a message without one, the handle that its dead letter has for an id. */
  id: string
  /** The name of the model; undefined if the message cannot be decoded, and in an event of release 0.1. */
  model?: string | undefined
  failure: Failure
}

export type KnownEvent = SavedEvent | FailedEvent

/** `unknown`: of a type, version, model or column of another release. Readers skip it, but count it, so that a cursor means the same place in an entry to
 *  every release. */
export type Event = KnownEvent | { type: 'unknown' }

/** A place in a log: `epoch` names the log, `major` and `minor` order its entries. */
export interface Position {
  epoch: string
  major: number
  minor: number
}

/** The events that one worker published together. */
export interface LogEntry {
  position: Position
  /** The position of the entry before it; undefined for the first of a log. */
  previous: Position | undefined
  events: readonly Event[]
}

export function expired(): SpillwayError {
  return new SpillwayError(
    'CURSOR_EXPIRED',
    'The log no longer has the events after this cursor, or the cursor is from another log. Read a page, then subscribe with its savedCursor.',
  )
}

export interface EventLog {
  readonly history: HistoryStore
  /** Appends the entries in order, atomically and durably, and wakes every follower. An entry has at least one event. Throws
   *  QUEUE_UNAVAILABLE, or OUTCOME_UNKNOWN: then the entries may be in the log, and appending them again is harmless (at least once). */
  append(entries: readonly (readonly KnownEvent[])[]): Promise<void>
  /** The end of the log. Makes an epoch if the log has none yet. Throws QUEUE_UNAVAILABLE. */
  tail(): Promise<Position>
  /** The entries after a position, oldest first, at most `limit` and at most some megabytes; [] at the end. Throws CURSOR_EXPIRED where
   *  the entries after the position may be incomplete (trimmed, flushed, another log), QUEUE_UNAVAILABLE. */
  read(after: Position, limit: number): Promise<LogEntry[]>
  /** Calls back on each wake-up, with the entry if the wake-up carried it; without one, the follower must read the log. Wake-ups may be
   *  lost, and none comes twice. Calls back after every reconnect, too. Survives outages; ends when the returned function is called. */
  follow(wake: (entry?: LogEntry) => void): () => Promise<void>
  /** Tries all steps of publishing an event: an append that no reader sees, a read and, if the log is followed, a subscription. Undefined
   *  if they succeed; else a code that says why not. Never throws. */
  probe(): Promise<string | undefined>
  close(): Promise<void>
}

/** Below zero when a comes before b in one log. */
export function compare(a: Position, b: Position): number {
  return a.major - b.major || a.minor - b.minor
}

/** The position before an entry. */
export function placeBefore({ position, previous }: LogEntry): Position {
  return previous ?? { epoch: position.epoch, major: 0, minor: 0 }
}

/**
 * A cursor is a place between two events: behind all entries up to `position` and behind the first `index` events of the entry after it.
 * The cursor behind the last event of an entry is the entry's position and 0. Its text has a fixed width, so that cursors of one log sort
 * as text.
 */
export interface Cursor {
  position: Position
  index: number
}

export function formatCursor({ position, index }: Cursor): string {
  const part = (n: number, width: number) => String(n).padStart(width, '0')
  return `${position.epoch}.${part(position.major, 14)}.${part(position.minor, 6)}.${part(index, 6)}`
}

/** The cursor, or undefined if the text is none. */
export function parseCursor(text: string): Cursor | undefined {
  const match = /^([A-Za-z0-9_-]{1,32})\.(\d{14,16})\.(\d{6,16})\.(\d{6,9})$/.exec(text)
  if (!match) return undefined
  const [, epoch, major, minor, index] = match as unknown as [string, string, string, string, string]
  const cursor = { position: { epoch, major: Number(major), minor: Number(minor) }, index: Number(index) }
  return Number.isSafeInteger(cursor.position.major) && Number.isSafeInteger(cursor.position.minor) ? cursor : undefined
}
