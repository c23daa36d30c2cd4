/**
 * Reports what a worker does to the queue, every few seconds, for operators. Invariant: a report is bounded, and has only what the log has:
 * the first part of a message, without what follows a colon, which may quote an error.
 */
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Log } from '../src/model/log.ts'
import { type Meter, noMeter, type StoreWaiting } from '../src/model/meter.ts'
import { type HeldRows, type Operations, reportEveryMs, type WorkerReport } from '../src/queue/operations.ts'
import type { HeldRows as Holding } from './partition.ts'

const messageLimit = 200
/** Of more models, those that hold the most are reported. */
const mostModels = 20

interface Deps {
  operations: Pick<Operations, 'report'>
  holding: () => Holding[]
  isPaused: () => boolean
}

export class Reporter {
  readonly #deps: Deps
  readonly #name: string
  readonly #startedAt = Date.now()
  readonly #waiting = new Map<string, StoreWaiting>()
  #lastError: WorkerReport['lastError']
  #rows = 0
  #rowsSince = performance.now()
  #timer: NodeJS.Timeout | undefined
  #reporting: Promise<void> = Promise.resolve()

  constructor(name: string, deps: Deps) {
    this.#name = name
    this.#deps = deps
  }

  /** The log, whose last warning or error is reported. */
  log(log: Log): Log {
    const noted = (level: 'warn' | 'error') => (fields: object, message: string) => {
      this.#note(fields, message)
      log[level](fields, message)
    }
    return { info: (fields, message) => log.info(fields, message), warn: noted('warn'), error: noted('error') }
  }

  /** The meter, whose committed rows and waiting tables are reported. */
  meter(meter: Meter): Meter {
    return {
      ...noMeter,
      stage: (...args) => meter.stage(...args),
      deadLettered: (...args) => meter.deadLettered(...args),
      published: (...args) => meter.published(...args),
      parked: (...args) => meter.parked(...args),
      committed: (model, rows, lagSeconds) => {
        this.#rows += rows
        meter.committed(model, rows, lagSeconds)
      },
      storeWaiting: (model, waiting) => {
        if (waiting) this.#waiting.set(model, waiting)
        else this.#waiting.delete(model)
        meter.storeWaiting(model, waiting)
      },
    }
  }

  #note(fields: object, message: string): void {
    const { code } = fields as { code?: unknown }
    this.#lastError = {
      at: Date.now(),
      message: message.split(/[:;]/, 1)[0]!.slice(0, messageLimit),
      code: /^[\w.-]{1,40}$/.test(String(code ?? '')) ? String(code) : undefined,
    }
  }

  start(): void {
    this.#report(false)
    this.#timer = setInterval(() => this.#report(false), reportEveryMs)
  }

  /** Reports that the worker has stopped. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#report(true)
    await this.#reporting
  }

  #report(stopped: boolean): void {
    const report = this.#take(stopped)
    // A report that fails is replaced by the next one: the worker does not depend on it.
    this.#reporting = this.#deps.operations.report(report).catch(() => {})
  }

  #take(stopped: boolean): WorkerReport {
    const now = performance.now()
    const seconds = Math.max(0.001, (now - this.#rowsSince) / 1_000)
    const rowsPerSecond = Math.round((this.#rows / seconds) * 10) / 10
    this.#rows = 0
    this.#rowsSince = now
    return {
      name: this.#name,
      host: hostname().slice(0, 100),
      pid: process.pid,
      release,
      startedAt: this.#startedAt,
      stopped,
      paused: this.#deps.isPaused(),
      held: stopped ? [] : this.#held(),
      rowsPerSecond: stopped ? 0 : rowsPerSecond,
      lastError: this.#lastError,
    }
  }

  #held(): HeldRows[] {
    const held = this.#deps.holding().map((one) => {
      const waiting = one.model === undefined ? undefined : this.#waiting.get(one.model)
      return { ...one, waitingSince: waiting?.since, waitingCode: waiting?.code?.slice(0, 40) }
    })
    const used = held.filter((one) => one.inFlight + one.parked > 0 || one.waitingSince !== undefined)
    return used.sort((a, b) => b.inFlight + b.parked - a.inFlight - a.parked).slice(0, mostModels)
  }
}

/** Of the package, which is a folder higher where it is built. */
const release = releaseOf('../package.json') ?? releaseOf('../../package.json') ?? 'unknown'

function releaseOf(path: string): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
    return name === 'spillway' ? version : undefined
  } catch {
    return undefined
  }
}
