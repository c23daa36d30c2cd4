/**
 * The newest entries of the log, in memory. Invariant: they are consecutive, and the last of them is the tail; the number of entries, of
 * events and of bytes is bounded.
 */
import { sizeOf } from '../model/model.ts'
import { compare, type LogEntry, type Position, placeBefore } from './events.ts'

const maxEntries = 1_024
const maxEvents = 50_000
/** In bytes of the rows' values. */
const maxBytes = 16 * 1024 * 1024

export class Ring {
  #entries: LogEntry[] = []
  #events = 0
  #bytes = 0
  #tail: Position | undefined

  /** The end of the log as this process knows it; undefined before the log was read for the first time. */
  get tail(): Position | undefined {
    return this.#tail
  }

  /** Empties the ring: the log goes on from `tail`. */
  reset(tail: Position): void {
    this.#entries = []
    this.#events = 0
    this.#bytes = 0
    this.#tail = tail
  }

  /** Adds entries that follow the tail, and drops the oldest ones. */
  push(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      this.#entries.push(entry)
      this.#events += entry.events.length
      this.#bytes += bytesOf(entry)
      this.#tail = entry.position
    }
    this.#trim()
  }

  /** The newest entry stays, however large it is. */
  #trim(): void {
    let drop = 0
    const isFull = () => this.#entries.length - drop > maxEntries || this.#events > maxEvents || this.#bytes > maxBytes
    while (this.#entries.length - drop > 1 && isFull()) {
      this.#events -= this.#entries[drop]!.events.length
      this.#bytes -= bytesOf(this.#entries[drop]!)
      drop += 1
    }
    if (drop > 0) this.#entries = this.#entries.slice(drop)
  }

  /** Whether the position is the end of the log. */
  endsAt(position: Position): boolean {
    const tail = this.#tail
    return tail !== undefined && position.epoch === tail.epoch && compare(position, tail) === 0
  }

  /** The entry that follows a position, where the ring has it. */
  after(position: Position): LogEntry | undefined {
    const entries = this.#entries
    const first = entries[0]
    if (!first || position.epoch !== first.position.epoch) return undefined
    let low = 0
    let high = entries.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(entries[middle]!.position, position) <= 0) low = middle + 1
      else high = middle
    }
    const entry = entries[low]
    return entry && follows(entry, position) ? entry : undefined
  }
}

/** Whether nothing is between the position and the entry. */
export function follows(entry: LogEntry, position: Position): boolean {
  if (entry.position.epoch !== position.epoch) return false
  return compare(placeBefore(entry), position) === 0
}

/** Of the rows' values. */
export function bytesOf({ events }: LogEntry): number {
  return events.reduce((sum, event) => sum + (event.type === 'saved' ? sizeOf(event.model, event.row) : 0), 0)
}
