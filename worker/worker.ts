/**
 * The worker: receive → persist → publish → ack. Invariant: an entry leaves the queue only when its row is committed and published, or as
 * a dead letter. Wherever the worker stops or crashes in between, the entry is still in the queue.
 *
 * A batch waits
 * 1. to be received: for a place among the batches in flight (`maxInFlight`), and for space for parked rows (`Parking.whenNotFull`)
 * 2. to be received after a batch that was not full: for `receiveSpacingMs`
 * 3. for a slot for its statement (`#withSlot`)
 * 4. for a table that takes rows (`TableState.backOff`)
 * 5. with suspects: for the counted attempts before it, and for a statement that has just succeeded (`#exclusively`)
 */
import type { Cache } from '../src/cache/cache.ts'
import type { Writer } from '../src/db/store.ts'
import type { EventLog } from '../src/events/events.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { backoffMs, retry, Stopped } from './backoff.ts'
import { Parking, type ParkingOptions } from './parking.ts'
import { deadLetter, type Outcome, type Persisted, Persister } from './persist.ts'
import { Publisher } from './publisher.ts'
import { TableState } from './table-state.ts'

export interface WorkerOptions {
  /** Rows per statement. */
  batch: number
  /** Statements at once. */
  concurrency: number
  maxAttempts: number
  cacheTtlMs: number
  log: Log
  meter?: Meter
  /** How often the worker extends the lease of its entries. */
  extendLeaseEveryMs?: number
  /** For how long a row is retried whose parent is missing, or whose error has an unknown code. */
  retryForMs?: number | undefined
  /** Bounds of the parked rows. */
  parking?: ParkingOptions['bounds']
}

interface WorkerDeps {
  consumer: Consumer
  store: Writer
  cache: Pick<Cache, 'invalidate'>
  events: Pick<EventLog, 'append'>
}

/** UTF-8 bytes, roughly, that one call of receive returns at most. */
const receiveBytes = 8 * 1024 * 1024
/** How long receive waits for an entry; an idle worker takes as long to stop. */
const receiveWaitMs = 1_000
/** The time between two calls of receive if the first returned less than a batch. Otherwise, saves that arrive one by one would each cost
 *  a statement. An idle worker receives at once, and full batches follow each other without a pause. */
const receiveSpacingMs = 5
/** An entry that was delivered more often may have crashed its worker: it is a suspect, and its attempts are counted durably. */
const suspectDeliveries = 1
/** So many suspects are tried together first. Those of an attempt that crashed the worker are tried alone. */
const suspectsPerAttempt = 100
/** An attempt is counted only where a statement on the table succeeded within this time: so the outage of a database that a worker waits
 *  for when it is killed is not counted against its entries. */
const evidenceMs = 1_000
const defaultExtendLeaseEveryMs = 3_000

export class Worker {
  readonly #consumer: Consumer
  readonly #options: WorkerOptions
  readonly #table: TableState
  readonly #persister: Persister
  readonly #parking: Parking
  readonly #publisher: Publisher
  /** After it aborts, no more entries are received. */
  readonly #stopping = new AbortController()
  /** After it aborts, nothing is awaited. */
  readonly #aborting = new AbortController()
  readonly #inFlight = new Set<{ entries: readonly Entry[]; since: number; done: Promise<void> }>()
  #statements = 0
  #slotFree: (() => void)[] = []
  /** Resolves when the last counted attempt has ended. They run one at a time: after a crash only the entries that caused it are counted.
   *  Never rejects. */
  #counted: Promise<unknown> = Promise.resolve()
  #loop: Promise<void> | undefined
  #extendingLease: NodeJS.Timeout | undefined

