/**
 * The follower: one per API process. It reads the log once for everybody in the process, keeps the recent entries in a bounded ring, and
 * wakes the feeds, each of which is no more than a place in the log. Invariant: the ring holds consecutive entries, the last one being
 * the tail; a gap (an entry whose predecessor is not the tail) is read from the log before anything behind it is shown.
 */
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type Cursor, compare, type Event, type EventLog, expired, type LogEntry, type Position } from './events.ts'

export interface FeedEvent {
  /** The place behind this event: resume with it. */
  cursor: Cursor
  event: Event
}

/** One reader of the log, at its own pace. It costs the follower nothing while it is not asked. */
export interface Feed {
  /** Where it stands: behind everything it gave. */
  readonly cursor: Cursor
  /** The next events, at least one, at most an entry's; waits for them. Undefined once closed. Rejects with CURSOR_EXPIRED. One call at a time. */
  next(): Promise<readonly FeedEvent[] | undefined>
  /** May be called twice. A `next` under way resolves with undefined. */
  close(): void
}

/** Told of each event about the id; of undefined when events may have been missed: look for yourself. */
type Watcher = (event: Event | undefined) => void

const ringEntries = 1_024
const ringEvents = 50_000
/** In UTF-16 code units of content: at most two bytes each. */
const ringLength = 16 * 1024 * 1024
const readEntries = 16
/** How often it looks for itself: wake-ups are not promised. */
const refreshEveryMs = 3_000

export class Follower {
  readonly #source: EventLog
  readonly #log: Log
  readonly #closing = new AbortController()
  readonly #watchers = new Map<string, Set<Watcher>>()
  readonly #reads = new Map<string, Promise<LogEntry[]>>()
  readonly #whole = new WeakMap<LogEntry, readonly FeedEvent[]>()
  #ring: LogEntry[] = []
  #ringEvents = 0
  #ringLength = 0
  #tail: Position | undefined
  #wakers = new Set<() => void>()
  /** How often the feeds were woken: one that looked while it happened looks again. */
  #wakes = 0
  /** A read failed since the last look that went well: feeds may be waiting for more than news. */
  #troubled = false
  #complaint: string | undefined
  #catching: Promise<void> | undefined
  #again = false
  #unfollow: (() => Promise<void>) | undefined
  #timer: NodeJS.Timeout | undefined
  #ready: PromiseWithResolvers<void> = Promise.withResolvers()

  constructor(source: EventLog, log: Log) {
    this.#source = source
    this.#log = log
  }

  start(): void {
    this.#unfollow = this.#source.follow((entry) => this.#wake(entry))
    this.#timer = setInterval(() => this.#refresh(), refreshEveryMs)
    this.#refresh()
  }

