/**
 * Feeds: any number of readers of the log, each at its own pace. A feed is no more than a cursor; entries come from the ring, and older
 * ones from the log, one read for all feeds at the same position. Invariant: a feed returns every event behind its cursor, in the order
 * of the log, or fails with CURSOR_EXPIRED; it never skips one.
 */
import { SpillwayError } from '../model/error.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { type Cursor, type Event, type EventLog, expired, type LogEntry, type Position } from './events.ts'
import type { Ring } from './ring.ts'

export interface FeedEvent {
  /** The position behind this event: a client resumes with it. */
  cursor: Cursor
  event: Event
}

export interface Feed {
  /** Behind all events that the feed returned. */
  readonly cursor: Cursor
  /** The next events, at least one, at most an entry's; waits for them. Undefined once closed. Rejects with CURSOR_EXPIRED. One call at a time. */
  next(): Promise<readonly FeedEvent[] | undefined>
  /** May be called twice. A pending `next` resolves with undefined. */
  close(): void
}

export class Feeds {
  readonly #events: Pick<EventLog, 'read'>
  readonly #ring: Ring
  /** By position. */
  readonly #reads = new SingleFlight<LogEntry[]>()
  readonly #whole = new WeakMap<LogEntry, readonly FeedEvent[]>()
  #waiting = new Set<() => void>()
  /** How often the feeds were woken: a feed that was reading meanwhile reads again before it waits. */
  #wakes = 0
  #closed = false
  /** A read of the log failed: feeds may wait although the log has more for them. */
  #readFailed = false

  constructor(deps: { events: Pick<EventLog, 'read'>; ring: Ring }) {
    this.#events = deps.events
    this.#ring = deps.ring
  }

  /** The log has more, or may have. */
  wake(): void {
    this.#wakes += 1
    const waiting = this.#waiting
    this.#waiting = new Set()
    for (const wake of waiting) wake()
  }

  /** The log can be read: wakes the feeds whose own read failed. */
  retry(): void {
    if (this.#readFailed) this.wake()
    this.#readFailed = false
  }

  /** Throws CURSOR_EXPIRED if events after the cursor are missing. While the log is unavailable, every cursor is accepted. */
  async check({ position, index }: Cursor): Promise<void> {
    // A cursor inside an entry is valid only if the entry exists; another process may have seen it before this one does.
    const entry = this.#ring.after(position) ?? (await (index > 0 ? this.#read(position) : this.#fromLog(position)))
    if (entry !== 'unavailable' && index > (entry?.events.length ?? 0)) throw expired()
  }

  open(start: Cursor): Feed {
    let cursor = start
    let closed = false
    let wakeUp = () => {}
    const next = async (): Promise<readonly FeedEvent[] | undefined> => {
      while (!closed && !this.#closed) {
        const wakes = this.#wakes
        const entry = this.#ring.after(cursor.position) ?? (await this.#fromLog(cursor.position))
        if (closed) break
        if (entry && entry !== 'unavailable') {
          if (cursor.index > entry.events.length) throw expired()
          const events = this.#eventsBehind(cursor, entry)
          cursor = { position: entry.position, index: 0 }
          if (events.length > 0) return events
        } else if (wakes === this.#wakes) {
          await new Promise<void>((resolve) => {
            wakeUp = resolve
            this.#waiting.add(resolve)
          })
        }
      }
      return undefined
    }
    return {
      get cursor() {
        return cursor
      },
      next,
      close: () => {
        closed = true
        this.#waiting.delete(wakeUp)
        wakeUp()
      },
    }
  }

  /** The events of an entry behind a cursor. All feeds that read the entry from its beginning share one array, so that it is rendered once. */
  #eventsBehind({ position, index }: Cursor, entry: LogEntry): readonly FeedEvent[] {
    const whole = index === 0 ? this.#whole.get(entry) : undefined
    if (whole) return whole
    const events = entry.events.slice(index).map((event, i): FeedEvent => {
      const seen = index + i + 1
      const isLast = seen === entry.events.length
      return { event, cursor: isLast ? { position: entry.position, index: 0 } : { position, index: seen } }
    })
    if (index === 0) this.#whole.set(entry, events)
    return events
  }

  /** The entry that follows a position; undefined at the log's end. The log is not read where the position is the tail. */
  async #fromLog(position: Position): Promise<LogEntry | 'unavailable' | undefined> {
    return this.#ring.endsAt(position) ? undefined : await this.#read(position)
  }

  async #read(position: Position): Promise<LogEntry | 'unavailable' | undefined> {
    const key = `${position.epoch} ${position.major} ${position.minor}`
    try {
      const [entry] = await this.#reads.run(key, () => this.#events.read(position, 1))
      return entry
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code === 'CURSOR_EXPIRED') throw error
      this.#readFailed = true
      return 'unavailable'
    }
  }

  /** Every pending `next` resolves with undefined. */
  close(): void {
    this.#closed = true
    this.wake()
  }
}
