/**
 * Whether the table of a model takes rows at this moment, and since when it does not. This tells an error of the server from an error of a row: an
 * error counts against a row only where a probe or other rows prove that the table takes other rows.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter, type StoreWaiting } from '../src/model/meter.ts'
import type { Model } from '../src/model/model.ts'
import { sleep } from '../src/model/sleep.ts'
import { abortable, backoffMs, Stopped } from './backoff.ts'

/** Why and since when the table takes no rows. */
interface Outage extends StoreWaiting {
  /** The database's own message, for the log. */
  reason: string
}

export interface TableOptions {
  model: Model
  log: Log
  /** After it aborts, no statement is awaited. */
  signal: AbortSignal
  /** After it aborts, a table that takes no rows is not awaited. Default: `signal`. */
  stopping?: AbortSignal | undefined
  meter?: Meter | undefined
  /** Runs a statement as soon as a slot is free. Default: at once. */
  slot?: <T>(statement: () => Promise<T>) => Promise<T>
  /** Called when an outage begins or ends. */
  onChange?: () => void
}

/** An outage is logged this often while it lasts. */
const logEveryMs = 60_000
/** An error that comes and goes is logged this often at most. */
const logAtMostEveryMs = 1_000

export class TableState {
  readonly #store: Pick<Writer, 'probe'>
  readonly #options: TableOptions
  readonly #meter: Meter
  readonly #name: string
  #outage: Outage | undefined
  #outageEnd = Promise.withResolvers<void>()
  /** When the last successful statement was started, and when its success was known. */
  #success = { startedAt: Number.NEGATIVE_INFINITY, knownAt: Number.NEGATIVE_INFINITY }
  #probing: { startedAt: number; answer: Promise<boolean> } | undefined
  /** Code -> when it was logged. */
  readonly #lastLogged = new Map<string | undefined, number>()

  constructor({ store }: { store: Pick<Writer, 'probe'> }, options: TableOptions) {
    this.#store = store
    this.#options = options
    this.#meter = options.meter ?? noMeter
    this.#name = options.model.name
  }

  /** Whether an outage lasts: the last statement that tested the table failed. */
  get failing(): boolean {
    return this.#outage !== undefined
  }

  /** Whether a statement succeeded that was started at `startedAt` (performance.now()) or later and ended within the last `ms`. */
  succeededSince(startedAt: number, ms: number): boolean {
    return this.#success.startedAt >= startedAt && this.succeededWithin(ms)
  }

  /** Whether a statement succeeded within the last `ms`. */
  succeededWithin(ms: number): boolean {
    return performance.now() - this.#success.knownAt < ms
  }

  /** Runs a statement in a slot. Throws Stopped when the signal aborts first, the statement may still be running then; and when the worker
   *  is stopping and the table takes no rows. */
  statement<T>(act: () => Promise<T>): Promise<T> {
    const { slot = (statement) => statement(), signal, stopping = signal } = this.#options
    const inSlot = () => {
      if (this.#outage && stopping.aborted) throw new Stopped()
      return abortable(act, signal)
    }
    return abortable(() => slot(async () => await inSlot()), signal)
  }

  /** A statement that was started at `startedAt` (performance.now()) committed rows, or was a successful probe. */
  succeeded(startedAt: number): void {
    this.#success = { startedAt: Math.max(startedAt, this.#success.startedAt), knownAt: performance.now() }
    if (!this.#outage) return
    const { since, code } = this.#outage
    this.#outage = undefined
    this.#meter.storeWaiting(this.#name, undefined)
    this.#outageEnd.resolve()
    this.#options.onChange?.()
    const waitedMs = Date.now() - since
    this.#options.log.info({ model: this.#name, code, waitedMs }, 'the database takes rows again')
  }

  /** A statement failed with an error of the server or of the table, not of a row. */
  failed(fault: StoreFault): void {
    const { vendorCode: code, message: reason } = fault
    const first = this.#outage === undefined
    const since = this.#outage?.since ?? Date.now()
    if (this.#outage?.code !== code || first) this.#meter.storeWaiting(this.#name, { since, code })
    this.#outage = { since, code, reason }
    this.#log(first)
    if (!first) return
    this.#outageEnd = Promise.withResolvers()
    this.#options.onChange?.()
    void this.#probeUntilOver()
  }

  #log(first: boolean): void {
    const { since, code, reason } = this.#outage!
    const now = performance.now()
    const silentMs = now - (this.#lastLogged.get(code) ?? Number.NEGATIVE_INFINITY)
    if (silentMs < (first ? logAtMostEveryMs : logEveryMs)) return
    this.#lastLogged.set(code, now)
    this.#options.log.warn(
      { model: this.#name, code, reason, waitedMs: Date.now() - since },
      'the database takes no rows of this model; the worker waits for it and saves none of them meanwhile',
    )
  }

  /** Ends an outage also where no statement is left to be retried. */
  async #probeUntilOver(): Promise<void> {
    try {
      for (let attempt = 3; this.#outage; attempt += 1) {
        await this.backOff(attempt)
        if (this.#outage) await this.takesRows()
      }
    } catch (error) {
      if (!(error instanceof Stopped)) this.#options.log.error({ err: error }, 'probing the table failed unexpectedly')
    }
  }

  /** Resolves when the next attempt is due, or the outage is over. Throws Stopped. */
  async backOff(attempt: number): Promise<void> {
    const { signal, stopping = signal } = this.#options
    const due = sleep(backoffMs(attempt), stopping)
    await (this.#outage ? Promise.race([due, this.#outageEnd.promise]) : due)
    if (stopping.aborted) throw new Stopped()
  }

  /** Whether the table takes rows, as a statement shows that was started at `startedAt` (performance.now()) or later. Throws Stopped. */
  async takesRows(startedAt = performance.now()): Promise<boolean> {
    for (;;) {
      if (this.#success.startedAt >= startedAt) return true
      const running = this.#probing
      if (!running) break
      const answer = await running.answer
      if (running.startedAt >= startedAt) return answer
    }
    const now = performance.now()
    const answer = this.#probe(now)
    this.#probing = { startedAt: now, answer }
    try {
      return await answer
    } finally {
      if (this.#probing?.answer === answer) this.#probing = undefined
    }
  }

  async #probe(startedAt: number): Promise<boolean> {
    try {
      await this.statement(() => this.#store.probe(this.#options.model))
      this.succeeded(startedAt)
      return true
    } catch (error) {
      if (!(error instanceof StoreFault)) throw error
      this.failed(error)
      return false
    }
  }

  /** Resolves when a statement on the table succeeded within the last `ms`. Throws Stopped. */
  async untilTakesRows(ms: number): Promise<void> {
    for (let attempt = 1; !this.succeededWithin(ms); attempt += 1) {
      if (await this.takesRows()) return
      await this.backOff(attempt)
    }
  }
}
