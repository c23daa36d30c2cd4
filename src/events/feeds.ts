/**
 * Feeds: any number of readers of the log, each of one topic and at its own pace. A feed is no more than a cursor; entries come from the
 * ring, and older ones from the log. Invariants: a feed returns every event of its topic behind its cursor, in the order of the log, or
 * fails with CURSOR_EXPIRED; it never skips one. An entry wakes the feeds that have events in it; the place of a feed that waits at the end
 * of the log is the end, wherever that is.
 */
import { SpillwayError } from '../model/error.ts'
import { nextOf, type Polled, type Polls } from '../model/polls.ts'
import { CatchUp } from './catch-up.ts'
import { type Cursor, type EventLog, expired, type LogEntry, type Position, placeBefore } from './events.ts'
import { Pace } from './pace.ts'
import type { Ring, Run } from './ring.ts'
import { TopicIndex } from './topic-index.ts'
import { type FeedEvent, type Topic, topicsOf } from './topics.ts'

/** `poll` returns the next events of the topic: at least one, and at most those of one entry, or of several with 32 KiB of values. It rejects with CURSOR_EXPIRED. */
export interface Feed extends Polls<readonly FeedEvent[]> {
  /** Behind all events that the feed returned. */
  readonly cursor: Cursor
  /** The end of the log while the feed waits there: it has returned all events of its topic. Undefined otherwise. The same object until the log grows. */
  readonly end: Cursor | undefined
  /** As `poll`, and waits for the events. Undefined once closed. */
  next(): Promise<readonly FeedEvent[] | undefined>
  /** May be called twice. A pending `next` resolves with undefined. */
  close(): void
}

/** Where feeds that waited at the end of the log continue. */
interface Start {
  from: Cursor
  /** The entry that woke them. */
  entry?: LogEntry
  /** Shared, so that it is rendered once. */
  run?: Run
}

/** Continues a feed if it waits: with a start, one that waits at the end of the log; without, one that waits at its own cursor. */
type Wake = (start?: Start) => void

type Events = readonly FeedEvent[]

/** All feeds that are behind the ring take so many entries, or stretches without one, in a turn of the event loop. */
const mostInTurn = 64

/** A class, since an object literal with getters has a hidden class of its own: a kilobyte for each feed. */
class OpenFeed implements Feed {
  readonly #cursor: () => Cursor
  readonly #end: () => Cursor | undefined
  readonly poll: Feed['poll']
  readonly onMore: Feed['onMore']
  readonly close: Feed['close']

  constructor(
    cursor: () => Cursor,
    end: () => Cursor | undefined,
    { poll, onMore, close }: Pick<Feed, 'poll' | 'onMore' | 'close'>,
  ) {
    this.#cursor = cursor
    this.#end = end
    this.poll = poll
    this.onMore = onMore
    this.close = close
  }

  get cursor(): Cursor {
    return this.#cursor()
  }

  get end(): Cursor | undefined {
    return this.#end()
  }

  next(): Promise<Events | undefined> {
    return nextOf(this)
  }
}

export class Feeds {
  readonly #ring: Ring
  readonly #catchUp: CatchUp
  /** The open feeds that have waited at the end of the ring. Most of them wait there again. */
  readonly #known = new TopicIndex<Wake>()
  /** The feeds that wait at their own cursors: the log could not be read, or this process does not have its newest entries yet. */
  #elsewhere = new Set<Wake>()
  /** What waits for feeds that were woken. */
  #toResume: (() => void)[] = []
  #end: Cursor | undefined
  /** How often the feeds were woken: a feed that was reading meanwhile reads again before it waits. */
  #wakes = 0
  #closed = false
  /** A read of the log failed: feeds may wait although the log has more for them. */
  #readFailed = false
  readonly #pace = new Pace(mostInTurn)

  constructor(deps: { events: Pick<EventLog, 'read'>; ring: Ring }) {
    this.#ring = deps.ring
    this.#catchUp = new CatchUp(deps)
  }

