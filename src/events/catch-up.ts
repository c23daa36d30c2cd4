/**
 * Reads of the log for feeds that are behind the ring. A feed reads the entry that it needs, and feeds at the same place share that read. A
 * feed that skips entries without events of its topic goes on in long reads, of which one runs at a time, whatever the number of feeds: the
 * feed furthest behind is served first, and every feed that it meets on its way goes on with it.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { SpillwayError } from '../model/error.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { compare, type EventLog, type LogEntry, type Position, placeBefore } from './events.ts'
import { bytesOf } from './ring.ts'

const longRead = 16
/** Of the entries of long reads that are kept for the feeds behind them, in bytes of the rows' values. */
const maxBytes = 4 * 1024 * 1024

/** The feeds that wait for the entry after a position. */
interface Skipping extends PromiseWithResolvers<LogEntry | undefined> {
  position: Position
}

export class CatchUp {
  readonly #events: Pick<EventLog, 'read'>
  #reads = new SingleFlight<LogEntry[]>()
  /** By place; the one that has waited longest is first. */
  readonly #skipping = new Map<string, Skipping>()
  /** The entries of the latest long reads, by the places before them. */
  readonly #read = new Map<string, LogEntry>()
  #bytes = 0
  #isReading = false

  constructor(deps: { events: Pick<EventLog, 'read'> }) {
    this.#events = deps.events
  }

  /** The entry after a position; undefined at the log's end. Rejects as EventLog.read does. */
  async next(position: Position): Promise<LogEntry | undefined> {
    const place = textOf(position)
    const known = this.#read.get(place)
    if (known) return known
    const [entry] = await this.#reads.run(place, () => this.#events.read(position, 1))
    return entry
  }

  /** As `next`, for a feed that has skipped the entry before. */
  async skip(position: Position): Promise<LogEntry | undefined> {
    const place = textOf(position)
    const known = this.#read.get(place)
    if (known) return known
    const skipping = this.#skipping.get(place) ?? { position, ...Promise.withResolvers<LogEntry | undefined>() }
    this.#skipping.set(place, skipping)
    if (!this.#isReading) void this.#readAll()
    return await skipping.promise
  }

  /** The log was replaced or trimmed: what was read of it before, or is being read, is returned to no feed that asks later. */
  forget(): void {
    this.#reads = new SingleFlight()
    this.#read.clear()
    this.#bytes = 0
  }

  async #readAll(): Promise<void> {
    this.#isReading = true
    for (let n = 0; this.#skipping.size > 0; n += 1) {
      const [first] = this.#skipping.values()
      // Every second read is for the feeds that have waited longest, so that new feeds from far behind do not keep them waiting.
      await this.#readFor(n % 2 === 0 ? this.#furthestBehind() : first!)
      // Until the feeds have skipped these entries; and others have their turn of the event loop.
      await turn()
    }
    this.#isReading = false
  }

  #furthestBehind(): Skipping {
    return [...this.#skipping.values()].reduce((a, b) => (compare(b.position, a.position) < 0 ? b : a))
  }

  async #readFor({ position, resolve, reject }: Skipping): Promise<void> {
    // A feed that comes here while the log is read may know more of the log than this read.
    this.#skipping.delete(textOf(position))
    try {
      const entries = await this.#events.read(position, longRead)
      this.#keep(entries)
      resolve(entries[0])
      for (const entry of entries) {
        const place = textOf(placeBefore(entry))
        this.#skipping.get(place)?.resolve(entry)
        this.#skipping.delete(place)
      }
    } catch (error) {
      reject(error)
      // The log cannot be read at the moment, from whichever position.
      if (!isExpired(error)) this.#rejectAll(error)
    }
  }

  #rejectAll(error: unknown): void {
    for (const { reject } of this.#skipping.values()) reject(error)
    this.#skipping.clear()
  }

  /** Keeps all of these, and as many older ones as there is room for. */
  #keep(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      this.#drop(textOf(placeBefore(entry)))
      this.#read.set(textOf(placeBefore(entry)), entry)
      this.#bytes += bytesOf(entry)
    }
    for (const place of this.#read.keys()) {
      if (this.#read.size <= entries.length || (this.#bytes <= maxBytes && this.#read.size <= 16 * longRead)) break
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

function isExpired(error: unknown): boolean {
  return error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED'
}

function textOf({ epoch, major, minor }: Position): string {
  return `${epoch} ${major} ${minor}`
}
