/**
 * The worker: take, persist, announce, settle. Invariant: an entry leaves the queue only when its row is committed and announced, or as a
 * dead letter; whatever stops the worker in between leaves the entry where it was.
 */
import type { Cache } from '../src/cache/cache.ts'
import type { Writer } from '../src/db/store.ts'
import type { EventLog } from '../src/events/events.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { delay, persistently, Stopped } from './backoff.ts'
import { Parking, type ParkingOptions } from './parking.ts'
import { deadLetter, type Outcome, type Persisted, Persister } from './persist.ts'
import { Publisher } from './publisher.ts'
import { TableState, type Waiting } from './table-state.ts'

export interface WorkerOptions {
  /** Rows per statement. */
  batch: number
  /** Statements at once. */
  concurrency: number
  maxAttempts: number
  cacheTtlMs: number
  log: Log
  meter?: Meter
  /** How often it tells the queue what it is still working on. */
  holdEveryMs?: number
  /** For how long a row is tried again whose parent is missing, or whose error nobody knows. */
  patienceMs?: number | undefined
  /** Of the rows that wait by themselves. */
  parking?: ParkingOptions['bounds']
}

/** UTF-8 bytes, roughly, that one take may bring. */
const receiveBytes = 8 * 1024 * 1024
/** Bounds, too, how long a worker with nothing to do takes to stop. */
const receiveWaitMs = 1_000
/** What is taken while saves come one by one: a statement for each of them would keep everybody busy with statements. What comes to an
 *  idle worker is taken at once, and full batches follow each other without a pause. */
const receiveSpacingMs = 5
/** An entry handed out more often than this may be what killed its worker: its tries are counted durably. */
const suspectDeliveries = 1
/** Suspects that are tried together at first; those that a try with so few did not survive are tried alone. */
const suspectsTogether = 100
/** A try is counted only where the table was seen to take rows so shortly before: what a worker dies of then is not the wait for it. */
const proofMs = 1_000

export class Worker {
  readonly #consumer: Consumer
  readonly #options: WorkerOptions
  readonly #table: TableState
  readonly #persister: Persister
  readonly #parking: Parking
  readonly #publisher: Publisher
  /** No more is taken. */
  readonly #stopping = new AbortController()
  /** No more is waited for. */
  readonly #giveUp = new AbortController()
  readonly #inHand = new Set<{ entries: readonly Entry[]; since: number; done: Promise<void> }>()
  #statements = 0
  #slotFree: (() => void)[] = []
  /** The counted try under way, and all before it: one at a time, so that what dies is what is counted. Never rejects. */
  #counted: Promise<unknown> = Promise.resolve()
  #loop: Promise<void> | undefined
  #holding: NodeJS.Timeout | undefined

  constructor(
    deps: { consumer: Consumer; store: Writer; cache: Pick<Cache, 'invalidate'>; events: Pick<EventLog, 'append'> },
    options: WorkerOptions,
  ) {
    const { consumer, store, cache, events } = deps
    const { log, maxAttempts, cacheTtlMs, patienceMs, parking: bounds, meter = noMeter } = options
    const signal = this.#giveUp.signal
    this.#consumer = consumer
    this.#options = options
    const slot = <T>(statement: () => Promise<T>) => this.#withSlot(statement)
    this.#table = new TableState(store, { log, signal, stopping: this.#stopping.signal, meter, slot })
    this.#persister = new Persister(store, { maxAttempts, patienceMs, log, signal, meter }, this.#table)
    this.#parking = new Parking(this.#persister, (outcome) => this.#finished(outcome), {
      log,
      signal: AbortSignal.any([signal, this.#stopping.signal]),
      meter,
      ...(bounds && { bounds }),
    })
    this.#publisher = new Publisher({ cache, events, consumer }, { cacheTtlMs, log, signal, meter })
  }

  /** Why it writes nothing at the moment; undefined while the table takes rows. */
  get waiting(): Waiting | undefined {
    return this.#table.waiting
  }

