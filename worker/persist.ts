/**
 * Saves the rows of one model. Invariant: each entry becomes a committed row with its values, or a dead letter that says why it cannot be
 * one, or is parked (parking.ts): its row failed alone and is retried. No entry is dropped and no row is overwritten.
 *
 * An error counts against a row only if the row meets it alone, while the table takes other rows right before and right after. A missing
 * parent of a foreign key and an error of an unknown code make a dead letter only after `retryForMs`, an error of the kind
 * `unavailable` never. Every other error is the server's: the worker waits for the server without limit.
 *
 * The fast path is one plain INSERT of the whole batch. INSERT IGNORE would be simpler and hides truncation.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import type { FailureCode } from '../src/model/error.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { digestOf, type Model, type Row, sizeOf } from '../src/model/model.ts'
import { conflictWith, deadLetter, describeFault, type Outcome, type RejectedEntry } from './outcome.ts'
import type { PendingRow } from './sort.ts'
import { TableState } from './table-state.ts'

/** A row that failed alone and may still be saved. */
export interface ParkedRow {
  pending: PendingRow
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
  model: Model
  /** Rows per statement, if the database takes as many. */
  batch?: number
  maxAttempts: number
  log: Log
  /** After it aborts, nothing is awaited. */
  signal: AbortSignal
  meter?: Meter | undefined
  /** For how long a row is retried whose parent is missing, or whose error has an unknown code. */
  retryForMs?: number | undefined
  /** Whether the queue, or a batch that is long in flight, may hold the missing parents of rows: as `seesBacklog`. */
  isBusy?: (() => boolean) | undefined
}

interface PersisterDeps {
  store: Writer
  table?: TableState
}

/** A row that failed alone. */
interface FailedRow {
  pending: PendingRow
  fault: StoreFault
  /** performance.now() before its last insert, and when that failed. */
  triedAt: number
  failedAt: number
  /** Between an earlier failure of the row and this one the table took other rows. */
  counts: boolean
}

/** The state of one call of persist or retry. */
interface Round {
  saved: PendingRow[]
  deadLetters: RejectedEntry[]
  failed: FailedRow[]
  /** The rows of `retry` that were parked before the call. */
  parkedBefore: ReadonlyMap<PendingRow, ParkedRow>
  /** Whether the call waits for an unavailable database. */
  waits: boolean
}

/** The table is probed from the third attempt on at which the database reports that it is unavailable. */
const attemptsBeforeProbe = 3
/** A failure counts against a row where the table took other rows within this time. */
const evidenceMs = 2_000
/** So many parked rows of a round are tried one by one while the table takes no rows. */
const maxRowsInOutage = 4
export const defaultRetryForMs = 60_000

export class Persister {
  readonly #model: Model
  readonly #store: Writer
  readonly #table: TableState
  readonly #options: PersisterOptions
  readonly #meter: Meter
  #backlogAt = Number.NEGATIVE_INFINITY

  constructor({ store, table }: PersisterDeps, options: PersisterOptions) {
    this.#model = options.model
    this.#store = store
    this.#table = table ?? new TableState({ store }, options)
    this.#options = options
    this.#meter = options.meter ?? noMeter
  }

  /** The queue holds more than one batch: the missing parent of a row may be among it. */
  seesBacklog(): void {
    this.#backlogAt = performance.now()
  }

  #lookForBacklog(): void {
    if (this.#options.isBusy?.()) this.seesBacklog()
  }

