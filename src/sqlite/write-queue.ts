/**
 * The write queue: all writes of a process to one SQLite file go through it, in order. Invariant: a promise of `write` resolves after its
 * transaction is committed (and, if durable, on disk), and rejects with QUEUE_UNAVAILABLE only if it was certainly rolled back.
 *
 * All writes that arrive while a commit waits for the disk go into the next transaction together, so that a slow disk costs latency, not
 * throughput. While another process has the write lock, the write queue waits without blocking its thread: reads go on.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { isBusy, isCertainlyUndone, reasonOf, sqliteCode, unavailable, unknown } from './fault.ts'
import type { FileGuard } from './guard.ts'

interface Job {
  run(): unknown
  durable: boolean
  since: number
  /** It was in a transaction that failed, maybe because of another job: now it gets a transaction of its own. */
  alone: boolean
  resolve(value: unknown): void
  reject(error: unknown): void
}

const jobsAtOnce = 64
const retryLockMs = 5
/** SQLite's numbers for PRAGMA synchronous. */
const syncFull = 2
const syncNormal = 1

interface Deps {
  db: DatabaseSync
  guard: FileGuard
}

export class WriteQueue {
  readonly #db: DatabaseSync
  readonly #guard: FileGuard
  readonly #busyMs: number
  readonly #synchronous: StatementSync
  #level = -1
  #jobs: Job[] = []
  #scheduled = false
  #idle: (() => void) | undefined

  /** `busyMs`: how long a job waits for the lock of another process. */
  constructor({ db, guard }: Deps, { busyMs }: { busyMs: number }) {
    this.#db = db
    this.#guard = guard
    this.#busyMs = busyMs
    this.#synchronous = db.prepare('PRAGMA synchronous')
    this.#sync(syncFull)
  }

  /** Runs `run` in a transaction; again after a rollback, so that it must change nothing but the database. */
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

  /** Runs `run` on one state of the database. */
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
      await new Promise((resolve) => setTimeout(resolve, retryLockMs))
    }
  }

  /** Resolves when no write is waiting. */
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
    // Deferred, so that writes that arrive in the same turn share a transaction.
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
        wait = retryLockMs
      } else if (jobs.length === 1) {
        jobs[0]!.reject(this.#translate(error))
      } else {
        for (const job of jobs) job.alone = true
        this.#jobs.unshift(...jobs)
      }
    }
    if (this.#jobs.length > 0) this.#schedule(wait)
  }

  /** Runs the jobs in one transaction. Throws if it was rolled back. */
  #transaction(jobs: readonly Job[]): void {
    this.#guard.assertWritable()
    this.#sync(jobs.some((job) => job.durable) ? syncFull : syncNormal)
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

  /** SQLite has rolled back by itself after some errors. */
  #rollback(): void {
    if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
  }

  #sync(level: number): void {
    if (this.#level === level) return
    this.#db.exec(`PRAGMA synchronous = ${level}`)
    const { synchronous } = this.#synchronous.get() as { synchronous: number }
    if (synchronous !== level) throw new Error(`SQLite keeps synchronous at ${synchronous}, expected ${level}`)
    this.#level = level
  }

  /** Turns an error of SQLite into a SpillwayError. Others are defects, or SpillwayErrors already. */
  #translate(error: unknown): unknown {
    return sqliteCode(error) === undefined ? error : unavailable(reasonOf(error, this.#busyMs), error)
  }
}