  #wake(entry: LogEntry | undefined): void {
    if (entry && this.#tail && !this.#catching && follows(entry, this.#tail)) this.#push([entry])
    else if (
      !entry ||
      !this.#tail ||
      entry.position.epoch !== this.#tail.epoch ||
      compare(entry.position, this.#tail) > 0
    )
      this.#refresh()
  }

  /** Reads what the log has behind the tail; once more, if somebody asked meanwhile. */
  #refresh(): void {
    if (this.#catching) {
      this.#again = true
      return
    }
    this.#catching = this.#catchUp()
      .catch((error: Error) => this.#complain(error))
      .finally(() => {
        this.#catching = undefined
        if (this.#again && !this.#closing.signal.aborted) {
          this.#again = false
          this.#refresh()
        }
      })
  }

  /** An outage is logged by the connection. Anything else is a defect: logged once, and again when it is another one. */
  #complain(error: Error): void {
    if (error instanceof SpillwayError || error.message === this.#complaint) return
    this.#complaint = error.message
    this.#log.error({ err: error }, 'cannot read the events log; trying again')
  }

  async #catchUp(): Promise<void> {
    let replaced = false
    if (!this.#tail) {
      this.#tail = await this.#source.tail()
      this.#ready.resolve()
      this.#missed()
    }
    while (!this.#closing.signal.aborted) {
      let entries: LogEntry[]
      try {
        entries = await this.#source.read(this.#tail, readEntries)
      } catch (error) {
        if (!(error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED')) throw error
        // The log contradicts its own end: its `meta` was damaged. The next look tries again.
        if (replaced) return
        replaced = true
        // Another log, or too far behind. The feeds find out for themselves, each from where it stands.
        this.#log.warn({}, 'the events log was replaced or trimmed under the follower; going on from its end')
        this.#ring = []
        this.#ringEvents = 0
        this.#ringLength = 0
        this.#tail = await this.#source.tail()
        this.#missed()
        continue
      }
      if (entries.length === 0) {
        if (this.#troubled) this.#wakeFeeds()
        this.#troubled = false
        this.#complaint = undefined
        return
      }
      this.#push(entries)
    }
  }

  #push(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      this.#ring.push(entry)
      this.#ringEvents += entry.events.length
      this.#ringLength += lengthOf(entry)
      this.#tail = entry.position
      if (this.#watchers.size > 0) {
        for (const event of entry.events) {
          const id = idOf(event)
          for (const watcher of (id !== undefined && this.#watchers.get(id)) || []) watcher(event)
        }
      }
    }
    this.#trim()
    this.#wakeFeeds()
  }

  /** The newest stays, however large it is. */
  #trim(): void {
    let drop = 0
    const full = () =>
      this.#ring.length - drop > ringEntries || this.#ringEvents > ringEvents || this.#ringLength > ringLength
    while (this.#ring.length - drop > 1 && full()) {
      this.#ringEvents -= this.#ring[drop]!.events.length
      this.#ringLength -= lengthOf(this.#ring[drop]!)
      drop += 1
    }
    if (drop > 0) this.#ring = this.#ring.slice(drop)
  }

  #wakeFeeds(): void {
    this.#wakes += 1
    const wakers = this.#wakers
    this.#wakers = new Set()
    for (const wake of wakers) wake()
  }

  /** What happened up to here was not seen: whoever waits for something must look for itself. */
  #missed(): void {
    for (const watchers of this.#watchers.values()) for (const watcher of watchers) watcher(undefined)
    this.#wakeFeeds()
  }

  /** Calls back on every event about an id until the returned function is called. */
  watch(id: string, watcher: Watcher): () => void {
    const watchers = this.#watchers.get(id) ?? new Set()
    this.#watchers.set(id, watchers.add(watcher))
    return () => {
      watchers.delete(watcher)
      if (watchers.size === 0 && this.#watchers.get(id) === watchers) this.#watchers.delete(id)
    }
  }

  /** A feed from behind `after`, or from now on. Throws QUEUE_UNAVAILABLE where the log cannot be reached to tell where now is. */
  async feed(after?: Cursor): Promise<Feed> {
    if (after) await this.#prove(after)
    else if (!this.#tail) await this.#started()
    return this.#makeFeed(after ?? { position: this.#tail!, index: 0 })
  }

  /** Throws CURSOR_EXPIRED at once where nothing can be told from there; that the log is away just now is no reason to. */
  async #prove({ position, index }: Cursor): Promise<void> {
    // A place inside an entry is one only where there is that entry; another process may know it before this one does.
    const entry = this.#fromRing(position) ?? (await (index > 0 ? this.#read(position) : this.#fromLog(position)))
    if (entry !== 'unavailable' && index > (entry?.events.length ?? 0)) throw expired()
  }

  async #started(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new SpillwayError('QUEUE_UNAVAILABLE', 'The events log cannot be reached; subscribe again shortly.', {
              retryAfterMs: 1_000,
            }),
          ),
        2_000,
      )
    })
    await Promise.race([this.#ready.promise, timeout]).finally(() => clearTimeout(timer))
  }

  #makeFeed(start: Cursor): Feed {
    let cursor = start
    let closed = false
    let wakeUp = () => {}
    const next = async (): Promise<readonly FeedEvent[] | undefined> => {
      while (!closed && !this.#closing.signal.aborted) {
        const wakes = this.#wakes
        const entry = this.#fromRing(cursor.position) ?? (await this.#fromLog(cursor.position))
        if (closed) break
        if (entry && entry !== 'unavailable') {
          if (cursor.index > entry.events.length) throw expired()
          const events = this.#feedEvents(entry, cursor)
          cursor = { position: entry.position, index: 0 }
          if (events.length > 0) return events
        } else if (wakes === this.#wakes) {
          await new Promise<void>((resolve) => {
            wakeUp = resolve
            this.#wakers.add(resolve)
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
        this.#wakers.delete(wakeUp)
        wakeUp()
      },
    }
  }

  /** What is left of an entry behind a cursor. One array for all who read it from its beginning, so that it is rendered once for them. */
  #feedEvents(entry: LogEntry, { position, index }: Cursor): readonly FeedEvent[] {
    const whole = index === 0 ? this.#whole.get(entry) : undefined
    if (whole) return whole
    const events = entry.events.slice(index).map((event, i): FeedEvent => {
      const seen = index + i + 1
      const last = seen === entry.events.length
      return { event, cursor: last ? { position: entry.position, index: 0 } : { position, index: seen } }
    })
    if (index === 0) this.#whole.set(entry, events)
    return events
  }

  /** The entry behind a position, where the ring has it. */
  #fromRing(position: Position): LogEntry | undefined {
    const ring = this.#ring
    const first = ring[0]
    if (!first || position.epoch !== first.position.epoch) return undefined
    let low = 0
    let high = ring.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(ring[middle]!.position, position) <= 0) low = middle + 1
      else high = middle
    }
    const entry = ring[low]
    return entry && follows(entry, position) ? entry : undefined
  }

  /** The entry behind a position, from the log, which is not asked where this process knows that the position is its end. */
  async #fromLog(position: Position): Promise<LogEntry | 'unavailable' | undefined> {
    const tail = this.#tail
    if (tail && position.epoch === tail.epoch && compare(position, tail) === 0) return undefined
    return await this.#read(position)
  }

  /** The entry behind a position; undefined at the log's end. One read for all who ask the same. */
  async #read(position: Position): Promise<LogEntry | 'unavailable' | undefined> {
    const key = `${position.epoch} ${position.major} ${position.minor}`
    let read = this.#reads.get(key)
    if (!read) {
      read = this.#source.read(position, 1).finally(() => this.#reads.delete(key))
      this.#reads.set(key, read)
    }
    try {
      return (await read)[0]
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code === 'CURSOR_EXPIRED') throw error
      this.#troubled = true
      return 'unavailable'
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#wakeFeeds()
    clearInterval(this.#timer)
    this.#ready.promise.catch(() => {})
    await this.#unfollow?.()
    await this.#catching
  }
}

function idOf(event: Event): string | undefined {
  if (event.type === 'unknown') return undefined
  return event.type === 'saved' ? event.content.id : event.id
}

function lengthOf({ events }: LogEntry): number {
  return events.reduce((sum, event) => sum + (event.type === 'saved' ? event.content.content.length : 0), 0)
}

function follows(entry: LogEntry, position: Position): boolean {
  if (entry.position.epoch !== position.epoch) return false
  return entry.previous
    ? compare(entry.previous, position) === 0
    : compare(position, { ...position, major: 0, minor: 0 }) === 0
}
