/**
 * What a worker knows of the table it writes to: whether it takes rows at this moment, and since when it does not. This is what tells the
 * server's fault from a row's: a row is to blame only for an error that the table, as a probe or other rows prove, does not have for all.
 */
import { StoreFault, type Writer } from '../src/db/store.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter, type StoreWaiting } from '../src/model/meter.ts'
import { sleep } from '../src/model/sleep.ts'
import { delay, orStopped, Stopped } from './backoff.ts'

/** Why a worker does not write. */
export interface Waiting extends StoreWaiting {
  /** The database's own words: for the log. */
  reason: string
}

export interface TableOptions {
  log: Log
  /** No statement is waited for any more. */
  signal: AbortSignal
  /** A table that takes no rows is not waited for any more; with `signal` unless given. */
  stopping?: AbortSignal | undefined
  meter?: Meter | undefined
  /** Runs a statement when there is room for one; at once unless given. */
  slot?: <T>(statement: () => Promise<T>) => Promise<T>
}

/** How often it says that it is still waiting. */
const sayAgainMs = 60_000
/** An error that comes and goes is said this often at most. */
const sayEveryMs = 1_000

export class TableState {
  readonly #store: Pick<Writer, 'probe'>
  readonly #options: TableOptions
  readonly #meter: Meter
  #waiting: Waiting | undefined
  #over = Promise.withResolvers<void>()
  /** When the last statement that worked began, and when it was known to have worked. */
  #worked = { from: Number.NEGATIVE_INFINITY, at: Number.NEGATIVE_INFINITY }
  #probing: { from: number; answer: Promise<boolean> } | undefined
  /** Code -> when it was logged. */
  readonly #lastLogged = new Map<string | undefined, number>()

  constructor(store: Pick<Writer, 'probe'>, options: TableOptions) {
    this.#store = store
    this.#options = options
    this.#meter = options.meter ?? noMeter
  }

  /** Undefined while the table takes rows. */
  get waiting(): Waiting | undefined {
    return this.#waiting
  }

  /** Whether it was seen to take rows within the last `ms`. */
  workedWithin(ms: number): boolean {
    return performance.now() - this.#worked.at < ms
  }

  /** Whether it was seen to take rows after `from` (performance.now()) and within the last `ms`. */
  worksSince(from: number, ms: number): boolean {
    return this.#worked.from >= from && this.workedWithin(ms)
  }

  /** A statement of the store's, in turn. Throws Stopped when the signal aborts before its end, which may come later all the same. */
  statement<T>(act: () => Promise<T>): Promise<T> {
    const { slot = (statement) => statement(), signal } = this.#options
    return slot(() => orStopped(act, signal))
  }

  /** Rows were committed by a statement that began then (performance.now()), or a probe was. */
  worked(from: number): void {
    this.#worked = { from: Math.max(from, this.#worked.from), at: performance.now() }
    if (!this.#waiting) return
    const { since, code } = this.#waiting
    this.#waiting = undefined
    this.#meter.storeWaiting(undefined)
    this.#over.resolve()
    this.#options.log.info({ code, waitedMs: Date.now() - since }, 'the database takes rows again')
  }

  /** The server or the table, not a row, is what this error is about. */
  failed(fault: StoreFault): void {
    const { vendorCode: code, message: reason } = fault
    const began = this.#waiting === undefined
    const since = this.#waiting?.since ?? Date.now()
    if (this.#waiting?.code !== code || began) this.#meter.storeWaiting({ since, code })
    this.#waiting = { since, code, reason }
    this.#say(began)
    if (!began) return
    this.#over = Promise.withResolvers()
    void this.#watch()
  }

  #say(began: boolean): void {
    const { since, code, reason } = this.#waiting!
    const now = performance.now()
    const silentMs = now - (this.#lastLogged.get(code) ?? Number.NEGATIVE_INFINITY)
    if (silentMs < (began ? sayEveryMs : sayAgainMs)) return
    this.#lastLogged.set(code, now)
    this.#options.log.warn(
      { code, reason, waitedMs: Date.now() - since },
      'the database takes no rows; the worker waits for it and saves nothing meanwhile',
    )
  }

  /** Ends the waiting also where nothing is left that would be tried again. */
  async #watch(): Promise<void> {
    try {
      for (let tries = 3; this.#waiting; tries += 1) {
        await this.rest(tries)
        if (this.#waiting) await this.takesRows()
      }
    } catch (error) {
      if (!(error instanceof Stopped)) this.#options.log.error({ err: error }, 'the table could not be probed')
    }
  }

  /** Until it is time for another try, or the table takes rows again. Throws Stopped. */
  async rest(tries: number): Promise<void> {
    const { signal, stopping = signal } = this.#options
    const rested = sleep(delay(tries), stopping)
    await (this.#waiting ? Promise.race([rested, this.#over.promise]) : rested)
    if (stopping.aborted) throw new Stopped()
  }

  /** Whether the table takes rows, as proved by what began not before `from` (performance.now()). Throws Stopped. */
  async takesRows(from = performance.now()): Promise<boolean> {
    for (;;) {
      if (this.#worked.from >= from) return true
      const under = this.#probing
      if (!under) break
      const answer = await under.answer
      if (under.from >= from) return answer
    }
    const began = performance.now()
    const answer = this.#probe(began)
    this.#probing = { from: began, answer }
    try {
      return await answer
    } finally {
      if (this.#probing?.answer === answer) this.#probing = undefined
    }
  }

  async #probe(from: number): Promise<boolean> {
    try {
      await this.statement(() => this.#store.probe())
      this.worked(from)
      return true
    } catch (error) {
      if (!(error instanceof StoreFault)) throw error
      this.failed(error)
      return false
    }
  }

  /** Resolves when the table has just been seen to take rows. Throws Stopped. */
  async untilItTakesRows(withinMs: number): Promise<void> {
    for (let tries = 1; !this.workedWithin(withinMs); tries += 1) {
      if (await this.takesRows()) return
      await this.rest(tries)
    }
  }
}
