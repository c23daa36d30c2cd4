/**
 * Publishes the outcome of a batch. Invariant: commit, invalidate the cache, mark the ids saved, append the event, acknowledge the entries:
 * always in this order. So after an event every process returns its row and answers SAVED. After a crash between two steps the entries
 * are redelivered and the same content is published again; after an acknowledgement that failed, the events are appended again. The outcomes that arrive during one
 * publishing are published together. With several shards each one has a publisher (ShardPublishers), which gives up while the shard is unavailable.
 */
import type { Cache } from '../src/cache/cache.ts'
import type { EventLog, KnownEvent } from '../src/events/events.ts'
import type { Log } from '../src/model/log.ts'
import type { Meter, Stage } from '../src/model/meter.ts'
import { sizeOf } from '../src/model/model.ts'
import { cacheKeysOf } from '../src/model/narrow.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { retry, shardPatience } from './backoff.ts'
import type { Outcome, RejectedEntry, SavedRow } from './outcome.ts'

/** The bytes of the rows in one entry of the events log; a larger batch becomes several entries. */
const maxEntryBytes = 512 * 1024
/** A process that reaches the cache may store a page that it read before the commit up to this time later. */
const readMarginMs = 5_000

interface Pending {
  outcome: Outcome
  done: PromiseWithResolvers<void>
}

interface PublisherDeps {
  cache: Pick<Cache, 'invalidate'>
  events: Pick<EventLog, 'append'>
  consumer: Consumer
}

interface PublisherOptions {
  cacheTtlMs: number
  log: Log
  signal: AbortSignal
  meter?: Meter
}

export class Publisher {
  readonly #deps: PublisherDeps
  readonly #options: PublisherOptions
  #pending: Pending[] = []
  #running = false
  /** Resolves when the last append has ended. Never rejects. */
  #appending: Promise<void> = Promise.resolve()

  constructor(deps: PublisherDeps, options: PublisherOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Resolves when the outcome is published and its entries have left the queue. Throws Stopped when the signal aborts first. */
  publish(outcome: Outcome): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#pending.push({ outcome, done })
    if (!this.#running) void this.#run()
    return done.promise
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      try {
        const outcome = merge(batch)
        await this.#markSaved(outcome)
        // Appends run one at a time; the next batch is marked saved meanwhile.
        await this.#appending
        this.#appending = this.#append(batch, outcome).catch((error) => reject(batch, error))
      } catch (error) {
        reject(batch, error)
      }
    }
    this.#running = false
  }

  /** After this, every process returns for these ids the state that their events will report. */
  async #markSaved({ saved, entries, deadLetters }: Outcome): Promise<void> {
    const { consumer } = this.#deps
    // Before the event: a client that gets the event of a failure finds the dead letter.
    if (deadLetters.length > 0) {
      await this.#timed('dead_letter', () => consumer.deadLetter(deadLetters))
      for (const [model, some] of Map.groupBy(deadLetters, (one) => one.model))
        this.#options.meter?.deadLettered(model, some.length)
    }
    if (saved.length > 0) await this.#invalidate(saved)
    if (entries.length > 0) await this.#timed('mark_saved', () => consumer.markSaved(entries))
  }

  async #append(batch: readonly Pending[], { saved, entries, deadLetters }: Outcome): Promise<void> {
    const log = logEntries(saved, deadLetters)
    if (log.length > 0) await this.#timed('append', () => this.#deps.events.append(log))
    this.#countPublished(saved)
    // The next append does not wait for the acknowledgement; the worker does, for all its batches in flight.
    const acked = this.#ack(entries, log)
    for (const { done } of batch) done.resolve(acked)
  }

  #countPublished(saved: readonly SavedRow[]): void {
    const now = Date.now()
    for (const [model, some] of Map.groupBy(saved, (one) => one.model))
      this.#options.meter?.published(
        model.name,
        some.map(({ row }) => Math.max(0, now - +row.createdAt) / 1_000),
      )
  }

  /** A repeated acknowledgement may reach another server (a failover), which lacks the events: they are appended again before it. */
  async #ack(entries: readonly Entry[], log: KnownEvent[][]): Promise<void> {
    const { consumer, events } = this.#deps
    if (entries.length === 0) return
    let isRepeated = false
    await this.#timed('ack', async () => {
      if (isRepeated) await events.append(log)
      isRepeated = true
      await consumer.ack(entries)
    })
  }

  /** Retries until the cache is invalidated, or every page that was stored before the commit has expired. */
  async #invalidate(saved: readonly SavedRow[]): Promise<void> {
    const cacheKeys = [...new Set(saved.flatMap(({ model, row }) => cacheKeysOf(model, row)))]
    const expiredAt = performance.now() + this.#options.cacheTtlMs + readMarginMs
    await this.#timed('invalidate', async () => {
      try {
        await this.#deps.cache.invalidate(cacheKeys)
      } catch (error) {
        if (performance.now() < expiredAt) throw error
        this.#options.log.warn(
          { reason: (error as Error).message },
          'the cache is unavailable and its old pages have expired; publishing without it',
        )
      }
    })
  }

  async #timed(stage: Stage, act: () => Promise<void>): Promise<void> {
    const startedAt = performance.now()
    const giveUp = stage === 'append' || stage === 'invalidate' ? () => {} : shardPatience(this.#deps.consumer)
    await this.#retry(stage, act, giveUp)
    this.#options.meter?.stage(stage, (performance.now() - startedAt) / 1_000)
  }

  #retry(step: Stage, act: () => Promise<void>, giveUp: (error: Error) => void): Promise<void> {
    const { log, signal } = this.#options
    let lastLogged: string | undefined
    return retry(act, signal, (error, attempt) => {
      if (error.message !== lastLogged || attempt % 10 === 0)
        log.warn({ step, reason: error.message, attempt }, 'a step after the commit failed; retrying')
      lastLogged = error.message
      giveUp(error)
    })
  }
}

function merge(batch: readonly Pending[]): Outcome {
  return {
    saved: batch.flatMap(({ outcome }) => outcome.saved),
    entries: batch.flatMap(({ outcome }) => outcome.entries),
    deadLetters: batch.flatMap(({ outcome }) => outcome.deadLetters),
  }
}

function reject(batch: readonly Pending[], error: unknown): void {
  for (const { done } of batch) done.reject(error)
}

function logEntries(saved: readonly SavedRow[], deadLetters: readonly RejectedEntry[]): KnownEvent[][] {
  const all: KnownEvent[] = saved.map(({ model, row }) => ({ type: 'saved', model, row }))
  for (const { id, model, failure } of deadLetters) all.push({ type: 'failed', id, model, failure })
  const entries: KnownEvent[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const event of all) {
    const size = event.type === 'saved' ? sizeOf(event.model, event.row) + 150 : 300
    if (bytes + size > maxEntryBytes || entries.at(-1)!.length >= 1_000) {
      entries.push([])
      bytes = 0
    }
    entries.at(-1)!.push(event)
    bytes += size
  }
  return entries
}