  constructor({ consumer, store, cache, events }: WorkerDeps, options: WorkerOptions) {
    const { log, maxAttempts, cacheTtlMs, retryForMs, parking: bounds, meter = noMeter } = options
    const signal = this.#aborting.signal
    this.#consumer = consumer
    this.#options = options
    const slot = <T>(statement: () => Promise<T>) => this.#withSlot(statement)
    this.#table = new TableState({ store }, { log, signal, stopping: this.#stopping.signal, meter, slot })
    this.#persister = new Persister({ store, table: this.#table }, { maxAttempts, retryForMs, log, signal, meter })
    this.#parking = new Parking(
      { persister: this.#persister, onFinished: (outcome) => this.#publishParked(outcome) },
      { log, signal: AbortSignal.any([signal, this.#stopping.signal]), meter, ...(bounds && { bounds }) },
    )
    this.#publisher = new Publisher({ cache, events, consumer }, { cacheTtlMs, log, signal, meter })
  }

  start(): void {
    this.#loop = this.#run()
    this.#extendingLease = setInterval(
      () => this.#extendLease(),
      this.#options.extendLeaseEveryMs ?? defaultExtendLeaseEveryMs,
    )
  }

  async #run(): Promise<void> {
    const { batch, concurrency, log } = this.#options
    // For each statement one batch that waits for its slot, and some committed ones that are being published.
    const maxInFlight = concurrency * 2 + 4
    while (!this.#stopping.signal.aborted) {
      while (this.#inFlight.size >= maxInFlight) await Promise.race([...this.#inFlight].map(({ done }) => done))
      await this.#parking.whenNotFull()
      if (this.#stopping.signal.aborted) return
      try {
        const startedAt = performance.now()
        const entries = await this.#consumer.receive({ rows: batch, bytes: receiveBytes }, receiveWaitMs)
        if (entries.length === 0) continue
        const characters = entries.reduce((sum, { body }) => sum + body.length, 0)
        if (entries.length >= batch || characters >= receiveBytes / 2) this.#persister.seesBacklog()
        this.#track(entries, () => this.#process(entries))
        const pauseMs = receiveSpacingMs - (performance.now() - startedAt)
        if (entries.length < batch && pauseMs > 0) await sleep(pauseMs, this.#stopping.signal)
      } catch (error) {
        log.error({ err: error }, 'receiving from the queue failed; retrying in 1 s')
        await sleep(1_000, this.#stopping.signal)
      }
    }
  }

  /** Runs `act` as a batch in flight with these entries. */
  #track(entries: readonly Entry[], act: () => Promise<void>): void {
    const batch = { entries, since: performance.now(), done: Promise.resolve() }
    this.#inFlight.add(batch)
    batch.done = act()
      .catch((error: Error) => {
        // Stopped: the entries stay in the queue and are redelivered.
        if (!(error instanceof Stopped))
          this.#options.log.error({ err: error }, 'a batch failed; its entries stay in the queue')
      })
      .finally(() => this.#inFlight.delete(batch))
  }

  async #process(entries: readonly Entry[]): Promise<void> {
    const suspects = entries.filter(({ deliveries }) => deliveries > suspectDeliveries)
    const others = entries.filter(({ deliveries }) => deliveries <= suspectDeliveries)
    if (others.length > 0) await this.#processBatch(others)
    for (let i = 0; i < suspects.length; i += suspectsPerAttempt)
      await this.#processSuspects(suspects.slice(i, i + suspectsPerAttempt))
  }

  async #processBatch(entries: readonly Entry[]): Promise<void> {
    try {
      await this.#finish(await this.#persister.persist(entries))
    } catch (error) {
      if (error instanceof Stopped) throw error
      // A bug that one of the entries triggers. Alone, each is tried a bounded number of times.
      this.#options.log.error(
        { err: error, entries: entries.length },
        'a batch failed with an unexpected error; trying its entries one by one',
      )
      for (const entry of entries) await this.#processAlone(entry)
    }
  }

  async #finish({ parked, ...outcome }: Persisted): Promise<void> {
    this.#parking.add(parked)
    if (outcome.saved.length > 0) this.#parking.retryReferences()
    // The events of saved rows do not wait for the parked rows of their batch.
    if (outcome.entries.length + outcome.deadLetters.length > 0) await this.#publisher.publish(outcome)
  }

  #publishParked(outcome: Outcome): void {
    const entries = [...outcome.entries, ...outcome.deadLetters.map(({ entry }) => entry)]
    this.#track(entries, () => this.#publisher.publish(outcome))
  }

