/**
 * The worker: take, persist, announce, settle. Invariant: an entry leaves the queue only when its row is committed and announced, or as a
 * dead letter; whatever stops the worker in between leaves the entry where it was.
 */
import type { Cache } from '../src/cache/cache.ts'
import type { Writer } from '../src/db/store.ts'
import type { EventLog } from '../src/events/events.ts'
import { failpoint } from '../src/model/failpoint.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import { pause } from '../src/model/pause.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { Announcer } from './announce.ts'
import { delay, persistently, Stopped } from './backoff.ts'
import { letter, Persister } from './persist.ts'

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
}

/** UTF-8 bytes, roughly, that one take may bring. */
const takeBytes = 8 * 1024 * 1024
/** Bounds, too, how long a worker with nothing to do takes to stop. */
const takeWaitMs = 1_000
/** What is taken while saves come one by one: a statement for each of them would keep everybody busy with statements. What comes to an
 *  idle worker is taken at once, and full batches follow each other without a pause. */
const takeSpacingMs = 5
/** An entry handed out more often than this may be what kills its workers: it is tried alone, and its tries are counted durably. */
const suspectDeliveries = 2

export class Worker {
  readonly #consumer: Consumer
  readonly #options: WorkerOptions
  readonly #persister: Persister
  readonly #announcer: Announcer
  /** No more is taken. */
  readonly #stopping = new AbortController()
  /** No more is waited for. */
  readonly #giveUp = new AbortController()
  readonly #inHand = new Set<{ entries: readonly Entry[]; since: number; done: Promise<void> }>()
  #statements = 0
  #slotFree: (() => void)[] = []
  #loop: Promise<void> | undefined
  #holding: NodeJS.Timeout | undefined

  constructor(
    parts: { consumer: Consumer; store: Writer; cache: Pick<Cache, 'bump'>; events: Pick<EventLog, 'append'> },
    options: WorkerOptions,
  ) {
    const { consumer, store, cache, events } = parts
    const { log, maxAttempts, cacheTtlMs, meter = noMeter } = options
    const signal = this.#giveUp.signal
    this.#consumer = consumer
    this.#options = options
    this.#persister = new Persister(store, { maxAttempts, log, signal, meter })
    this.#announcer = new Announcer({ cache, events, consumer }, { cacheTtlMs, log, signal, meter })
  }

  start(): void {
    this.#loop = this.#run()
    this.#holding = setInterval(() => this.#hold(), this.#options.holdEveryMs ?? 3_000)
  }

  async #run(): Promise<void> {
    const { batch, concurrency, log } = this.#options
    // Enough to have one batch ready for each statement and the committed ones on their way out.
    const mostInHand = concurrency * 2 + 4
    while (!this.#stopping.signal.aborted) {
      while (this.#inHand.size >= mostInHand) await Promise.race([...this.#inHand].map(({ done }) => done))
      try {
        const started = performance.now()
        const entries = await this.#consumer.take({ rows: batch, bytes: takeBytes }, takeWaitMs)
        if (entries.length === 0) continue
        this.#begin(entries)
        const rest = takeSpacingMs - (performance.now() - started)
        if (entries.length < batch && rest > 0) await pause(rest, this.#stopping.signal)
      } catch (error) {
        log.error({ err: error }, 'cannot take from the queue; trying again')
        await pause(1_000, this.#stopping.signal)
      }
    }
  }

  #begin(entries: readonly Entry[]): void {
    failpoint('taken')
    const work = { entries, since: performance.now(), done: Promise.resolve() }
    this.#inHand.add(work)
    work.done = this.#work(entries)
      .catch((error: Error) => {
        // Stopped: the entries stay in the queue, and come back.
        if (!(error instanceof Stopped)) this.#options.log.error({ err: error }, 'a batch was left in the queue')
      })
      .finally(() => this.#inHand.delete(work))
  }

  async #work(entries: readonly Entry[]): Promise<void> {
    const suspects = entries.filter(({ deliveries }) => deliveries > suspectDeliveries)
    const others = entries.filter(({ deliveries }) => deliveries <= suspectDeliveries)
    if (others.length > 0) await this.#finish(others)
    for (const suspect of suspects) await this.#alone(suspect)
  }

  async #finish(entries: readonly Entry[]): Promise<void> {
    try {
      const outcome = await this.#withSlot(() => this.#persister.persist(entries))
      await this.#announcer.announce(outcome)
    } catch (error) {
      if (error instanceof Stopped) throw error
      // A defect of ours, brought out by one of these entries. Alone, each is tried a bounded number of times.
      this.#options.log.error({ err: error, entries: entries.length }, 'a batch failed unexpectedly')
      if (entries.length === 1) await pause(delay(1), this.#giveUp.signal)
      if (this.#giveUp.signal.aborted) throw new Stopped()
      for (const entry of entries) await this.#alone(entry)
    }
  }

  /** One at a time: only an entry that failed by itself is ever blamed. */
  async #alone(entry: Entry): Promise<void> {
    const { maxAttempts, log } = this.#options
    const attempts = await persistently(
      () => this.#consumer.attempt(entry),
      this.#giveUp.signal,
      (error) => log.warn({ reason: error.message }, 'cannot count a try; trying again'),
    )
    if (attempts <= maxAttempts) return await this.#finish([entry])
    log.error(
      { id: entry.id, attempts: attempts - 1 },
      'a message was never finished, however often it was tried alone; burying it',
    )
    const blamed = letter(entry, 'CRASHED', 'whoever worked on this message did not live to finish it', attempts - 1)
    await this.#announcer.announce({ saved: [], entries: [], letters: [blamed] })
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

  async #hold(): Promise<void> {
    const old = performance.now() - 1_000
    const entries = [...this.#inHand].filter(({ since }) => since < old).flatMap((work) => work.entries)
    if (entries.length === 0) return
    // When that fails, another worker may take them, too: double work, never a double row.
    await this.#consumer.hold(entries).catch(() => {})
  }

  /** Takes no more, finishes what is in hand or, after `graceMs`, leaves it in the queue. May be called twice. */
  async stop(graceMs = 5_000): Promise<void> {
    this.#stopping.abort()
    const timer = setTimeout(() => this.#giveUp.abort(), graceMs)
    const finished = async () => {
      while (this.#inHand.size > 0) await Promise.all([...this.#inHand].map(({ done }) => done))
    }
    await this.#loop
    await finished()
    clearInterval(this.#holding)
    await this.#consumer.close()
    clearTimeout(timer)
  }
}