  start(): void {
    this.#loop = this.#run()
    this.#holding = setInterval(() => this.#extendLease(), this.#options.holdEveryMs ?? 3_000)
  }

  async #run(): Promise<void> {
    const { batch, concurrency, log } = this.#options
    // Enough to have one batch ready for each statement and the committed ones on their way out.
    const mostInHand = concurrency * 2 + 4
    while (!this.#stopping.signal.aborted) {
      while (this.#inHand.size >= mostInHand) await Promise.race([...this.#inHand].map(({ done }) => done))
      await this.#parking.room()
      if (this.#stopping.signal.aborted) return
      try {
        const started = performance.now()
        const entries = await this.#consumer.receive({ rows: batch, bytes: receiveBytes }, receiveWaitMs)
        if (entries.length === 0) continue
        const characters = entries.reduce((sum, { body }) => sum + body.length, 0)
        if (entries.length >= batch || characters >= receiveBytes / 2) this.#persister.backlog()
        this.#begin(entries, () => this.#work(entries))
        const rest = receiveSpacingMs - (performance.now() - started)
        if (entries.length < batch && rest > 0) await sleep(rest, this.#stopping.signal)
      } catch (error) {
        log.error({ err: error }, 'cannot take from the queue; trying again')
        await sleep(1_000, this.#stopping.signal)
      }
    }
  }

  #begin(entries: readonly Entry[], act: () => Promise<void>): void {
    const work = { entries, since: performance.now(), done: Promise.resolve() }
    this.#inHand.add(work)
    work.done = act()
      .catch((error: Error) => {
        // Stopped: the entries stay in the queue, and come back.
        if (!(error instanceof Stopped)) this.#options.log.error({ err: error }, 'a batch was left in the queue')
      })
      .finally(() => this.#inHand.delete(work))
  }

  async #work(entries: readonly Entry[]): Promise<void> {
    const suspects = entries.filter(({ deliveries }) => deliveries > suspectDeliveries)
    const others = entries.filter(({ deliveries }) => deliveries <= suspectDeliveries)
    if (others.length > 0) await this.#together(others)
    for (let i = 0; i < suspects.length; i += suspectsTogether)
      await this.#suspected(suspects.slice(i, i + suspectsTogether))
  }

  async #together(entries: readonly Entry[]): Promise<void> {
    try {
      await this.#finish(await this.#persister.persist(entries))
    } catch (error) {
      if (error instanceof Stopped) throw error
      // A defect of ours, brought out by one of these entries. Alone, each is tried a bounded number of times.
      this.#options.log.error({ err: error, entries: entries.length }, 'a batch failed unexpectedly')
      for (const entry of entries) await this.#alone(entry)
    }
  }

  /** Rows that had to wait by themselves are saved, or to be dead-lettered. */
  #finished(outcome: Outcome): void {
    const entries = [...outcome.entries, ...outcome.deadLetters.map(({ entry }) => entry)]
    this.#begin(entries, () => this.#publisher.publish(outcome))
  }