  /** Waits for an unavailable database, or, with `waits: false`, parks the rows. Throws Stopped when the signal aborts first. */
  async persist(rows: readonly PendingRow[], { waits = true } = {}): Promise<Persisted> {
    const round: Round = { saved: [], deadLetters: [], failed: [], parkedBefore: new Map(), waits }
    for (const chunk of this.#chunks(rows)) await this.#insert(chunk, round)
    const order = new Map(rows.map(({ row }, i) => [row.id, i]))
    round.saved.sort((a, b) => order.get(a.row.id)! - order.get(b.row.id)!)
    return await this.#result(round)
  }

  /** Retries parked rows once: all by one statement, then one by one. */
  async retry(parked: readonly ParkedRow[]): Promise<Persisted> {
    const parkedBefore = new Map(parked.map((one) => [one.pending, one]))
    const round: Round = { saved: [], deadLetters: [], failed: [], parkedBefore, waits: false }
    for (const chunk of this.#chunks(parked.map(({ pending }) => pending))) {
      if (chunk.length > 1 && !(await this.#try(chunk, round))) continue
      await this.#table.takesRows(performance.now() - evidenceMs / 2)
      for (const [i, pending] of chunk.entries()) {
        const { since, fault } = parkedBefore.get(pending)!
        if (i < maxRowsInOutage || !this.#table.failing) await this.#insert([pending], round, since)
        else {
          const now = performance.now()
          round.failed.push({ pending, fault, triedAt: now, failedAt: now, counts: false })
        }
      }
    }
    return await this.#result(round)
  }

  /** Parts that one statement can insert, bounded in rows and bytes. */
  #chunks(rows: readonly PendingRow[]): PendingRow[][] {
    const chunks: PendingRow[][] = []
    const limits = this.#store.limits(this.#model)
    const most = Math.min(limits.rows, this.#options.batch ?? limits.rows)
    let bytes = Number.POSITIVE_INFINITY
    for (const pending of rows) {
      const size = sizeOf(this.#model, pending.row) + 128
      const last = chunks.at(-1)
      if (!last || bytes + size > limits.bytes || last.length >= most) {
        chunks.push([pending])
        bytes = size
      } else {
        last.push(pending)
        bytes += size
      }
    }
    return chunks
  }

  /** Returns undefined after the rows are committed. */
  async #try(rows: readonly PendingRow[], round: Round): Promise<StoreFault | undefined> {
    const startedAt = performance.now()
    try {
      await this.#table.statement(() =>
        this.#store.insert(
          this.#model,
          rows.map(({ row }) => row),
        ),
      )
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
  async #insert(rows: readonly PendingRow[], round: Round, since?: number): Promise<void> {
    let left = rows
    for (let attempt = 1; left.length > 0; attempt += 1) {
      const counts = since !== undefined && this.#table.succeededSince(since, evidenceMs)
      const triedAt = performance.now()
      this.#lookForBacklog()
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
          for (const pending of left) round.failed.push({ pending, fault, triedAt, failedAt, counts: false })
          return
        }
        if (left.length === 1) {
          round.failed.push({ pending: left[0]!, fault, triedAt, failedAt, counts })
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
    this.#lookForBacklog()
    for (const { pending, fault, triedAt, failedAt, counts } of failed) {
      const { since = failedAt, failures: failuresBefore = 0 } = round.parkedBefore.get(pending) ?? {}
      const isRowsOwn = takesRows && counts && now - failedAt < evidenceMs
      const failures = isRowsOwn ? failuresBefore + 1 : failuresBefore
      // Its parent may have been saved after the insert began.
      const retriedMs = triedAt - Math.max(since, this.#backlogAt)
      const code = isRowsOwn ? this.#failureCode(fault, failures, retriedMs) : undefined
      if (code) this.#reject(pending, fault, code, failures, round)
      else parked.push({ pending, fault, since, failures })
    }
    return {
      saved: saved.map(({ row }) => ({ model: this.#model, row })),
      entries: saved.flatMap(({ entries }) => entries),
      deadLetters,
      parked,
    }
  }

  /** Undefined as long as the row may still be saved. */
  #failureCode({ kind, index }: StoreFault, failures: number, retriedMs: number): FailureCode | undefined {
    const { maxAttempts, retryForMs = defaultRetryForMs } = this.#options
    const enough = failures >= maxAttempts
    const longEnough = retriedMs >= retryForMs
    if (kind === 'rejected') return 'REJECTED'
    // Without an index the duplicate is the id: a look-up that misses an existing row, on a replica perhaps, will show it later.
    if (kind === 'duplicate') return enough && index !== undefined ? 'REJECTED' : undefined
    if (kind === 'reference') return enough && longEnough ? 'REJECTED' : undefined
    if (kind === 'unknown') return enough && longEnough ? 'GAVE_UP' : undefined
    return undefined
  }

  #reject({ row, entries }: PendingRow, fault: StoreFault, code: FailureCode, attempts: number, round: Round): void {
    const model = this.#model
    this.#options.log.error(
      { model: model.name, reason: fault.message, code: fault.vendorCode, id: row.id },
      'the database rejected a row; dead-lettering it',
    )
    const message = describeFault(model, fault)
    round.deadLetters.push(...entries.map((entry) => deadLetter(entry, code, message, { model, attempts })))
  }

  #count(rows: readonly PendingRow[], startedAt: number): void {
    this.#meter.stage('insert', (performance.now() - startedAt) / 1_000)
    const oldest = rows.reduce((min, { row }) => Math.min(min, +row.createdAt), Number.POSITIVE_INFINITY)
    this.#meter.committed(this.#model.name, rows.length, Math.max(0, Date.now() - oldest) / 1_000)
  }

  /** Returns the rows whose ids the table does not have. Of the others, those with equal values are saved, those with other values
   *  are conflicts. A failed look-up proves nothing about a row; it is repeated until it succeeds. */
  async #withoutExisting(rows: readonly PendingRow[], round: Round): Promise<PendingRow[]> {
    const model = this.#model
    const found = new Map((await this.#existing(rows)).map((row) => [row.id, row]))
    return rows.filter(({ row, entries }) => {
      const existing = found.get(row.id)
      if (!existing) return true
      if (digestOf(model, existing) === digestOf(model, row)) round.saved.push({ row: existing, entries })
      else round.deadLetters.push(...entries.map((entry) => conflictWith(model, existing, entry)))
      return false
    })
  }

  async #existing(rows: readonly PendingRow[]): Promise<Row[]> {
    const ids = rows.map(({ row }) => row.id)
    const existing: Row[] = []
    // A look-up takes at most 1,000 ids.
    for (let i = 0; i < ids.length; i += 1_000) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          const some = ids.slice(i, i + 1_000)
          existing.push(...(await this.#table.statement(() => this.#store.existing(this.#model, some))))
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
