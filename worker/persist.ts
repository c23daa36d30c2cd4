/**
 * From entries to rows. Invariant: when `persist` resolves, each entry is a committed row with its content, or a letter that says why it
 * cannot be one; nothing is dropped, and nothing is overwritten. A database that is away is waited for without limit.
 *
 * The fast path is one plain INSERT of the whole batch. INSERT IGNORE would be simpler and hides truncation.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import { type Content, parseId, problemOf } from '../src/model/content.ts'
import type { Failure, FailureCode } from '../src/model/error.ts'
import { failpoint } from '../src/model/failpoint.ts'
import type { Log } from '../src/model/log.ts'
import { decode } from '../src/model/message.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { pause } from '../src/model/pause.ts'
import type { Entry } from '../src/queue/queue.ts'
import { delay, Stopped } from './backoff.ts'

export interface Letter {
  entry: Entry
  /** The id to announce the failure under; undefined for what has none. */
  id: string | undefined
  failure: Failure
}

export interface Outcome {
  /** What is committed, in the order it was accepted. An entry that repeats a row of before counts: it has to be announced again. */
  saved: Content[]
  entries: Entry[]
  letters: Letter[]
}

/** Entries of one id and one content: one row. */
interface Row {
  content: Content
  entries: Entry[]
}

export class Persister {
  readonly #store: Writer
  readonly #maxAttempts: number
  readonly #log: Log
  readonly #meter: Meter
  readonly #signal: AbortSignal

  constructor(store: Writer, options: { maxAttempts: number; log: Log; signal: AbortSignal; meter?: Meter }) {
    this.#store = store
    this.#maxAttempts = options.maxAttempts
    this.#log = options.log
    this.#meter = options.meter ?? noMeter
    this.#signal = options.signal
  }

  /** Throws Stopped when the signal aborts before the database took or refused all of it. */
  async persist(entries: readonly Entry[]): Promise<Outcome> {
    const letters: Letter[] = []
    const rows = this.#rows(entries, letters)
    const saved: Row[] = []
    for (const chunk of this.#chunks(rows)) await this.#insert(chunk, saved, letters)
    const order = new Map(rows.map((row, i) => [row.content.id, i]))
    saved.sort((a, b) => order.get(a.content.id)! - order.get(b.content.id)!)
    return { saved: saved.map(({ content }) => content), entries: saved.flatMap((row) => row.entries), letters }
  }

  #rows(entries: readonly Entry[], letters: Letter[]): Row[] {
    const rows = new Map<string, Row>()
    const savedAt = new Date()
    for (const entry of entries) {
      const message = decode(entry.body)
      if ('problem' in message) {
        letters.push(letter(entry, 'UNDECODABLE', message.problem))
        continue
      }
      const { id, content, at } = message
      failpoint('content', content)
      // What the API checked, checked again: the queue may hold what never came through it.
      const problem =
        parseId(id) === id ? problemOf(content, Number.POSITIVE_INFINITY) : 'the id is not a lower-case UUID'
      if (problem) {
        letters.push(letter(entry, 'REJECTED', problem))
        continue
      }
      const row = rows.get(id)
      if (!row) rows.set(id, { content: { id, content, createdAt: new Date(at), savedAt }, entries: [entry] })
      else if (row.content.content === content) row.entries.push(entry)
      else letters.push(letter(entry, 'ID_CONFLICT', conflict(id)))
    }
    return [...rows.values()]
  }

  /** Statements' worth, bounded in rows and bytes. */
  #chunks(rows: readonly Row[]): Row[][] {
    const chunks: Row[][] = []
    let bytes = Number.POSITIVE_INFINITY
    for (const row of rows) {
      const size = Buffer.byteLength(row.content.content) + 128
      const last = chunks.at(-1)
      if (!last || bytes + size > this.#store.maxBytes || last.length >= this.#store.maxRows) {
        chunks.push([row])
        bytes = size
      } else {
        last.push(row)
        bytes += size
      }
    }
    return chunks
  }

  async #insert(rows: readonly Row[], saved: Row[], letters: Letter[]): Promise<void> {
    let left = rows
    let said: string | undefined
    for (let tries = 1; left.length > 0; tries += 1) {
      try {
        const started = performance.now()
        await this.#store.insert(left.map(({ content }) => content))
        saved.push(...left)
        this.#committed(left, started)
        return
      } catch (error) {
        if (!(error instanceof StoreFault)) throw error
        if (error.kind === 'duplicate') {
          const fresh = await this.#withoutExisting(left, saved, letters)
          // The store says duplicate and shows none: somebody deleted it meanwhile, or says it of something else than the id.
          if (fresh.length < left.length || tries < this.#maxAttempts) {
            left = fresh
            continue
          }
        }
        if (error.kind === 'unavailable' || (error.kind === 'unknown' && tries < this.#maxAttempts)) {
          if (error.vendorCode !== said || tries === 1 || tries % 10 === 0) {
            said = error.vendorCode
            this.#log.warn(
              { reason: error.message, code: error.vendorCode, rows: left.length, tries },
              'the database did not take a batch; trying again',
            )
          }
          await pause(delay(tries), this.#signal)
          if (this.#signal.aborted) throw new Stopped()
          continue
        }
        if (left.length > 1) {
          const middle = left.length >> 1
          await this.#insert(left.slice(0, middle), saved, letters)
          await this.#insert(left.slice(middle), saved, letters)
          return
        }
        const code = error.kind === 'unknown' ? 'GAVE_UP' : 'REJECTED'
        this.#log.error(
          { reason: error.message, code: error.vendorCode, id: left[0]!.content.id },
          'the database will not have a message; burying it',
        )
        letters.push(...left[0]!.entries.map((entry) => letter(entry, code, reason(error), tries)))
        return
      }
    }
  }

  #committed(rows: readonly Row[], started: number): void {
    this.#meter.stage('insert', (performance.now() - started) / 1_000)
    const oldest = rows.reduce((min, { content }) => Math.min(min, +content.createdAt), Number.POSITIVE_INFINITY)
    this.#meter.committed(rows.length, Math.max(0, Date.now() - oldest) / 1_000)
  }

  /** Sorts out what is there already: equal rows count as saved, different ones are conflicts. What is left is new. */
  async #withoutExisting(rows: readonly Row[], saved: Row[], letters: Letter[]): Promise<Row[]> {
    let existing: Content[]
    try {
      existing = await this.#store.existing(rows.map(({ content }) => content.id))
    } catch (error) {
      if (error instanceof StoreFault) return [...rows]
      throw error
    }
    const found = new Map(existing.map((content) => [content.id, content]))
    return rows.filter((row) => {
      const there = found.get(row.content.id)
      if (!there) return true
      if (there.content === row.content.content) saved.push({ content: there, entries: row.entries })
      else letters.push(...row.entries.map((entry) => letter(entry, 'ID_CONFLICT', conflict(row.content.id))))
      return false
    })
  }
}

export function letter(entry: Entry, code: FailureCode, message: string, attempts = 1): Letter {
  return { entry, id: entry.id, failure: { code, message, attempts, failedAt: new Date() } }
}

function conflict(id: string): string {
  return `${id} is saved already, with other content`
}

/** What an operator and the sender may both know: the database's code, never its words, which name hosts and quote content. */
function reason(error: StoreFault): string {
  const code = error.vendorCode ? ` (code ${error.vendorCode})` : ''
  if (error.kind === 'too-large') return `the database takes no statement as large as this one content${code}`
  if (error.kind === 'rejected') return `the database refuses this content${code}`
  return `the database failed on this content again and again${code}`
}
