/**
 * From rows to events. Invariant: commit, then cache, then the queue's word that it is saved, then event, then settle, in that order,
 * always: who has heard of the event is told SAVED by everybody. A crash in between announces again, with the same contents. Batches that come while an announcement is under way go together into the next one.
 */
import type { Cache } from '../src/cache/cache.ts'
import type { EventLog, KnownEvent } from '../src/events/events.ts'
import type { Content } from '../src/model/content.ts'
import type { Log } from '../src/model/log.ts'
import type { Meter, Stage } from '../src/model/meter.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { persistently } from './backoff.ts'
import type { Outcome, RejectedEntry } from './persist.ts'

/** Of one entry of the events log, in characters of content; a larger batch becomes several entries. */
const entryLength = 512 * 1024
/** Of a page that was being read, at the commit, by a process that could reach the cache when we could not. */
const readMarginMs = 5_000

interface Waiting {
  outcome: Outcome
  done: PromiseWithResolvers<void>
}

export class Publisher {
  readonly #deps: { cache: Pick<Cache, 'invalidate'>; events: Pick<EventLog, 'append'>; consumer: Consumer }
  readonly #options: { cacheTtlMs: number; log: Log; signal: AbortSignal; meter?: Meter }
  #waiting: Waiting[] = []
  #running = false
  /** The append under way, and all before it. Never rejects. */
  #appending: Promise<void> = Promise.resolve()

  constructor(
    deps: { cache: Pick<Cache, 'invalidate'>; events: Pick<EventLog, 'append'>; consumer: Consumer },
    options: { cacheTtlMs: number; log: Log; signal: AbortSignal; meter?: Meter },
  ) {
    this.#deps = deps
    this.#options = options
  }

  /** Resolves when all of it is announced and out of the queue. Rejects with Stopped when the signal aborts before. */
  publish(outcome: Outcome): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#waiting.push({ outcome, done })
    if (!this.#running) void this.#run()
    return done.promise
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      try {
        await this.#markSaved(batch)
        // One append at a time; what comes next is confirmed meanwhile.
        await this.#appending
        this.#appending = this.#append(batch).catch((error) => reject(batch, error))
      } catch (error) {
        reject(batch, error)
      }
    }
    this.#running = false
  }

  /** From here on everybody says of them what the event will say. */
  async #markSaved(batch: readonly Waiting[]): Promise<void> {
    const { consumer } = this.#deps
    const { saved, entries, deadLetters } = together(batch)
    // Buried before it is announced: who hears of a failure finds the dead letter.
    if (deadLetters.length > 0) await this.#timed('dead_letter', () => consumer.deadLetter(deadLetters))
    if (saved.length > 0) await this.#invalidate()
    if (entries.length > 0) await this.#timed('mark_saved', () => consumer.markSaved(entries))
  }

  async #append(batch: readonly Waiting[]): Promise<void> {
    const { saved, entries, deadLetters } = together(batch)
    const log = logEntries(saved, deadLetters)
    if (log.length > 0) await this.#timed('append', () => this.#deps.events.append(log))
    // The next announcement need not wait for this; the worker does, for all it has in hand.
    const acked = this.#ack(entries)
    for (const { done } of batch) done.resolve(acked)
  }

  async #ack(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#timed('ack', () => this.#deps.consumer.ack(entries))
  }

  /** Until the bump has succeeded, or every page of before has expired by itself. */
  async #invalidate(): Promise<void> {
    const givenUpAt = performance.now() + this.#options.cacheTtlMs + readMarginMs
    await this.#timed('invalidate', async () => {
      try {
        await this.#deps.cache.invalidate()
      } catch (error) {
        if (performance.now() < givenUpAt) throw error
        this.#options.log.warn(
          { reason: (error as Error).message },
          'the cache is away; its old pages have expired, announcing without it',
        )
      }
    })
  }

  async #timed(stage: Stage, act: () => Promise<void>): Promise<void> {
    const started = performance.now()
    await this.#persistently(stage, act)
    this.#options.meter?.stage(stage, (performance.now() - started) / 1_000)
  }

  #persistently(step: Stage, act: () => Promise<void>): Promise<void> {
    const { log, signal } = this.#options
    let lastLogged: string | undefined
    return persistently(act, signal, (error, tries) => {
      if (error.message !== lastLogged || tries % 10 === 0)
        log.warn({ step, reason: error.message, tries }, 'a batch is committed but not done yet; trying again')
      lastLogged = error.message
    })
  }
}

function together(batch: readonly Waiting[]): Outcome {
  return {
    saved: batch.flatMap(({ outcome }) => outcome.saved),
    entries: batch.flatMap(({ outcome }) => outcome.entries),
    deadLetters: batch.flatMap(({ outcome }) => outcome.deadLetters),
  }
}

function reject(batch: readonly Waiting[], error: unknown): void {
  for (const { done } of batch) done.reject(error)
}

function logEntries(saved: readonly Content[], deadLetters: readonly RejectedEntry[]): KnownEvent[][] {
  const all: KnownEvent[] = saved.map((content) => ({ type: 'saved', content }))
  for (const { id, failure } of deadLetters) if (id !== undefined) all.push({ type: 'failed', id, failure })
  const entries: KnownEvent[][] = []
  let length = Number.POSITIVE_INFINITY
  for (const event of all) {
    const size = event.type === 'saved' ? event.content.content.length + 150 : 300
    if (length + size > entryLength || entries.at(-1)!.length >= 1_000) {
      entries.push([])
      length = 0
    }
    entries.at(-1)!.push(event)
    length += size
  }
  return entries
}