  async #finish({ parked, ...outcome }: Persisted): Promise<void> {
    this.#parking.add(parked)
    if (outcome.saved.length > 0) this.#parking.committed()
    // What waits by itself does not hold up the events of its neighbours.
    if (outcome.entries.length + outcome.deadLetters.length > 0) await this.#publisher.publish(outcome)
  }

  /** Together, unless one of them was in such a try before that its worker did not survive: then that one alone. */
  async #suspected(entries: readonly Entry[]): Promise<void> {
    const persisted = await this.#exclusively(async () => {
      const counts = await this.#count(entries)
      const marked = entries.filter((_, i) => counts[i]! > 1)
      if (marked.length === 0) return { marked, persisted: await this.#try(entries, 'together') }
      await this.#withdrawAttempt(entries)
      return { marked }
    })
    if (persisted.persisted) return await this.#finish(persisted.persisted)
    const { marked } = persisted
    const others = entries.filter((entry) => !marked.includes(entry))
    if (others.length > 0 && others.length < entries.length) await this.#suspected(others)
    for (const entry of marked.length > 0 ? marked : entries) await this.#alone(entry)
  }

  /** Only an entry that failed alone is ever blamed. */
  async #alone(entry: Entry): Promise<void> {
    const { maxAttempts, log } = this.#options
    for (let tries = 1; ; tries += 1) {
      const { alone, persisted } = await this.#exclusively(async () => {
        const [count] = await this.#count([entry])
        // The first one was in company.
        const alone = count! - 2
        return alone >= maxAttempts ? { alone } : { alone, persisted: await this.#try([entry], 'alone') }
      })
      if (persisted) return await this.#finish(persisted)
      if (alone >= maxAttempts) {
        log.error(
          { id: entry.id, attempts: alone },
          'the worker crashed on a message whenever it was tried alone; dead-lettering it',
        )
        const blamed = deadLetter(entry, 'CRASHED', 'the worker crashed while processing it', alone)
        return await this.#publisher.publish({ saved: [], entries: [], deadLetters: [blamed] })
      }
      await sleep(delay(tries), this.#giveUp.signal)
      if (this.#giveUp.signal.aborted) throw new Stopped()
    }
  }

  /** A counted try. Its count is taken back unless it ends in a crash, or in a defect of ours, which is logged: undefined. */
  async #try(entries: readonly Entry[], how: 'together' | 'alone'): Promise<Persisted | undefined> {
    let persisted: Persisted
    try {
      persisted = await this.#persister.persist(entries, { waits: false })
    } catch (error) {
      if (error instanceof Stopped) {
        await this.#withdrawAttempt(entries)
        throw error
      }
      this.#options.log.error({ err: error, entries: entries.length }, `a batch failed unexpectedly, tried ${how}`)
      return undefined
    }
    await this.#withdrawAttempt(entries)
    return persisted
  }

  #count(entries: readonly Entry[]): Promise<number[]> {
    return this.#each(entries, (entry) => this.#consumer.countAttempt(entry))
  }

  async #withdrawAttempt(entries: readonly Entry[]): Promise<void> {
    await this.#each(entries, (entry) => this.#consumer.withdrawAttempt(entry))
  }

  #each<T>(entries: readonly Entry[], act: (entry: Entry) => Promise<T>): Promise<T[]> {
    const { log } = this.#options
    const warn = (error: Error) => log.warn({ reason: error.message }, 'cannot count a try; trying again')
    return Promise.all(entries.map((entry) => persistently(() => act(entry), this.#giveUp.signal, warn)))
  }

  /** When every counted try before it is over and the table was just seen to take rows. */
  #exclusively<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#counted.then(async () => {
      await this.#table.untilItTakesRows(proofMs)
      return await act()
    })
    this.#counted = result.catch(() => {})
    return result
  }

  /** At most `concurrency` statements at once, in the order they were asked for. */
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
    const entries = [...this.#inHand].filter(({ since }) => since < old).flatMap((work) => work.entries)
    entries.push(...this.#parking.entries)
    if (entries.length === 0) return
    // When that fails, another worker may take them, too: double work, never a double row.
    await this.#consumer.extendLease(entries).catch(() => {})
  }

  /** Takes no more, finishes what is in hand or, after `graceMs`, leaves it in the queue. May be called twice. */
  async stop(graceMs = 5_000): Promise<void> {
    this.#stopping.abort()
    const timer = setTimeout(() => this.#giveUp.abort(), graceMs)
    const finished = async () => {
      while (this.#inHand.size > 0) await Promise.all([...this.#inHand].map(({ done }) => done))
    }
    await this.#parking.stopped()
    await this.#loop
    await finished()
    clearInterval(this.#holding)
    await this.#consumer.close()
    clearTimeout(timer)
  }
}
