/**
 * The embedded events log, in the thread that owns the database. Invariant: entries are numbered without a gap and removed from the front
 * only, never the last one; each entry names its predecessor, so that a reader notices an entry that another program deleted.
 */
import type { DatabaseSync } from 'node:sqlite'
import { codeOf } from '../sqlite/fault.ts'
import { prepareAll, type Statements } from '../sqlite/open.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import type { BucketCounts, Ring } from './history.ts'
import { HistoryTables } from './sqlite-history.ts'

/** An entry of the log; `events` is the JSON text, absent if it is too long to be sent to every follower. */
export interface LogRow {
  epoch: string
  major: number
  /** 0 for the first entry of the log. */
  previous: number
  events?: string
}

export interface EventsOptions {
  retentionMs: number
  retentionBytes: number
}

const readBytes = 4 * 1024 * 1024
const wakeBytes = 256 * 1024
/** Trimming goes in small steps; each removes more entries than were appended. */
const trimSlack = 16

export class EventsTables {
  readonly #writeQueue: WriteQueue
  readonly #options: EventsOptions
  readonly #wake: (row?: LogRow) => void
  readonly #sql: Statements
  readonly #epoch: string
  readonly history: HistoryTables
  /** The last entry that followers were woken for. */
  #wokenFor: number

  constructor(db: DatabaseSync, writeQueue: WriteQueue, options: EventsOptions, wake: (row?: LogRow) => void) {
    this.#writeQueue = writeQueue
    this.#options = options
    this.#wake = wake
    this.#sql = prepareAll(db, new URL('sqlite.sql', import.meta.url))
    this.history = new HistoryTables(this.#sql, writeQueue)
    this.#epoch = (this.#sql('epoch').get() as { epoch: string }).epoch
    this.#wokenFor = this.#last()
  }

  async append(entries: readonly string[]): Promise<void> {
    const { first, rows } = await this.#writeQueue.write({ durable: true }, () => {
      const first = this.#last()
      let previous = first
      let added = 0
      const rows = entries.map((events): LogRow => {
        const bytes = Buffer.byteLength(events)
        const major = Number(this.#sql('append').run(previous, Date.now(), bytes, events).lastInsertRowid)
        const row = { epoch: this.#epoch, major, previous, ...(bytes <= wakeBytes && { events }) }
        previous = major
        added += bytes
        return row
      })
      this.#trim(added, entries.length)
      return { first, rows }
    })
    // Another process has appended in between: followers read those entries first.
    if (first > this.#wokenFor) this.#wake()
    this.#wokenFor = rows.at(-1)!.major
    for (const row of rows) this.#wake(row)
  }

  #trim(added: number, entries: number): void {
    const { retentionMs, retentionBytes } = this.#options
    let { value: bytes } = this.#sql('bytes').get() as { value: number }
    bytes += added
    let change = added
    let upTo = 0
    const last = this.#last()
    const oldest = this.#sql('oldest').all(entries * 2 + trimSlack) as unknown as {
      major: number
      at: number
      bytes: number
    }[]
    for (const row of oldest) {
      if (row.major === last || (row.at >= Date.now() - retentionMs && bytes <= retentionBytes)) break
      upTo = row.major
      bytes -= row.bytes
      change -= row.bytes
    }
    if (upTo > 0) this.#sql('trim').run(upTo)
    const { changes } = this.#sql('count bytes').run(change)
    if (changes === 0) this.#sql('recount bytes').run()
  }

  tail(): Promise<LogRow> {
    return this.#writeQueue.read(() => ({ epoch: this.#epoch, major: this.#last(), previous: 0 }))
  }

  /** 'expired' if the entries after the position may be incomplete. */
  read(after: { epoch: string; major: number; minor: number }, limit: number): Promise<LogRow[] | 'expired'> {
    return this.#writeQueue.read(() => {
      if (after.epoch !== this.#epoch || after.minor !== 0 || after.major > this.#last()) return 'expired'
      const rows: LogRow[] = []
      let expected = after.major
      let bytes = 0
      for (const found of this.#sql('after').iterate(after.major, limit)) {
        const row = found as unknown as { major: number; previous: number; bytes: number; events: string }
        // A gap: the next call, which reads from here, returns 'expired'.
        if (row.previous !== expected) break
        bytes += row.bytes
        if (rows.length > 0 && bytes > readBytes) break
        rows.push({ epoch: this.#epoch, major: row.major, previous: row.previous, events: row.events })
        expected = row.major
      }
      return rows.length === 0 && after.major < this.#last() ? 'expired' : rows
    })
  }

  /** Writes as an append does, and changes nothing. Undefined if that succeeds; else a code that says why not. */
  async probe(): Promise<string | undefined> {
    try {
      await this.#writeQueue.write({ durable: false }, () => this.#sql('count bytes').run(0))
      return undefined
    } catch (error) {
      return codeOf(error)
    }
  }

  /** Wakes the followers if another process has appended entries. */
  refresh(): void {
    const last = this.#last()
    if (last > this.#wokenFor) this.#wake()
    this.#wokenFor = last
  }

  /** The number of the last appended entry, trimmed or not; 0 if there was none. */
  #last(): number {
    return (this.#sql('last').get() as { seq: number } | undefined)?.seq ?? 0
  }
}

/** The calls of an RPC client; `follow` says whether it is sent each appended entry. */
export function eventsCalls(events: EventsTables, follow: (follows: boolean) => void) {
  return {
    append: (entries: readonly string[]) => events.append(entries),
    tail: () => events.tail(),
    read: (after: { epoch: string; major: number; minor: number }, limit: number) => events.read(after, limit),
    follow: async (follows: boolean) => follow(follows),
    probeEvents: () => events.probe(),
    addHistory: (counts: BucketCounts) => events.history.add(counts),
    readHistory: (ring: Ring) => events.history.read(ring),
  }
}

export type EventsCalls = ReturnType<typeof eventsCalls>

/** The calls that change nothing. */
export const eventsQuestions = ['tail', 'read', 'follow', 'probeEvents', 'readHistory'] as const
