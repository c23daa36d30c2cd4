/**
 * Parked rows: rows that failed alone and may still be saved. Parking retries them with backoff, beside the batches of the worker; between
 * two attempts they occupy no statement slot. The worker bounds their number and size (worker.ts).
 */
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Entry } from '../src/queue/queue.ts'
import { backoffMs, Stopped } from './backoff.ts'
import type { Outcome } from './outcome.ts'
import type { ParkedRow, Persister } from './persist.ts'

interface Scheduled {
  parked: ParkedRow
  attempts: number
  /** performance.now() of the last attempt, and of the next one at the earliest. */
  attemptedAt: number
  dueAt: number
}

export interface ParkingOptions {
  log: Log
  /** After it aborts, no row is retried. */
  signal: AbortSignal
  meter?: Meter | undefined
  model: string
  /** Called when the rows have changed. */
  onChange?: () => void
}

interface ParkingDeps {
  persister: Pick<Persister, 'retry'>
  /** Gets the rows of one round that are saved or are to be dead-lettered. */
  onFinished: (outcome: Outcome) => void
}

/** Rows that one round retries: first by one statement, then one by one. */
const minRoundRows = 64
const maxRoundRows = 1_000
/** The pause after a round in which no row was finished. */
const idlePauseMs = 250
const logEveryMs = 60_000

export class Parking {
  readonly #deps: ParkingDeps
  readonly #options: ParkingOptions
  readonly #meter: Meter
  #rows: Scheduled[] = []
  #characters = 0
  #wake = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  #lastLoggedAt = Number.NEGATIVE_INFINITY

  constructor(deps: ParkingDeps, options: ParkingOptions) {
    this.#deps = deps
    this.#options = options
    this.#meter = options.meter ?? noMeter
  }

  get entries(): Entry[] {
    return this.#rows.flatMap(({ parked }) => parked.pending.entries)
  }

  get rows(): number {
    return this.#rows.length
  }

  /** Of their messages. */
  get characters(): number {
    return this.#characters
  }

  add(rows: readonly ParkedRow[]): void {
    if (rows.length === 0) return
    const now = performance.now()
    for (const parked of rows) this.#rows.push({ parked, attempts: 1, attemptedAt: now, dueAt: now + backoffMs(1) })
    this.#changed()
    this.#log()
    this.#wake.resolve()
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** The worker committed rows: a parked row may refer to one of them, so those that lack a referenced row are due now. */
  retryReferences(): void {
    let due = false
    for (const scheduled of this.#rows) {
      if (scheduled.parked.fault.kind !== 'reference' || scheduled.dueAt === 0) continue
      scheduled.dueAt = 0
      due = true
    }
    if (due) this.#wake.resolve()
  }

  /** Resolves when no round is running. Call it after the signal aborted; then no other round starts. */
  async stopped(): Promise<void> {
    this.#wake.resolve()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#options
    let size = minRoundRows
    while (this.#rows.length > 0 && !signal.aborted) {
      const round = this.#due(size)
      if (round.length === 0) {
        await this.#untilDue()
        continue
      }
      try {
        const { finished, allFinished } = await this.#round(round)
        size = allFinished ? Math.min(size * 2, maxRoundRows) : minRoundRows
        if (finished === 0) await sleep(idlePauseMs, signal)
      } catch (error) {
        if (error instanceof Stopped) return
        log.error(
          { model: this.#options.model, err: error, rows: round.length },
          'retrying parked rows failed with an unexpected error; retrying in 1 s',
        )
        await sleep(1_000, signal)
      }
    }
  }

  /** At most `size` due rows, the one with the oldest attempt first. */
  #due(size: number): Scheduled[] {
    const now = performance.now()
    const due = this.#rows.filter(({ dueAt }) => dueAt <= now)
    return due.sort((a, b) => a.attemptedAt - b.attemptedAt).slice(0, size)
  }

  async #untilDue(): Promise<void> {
    const next = this.#rows.reduce((least, { dueAt }) => Math.min(least, dueAt), Number.POSITIVE_INFINITY)
    this.#wake = Promise.withResolvers()
    const due = sleep(Math.max(10, next - performance.now()), this.#options.signal)
    await Promise.race([due, this.#wake.promise])
  }

  async #round(round: readonly Scheduled[]): Promise<{ finished: number; allFinished: boolean }> {
    const { parked, ...outcome } = await this.#deps.persister.retry(round.map((scheduled) => scheduled.parked))
    const stillParked = new Map(parked.map((one) => [one.pending, one]))
    const now = performance.now()
    const finished = new Set<Scheduled>()
    for (const scheduled of round) {
      const again = stillParked.get(scheduled.parked.pending)
      if (!again) {
        finished.add(scheduled)
        continue
      }
      scheduled.parked = again
      scheduled.attempts += 1
      scheduled.attemptedAt = now
      scheduled.dueAt = now + backoffMs(scheduled.attempts)
    }
    this.#rows = this.#rows.filter((scheduled) => !finished.has(scheduled))
    // The reason why one row can be saved now may hold for all: retry all at once.
    if (outcome.saved.length > 0) for (const scheduled of this.#rows) scheduled.dueAt = 0
    if (finished.size > 0) {
      this.#deps.onFinished(outcome)
      this.#changed()
    }
    this.#log()
    return { finished: finished.size, allFinished: parked.length === 0 }
  }

  #changed(): void {
    this.#characters = 0
    for (const { parked } of this.#rows) for (const { body } of parked.pending.entries) this.#characters += body.length
    this.#meter.parked(this.#options.model, this.#rows.length)
    this.#options.onChange?.()
  }

  #log(): void {
    const now = performance.now()
    if (this.#rows.length === 0 || now - this.#lastLoggedAt < logEveryMs) return
    this.#lastLoggedAt = now
    const { fault } = this.#rows[0]!.parked
    this.#options.log.warn(
      { model: this.#options.model, rows: this.#rows.length, code: fault.vendorCode, reason: fault.message },
      'rows failed alone; the worker retries each of them and goes on saving others',
    )
  }
}
