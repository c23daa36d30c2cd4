/** An events log in memory. A test decides which wake-ups come, how long a read takes, and when reads fail; it trims and replaces the log. */
import { setImmediate as turn } from 'node:timers/promises'
import {
  type Event,
  type EventLog,
  expired,
  type KnownEvent,
  type LogEntry,
  type Position,
} from '../../src/events/events.ts'
import { SpillwayError } from '../../src/model/error.ts'

/** What comes of the wake-ups of an append. */
export type WakeUps = 'with entries' | 'without entries' | 'lost'

export class MemoryLog implements EventLog {
  readonly history = { add: async () => Date.now(), read: async () => ({ now: Date.now(), buckets: [] }) }
  #epochs = 1
  /** Of this epoch, all that were ever appended. */
  entries: LogEntry[] = []
  /** So many entries are trimmed. */
  trimmed = 0
  reads = 0
  /** Reads of the log that are in progress. */
  reading = 0
  fails = false
  wakeUps: WakeUps = 'with entries'
  /** The turns of the event loop before a read looks at the log, and after it. */
  delay: () => number = () => 0
  readonly #wakes = new Set<(entry?: LogEntry) => void>()

  get epoch(): string {
    return `epoch-${this.#epochs}`
  }

  get end(): Position {
    return this.#position(this.entries.length)
  }

  #position(major: number): Position {
    return { epoch: this.epoch, major, minor: 0 }
  }

  /** Appends events of any release. */
  add(...entries: (readonly Event[])[]): void {
    for (const events of entries) {
      const major = this.entries.length + 1
      const previous = major > 1 ? this.#position(major - 1) : undefined
      const entry = { position: this.#position(major), previous, events }
      this.entries.push(entry)
      if (this.wakeUps !== 'lost') this.wake(this.wakeUps === 'with entries' ? entry : undefined)
    }
  }

  async append(entries: readonly (readonly KnownEvent[])[]): Promise<void> {
    this.add(...entries)
  }

  wake(entry?: LogEntry): void {
    for (const wake of this.#wakes) wake(entry)
  }

  /** Trims the oldest entries up to a number of all that were appended. */
  trim(count: number): void {
    this.trimmed = Math.max(this.trimmed, Math.min(count, this.entries.length))
  }

  replace(): void {
    this.#epochs += 1
    this.entries = []
    this.trimmed = 0
  }

  tail(): Promise<Position> {
    return this.#ask(() => this.end)
  }

  read(after: Position, limit: number): Promise<LogEntry[]> {
    this.reads += 1
    return this.#ask(() => {
      if (after.epoch !== this.epoch || after.major > this.entries.length || after.major < this.trimmed) throw expired()
      return this.entries.slice(after.major, after.major + limit)
    })
  }

  async #ask<T>(look: () => T): Promise<T> {
    this.reading += 1
    try {
      for (let n = this.delay(); n > 0; n -= 1) await turn()
      if (this.fails) throw new SpillwayError('QUEUE_UNAVAILABLE', 'the log is down')
      const found = look()
      for (let n = this.delay(); n > 0; n -= 1) await turn()
      return found
    } finally {
      this.reading -= 1
    }
  }

  follow(wake: (entry?: LogEntry) => void): () => Promise<void> {
    this.#wakes.add(wake)
    return async () => void this.#wakes.delete(wake)
  }

  async probe(): Promise<undefined> {}
  async close(): Promise<void> {}
}
