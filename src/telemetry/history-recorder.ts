/**
 * Counts what a process does, in memory, and adds it to the history every five seconds. Invariant: a save costs it two additions; a history
 * that cannot be written delays and fails nothing. What cannot be added is dropped: it is a gap, and never counted twice.
 */
import { addEveryMs, type BucketCounts, type HistoryStore, type ModelCounts, stepOf } from '../events/history.ts'
import { type Meter, noMeter } from '../model/meter.ts'

/** Of more models, the others are counted together. */
const mostModels = 8
export const otherModels = '*'
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
    const counted = this.#counting()
    const tee = Object.keys(noMeter).map((name) => {
      const key = name as keyof Meter
      const call = (...args: unknown[]) => {
        ;(counted[key] as ((...args: unknown[]) => void) | undefined)?.(...args)
        ;(meter[key] as (...args: unknown[]) => void)(...args)
      }
      return [name, counted[key] ? call : (...args: unknown[]) => (meter[key] as (...args: unknown[]) => void)(...args)]
    })
    return Object.fromEntries(tee) as Meter
  }

  #counting(): Partial<Meter> {
    return {
      enqueued: (model, saves, seconds) => {
        const counts = this.#of(model)
        counts.accepted += saves
        count(counts.ack, stepOf(seconds), saves)
      },
      rejected: (model, saves) => {
        this.#of(model).refused += saves
      },
      committed: (model, rows) => {
        this.#of(model).persisted += rows
      },
      deadLettered: (model, count) => {
        this.#of(model ?? otherModels).deadLettered += count
      },
      published: (model, lags) => {
        const { event } = this.#of(model)
        for (const seconds of lags) count(event, stepOf(seconds), 1)
      },
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
