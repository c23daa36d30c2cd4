/**
 * Older entries of the log, for feeds that are behind the ring: stretches that were read lately, each indexed as the ring is, so that a feed
 * skips the entries of others at no cost. Invariants: stretches do not overlap, and the entries of one are consecutive. One read runs at a
 * time, in turns for the place furthest behind and for the one that has waited longest, and all feeds whose place it brings go on. So feeds
 * that are far apart come together, and what an old entry costs does not depend on their number.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { SpillwayError } from '../model/error.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { compare, type EventLog, type LogEntry, type Position } from './events.ts'
import { bytesOf, Ring } from './ring.ts'
import type { Topic } from './topics.ts'

const longRead = 128
/** Of the stretches that are kept, in all. In bytes of the rows' values. */
const most = { bytes: 8 * 1024 * 1024, events: 25_000, stretches: 512 }

interface Stretch {
  /** The place before its first entry. */
  from: Position
  entries: Ring
  events: number
  bytes: number
  /** Grows with each use. */
  usedAt: number
}

/** True: what follows the place is known now. False: nothing follows it. */
export type Load = PromiseWithResolvers<boolean>

interface Waiting {
  position: Position
  loads: Load[]
}

export class CatchUp {
  readonly #events: Pick<EventLog, 'read'>
  #reads = new SingleFlight<LogEntry[]>()
  /** In the order of the log. */
  #stretches: Stretch[] = []
  #uses = 0
  /** By place; the one that has waited longest is first. */
  readonly #waiting = new Map<string, Waiting>()
  #isReading = false

  constructor(deps: { events: Pick<EventLog, 'read'> }) {
    this.#events = deps.events
  }

  /** The entry that follows a position, where it was read lately. */
  after(position: Position): LogEntry | undefined {
    return this.#stretchAt(position)?.entries.after(position)
  }

  /** The next entry behind a position with events of a topic, or the position up to which there is none; undefined where what follows must be
   *  loaded. */
  next(topic: Topic, position: Position): LogEntry | Position | undefined {
    const entries = this.#stretchAt(position)?.entries
    const found = entries?.next(topic, position)
    return found === 'none' ? entries!.tail : found
  }

  /** Reads what follows a position, for `after` and `next`. Rejects as EventLog.read does. A feed that is closed resolves it itself. */
  load(position: Position): Load {
    const load: Load = Promise.withResolvers()
    const place = textOf(position)
    const waiting = this.#waiting.get(place)
    if (waiting) waiting.loads.push(load)
    else this.#waiting.set(place, { position, loads: [load] })
    if (!this.#isReading) void this.#readAll()
    return load
  }

  /** Reads the entry after a position, at once; callers at the same position share the read. Undefined at the log's end. */
  async read(position: Position): Promise<LogEntry | undefined> {
    const [entry] = await this.#reads.run(textOf(position), () => this.#events.read(position, 1))
    return entry
  }

  /** As `read`, and begins now. */
  async readNow(position: Position): Promise<LogEntry | undefined> {
    const [entry] = await this.#events.read(position, 1)
    return entry
  }

  /** The log was replaced or trimmed: what was read of it before, or is being read, is returned to no feed that asks later. */
  forget(): void {
    this.#reads = new SingleFlight()
    this.#stretches = []
  }

  /** Every load ends. */
  close(): void {
    for (const { loads } of this.#waiting.values()) resolve(loads, false)
    this.#waiting.clear()
  }

  async #readAll(): Promise<void> {
    this.#isReading = true
    for (let n = 0; this.#waiting.size > 0; n += 1) {
      // Those that wait longest have every second read, so that new feeds from far behind do not keep them waiting.
      const [first] = this.#waiting.values()
      await this.#serve(n % 2 === 0 ? this.#furthestBehind() : first!)
      // Other work has its turn of the event loop.
      await turn()
    }
    this.#isReading = false
  }

  #furthestBehind(): Waiting {
    return [...this.#waiting.values()].reduce((a, b) => (compare(b.position, a.position) < 0 ? b : a))
  }

  async #serve(waiting: Waiting): Promise<void> {
    const { position, loads } = waiting
    // A feed that comes later may know more of the log than this read.
    this.#waiting.delete(textOf(position))
    const stretches = this.#stretches
    try {
      const entries = await this.#events.read(position, longRead)
      if (entries.length > 0 && stretches === this.#stretches) this.#keep(position, entries)
      resolve(loads, entries.length > 0)
    } catch (error) {
      this.#fail(loads, error)
    }
    for (const [place, { position, loads }] of this.#waiting) {
      if (!this.after(position)) continue
      this.#waiting.delete(place)
      resolve(loads, true)
    }
  }

  #fail(loads: readonly Load[], error: unknown): void {
    for (const { reject } of loads) reject(error)
    if (error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED') return
    // Any other error is one of the log as a whole: it cannot be read from any position.
    for (const { loads } of this.#waiting.values()) for (const { reject } of loads) reject(error)
    this.#waiting.clear()
  }

  #keep(from: Position, entries: readonly LogEntry[]): void {
    if (this.#stretches[0] && this.#stretches[0].from.epoch !== from.epoch) this.#stretches.length = 0
    const index = this.#indexBehind(from)
    const behind = this.#stretches[index]
    const own = behind ? entries.filter(({ position }) => compare(position, behind.from) <= 0) : entries
    const stretch = {
      from,
      entries: new Ring(),
      events: own.reduce((sum, { events }) => sum + events.length, 0),
      bytes: own.reduce((sum, entry) => sum + bytesOf(entry), 0),
      usedAt: this.#use(),
    }
    stretch.entries.reset(from)
    stretch.entries.push(own)
    this.#stretches.splice(index, 0, stretch)
    this.#dropOld()
  }

  /** The stretch that was just read stays, however large it is. */
  #dropOld(): void {
    let events = 0
    let bytes = 0
    let stretches = 0
    const newestFirst = this.#stretches.toSorted((a, b) => b.usedAt - a.usedAt)
    const last = newestFirst.findIndex((stretch) => {
      events += stretch.events
      bytes += stretch.bytes
      stretches += 1
      return stretches > 1 && (events > most.events || bytes > most.bytes || stretches > most.stretches)
    })
    if (last < 0) return
    const dropped = new Set(newestFirst.slice(last))
    let kept = 0
    for (const stretch of this.#stretches) if (!dropped.has(stretch)) this.#stretches[kept++] = stretch
    this.#stretches.length = kept
  }

  #stretchAt(position: Position): Stretch | undefined {
    const stretch = this.#stretches[this.#indexBehind(position) - 1]
    if (!stretch?.entries.after(position)) return undefined
    stretch.usedAt = this.#use()
    return stretch
  }

  /** The number of stretches that begin at a position or before it. */
  #indexBehind(position: Position): number {
    let low = 0
    let high = this.#stretches.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(this.#stretches[middle]!.from, position) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }

  #use(): number {
    this.#uses += 1
    return this.#uses
  }
}

function resolve(loads: readonly Load[], value: boolean): void {
  for (const { resolve } of loads) resolve(value)
}

function textOf({ epoch, major, minor }: Position): string {
  return `${epoch} ${major} ${minor}`
}
