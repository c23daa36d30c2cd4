/**
 * Turns entries into rows. Invariant: each entry becomes a committed row with its content, or a dead letter that says why it cannot be
 * one, or is parked (parking.ts): its row failed alone and is retried. No entry is dropped and no row is overwritten.
 *
 * An error counts against a row only if the row meets it alone, while the table takes other rows right before and right after. A missing
 * parent of a foreign key and an error of an unknown code make a dead letter only after `retryForMs`, an error of the kind
 * `unavailable` never. Every other error is the server's: the worker waits for the server without limit.
 *
 * The fast path is one plain INSERT of the whole batch. INSERT IGNORE would be simpler and hides truncation.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import { type Content, parseId, problemOf } from '../src/model/content.ts'
import type { FailureCode } from '../src/model/error.ts'
import type { Log } from '../src/model/log.ts'
import { decode } from '../src/model/message.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { type DeadLetterInput, digestOf, type Entry } from '../src/queue/queue.ts'
import { TableState } from './table-state.ts'

export interface RejectedEntry extends DeadLetterInput {
  /** The id that the event of the failure names; undefined for a message without one. */
  id: string | undefined
}

export interface Outcome {
  /** Committed rows, in the order in which they were enqueued. The row of a redelivered entry is among them: its event may be missing. */
  saved: Content[]
  entries: Entry[]
  deadLetters: RejectedEntry[]
}

/** A row and its entries: all those with its id and its content. */
export interface Row {
  content: Content
  entries: Entry[]
}

/** A row that failed alone and may still be saved. */
export interface ParkedRow {
  row: Row
  fault: StoreFault
  /** performance.now() of its first failure. */
  since: number
  /** Failures that count against it: the table took other rows at that time. */
  failures: number
}

export interface Persisted extends Outcome {
  parked: ParkedRow[]
}

export interface PersisterOptions {
  maxAttempts: number
  log: Log
  /** After it aborts, nothing is awaited. */
  signal: AbortSignal
  meter?: Meter | undefined
  /** For how long a row is retried whose parent is missing, or whose error has an unknown code. */
  retryForMs?: number | undefined
}

interface PersisterDeps {
  store: Writer
  table?: TableState
}

/** The state of one call of persist or retry. */
interface Round {
  saved: Row[]
  deadLetters: RejectedEntry[]
  /** Rows that failed alone. `counts`: between an earlier failure of the row and this one the table took other rows. */
  failed: { row: Row; fault: StoreFault; failedAt: number; counts: boolean }[]
  /** The rows of `retry` that were parked before the call. */
  parkedBefore: ReadonlyMap<Row, ParkedRow>
  /** Whether the call waits for an unavailable database. */
  waits: boolean
}

/** The table is probed from the third attempt on at which the database reports that it is unavailable. */
const attemptsBeforeProbe = 3
/** A failure counts against a row where the table took other rows within this time. */
const evidenceMs = 2_000
/** So many parked rows of a round are tried one by one while the table takes no rows. */
const maxRowsInOutage = 4
const defaultRetryForMs = 60_000

export class Persister {
  readonly #store: Writer
  readonly #table: TableState
  readonly #options: PersisterOptions
  readonly #meter: Meter
  #backlogAt = Number.NEGATIVE_INFINITY

  constructor({ store, table }: PersisterDeps, options: PersisterOptions) {
    this.#store = store
    this.#table = table ?? new TableState({ store }, options)
    this.#options = options
    this.#meter = options.meter ?? noMeter
  }

  /** The queue holds more than one batch: the missing parent of a row may be among it. */
  seesBacklog(): void {
    this.#backlogAt = performance.now()
  }

