/** What the layers count, for whoever keeps the numbers. Durations in seconds. */
export interface Meter {
  /** Saves that the queue accepted in one answer, and how long that took. */
  enqueued(saves: number, seconds: number): void
  /** Saves that were refused, by error code. */
  rejected(saves: number, code: string): void
  /** A page was asked of the cache. */
  cacheRequest(result: 'hit' | 'miss' | 'unavailable'): void
  /** Events that were handed to a subscriber. */
  delivered(events: number): void
  /** A worker's step with a batch. */
  stage(stage: Stage, seconds: number): void
  /** Rows a worker committed together, and how long ago the oldest of them was accepted. */
  committed(rows: number, lagSeconds: number): void
  /** The worker waits for a database that takes no rows; undefined: it takes rows. */
  storeWaiting(waiting: StoreWaiting | undefined): void
  /** The number of parked rows: rows that failed alone and are retried. */
  parked(rows: number): void
}

export interface StoreWaiting {
  /** Milliseconds since 1970. */
  since: number
  /** The database's own code, where there was one. */
  code: string | undefined
}

export type Stage = 'insert' | 'invalidate' | 'mark_saved' | 'append' | 'ack' | 'dead_letter'

/** Keeps nothing. */
export const noMeter: Meter = {
  enqueued() {},
  rejected() {},
  cacheRequest() {},
  delivered() {},
  stage() {},
  committed() {},
  storeWaiting() {},
  parked() {},
}
