/**
 * The worker: receive → persist → publish → ack. Invariant: an entry leaves the queue only when its row is committed and published, or as
 * a dead letter. Wherever the worker stops or crashes in between, the entry is still in the queue.
 *
 * A batch waits
 * 1. to be received: for a place among the batches in flight (`maxInFlight`), and for space for held rows (`#holdsTooMuch`)
 * 2. to be received after a batch that was not full: for `receiveSpacingMs`, and for its statement
 * 3. for the rows of its models' parents that were received with it (`#afterParents`)
 * 4. for a slot for its statement (`Slots`)
 * 5. for a table that takes rows (`TableState.backOff`)
 * 6. with suspects: for the counted attempts before it, and for a statement that has just succeeded (suspects.ts)
 *
 * Each model has a partition (partition.ts): a table that takes no rows holds up the rows of its own model only.
 */
import type { Cache } from '../src/cache/cache.ts'
import type { Writer } from '../src/db/store.ts'
import type { EventLog } from '../src/events/events.ts'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter } from '../src/model/meter.ts'
import type { Model, Models } from '../src/model/model.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { ShardUnavailable, Stopped } from './backoff.ts'
import { NewerEntries } from './newer.ts'
import type { Outcome } from './outcome.ts'
import { type HeldRows, holdingOf, Partition } from './partition.ts'
import type { PauseWatch } from './pause-watch.ts'
import { defaultRetryForMs, type Persisted } from './persist.ts'
import { Publisher } from './publisher.ts'
import { ShardPublishers } from './shard-publishers.ts'
import { Slots } from './slots.ts'
import { type PendingRow, type Sorted, Sorter } from './sort.ts'
import { Suspects } from './suspects.ts'

export interface WorkerOptions {
  models: Models
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
  /** Bounds of the rows that are held for tables that take no rows, or parked. */
  held?: typeof mostHeld
  /** For how long an entry of a newer release is left to its workers. */
  deadLetterAfterMs?: number | undefined
}

interface WorkerDeps {
  consumer: Consumer
  store: Writer
  cache: Pick<Cache, 'invalidate'>
  events: Pick<EventLog, 'append'>
  /** Left out: persisting is never paused. */
  pause?: Pick<PauseWatch, 'resumed'>
}

/** UTF-8 bytes, roughly, that one call of receive returns at most. */
const receiveBytes = 8 * 1024 * 1024
/** How long receive waits for an entry; an idle worker takes as long to stop. */
const receiveWaitMs = 1_000
/** The time between two calls of receive if the first returned less than a batch. Otherwise, saves that arrive one by one would each cost
 *  a statement. An idle worker receives at once, and full batches follow each other without a pause. Where a statement takes longer, the
 *  next call waits for its end, at most `mostSpacingMs`: the slower the database, the larger the batches. */
const receiveSpacingMs = 5
const mostSpacingMs = 25
/** So many batches are received at once at most: the queue's script that returns them blocks its other clients. */
const mostSpread = 4
/** An entry that was delivered more often may have crashed its worker: it is a suspect, and its attempts are counted durably. */
const suspectDeliveries = 1
const defaultExtendLeaseEveryMs = 3_000
/** An entry that waited longer in the queue was not alone there. */
const backlogMs = 5_000
/** Beyond, the worker receives no more entries. Characters of messages. */
const mostHeld = { rows: 20_000, characters: 32 * 1024 * 1024 }

/** Entries that are being processed together; without a partition, they need no table. */
interface Batch {
  partition: Partition | undefined
  entries: readonly Entry[]
  since: number
  done: Promise<void>
}