  /** Waits for an unavailable database, or, with `waits: false`, parks the rows. Throws Stopped when the signal aborts first. */
  async persist(entries: readonly Entry[], { waits = true } = {}): Promise<Persisted> {
    const deadLetters: RejectedEntry[] = []
    const rows = this.#rows(entries, deadLetters)
    const round: Round = { saved: [], deadLetters, failed: [], parkedBefore: new Map(), waits }
    for (const chunk of this.#chunks(rows)) await this.#insert(chunk, round)
    const order = new Map(rows.map((row, i) => [row.content.id, i]))
    round.saved.sort((a, b) => order.get(a.content.id)! - order.get(b.content.id)!)
    return await this.#result(round)
  }

  /** Retries parked rows once: all by one statement, then one by one. */
  async retry(parked: readonly ParkedRow[]): Promise<Persisted> {
    const parkedBefore = new Map(parked.map((one) => [one.row, one]))
    const round: Round = { saved: [], deadLetters: [], failed: [], parkedBefore, waits: false }
    for (const chunk of this.#chunks(parked.map(({ row }) => row))) {
      if (chunk.length > 1 && !(await this.#try(chunk, round))) continue
      await this.#table.takesRows(performance.now() - evidenceMs / 2)
      for (const [i, row] of chunk.entries()) {
        const { since, fault } = parkedBefore.get(row)!
        if (i < maxRowsInOutage || !this.#table.failing) await this.#insert([row], round, since)
        else round.failed.push({ row, fault, failedAt: performance.now(), counts: false })
      }
    }
    return await this.#result(round)
  }

  #rows(entries: readonly Entry[], deadLetters: RejectedEntry[]): Row[] {
    const rows = new Map<string, Row>()
    const savedAt = new Date()
    for (const entry of entries) {
      const message = decode(entry.body)
      if ('problem' in message) {
        deadLetters.push(deadLetter(entry, 'UNDECODABLE', message.problem))
        continue
      }
      const { id, content, at } = message
      // The API checked the same; the queue may hold messages that no API enqueued.
      const problem =
        parseId(id) === id ? problemOf(content, Number.POSITIVE_INFINITY) : 'the id is not a lower-case UUID'
      if (problem) {
        deadLetters.push(deadLetter(entry, 'REJECTED', problem))
        continue
      }
      const row = rows.get(id)
      if (!row) rows.set(id, { content: { id, content, createdAt: new Date(at), savedAt }, entries: [entry] })
      else if (row.content.content === content) row.entries.push(entry)
      else deadLetters.push(deadLetter(entry, 'ID_CONFLICT', conflict(id)))
    }
    return [...rows.values()]
  }

  /** Parts that one statement can insert, bounded in rows and bytes. */
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

  /** Returns undefined after the rows are committed. */
  async #try(rows: readonly Row[], round: Round): Promise<StoreFault | undefined> {
    const startedAt = performance.now()
    try {
      await this.#table.statement(() => this.#store.insert(rows.map(({ content }) => content)))
    } catch (error) {
      if (error instanceof StoreFault) return error
      throw error
    }
    this.#table.succeeded(startedAt)
    round.saved.push(...rows)
    this.#count(rows, startedAt)
    return undefined
  }

  /** `since`: performance.now() of the first failed insert with these rows, if one failed before. */
  async #insert(rows: readonly Row[], round: Round, since?: number): Promise<void> {
    let left = rows
    for (let attempt = 1; left.length > 0; attempt += 1) {
      const counts = since !== undefined && this.#table.succeededSince(since, evidenceMs)
      const fault = await this.#try(left, round)
      if (!fault) return
      const failedAt = performance.now()
      if (fault.kind === 'duplicate') {
        const absent = await this.#withoutExisting(left, round)
        if (absent.length < left.length) {
          left = absent
          attempt = 0
          continue
        }
      }
      if (fault.kind === 'too-large') {
        if (left.length === 1) return this.#reject(left[0]!, fault, 'REJECTED', 1, round)
      } else {
        const waits = fault.kind === 'unavailable' && round.waits
        if (waits && attempt < attemptsBeforeProbe) this.#table.failed(fault)
        if ((waits && attempt < attemptsBeforeProbe) || !(await this.#table.takesRows(failedAt))) {
          if (waits) {
            await this.#table.backOff(attempt)
            continue
          }
          // The probe failed, too, so this is an error of the table. The rows are retried all the same: the probe's row may be the odd one.
          for (const row of left) round.failed.push({ row, fault, failedAt, counts: false })
          return
        }
        if (left.length === 1) {
          round.failed.push({ row: left[0]!, fault, failedAt, counts })
          return
        }
      }
      const middle = left.length >> 1
      await this.#insert(left.slice(0, middle), round, since ?? failedAt)
      await this.#insert(left.slice(middle), round, since ?? failedAt)
      return
    }
  }

  /** The rows that failed alone become dead letters or parked rows. */
  async #result(round: Round): Promise<Persisted> {
    const { saved, deadLetters, failed } = round
    const parked: ParkedRow[] = []
    const takesRows = failed.some(({ counts }) => counts) && (await this.#table.takesRows())
    const now = performance.now()
    for (const { row, fault, failedAt, counts } of failed) {
      const { since = failedAt, failures: failuresBefore = 0 } = round.parkedBefore.get(row) ?? {}
      const isRowsOwn = takesRows && counts && now - failedAt < evidenceMs
      const failures = isRowsOwn ? failuresBefore + 1 : failuresBefore
      const code = isRowsOwn ? this.#failureCode(fault, failures, since) : undefined
      if (code) this.#reject(row, fault, code, failures, round)
      else parked.push({ row, fault, since, failures })
    }
    return {
      saved: saved.map(({ content }) => content),
      entries: saved.flatMap((row) => row.entries),
      deadLetters,
      parked,
    }
  }

  /** Undefined as long as the row may still be saved. */
  #failureCode({ kind, index }: StoreFault, failures: number, since: number): FailureCode | undefined {
    const { maxAttempts, retryForMs = defaultRetryForMs } = this.#options
    const enough = failures >= maxAttempts
    const longEnough = performance.now() - Math.max(since, this.#backlogAt) >= retryForMs
    if (kind === 'rejected') return 'REJECTED'
    // Without an index the duplicate is the id: a look-up that misses an existing row, on a replica perhaps, will show it later.
    if (kind === 'duplicate') return enough && index !== undefined ? 'REJECTED' : undefined
    if (kind === 'reference') return enough && longEnough ? 'REJECTED' : undefined
    if (kind === 'unknown') return enough && longEnough ? 'GAVE_UP' : undefined
    return undefined
  }

  #reject(row: Row, fault: StoreFault, code: FailureCode, attempts: number, round: Round): void {
    this.#options.log.error(
      { reason: fault.message, code: fault.vendorCode, id: row.content.id },
      'the database rejected a row; dead-lettering it',
    )
    round.deadLetters.push(...row.entries.map((entry) => deadLetter(entry, code, describeFault(fault), attempts)))
  }

