/** The history in the embedded queue's file, in the thread that owns it. Not fsynced: a power cut costs the last buckets. */
import type { Statements } from '../sqlite/open.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import {
  addCounts,
  type BucketCounts,
  bucketAt,
  bucketsOf,
  type HistoryStore,
  mostBytes,
  type Ring,
  rings,
  slotOf,
} from './history.ts'

export class HistoryTables implements HistoryStore {
  readonly #sql: Statements
  readonly #writeQueue: WriteQueue

  constructor(sql: Statements, writeQueue: WriteQueue) {
    this.#sql = sql
    this.#writeQueue = writeQueue
  }

  add(counts: BucketCounts): Promise<number> {
    return this.#writeQueue.write({ durable: false }, () => {
      const now = Date.now()
      for (const ring of Object.values(rings)) this.#add(ring, bucketAt(now, ring), counts)
      return now
    })
  }

  #add(ring: Ring, at: number, counts: BucketCounts): void {
    const slot = slotOf(at, ring)
    const known = this.#sql('history bucket').get(ring.name, slot) as { at: number; counts: string } | undefined
    let text = JSON.stringify(counts)
    if (known?.at === at) {
      const sum = JSON.parse(known.counts)
      addCounts(sum, counts)
      text = JSON.stringify(sum)
    }
    if (text.length <= mostBytes) this.#sql('set history bucket').run(ring.name, slot, at, text)
  }

  read(ring: Ring) {
    return this.#writeQueue.read(() => {
      const now = Date.now()
      const rows = this.#sql('history').all(ring.name) as unknown as { at: number; counts: string }[]
      const texts = rows.map(({ at, counts }) => `${at} ${counts}`)
      return { now, buckets: bucketsOf(texts, now, ring) }
    })
  }
}
