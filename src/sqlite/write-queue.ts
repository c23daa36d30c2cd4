/**
 * The one lane that everything takes to the database. Invariant: a promise of `write` resolves after its transaction is committed (and
 * on disk, when durable), and rejects with QUEUE_UNAVAILABLE only when it certainly was rolled back.
 *
 * What has come in while a commit was waiting for the disk goes into the next transaction together, so that a slow disk costs latency,
 * not throughput. While another process holds the write lock, the lane waits without blocking its thread: reads go on.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { isBusy, isCertainlyUndone, reasonOf, sqliteCode, unavailable, unknown } from './fault.ts'
import type { FileGuard } from './guard.ts'

interface Job {
  run(): unknown
  durable: boolean
  since: number
  /** It was in a transaction that failed, maybe because of another: now it gets one of its own. */
  alone: boolean
  resolve(value: unknown): void
  reject(error: unknown): void
}

const jobsAtOnce = 64
const lookAgainMs = 5
/** SQLite's numbers for PRAGMA synchronous. */
const FULL = 2
const NORMAL = 1

export class WriteQueue {
  readonly #db: DatabaseSync
  readonly #guard: FileGuard
  readonly #busyMs: number
  readonly #synchronous: StatementSync
  #level = -1
  #jobs: Job[] = []
  #scheduled = false
  #idle: (() => void) | undefined

  constructor(db: DatabaseSync, guard: FileGuard, busyMs: number) {
    this.#db = db
    this.#guard = guard
    this.#busyMs = busyMs
    this.#synchronous = db.prepare('PRAGMA synchronous')
    this.#sync(FULL)
  }

  /** Runs it in a transaction. It may be run again, after a rollback: it must change nothing but the database. */
  write<T>(how: { durable: boolean }, run: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const since = performance.now()
      this.#jobs.push({
        run,
        durable: how.durable,
        since,
        alone: false,
        resolve: resolve as (value: unknown) => void,
        reject,
      })
      this.#schedule(0)
    })
  }

  /** Runs it on one state of the database. */
  async read<T>(run: () => T): Promise<T> {
    const since = performance.now()
    for (;;) {
      try {
        this.#guard.assertInPlace()
        this.#db.exec('BEGIN')
        const value = run()
        this.#db.exec('COMMIT')
        return value
      } catch (error) {
        this.#rollback()
        if (!isBusy(error) || performance.now() - since > this.#busyMs) throw this.#translate(error)
      }
      await new Promise((resolve) => setTimeout(resolve, lookAgainMs))
    }
  }

  /** Resolves when all that was asked is done. */
  async drained(): Promise<void> {
    if (this.#jobs.length > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
  }

  #schedule(afterMs: number): void {
    if (this.#scheduled) return
    this.#scheduled = true
    const go = () => {
      this.#scheduled = false
      this.#next()
      if (this.#jobs.length === 0) this.#idle?.()
    }
    // Not at once: what has arrived at the same time shall travel together.
    if (afterMs === 0) setImmediate(go)
    else setTimeout(go, afterMs)
  }

  #next(): void {
    const alone = this.#jobs.findIndex((job) => job.alone)
    const jobs = this.#jobs.splice(0, alone < 0 ? jobsAtOnce : alone || 1)
    let wait = 0
    try {
      this.#transaction(jobs)
    } catch (error) {
      if (isBusy(error)) {
        const now = performance.now()
        const isLate = (job: Job) => now - job.since > this.#busyMs
        for (const job of jobs.filter(isLate)) job.reject(this.#translate(error))
        this.#jobs.unshift(...jobs.filter((job) => !isLate(job)))
        wait = lookAgainMs
      } else if (jobs.length === 1) {
        jobs[0]!.reject(this.#translate(error))
      } else {
        for (const job of jobs) job.alone = true
        this.#jobs.unshift(...jobs)
      }
    }
    if (this.#jobs.length > 0) this.#schedule(wait)
  }

  /** Throws when it was rolled back. */
  #transaction(jobs: readonly Job[]): void {
    this.#guard.assertWritable()
    this.#sync(jobs.some((job) => job.durable) ? FULL : NORMAL)
    const results: unknown[] = []
    try {
      this.#db.exec('BEGIN IMMEDIATE')
      for (const job of jobs) results.push(job.run())
    } catch (error) {
      this.#rollback()
      throw error
    }
    try {
      this.#db.exec('COMMIT')
      this.#guard.committed()
    } catch (error) {
      this.#rollback()
      if (isCertainlyUndone(error)) throw error
      for (const job of jobs) job.reject(unknown(reasonOf(error, this.#busyMs), error))
      return
    }
    for (const [i, job] of jobs.entries()) job.resolve(results[i])
  }

  /** SQLite itself has done so after some errors. */
  #rollback(): void {
    if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
  }

  #sync(level: number): void {
    if (this.#level === level) return
    this.#db.exec(`PRAGMA synchronous = ${level}`)
    const { synchronous } = this.#synchronous.get() as { synchronous: number }
    if (synchronous !== level) throw new Error(`SQLite is at synchronous=${synchronous} and does not take ${level}`)
    this.#level = level
  }

  /** What is no error of SQLite's is a defect, or has been said in the right words already. */
  #translate(error: unknown): unknown {
    return sqliteCode(error) === undefined ? error : unavailable(reasonOf(error, this.#busyMs), error)
  }
}