  #count(rows: readonly Row[], startedAt: number): void {
    this.#meter.stage('insert', (performance.now() - startedAt) / 1_000)
    const oldest = rows.reduce((min, { content }) => Math.min(min, +content.createdAt), Number.POSITIVE_INFINITY)
    this.#meter.committed(rows.length, Math.max(0, Date.now() - oldest) / 1_000)
  }

  /** Returns the rows whose ids the table does not have. Of the others, those with equal content are saved, those with other content
   *  are conflicts. A failed look-up proves nothing about a row; it is repeated until it succeeds. */
  async #withoutExisting(rows: readonly Row[], round: Round): Promise<Row[]> {
    const found = new Map((await this.#existing(rows)).map((content) => [content.id, content]))
    return rows.filter((row) => {
      const existing = found.get(row.content.id)
      if (!existing) return true
      if (existing.content === row.content.content) round.saved.push({ content: existing, entries: row.entries })
      else round.deadLetters.push(...row.entries.map((entry) => conflictWith(existing, entry)))
      return false
    })
  }

  async #existing(rows: readonly Row[]): Promise<Content[]> {
    const ids = rows.map(({ content }) => content.id)
    const existing: Content[] = []
    // A look-up takes at most 1,000 ids.
    for (let i = 0; i < ids.length; i += 1_000) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          existing.push(...(await this.#table.statement(() => this.#store.existing(ids.slice(i, i + 1_000)))))
          break
        } catch (error) {
          if (!(error instanceof StoreFault)) throw error
          this.#table.failed(error)
          await this.#table.backOff(attempt)
        }
      }
    }
    return existing
  }
}

export function deadLetter(entry: Entry, code: FailureCode, message: string, attempts = 1): RejectedEntry {
  return { entry, id: entry.id, failure: { code, message, attempts, failedAt: new Date() } }
}

/** Names the existing row to the queue, so that the queue refuses the next conflict. */
function conflictWith({ id, content, createdAt }: Content, entry: Entry): RejectedEntry {
  return { ...deadLetter(entry, 'ID_CONFLICT', conflict(id)), existing: { digest: digestOf(content), at: +createdAt } }
}

function conflict(id: string): string {
  return `the id ${id} is already saved with other content`
}

/** For operators and senders: the database's code, never its message, which names hosts and quotes content. */
function describeFault({ kind, vendorCode, index }: StoreFault): string {
  const code = vendorCode ? ` (code ${vendorCode})` : ''
  if (kind === 'too-large') return `the content is larger than the database takes in one statement${code}`
  if (kind === 'duplicate') return `another row has the same value in the unique index ${index}${code}`
  if (kind === 'reference') return `the row that this content refers to was not saved in time${code}`
  if (kind === 'rejected') return `the database rejects this content${code}`
  return `the database failed on this content at every attempt, and on no other content${code}`
}
