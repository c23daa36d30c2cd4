/** What operators do and see: pause and resume of persisting, the workers, and what is wrong. */
import { SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import type { Log } from '../model/log.ts'
import { type HeldRows, reportEveryMs, type SeenWorker, type WorkerReport } from '../queue/operations.ts'
import type { Queue, QueueStatus } from '../queue/queue.ts'

/** A worker that has been silent for longer is gone. It reports every three seconds; a busy machine may delay that. */
export const goneAfterMs = 4 * reportEveryMs
/** The queue grows while its oldest message is older: workers persist a save within a second of a queue that is short. */
export const growsAfterMs = 10_000
const subjectLimit = 200

export type WorkerStateName = 'WORKING' | 'WAITING' | 'PAUSED' | 'STOPPED' | 'GONE'

export interface WorkerInfo extends Omit<WorkerReport, 'startedAt' | 'lastError'> {
  state: WorkerStateName
  startedAt: Date
  seenAt: Date
  /** With STOPPED and GONE: since when. */
  endedAt: Date | undefined
  lastError: { at: Date; message: string; code: string | undefined } | undefined
}

export type ConditionKind =
  | 'QUEUE_UNAVAILABLE'
  | 'NO_WORKER'
  | 'DATABASE_UNAVAILABLE'
  | 'PAUSED'
  | 'QUEUE_FULL'
  | 'QUEUE_GROWS'

/** Something that is wrong. */
export interface Condition {
  kind: ConditionKind
  /** Undefined if it is not known. */
  since: Date | undefined
  /** With DATABASE_UNAVAILABLE: the models whose tables take no rows. */
  models: string[]
  /** With DATABASE_UNAVAILABLE: the database's code. */
  code: string | undefined
  /** The last warning or error of the workers, with NO_WORKER and DATABASE_UNAVAILABLE. */
  lastError: WorkerInfo['lastError']
}

export class Operators {
  readonly #queue: Pick<Queue, 'operations' | 'status'>
  readonly #log: Log

  constructor({ queue, log }: { queue: Pick<Queue, 'operations' | 'status'>; log: Log }) {
    this.#queue = queue
    this.#log = log
  }

  /** Returns the state of the queue after that. */
  async pause({ subject }: Pick<Grant, 'subject'>): Promise<QueueStatus> {
    const by = subject?.slice(0, subjectLimit)
    await this.#logged('an operator paused persisting', subject, () => this.#queue.operations.pause(by))
    return await this.#queue.status()
  }

  async resume({ subject }: Pick<Grant, 'subject'>): Promise<QueueStatus> {
    await this.#logged('an operator resumed persisting', subject, () => this.#queue.operations.resume())
    return await this.#queue.status()
  }

  /** Logs what was done, and with its code what may have been done. */
  async #logged(message: string, subject: string | undefined, act: () => Promise<void>): Promise<void> {
    try {
      await act()
      this.#log.warn({ subject }, message)
    } catch (error) {
      const code = error instanceof SpillwayError ? error.code : undefined
      if (code === 'OUTCOME_UNKNOWN') this.#log.warn({ subject, code }, message)
      throw error
    }
  }

  /** Those that run first, in the order of their start; then the ended ones, latest first. */
  async workers(): Promise<WorkerInfo[]> {
    const workers = (await this.#queue.operations.workers()).map(infoOf)
    const order = (worker: WorkerInfo) => (worker.endedAt ? 1e15 - +worker.endedAt : +worker.startedAt - 1e15)
    return workers.sort((a, b) => order(a) - order(b))
  }

  /** What is wrong now, the worst first. Never rejects with a SpillwayError. */
  async conditions(): Promise<Condition[]> {
    try {
      const [status, workers] = await Promise.all([this.#queue.status(), this.workers()])
      return conditionsOf(status, workers)
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      return [condition('QUEUE_UNAVAILABLE', { code: error.code })]
    }
  }
}

function infoOf({ report, seenAt, silentMs }: SeenWorker): WorkerInfo {
  const state = stateOf(report, silentMs)
  const { lastError } = report
  return {
    ...report,
    state,
    startedAt: new Date(report.startedAt),
    seenAt: new Date(seenAt),
    endedAt: state === 'STOPPED' || state === 'GONE' ? new Date(seenAt) : undefined,
    lastError: lastError && { ...lastError, at: new Date(lastError.at) },
  }
}

function stateOf({ stopped, paused, held }: WorkerReport, silentMs: number): WorkerStateName {
  if (stopped) return 'STOPPED'
  if (silentMs > goneAfterMs) return 'GONE'
  if (paused) return 'PAUSED'
  return held.some(({ waitingSince }) => waitingSince !== undefined) ? 'WAITING' : 'WORKING'
}

function condition(kind: ConditionKind, details: Partial<Omit<Condition, 'kind'>> = {}): Condition {
  return { kind, since: undefined, models: [], code: undefined, lastError: undefined, ...details }
}

export function conditionsOf(status: QueueStatus, workers: readonly WorkerInfo[]): Condition[] {
  const running = workers.filter(({ endedAt }) => endedAt === undefined)
  const found: Condition[] = []
  if (running.length === 0) {
    const ended = workers.flatMap(({ endedAt }) => endedAt ?? [])
    const since = ended.length > 0 ? new Date(Math.max(...ended.map(Number))) : undefined
    found.push(condition('NO_WORKER', { since, lastError: latestErrorOf(workers) }))
  }
  const waiting = running.flatMap(({ held }) => held.filter(isWaiting))
  if (waiting.length > 0) {
    const longest = waiting.reduce((a, b) => (b.waitingSince < a.waitingSince ? b : a))
    found.push(
      condition('DATABASE_UNAVAILABLE', {
        since: new Date(longest.waitingSince),
        models: [...new Set(waiting.flatMap(({ model }) => model ?? []))],
        code: longest.waitingCode,
        lastError: latestErrorOf(running),
      }),
    )
  }
  if (status.paused) found.push(condition('PAUSED', { since: new Date(status.paused.since) }))
  if (status.depth >= status.capacity) found.push(condition('QUEUE_FULL'))
  if (status.oldestAgeMs > growsAfterMs)
    found.push(condition('QUEUE_GROWS', { since: new Date(Date.now() - status.oldestAgeMs) }))
  return found
}

function isWaiting(held: HeldRows): held is HeldRows & { waitingSince: number } {
  return held.waitingSince !== undefined
}

function latestErrorOf(workers: readonly WorkerInfo[]): WorkerInfo['lastError'] {
  return workers.flatMap(({ lastError }) => lastError ?? []).sort((a, b) => +b.at - +a.at)[0]
}
