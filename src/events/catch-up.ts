/**
 * Reads of the log for feeds that are behind the ring. A feed reads the entry that it needs, and feeds at the same place share that read.
 * Feeds that skip entries without events of their topics go on together, in long reads: one read runs at a time, the feeds furthest behind
 * are served first, and all feeds that they meet on their way join them. So an entry that none of them takes costs the same, whatever
 * their number.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { SpillwayError } from '../model/error.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { compare, type EventLog, type LogEntry, type Position, placeBefore } from './events.ts'
import { bytesOf, type Ring } from './ring.ts'
import { TopicIndex } from './topic-index.ts'
import type { Topic } from './topics.ts'

const longRead = 16
/** Of the entries of long reads that are kept, in bytes of the rows' values. */
const maxBytes = 4 * 1024 * 1024
const maxEntries = 256

/** A feed that skips entries; it continues from the position that this resolves to. */
export type Skip = PromiseWithResolvers<Position>

/** The feeds that skip entries from a position on. */
interface Group {
  position: Position
  skips: TopicIndex<Skip>
}

export class CatchUp {
  readonly #events: Pick<EventLog, 'read'>
  readonly #ring: Ring
  #reads = new SingleFlight<LogEntry[]>()
  /** By place; the one that has waited longest is first. */
  readonly #groups = new Map<string, Group>()
  /** The entries of the latest long reads, by the places before them. */
  readonly #read = new Map<string, LogEntry>()
  #bytes = 0
  #isReading = false
  #closed = false

  constructor(deps: { events: Pick<EventLog, 'read'>; ring: Ring }) {
    this.#events = deps.events
    this.#ring = deps.ring
  }

  /** The entry after a position; undefined at the log's end. Rejects as EventLog.read does. */
  async next(position: Position): Promise<LogEntry | undefined> {
    const place = textOf(position)
    const known = this.#read.get(place)
    if (known) return known
    const [entry] = await this.#reads.run(place, () => this.#events.read(position, 1))
    return entry
  }

  /** As `next`, with a read that begins now. */
  async readNow(position: Position): Promise<LogEntry | undefined> {
    const [entry] = await this.#events.read(position, 1)
    return entry
  }

  /**
   * Resolves to the position before the next entry with events of the topic, or to one from which the ring has the rest, or to the end of the
   * log. Rejects as EventLog.read does. A feed that is closed resolves it itself.
   */
  skip(topic: Topic, position: Position): Skip {
    const skip: Skip = Promise.withResolvers()
    const skips = new TopicIndex<Skip>()
    skips.add(topic, skip)
    this.#add({ position, skips })
    if (!this.#isReading) void this.#readAll()
    return skip
  }

  /** The log was replaced or trimmed: what was read of it before, or is being read, is returned to no feed that asks later. */
  forget(): void {
    this.#reads = new SingleFlight()
    this.#read.clear()
    this.#bytes = 0
  }

  /** Every skip ends. */
  close(): void {
    this.#closed = true
    for (const group of this.#groups.values()) end(group)
    this.#groups.clear()
  }

  #add(group: Group): void {
    const place = textOf(group.position)
    const there = this.#groups.get(place)
    if (there) there.skips.join(group.skips)
    else this.#groups.set(place, group)
  }

  /** The group at a position, which is then the caller's; a feed that comes there later may know more of the log than a read that began before. */
  #take(position: Position): Group | undefined {
    const place = textOf(position)
    const group = this.#groups.get(place)
    this.#groups.delete(place)
    return group
  }

  async #readAll(): Promise<void> {
    this.#isReading = true
    for (let n = 0; this.#groups.size > 0; n += 1) {
      const [first] = this.#groups.values()
      // Every second read is for the feeds that have waited longest, so that new feeds from far behind do not keep them waiting.
      const { position } = n % 2 === 0 ? this.#furthestBehind() : first!
      await this.#advance(this.#take(position)!)
      // Other work has its turn of the event loop.
      await turn()
    }
    this.#isReading = false
  }

  #furthestBehind(): Group {
    return [...this.#groups.values()].reduce((a, b) => (compare(b.position, a.position) < 0 ? b : a))
  }

  async #advance(group: Group): Promise<void> {
    let entries = this.#knownAfter(group.position)
    const reads = this.#reads
    try {
      if (entries.length === 0) entries = await this.#events.read(group.position, longRead)
    } catch (error) {
      this.#fail(group, error)
      return
    }
    if (reads === this.#reads) this.#keep(entries)
    for (const entry of entries) {
      const joining = this.#take(group.position)
      if (joining) group.skips.join(joining.skips)
      for (const skips of group.skips.take(entry)) for (const { resolve } of skips) resolve(group.position)
      group.position = entry.position
    }
    const { position } = group
    if (entries.length === 0 || this.#closed || this.#ring.endsAt(position) || this.#ring.after(position)) end(group)
    else if (!group.skips.isEmpty) this.#add(group)
  }

  #fail(group: Group, error: unknown): void {
    const isExpired = error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED'
    // Any other error is one of the log as a whole: it cannot be read from any position.
    const failing = isExpired ? [group] : [group, ...this.#groups.values()]
    if (!isExpired) this.#groups.clear()
    for (const { skips } of failing) for (const all of skips.takeAll()) for (const { reject } of all) reject(error)
  }

  #knownAfter(position: Position): LogEntry[] {
    const entries: LogEntry[] = []
    for (let at = position; entries.length < longRead; at = entries.at(-1)!.position) {
      const entry = this.#read.get(textOf(at))
      if (!entry) break
      entries.push(entry)
    }
    return entries
  }

  /** Keeps all of these, and as many older ones as there is room for. */
  #keep(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      const place = textOf(placeBefore(entry))
      this.#drop(place)
      this.#read.set(place, entry)
      this.#bytes += bytesOf(entry)
    }
    for (const place of this.#read.keys()) {
      if (this.#read.size <= entries.length || (this.#bytes <= maxBytes && this.#read.size <= maxEntries)) break
      this.#drop(place)
    }
  }

  #drop(place: string): void {
    const entry = this.#read.get(place)
    if (!entry) return
    this.#bytes -= bytesOf(entry)
    this.#read.delete(place)
  }
}

function end({ position, skips }: Group): void {
  for (const all of skips.takeAll()) for (const { resolve } of all) resolve(position)
}

function textOf({ epoch, major, minor }: Position): string {
  return `${epoch} ${major} ${minor}`
}
