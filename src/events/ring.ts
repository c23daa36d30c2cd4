/**
 * The newest entries of the log, in memory. Invariant: they are consecutive, and the last of them is the tail; the number of entries, of
 * events and of bytes is bounded. The entries of each topic are indexed, so that a feed skips those of others at no cost.
 */
import { sizeOf } from '../model/model.ts'
import { compare, type LogEntry, type Position, placeBefore } from './events.ts'
import { type ColumnSet, type Topic, topicsOf } from './topics.ts'

const maxEntries = 4_096
const maxEvents = 50_000
/** In bytes of the rows' values. */
const maxBytes = 16 * 1024 * 1024

export class Ring {
  #entries: LogEntry[] = []
  /** By the keys of each set of columns for which there was a feed, in the order of the log. */
  readonly #byTopic = new Map<ColumnSet, Map<string, LogEntry[]>>()
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
    this.#byTopic.clear()
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
      for (const [set, byKey] of this.#byTopic) addTo(byKey, set, entry)
    }
    this.#trim()
  }

  /** The newest entry stays, however large it is. */
  #trim(): void {
    const isFull = () => this.#entries.length > maxEntries || this.#events > maxEvents || this.#bytes > maxBytes
    while (this.#entries.length > 1 && isFull()) {
      // Takes a fifth of a microsecond where a slice or a splice takes thirty.
      const oldest = this.#entries.shift()!
      this.#events -= oldest.events.length
      this.#bytes -= bytesOf(oldest)
      for (const [set, byKey] of this.#byTopic) dropFrom(byKey, set, oldest)
    }
  }

  /** Whether the position is the end of the log. */
  endsAt(position: Position): boolean {
    const tail = this.#tail
    return tail !== undefined && position.epoch === tail.epoch && compare(position, tail) === 0
  }

  /** The entry that follows a position, where the ring has it. */
  after(position: Position): LogEntry | undefined {
    const first = this.#entries[0]
    if (!first || position.epoch !== first.position.epoch) return undefined
    const entry = firstBehind(this.#entries, position)
    return entry && follows(entry, position) ? entry : undefined
  }

  /** The next entry behind a position with events of a topic; 'none' if there is none up to the tail; undefined where the ring does not have
   *  all entries behind the position. */
  next(topic: Topic, position: Position): LogEntry | 'none' | undefined {
    if (!this.endsAt(position) && !this.after(position)) return undefined
    let byKey = this.#byTopic.get(topic.set)
    if (!byKey) {
      byKey = new Map()
      for (const entry of this.#entries) addTo(byKey, topic.set, entry)
      this.#byTopic.set(topic.set, byKey)
    }
    return firstBehind(byKey.get(topic.key) ?? [], position) ?? 'none'
  }
}

function addTo(byKey: Map<string, LogEntry[]>, set: ColumnSet, entry: LogEntry): void {
  for (const key of topicsOf(entry).by(set).keys()) {
    const entries = byKey.get(key)
    if (entries) entries.push(entry)
    else byKey.set(key, [entry])
  }
}

/** The entry is the oldest one. */
function dropFrom(byKey: Map<string, LogEntry[]>, set: ColumnSet, entry: LogEntry): void {
  for (const key of topicsOf(entry).by(set).keys()) {
    const entries = byKey.get(key)!
    if (entries.length === 1) byKey.delete(key)
    else entries.shift()
  }
}

/** The first of the entries, which are in the order of the log, behind a position. */
function firstBehind(entries: readonly LogEntry[], position: Position): LogEntry | undefined {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (compare(entries[middle]!.position, position) <= 0) low = middle + 1
    else high = middle
  }
  return entries[low]
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
