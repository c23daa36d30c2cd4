/** The pause and the reports of the workers of the embedded queue, in the thread that owns the file. */
import type { Statements } from '../sqlite/open.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import {
  forgetAfterMs,
  mostWorkers,
  type Operations,
  type Pause,
  type SeenWorker,
  type WorkerReport,
} from './operations.ts'

export class OperationTables implements Operations {
  readonly #sql: Statements
  readonly #writeQueue: WriteQueue

  constructor({ sql, writeQueue }: { sql: Statements; writeQueue: WriteQueue }) {
    this.#sql = sql
    this.#writeQueue = writeQueue
  }

  async pause(by: string | undefined): Promise<void> {
    await this.#writeQueue.write({ durable: true }, () => this.#sql('pause').run(Date.now(), by ?? null))
  }

  async resume(): Promise<void> {
    await this.#writeQueue.write({ durable: true }, () => this.#sql('resume').run())
  }

  paused(): Promise<Pause | undefined> {
    return this.#writeQueue.read(() => this.pauseNow())
  }

  /** In a transaction, or a read, of the caller. */
  pauseNow(): Pause | undefined {
    const row = this.#sql('paused').get() as { since: number; by: string | null } | undefined
    return row && { since: row.since, by: row.by ?? undefined }
  }

  /** Not fsynced: a report that a power cut undoes is replaced by the next one. */
  async report(report: WorkerReport): Promise<void> {
    const now = Date.now()
    await this.#writeQueue.write({ durable: false }, () => {
      this.#sql('report worker').run(report.name, now, JSON.stringify(report))
      this.#sql('forget workers').run(now - forgetAfterMs, mostWorkers)
    })
  }

  workers(): Promise<SeenWorker[]> {
    return this.#writeQueue.read(() => {
      const now = Date.now()
      const rows = this.#sql('workers').all(now - forgetAfterMs) as unknown as { seen: number; report: string }[]
      return rows.map(({ seen, report }) => ({
        report: JSON.parse(report),
        seenAt: seen,
        silentMs: Math.max(0, now - seen),
      }))
    })
  }
}
