/** Measurements of the use cases and of the worker. Durations in seconds; `model` is a model's name. */
export interface Meter {
  /** Saves that were enqueued together, and how long that took. */
  enqueued(model: string, saves: number, seconds: number): void
  /** Saves that were refused, by error code. */
  rejected(model: string, saves: number, code: string): void
  /** A page was looked up in the cache. */
  cacheRequest(model: string, result: 'hit' | 'miss' | 'unavailable'): void
  /** Events that were sent to a subscriber. */
  delivered(events: number): void
  /** A step of a worker with a batch. */
  stage(stage: Stage, seconds: number): void
  /** Rows that a worker committed together, and how long ago the oldest of them was enqueued. */
  committed(model: string, rows: number, lagSeconds: number): void
  /** Messages that a worker dead-lettered together; undefined: their model is not known. */
  deadLettered(model: string | undefined, messages: number): void
  /** Rows whose events were appended together, and how long ago each of them was enqueued. */
  published(model: string, lagsSeconds: readonly number[]): void
  /** The worker waits for the model's table, which takes no rows; undefined: it takes rows. */
  storeWaiting(model: string, waiting: StoreWaiting | undefined): void
  /** The number of parked rows: rows that failed alone and are retried. */
  parked(model: string, rows: number): void
}

export interface StoreWaiting {
  /** Milliseconds since 1970. */
  since: number
  /** The database's own code, if it gave one. */
  code: string | undefined
}

export type Stage = 'insert' | 'invalidate' | 'mark_saved' | 'append' | 'ack' | 'dead_letter'

/** Records nothing. */
export const noMeter: Meter = {
  enqueued() {},
  rejected() {},
  cacheRequest() {},
  delivered() {},
  stage() {},
  committed() {},
  deadLettered() {},
  published() {},
  storeWaiting() {},
  parked() {},
}