  /** The ring has these entries now. */
  push(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      const from = { position: placeBefore(entry), index: 0 }
      this.#known.forEach(entry, (wakes) => {
        const start: Start = { from, entry }
        for (const wake of wakes) wake(start)
      })
    }
    this.#wakeElsewhere()
  }

  /** Call before the ring is emptied: feeds that wait at its end continue from there. */
  reset(): void {
    this.#catchUp.forget()
    this.#wakeAll()
  }

  /** The log can be read: wakes the feeds whose own read failed. */
  retry(): void {
    if (this.#readFailed) this.#wakeElsewhere()
    this.#readFailed = false
  }

  #wakeAll(): void {
    const from = this.#endOfRing()
    if (from) for (const wake of this.#known.all()) wake({ from })
    this.#wakeElsewhere()
  }

  #wakeElsewhere(): void {
    this.#wakes += 1
    if (this.#elsewhere.size === 0) return
    const waiting = this.#elsewhere
    this.#elsewhere = new Set()
    for (const wake of waiting) wake()
  }

  /** Throws CURSOR_EXPIRED if events after the cursor are missing. While the log is unavailable, every cursor is accepted. */
  async check({ position, index }: Cursor): Promise<void> {
    let entry = this.#inMemory(position) ?? (await this.#read({ position, index }))
    if (index === 0) return
    // A cursor inside an entry is valid only if the entry exists. Another process may have sent the cursor before this one has the entry, and
    // after the read began that this one shares.
    entry ??= await this.#unlessUnavailable(this.#catchUp.readNow(position))
    if (entry !== 'unavailable' && index > (entry?.events.length ?? 0)) throw expired()
  }

  /** Calls back when all entries that came together are in the ring, so that a feed returns all of them in one turn. */
  #resume(listener: () => void): void {
    if (this.#toResume.push(listener) > 1) return
    queueMicrotask(() => {
      const listeners = this.#toResume
      this.#toResume = []
      for (const listener of listeners) listener()
    })
  }

  open(topic: Topic, from: Cursor): Feed {
    let cursor = from
    let start: Start | undefined
    let closed = false
    let waits: 'at end' | 'elsewhere' | undefined
    let isKnown = false
    let listener: (() => void) | undefined
    let stopLoading: (() => void) | undefined
    const wake: Wake = (woken) => {
      if (waits !== (woken ? 'at end' : 'elsewhere')) return
      if (woken) {
        cursor = woken.from
        start = woken
      }
      waits = undefined
      if (!listener) return
      this.#resume(listener)
      listener = undefined
    }
    const wait = (): 'none' => {
      // Inside an entry that this process does not have yet, the feed must remember which events it has returned.
      waits = cursor.index === 0 && this.#ring.endsAt(cursor.position) ? 'at end' : 'elsewhere'
      if (waits === 'elsewhere') this.#elsewhere.add(wake)
      else if (!isKnown) this.#known.add(topic, wake)
      isKnown ||= waits === 'at end'
      return 'none'
    }
    /** True: what follows the cursor is known now. */
    const load = async () => {
      // Nothing follows the tail yet.
      if (this.#ring.endsAt(cursor.position)) return false
      const { promise, resolve } = this.#catchUp.load(cursor.position)
      stopLoading = () => resolve(false)
      const loaded = await this.#unlessUnavailable(promise)
      stopLoading = undefined
      return loaded === true
    }
    const take = (entry: LogEntry): Events => {
      const events = eventsBehind(cursor, entry, topic)
      cursor = { position: entry.position, index: 0 }
      return events
    }
    /** All that the ring has behind the entry that woke the feed, so that it leaves in one piece. */
    const takeRun = (woken: Start, entry: LogEntry): Events => {
      woken.run ??= this.#ring.run(topic, entry)
      cursor = { position: woken.run.end, index: 0 }
      return woken.run.events
    }
    const toEnd = () => {
      cursor = this.#endOfRing()!
      return wait()
    }
    const read = async (): Promise<Polled<Events>> => {
      while (!closed && !this.#closed) {
        const wakes = this.#wakes
        const { position, index } = cursor
        const inRing = index === 0 ? this.#ring.next(topic, position) : this.#ring.after(position)
        if (inRing === 'none') return toEnd()
        const found = inRing ?? (index === 0 ? this.#catchUp.next(topic, position) : this.#catchUp.after(position))
        if (!found) {
          if (!(await load()) && wakes === this.#wakes && !closed) return wait()
          continue
        }
        await this.#pace.pass()
        if (closed) break
        if ('events' in found) {
          const events = take(found)
          if (events.length > 0) return events
        } else cursor = { position: found, index: 0 }
      }
      return undefined
    }
    const poll = () => {
      if (closed || this.#closed) return undefined
      if (waits) return 'none'
      const woken = start
      start = undefined
      if (woken?.entry) return takeRun(woken, woken.entry)
      const known = cursor.index === 0 ? this.#ring.next(topic, cursor.position) : undefined
      if (known === 'none') return toEnd()
      return known ? take(known) : read()
    }
    const onMore = (more: () => void) => {
      if (waits) listener = more
      else this.#resume(more)
    }
    const end = () => (waits === 'at end' ? this.#endOfRing() : undefined)
    const close = () => {
      closed = true
      stopLoading?.()
      const at = end()
      if (isKnown) this.#known.delete(topic, wake)
      this.#elsewhere.delete(wake)
      wake(at && { from: at })
    }
    return new OpenFeed(() => end() ?? cursor, end, { poll, onMore, close })
  }

  #endOfRing(): Cursor | undefined {
    const { tail } = this.#ring
    if (tail && tail !== this.#end?.position) this.#end = { position: tail, index: 0 }
    return this.#end
  }

  /** The entry that follows a position, if it is in memory. */
  #inMemory(position: Position): LogEntry | undefined {
    return this.#ring.after(position) ?? this.#catchUp.after(position)
  }

  /** The entry in which a cursor is, or that follows it; undefined at the log's end. */
  async #read({ position, index }: Cursor): Promise<LogEntry | 'unavailable' | undefined> {
    // Nothing follows the tail yet, but a cursor inside the next entry says that there is one.
    if (index === 0 && this.#ring.endsAt(position)) return undefined
    return await this.#unlessUnavailable(this.#catchUp.read(position))
  }

  async #unlessUnavailable<T>(reading: Promise<T>): Promise<T | 'unavailable'> {
    try {
      return await reading
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code === 'CURSOR_EXPIRED') throw error
      this.#readFailed = true
      return 'unavailable'
    }
  }

  /** Every feed ends. */
  close(): void {
    this.#closed = true
    this.#catchUp.close()
    this.#wakeAll()
  }
}

/** All feeds of a topic that read the entry from its beginning get one array, so that it is rendered once. */
function eventsBehind({ index }: Cursor, entry: LogEntry, topic: Topic): readonly FeedEvent[] {
  const { length } = entry.events
  if (index > length) throw expired()
  const events = topicsOf(entry).of(topic)
  if (index === 0) return events
  // The cursor behind the last event of an entry has the index 0.
  return events.filter(({ cursor }) => (cursor.index || length) > index)
}
