/** The history as operators see it: one series of points, of one model or of all. Where no process counted, a value is undefined, not zero. */

import type { EventLog } from '../events/events.ts'
import {
  addCounts,
  addEveryMs,
  type Bucket,
  type Counts,
  type ModelCounts,
  mostModels,
  quantileOf,
  rings,
} from '../events/history.ts'
import { badInput } from '../model/error.ts'
import type { Models } from '../model/model.ts'

export const historyRings = { FIVE_MINUTES: rings.fiveMinutes, HOUR: rings.hour, DAY: rings.day }
export type HistoryRange = keyof typeof historyRings

export interface Quantiles {
  /** Milliseconds. */
  p50: number
  p95: number
  p99: number
}

export interface HistoryPoint {
  /** When it begins. */
  at: Date
  /** How many API processes and workers counted in it, on average. */
  apis: number
  workers: number
  /** Per second. Undefined where no API process counted. */
  accepted: number | undefined
  refused: number | undefined
  /** Per second. Undefined where no worker counted. */
  persisted: number | undefined
  deadLettered: number | undefined
  /** Of all models. */
  backlog: number | undefined
  ack: Quantiles | undefined
  saveToEvent: Quantiles | undefined
}

export interface History {
  from: Date
  to: Date
  stepMs: number
  points: HistoryPoint[]
}

export class Histories {
  readonly #events: Pick<EventLog, 'history'>
  readonly #models: Models

  constructor({ events, models }: { events: Pick<EventLog, 'history'>; models: Models }) {
    this.#events = events
    this.#models = models
  }

  /** Of one model, or of all. */
  async read(range: HistoryRange, model: string | undefined): Promise<History> {
    const known = [...this.#models.keys()].slice(0, mostModels)
    if (model !== undefined && !known.includes(model))
      throw badInput(
        `model must be one of ${known.join(', ')}: the first ${mostModels} have a history of their own; got ${JSON.stringify(model.slice(0, 50))}`,
      )
    const ring = historyRings[range]
    const { now, buckets } = await this.#events.history.read(ring)
    // Two fewer than are kept: the oldest are about to be replaced.
    const stepMs = ring.widthMs
    const to = Math.floor(now / stepMs) * stepMs
    const from = to - (ring.length - 2) * stepMs
    const points = buckets.filter(({ at }) => at >= from).map((bucket) => pointOf(bucket, stepMs, model))
    return { from: new Date(from), to: new Date(to), stepMs, points }
  }
}

function pointOf({ at, counts }: Bucket, stepMs: number, model: string | undefined): HistoryPoint {
  const { apis, workers, models } = counts
  const sum: ModelCounts = { accepted: 0, persisted: 0, refused: 0, deadLettered: 0, ack: {}, event: {} }
  const of = model === undefined ? Object.values(models) : [models[model] ?? {}]
  for (const each of of) addCounts(sum, each as Counts)
  const perSecond = (count: number) => Math.round((count / (stepMs / 1_000)) * 100) / 100
  const average = (count: number) => Math.round((count / (stepMs / addEveryMs)) * 10) / 10
  const byApi = (count: number) => (apis > 0 ? perSecond(count) : undefined)
  const byWorker = (count: number) => (workers > 0 ? perSecond(count) : undefined)
  return {
    at: new Date(at),
    apis: average(apis),
    workers: average(workers),
    accepted: byApi(sum.accepted),
    refused: byApi(sum.refused),
    persisted: byWorker(sum.persisted),
    deadLettered: byWorker(sum.deadLettered),
    backlog: typeof counts.depth === 'number' ? counts.depth : undefined,
    ack: quantilesOf(sum.ack),
    saveToEvent: quantilesOf(sum.event),
  }
}

function quantilesOf(durations: Record<string, number>): Quantiles | undefined {
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((part) => quantileOf(durations, part))
  if (p50 === undefined || p95 === undefined || p99 === undefined) return undefined
  const ms = (seconds: number) => Math.round(seconds * 100_000) / 100
  return { p50: ms(p50), p95: ms(p95), p99: ms(p99) }
}