  /** Tries the suspects together, unless an attempt with one of them crashed its worker before: then that one alone. */
  async #processSuspects(entries: readonly Entry[]): Promise<void> {
    const { crashed, persisted } = await this.#exclusively(async () => {
      const counts = await this.#countAttempts(entries)
      const crashed = entries.filter((_, i) => counts[i]! > 1)
      if (crashed.length === 0) return { crashed, persisted: await this.#tryCounted(entries) }
      await this.#withdrawAttempts(entries)
      return { crashed }
    })
    if (persisted) return await this.#finish(persisted)
    const others = entries.filter((entry) => !crashed.includes(entry))
    if (others.length > 0 && others.length < entries.length) await this.#processSuspects(others)
    for (const entry of crashed.length > 0 ? crashed : entries) await this.#processAlone(entry)
  }

  /** Dead-letters the entry after it crashed the worker `maxAttempts` times alone; crashes in a batch do not count. */
  async #processAlone(entry: Entry): Promise<void> {
    const { maxAttempts, log } = this.#options
    for (let attempt = 1; ; attempt += 1) {
      const { crashes, persisted } = await this.#exclusively(async () => {
        const [count] = await this.#countAttempts([entry])
        // Less this attempt and the first one, which was with others.
        const crashes = count! - 2
        return crashes >= maxAttempts ? { crashes } : { crashes, persisted: await this.#tryCounted([entry]) }
      })
      if (persisted) return await this.#finish(persisted)
      if (crashes >= maxAttempts) {
        log.error(
          { id: entry.id, attempts: crashes },
          'the worker crashed at every attempt with this message alone; dead-lettering it',
        )
        const crashed = deadLetter(entry, 'CRASHED', 'the worker crashed while processing it', crashes)
        return await this.#publisher.publish({ saved: [], entries: [], deadLetters: [crashed] })
      }
      await sleep(backoffMs(attempt), this.#aborting.signal)
      if (this.#aborting.signal.aborted) throw new Stopped()
    }
  }

  /** Persists entries whose attempt is counted. The count is withdrawn unless the attempt crashes the worker or fails with an unexpected
   *  error, which is logged; then it returns undefined. */
  async #tryCounted(entries: readonly Entry[]): Promise<Persisted | undefined> {
    let persisted: Persisted
    try {
      persisted = await this.#persister.persist(entries, { waits: false })
    } catch (error) {
      if (error instanceof Stopped) {
        await this.#withdrawAttempts(entries)
        throw error
      }
      this.#options.log.error(
        { err: error, entries: entries.length },
        'redelivered entries failed with an unexpected error',
      )
      return undefined
    }
    await this.#withdrawAttempts(entries)
    return persisted
  }

  #countAttempts(entries: readonly Entry[]): Promise<number[]> {
    return this.#retryEach(entries, (entry) => this.#consumer.countAttempt(entry))
  }

  async #withdrawAttempts(entries: readonly Entry[]): Promise<void> {
    await this.#retryEach(entries, (entry) => this.#consumer.withdrawAttempt(entry))
  }

  #retryEach<T>(entries: readonly Entry[], act: (entry: Entry) => Promise<T>): Promise<T[]> {
    const { log } = this.#options
    const warn = (error: Error) => log.warn({ reason: error.message }, 'counting an attempt failed; retrying')
    return Promise.all(entries.map((entry) => retry(() => act(entry), this.#aborting.signal, warn)))
  }

  /** Runs `act` after every counted attempt before it has ended, once a statement on the table has just succeeded. */
  #exclusively<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#counted.then(async () => {
      await this.#table.untilTakesRows(evidenceMs)
      return await act()
    })
    this.#counted = result.catch(() => {})
    return result
  }

  /** Runs at most `concurrency` statements at once, in the order of the calls. */
  async #withSlot<T>(act: () => Promise<T>): Promise<T> {
    if (this.#statements >= this.#options.concurrency)
      await new Promise<void>((resolve) => this.#slotFree.push(resolve))
    else this.#statements += 1
    try {
      return await act()
    } finally {
      const next = this.#slotFree.shift()
      if (next) next()
      else this.#statements -= 1
    }
  }

  async #extendLease(): Promise<void> {
    const old = performance.now() - 1_000
    const entries = [...this.#inFlight].filter(({ since }) => since < old).flatMap((batch) => batch.entries)
    entries.push(...this.#parking.entries)
    if (entries.length === 0) return
    // Where it fails, another worker may receive the entries, too: that costs double work, never a double row.
    await this.#consumer.extendLease(entries).catch(() => {})
  }

  /** Receives no more and finishes the batches in flight; those that take longer than `graceMs` stay in the queue. May be called twice. */
  async stop(graceMs = 5_000): Promise<void> {
    this.#stopping.abort()
    const timer = setTimeout(() => this.#aborting.abort(), graceMs)
    await this.#parking.stopped()
    await this.#loop
    while (this.#inFlight.size > 0) await Promise.all([...this.#inFlight].map(({ done }) => done))
    clearInterval(this.#extendingLease)
    await this.#consumer.close()
    clearTimeout(timer)
  }
}
