/**
 * Rows that failed by themselves and may be saved yet: tried again and again, with pauses, beside everything else. They hold up neither
 * their neighbours nor a statement's place between their tries. Invariant: bounded, in rows and in characters; at the bound the worker takes no more.
 */
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Entry } from '../src/queue/queue.ts'
import { delay, Stopped } from './backoff.ts'
import type { Outcome, Parked, Persister } from './persist.ts'

interface Place {
  parked: Parked
  rounds: number
  triedAt: number
  dueAt: number
}

export interface ParkingOptions {
  log: Log
  /** No more is tried. */
  signal: AbortSignal
  meter?: Meter | undefined
  bounds?: { rows: number; characters: number }
}

const defaultBounds = { rows: 20_000, characters: 32 * 1024 * 1024 }
/** Rows of one round: together by one statement, then one by one. */
const fewest = 64
const most = 1_000
/** Between two rounds that came to nothing. */
const restMs = 250
const sayAgainMs = 60_000

export class Parking {
  readonly #persister: Pick<Persister, 'retry'>
  readonly #finished: (outcome: Outcome) => void
  readonly #options: ParkingOptions
  readonly #meter: Meter
  #places: Place[] = []
  #characters = 0
  #wake = Promise.withResolvers<void>()
  #room = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  #lastLoggedAt = Number.NEGATIVE_INFINITY

  /** `settled` is told what is saved or to be dead-lettered, in the round that settled it. */
  constructor(persister: Pick<Persister, 'retry'>, finished: (outcome: Outcome) => void, options: ParkingOptions) {
    this.#persister = persister
    this.#finished = finished
    this.#options = options
    this.#meter = options.meter ?? noMeter
  }

  get size(): number {
    return this.#places.length
  }

  get entries(): Entry[] {
    return this.#places.flatMap(({ parked }) => parked.row.entries)
  }

  get full(): boolean {
    const { rows, characters } = this.#options.bounds ?? defaultBounds
    return this.#places.length >= rows || this.#characters >= characters
  }

  add(rows: readonly Parked[]): void {
    if (rows.length === 0) return
    const now = performance.now()
    for (const parked of rows) this.#places.push({ parked, rounds: 1, triedAt: now, dueAt: now + delay(1) })
    this.#changed()
    this.#say()
    this.#wake.resolve()
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Rows were committed: what a parked one waits for may be among them. */
  committed(): void {
    let woken = false
    for (const place of this.#places) {
      if (place.parked.fault.kind !== 'reference' || place.dueAt === 0) continue
      place.dueAt = 0
      woken = true
    }
    if (woken) this.#wake.resolve()
  }

  /** Resolves when there is room for more, or the signal aborts. */
  async room(): Promise<void> {
    while (this.full && !this.#options.signal.aborted) await this.#room.promise
  }

  /** Resolves when no round is under way; after the signal has aborted none begins. */
  async stopped(): Promise<void> {
    this.#wake.resolve()
    this.#room.resolve()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#options
    let size = fewest
    while (this.#places.length > 0 && !signal.aborted) {
      const round = this.#due(size)
      if (round.length === 0) {
        await this.#untilDue()
        continue
      }
      try {
        const { finished, wasWhole } = await this.#round(round)
        size = wasWhole ? Math.min(size * 2, most) : fewest
        if (finished === 0) await sleep(restMs, signal)
      } catch (error) {
        if (error instanceof Stopped) return
        log.error({ err: error, rows: round.length }, 'rows that wait could not be tried again; trying later')
        await sleep(1_000, signal)
      }
    }
  }

  /** Those that were tried longest ago first. */
  #due(size: number): Place[] {
    const now = performance.now()
    const due = this.#places.filter(({ dueAt }) => dueAt <= now)
    return due.sort((a, b) => a.triedAt - b.triedAt).slice(0, size)
  }

  async #untilDue(): Promise<void> {
    const next = this.#places.reduce((least, { dueAt }) => Math.min(least, dueAt), Number.POSITIVE_INFINITY)
    this.#wake = Promise.withResolvers()
    const waited = sleep(Math.max(10, next - performance.now()), this.#options.signal)
    await Promise.race([waited, this.#wake.promise])
  }

  async #round(round: readonly Place[]): Promise<{ finished: number; wasWhole: boolean }> {
    const { parked, ...outcome } = await this.#persister.retry(round.map((place) => place.parked))
    const again = new Map(parked.map((one) => [one.row, one]))
    const now = performance.now()
    const gone = new Set<Place>()
    for (const place of round) {
      const known = again.get(place.parked.row)
      if (!known) {
        gone.add(place)
        continue
      }
      place.parked = known
      place.rounds += 1
      place.triedAt = now
      place.dueAt = now + delay(place.rounds)
    }
    this.#places = this.#places.filter((place) => !gone.has(place))
    // What was true of one may have come true of all.
    if (outcome.saved.length > 0) for (const place of this.#places) place.dueAt = 0
    if (gone.size > 0) {
      this.#finished(outcome)
      this.#changed()
    }
    this.#say()
    return { finished: gone.size, wasWhole: parked.length === 0 }
  }

  #changed(): void {
    this.#characters = 0
    for (const { parked } of this.#places) for (const { body } of parked.row.entries) this.#characters += body.length
    this.#meter.parked(this.#places.length)
    if (this.full) return
    this.#room.resolve()
    this.#room = Promise.withResolvers()
  }

  #say(): void {
    const now = performance.now()
    if (this.#places.length === 0 || now - this.#lastLoggedAt < sayAgainMs) return
    this.#lastLoggedAt = now
    const { fault } = this.#places[0]!.parked
    this.#options.log.warn(
      { rows: this.#places.length, code: fault.vendorCode, reason: fault.message },
      'rows failed by themselves; each is tried again while others are saved',
    )
  }
}