export class Worker {
  readonly #consumer: Consumer
  readonly #pause: Pick<PauseWatch, 'resumed'> | undefined
  readonly #options: WorkerOptions
  readonly #partitions: ReadonlyMap<Model, Partition>
  readonly #sorter: Sorter
  readonly #newer: NewerEntries
  readonly #publisher: Pick<Publisher, 'publish'>
  readonly #suspects: Suspects
  /** After it aborts, no more entries are received. */
  readonly #stopping = new AbortController()
  /** After it aborts, nothing is awaited. */
  readonly #aborting = new AbortController()
  readonly #inFlight = new Set<Batch>()
  /** The number of models in the last entries that were received: so many batches are received at once, since each model takes a statement. */
  #spread = 1
  /** Resolves at the next change of the batches in flight, the parked rows or the tables. */
  #change = Promise.withResolvers<void>()
  /** As many batches as may be are in flight, so that it receives no more: the queue may hold the parents of their rows. */
  #isBusy = false
  #loop: Promise<void> | undefined
  #extendingLease: NodeJS.Timeout | undefined

  constructor({ consumer, store, cache, events, pause }: WorkerDeps, options: WorkerOptions) {
    const {
      models,
      concurrency,
      log,
      maxAttempts,
      cacheTtlMs,
      retryForMs,
      deadLetterAfterMs,
      meter = noMeter,
    } = options
    const signal = this.#aborting.signal
    this.#consumer = consumer
    this.#pause = pause
    this.#options = options
    const stopping = this.#stopping.signal
    const slots = new Slots(concurrency, { stopping })
    const onFinished = (outcome: Outcome) => this.#publishParked(outcome)
    const onChange = () => {
      slots.next()
      this.#changed()
    }
    const isBusy = () => this.#isBusy || this.#hasBatchFor((retryForMs ?? defaultRetryForMs) / 4)
    const partitionOptions = {
      batch: options.batch,
      maxAttempts,
      retryForMs,
      log,
      meter,
      signal,
      stopping,
      onChange,
      isBusy,
    }
    this.#partitions = new Map(
      [...models.values()].map((model) => [
        model,
        new Partition(model, { store, slots, onFinished }, partitionOptions),
      ]),
    )
    this.#sorter = new Sorter(models)
    this.#newer = new NewerEntries({ log, deadLetterAfterMs })
    const open = () => new Publisher({ cache, events, consumer }, { cacheTtlMs, log, signal, meter })
    this.#publisher = consumer.shardOf ? new ShardPublishers({ consumer, open, log }) : open()
    this.#suspects = new Suspects(
      {
        consumer,
        partitions: this.#partitions,
        sorter: this.#sorter,
        publisher: this.#publisher,
        finish: (partition, persisted) => this.#finish(partition, persisted),
        finishUnsaved: (sorted) => this.#finishUnsaved(sorted),
      },
      { maxAttempts, log, signal },
    )
  }

  start(): void {
    this.#loop = this.#run()
    this.#extendingLease = setInterval(
      () => this.#extendLease(),
      this.#options.extendLeaseEveryMs ?? defaultExtendLeaseEveryMs,
    )
  }

  #changed(): void {
    this.#change.resolve()
    this.#change = Promise.withResolvers()
  }

  async #run(): Promise<void> {
    const { batch, concurrency, log } = this.#options
    // For each statement one batch that waits for its slot, and some committed ones that are being published.
    const maxInFlight = concurrency * 2 + 4
    const isFull = () => {
      this.#isBusy = this.#moving() >= maxInFlight
      return this.#isBusy || this.#holdsTooMuch()
    }
    while (!this.#stopping.signal.aborted) {
      while (isFull() && !this.#stopping.signal.aborted) {
        await this.#change.promise
        // What it receives next may have waited for that.
        if (this.#isBusy) this.#seesBacklog()
      }
      while (this.#pause?.resumed && !this.#stopping.signal.aborted)
        await Promise.race([this.#pause.resumed, this.#change.promise])
      if (this.#stopping.signal.aborted) return
      try {
        const startedAt = performance.now()
        const rows = batch * Math.min(this.#spread, mostSpread)
        const entries = await this.#consumer.receive({ rows, bytes: receiveBytes }, receiveWaitMs)
        if (entries.length === 0) continue
        const characters = entries.reduce((sum, { body }) => sum + body.length, 0)
        const isFull = entries.length >= rows || characters >= receiveBytes / 2
        const inserted = this.#process(entries, isFull)
        if (entries.length < batch) await this.#space(startedAt, inserted)
      } catch (error) {
        log.error({ err: error }, 'receiving from the queue failed; retrying in 1 s')
        await sleep(1_000, this.#stopping.signal)
      }
    }
  }

  async #space(startedAt: number, inserted: Promise<unknown>): Promise<void> {
    const pause = (untilMs: number) =>
      sleep(Math.max(0, startedAt + untilMs - performance.now()), this.#stopping.signal)
    await pause(receiveSpacingMs)
    await Promise.race([inserted, pause(mostSpacingMs)])
  }

  /** The number of batches in flight that do not wait for a table that takes no rows. */
  #moving(): number {
    let moving = 0
    for (const { partition } of this.#inFlight) if (!partition?.failing) moving += 1
    return moving
  }

  holding(): HeldRows[] {
    return holdingOf(this.#partitions.values(), this.#inFlight)
  }

  #seesBacklog(): void {
    for (const { persister } of this.#partitions.values()) persister.seesBacklog()
  }

  /** Whether rows have been in flight for so long, on a table that takes rows: they may be the parents of others. */
  #hasBatchFor(ms: number): boolean {
    const since = performance.now() - ms
    return [...this.#inFlight].some((batch) => batch.partition && !batch.partition.failing && batch.since < since)
  }

  #holdsTooMuch(): boolean {
    const most = this.#options.held ?? mostHeld
    let rows = 0
    let characters = 0
    for (const { parking } of this.#partitions.values()) {
      rows += parking.rows
      characters += parking.characters
    }
    for (const { partition, entries } of this.#inFlight) {
      if (!partition?.failing) continue
      rows += entries.length
      for (const { body } of entries) characters += body.length
    }
    return rows >= most.rows || characters >= most.characters
  }

  /** Runs `act` as a batch in flight with these entries. */
  #track(partition: Partition | undefined, entries: readonly Entry[], act: () => Promise<void>): void {
    const batch = { partition, entries, since: performance.now(), done: Promise.resolve() }
    this.#inFlight.add(batch)
    batch.done = act()
      .catch((error: Error) => {
        // Stopped: the entries stay in the queue and are redelivered.
        if (error instanceof ShardUnavailable) this.#consumer.release(entries).catch(() => {})
        else if (!(error instanceof Stopped))
          this.#options.log.error({ err: error }, 'a batch failed; its entries stay in the queue')
      })
      .finally(() => {
        this.#inFlight.delete(batch)
        this.#changed()
      })
  }

  /** `isFull`: the queue has more entries. Resolves when the rows are inserted, or cannot be. */
  #process(entries: readonly Entry[], isFull: boolean): Promise<unknown> {
    const isSuspect = (entry: Entry) => entry.deliveries > suspectDeliveries && !this.#newer.has(entry)
    const suspects = entries.filter(isSuspect)
    const others = suspects.length === 0 ? entries : entries.filter((entry) => !isSuspect(entry))
    const sorted = this.#sorter.sort(others)
    this.#finishUnsaved(sorted)
    this.#spread = Math.max(1, sorted.rows.size)
    if (isFull || isLate(sorted)) this.#seesBacklog()
    const persisted = new Map<Model, Promise<void>>()
    for (const [model, rows] of sorted.rows) {
      const partition = this.#partitions.get(model)!
      const parents = this.#afterParents(model, persisted)
      const done = Promise.withResolvers<void>()
      persisted.set(model, done.promise)
      this.#track(partition, entriesOf(rows), () => this.#processRows(partition, rows, parents, done.resolve))
    }
    // Not decoded before their attempt is counted.
    for (const ofShard of Map.groupBy(suspects, (entry) => this.#consumer.shardOf?.(entry)).values())
      for (const [partition, some] of this.#suspects.byPartition(ofShard))
        this.#track(partition, some, () => this.#suspects.process(partition, some))
    return Promise.all(persisted.values())
  }

  /** Of sorted entries, those that are no rows. */
  #finishUnsaved({ deadLetters, newer }: Sorted): void {
    const { due, released } = this.#newer.add(newer)
    // Where it fails, their lease ends by itself.
    this.#consumer.release(released).catch(() => {})
    if (deadLetters.length + due.length > 0) this.#publishUnsaved([...deadLetters, ...due])
  }

  #publishUnsaved(deadLetters: Outcome['deadLetters']): void {
    const entries = deadLetters.map(({ entry }) => entry)
    this.#track(undefined, entries, () => this.#publisher.publish({ saved: [], entries: [], deadLetters }))
  }

  /** Resolves when the parents in `persisted` are inserted, or their table takes no rows: then the foreign key tells which rows can be saved. */
  async #afterParents(model: Model, persisted: ReadonlyMap<Model, Promise<unknown>>): Promise<void> {
    for (const { model: name } of model.references) {
      const parent = this.#options.models.get(name)
      const inserted = parent && parent !== model ? persisted.get(parent) : undefined
      if (!parent || !inserted) continue
      let done = false
      void inserted.then(() => {
        done = true
      })
      const partition = this.#partitions.get(parent)!
      while (!done && !partition.failing) await Promise.race([inserted, this.#change.promise])
    }
  }

  async #processRows(
    partition: Partition,
    rows: PendingRow[],
    parents: Promise<void>,
    inserted: () => void,
  ): Promise<void> {
    let persisted: Persisted
    try {
      await parents
      persisted = await partition.persister.persist(rows)
    } catch (error) {
      if (error instanceof Stopped) throw error
      // A bug that one of the entries triggers. Alone, each is tried a bounded number of times.
      const entries = entriesOf(rows)
      this.#options.log.error(
        { err: error, model: partition.model.name, entries: entries.length },
        'a batch failed with an unexpected error; trying its entries one by one',
      )
      for (const entry of entries) await this.#suspects.processAlone(partition, entry)
      return
    } finally {
      inserted()
    }
    await this.#finish(partition, persisted)
  }

  async #finish(partition: Partition, { parked, ...outcome }: Persisted): Promise<void> {
    partition.parking.add(parked)
    if (outcome.saved.length > 0) for (const { parking } of this.#partitions.values()) parking.retryReferences()
    // The events of saved rows do not wait for the parked rows of their batch.
    if (outcome.entries.length + outcome.deadLetters.length > 0) await this.#publisher.publish(outcome)
  }

  #publishParked(outcome: Outcome): void {
    if (outcome.saved.length > 0) for (const { parking } of this.#partitions.values()) parking.retryReferences()
    const entries = [...outcome.entries, ...outcome.deadLetters.map(({ entry }) => entry)]
    this.#track(undefined, entries, () => this.#publisher.publish(outcome))
  }

  async #extendLease(): Promise<void> {
    const old = performance.now() - 1_000
    const entries = [...this.#inFlight].filter(({ since }) => since < old).flatMap((batch) => batch.entries)
    for (const { parking } of this.#partitions.values()) entries.push(...parking.entries)
    if (entries.length === 0) return
    // Where it fails, another worker may receive the entries, too: that costs double work, never a double row.
    await this.#consumer.extendLease(entries).catch(() => {})
  }

  /** Receives no more and finishes the batches in flight; those that take longer than `graceMs` stay in the queue. May be called twice. */
  async stop(graceMs = 5_000): Promise<void> {
    this.#stopping.abort()
    const timer = setTimeout(() => this.#aborting.abort(), graceMs)
    this.#changed()
    for (const { parking } of this.#partitions.values()) await parking.stopped()
    await this.#loop
    while (this.#inFlight.size > 0) await Promise.all([...this.#inFlight].map(({ done }) => done))
    clearInterval(this.#extendingLease)
    await this.#consumer.close()
    clearTimeout(timer)
  }
}

/** Whether rows are received long after they were enqueued: the parents of others may still be in the queue. */
function isLate({ rows }: Sorted): boolean {
  const latest = Date.now() - backlogMs
  return [...rows.values()].some((some) => some.some(({ row }) => +row.createdAt < latest))
}

const entriesOf = (rows: readonly PendingRow[]): Entry[] => rows.flatMap(({ entries }) => entries)
