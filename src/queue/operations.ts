/** What operators see and control of the workers of a queue: their reports, and the pause of persisting. Errors: as Queue's. */

/** Persisting is paused: workers finish what they have received, and receive nothing new. */
export interface Pause {
  /** Milliseconds since 1970. */
  since: number
  /** The subject of the token that asked for it; undefined where no token was needed. */
  by: string | undefined
}

/** What a worker has of one model. */
export interface HeldRows {
  /** Undefined: of messages that need no table. */
  model: string | undefined
  /** Entries that it has received and not finished. */
  inFlight: number
  /** Rows that failed alone and are retried. */
  parked: number
  /** It waits for the model's table, which takes no rows: since when, and the database's code. */
  waitingSince: number | undefined
  waitingCode: string | undefined
}

/** What a worker reports of itself every few seconds. It is bounded, and has no content, address or secret. */
export interface WorkerReport {
  /** As its consumer is named. */
  name: string
  host: string
  pid: number
  release: string
  /** By the worker's own clock, as the other times in it. */
  startedAt: number
  /** It has ended as it was told to. */
  stopped: boolean
  paused: boolean
  held: HeldRows[]
  rowsPerSecond: number
  lastError: { at: number; message: string; code: string | undefined } | undefined
}

/** A report, and when it came, by the clock of the queue. */
export interface SeenWorker {
  report: WorkerReport
  seenAt: number
  /** For how long it has not reported. */
  silentMs: number
}

/** How often a worker reports. */
export const reportEveryMs = 3_000
/** So many workers are kept; of more, those that have been silent for longest are forgotten first. */
export const mostWorkers = 100
/** A worker that has been silent for so long is forgotten. */
export const forgetAfterMs = 86_400_000

export interface Operations {
  /** Durable. Where persisting is paused already, nothing changes. */
  pause(by: string | undefined): Promise<void>
  resume(): Promise<void>
  paused(): Promise<Pause | undefined>
  /** Replaces the worker's last report. */
  report(report: WorkerReport): Promise<void>
  /** In no particular order. */
  workers(): Promise<SeenWorker[]>
}
