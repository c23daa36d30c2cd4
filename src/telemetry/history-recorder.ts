/**
 * Counts what a process does, in memory, and adds it to the history every five seconds. Invariant: a save costs it two additions; a history
 * that cannot be written delays and fails nothing. What cannot be added is dropped: it is a gap, and never counted twice.
 */
import {
  addEveryMs,
  type BucketCounts,
  type HistoryStore,
  type ModelCounts,
  mostModels,
  otherModels,
  stepOf,
} from '../events/history.ts'
import type { Meter } from '../model/meter.ts'

/** After the end of a bucket, so that it is the last complete one. */
const marginMs = 300

interface Options {
  /** Which counts this process has. */
  isApi: boolean
  isWorker: boolean
  models: readonly string[]
  /** The depth of the queue. */
  depth?: () => Promise<number>
}

export class HistoryRecorder {
  readonly #history: HistoryStore
  readonly #options: Options
  #models = new Map<string, ModelCounts>()
  #timer: NodeJS.Timeout | undefined
  #adding: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(history: HistoryStore, options: Options) {
    this.#history = history
    this.#options = options
  }

  /** Counts, and calls the other meter. */
  meter(meter: Meter): Meter {
    return {
      enqueued: (model, saves, seconds) => {
        const counts = this.#of(model)
        counts.accepted += saves
        count(counts.ack, stepOf(seconds), saves)
        meter.enqueued(model, saves, seconds)
      },
      rejected: (model, saves, code) => {
        this.#of(model).refused += saves
        meter.rejected(model, saves, code)
      },
      committed: (model, rows, lagSeconds) => {
        this.#of(model).persisted += rows
        meter.committed(model, rows, lagSeconds)
      },
      deadLettered: (model, messages) => {
        this.#of(model ?? otherModels).deadLettered += messages
        meter.deadLettered(model, messages)
      },
      published: (model, lagsSeconds) => {
        const { event } = this.#of(model)
        for (const seconds of lagsSeconds) count(event, stepOf(seconds), 1)
        meter.published(model, lagsSeconds)
      },
      cacheRequest: (model, result) => meter.cacheRequest(model, result),
      delivered: (events) => meter.delivered(events),
      stage: (stage, seconds) => meter.stage(stage, seconds),
      storeWaiting: (model, waiting) => meter.storeWaiting(model, waiting),
      parked: (model, rows) => meter.parked(model, rows),
    }
  }

  #of(model: string): ModelCounts {
    const known = this.#models.get(model)
    if (known) return known
    const { models } = this.#options
    const index = models.indexOf(model)
    const name = index >= 0 && index < mostModels ? model : otherModels
    const counts = this.#models.get(name) ?? {
      ...{ accepted: 0, persisted: 0, refused: 0, deadLettered: 0 },
      ack: {},
      event: {},
    }
    this.#models.set(name, counts)
    this.#models.set(model, counts)
    return counts
  }

  start(): void {
    this.#schedule(1_000)
  }

  #schedule(ms: number): void {
    if (this.#isStopped) return
    this.#timer = setTimeout(() => {
      this.#adding = this.#add().then((nextMs) => this.#schedule(nextMs))
    }, ms)
    this.#timer.unref()
  }

  /** Returns in how many milliseconds to add again: soon after a bucket of the store ends. */
  async #add(): Promise<number> {
    const { isApi, isWorker, depth } = this.#options
    const models = Object.fromEntries(this.#models)
    for (const name of Object.keys(models)) {
      if (name !== otherModels && models[name] === models[otherModels]) delete models[name]
    }
    this.#models = new Map()
    const counts: BucketCounts = { apis: isApi ? 1 : 0, workers: isWorker ? 1 : 0, models }
    try {
      const now = await depth?.().catch(() => undefined)
      if (now !== undefined) counts.depth = now
      const at = await this.#history.add(counts)
      return addEveryMs - (at % addEveryMs) + marginMs
    } catch {
      return addEveryMs
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#timer)
    await this.#adding
    if (this.#models.size > 0) await this.#add()
  }
}

function count(durations: Record<string, number>, step: number, times: number): void {
  durations[step] = (durations[step] ?? 0) + times
}
