/**
 * Shorter intervals for a process under test, where a test would only wait. They are constants of the product and no settings: a module
 * that is preloaded replaces their values in the source as it is loaded.
 */

const places = {
  /** After so long without a sign of life, another worker takes what a worker held. */
  reclaimMs: 'src/queue/redis.ts',
  /** How often a worker gives such a sign. */
  defaultExtendLeaseEveryMs: 'worker/worker.ts',
  /** For so long a worker leaves a message that it cannot decode to workers of a newer release. */
  defaultDeadLetterAfterMs: 'worker/newer.ts',
  /** The longest time between two tries of a worker. */
  maxBackoffMs: 'worker/backoff.ts',
  /** For so long an answer of /readyz stands. */
  sharedMs: 'src/server/health.ts',
  /** How often a worker reports to operators; it is gone after four times that. */
  reportEveryMs: 'src/queue/operations.ts',
  /** The queue grows while its oldest message is older. */
  growsAfterMs: 'src/app/operators.ts',
  /** How often a process adds its counts to the history, and the width of its narrowest buckets. */
  addEveryMs: 'src/events/history.ts',
  /** How often streams get a heartbeat. */
  heartbeatMs: 'src/graphql/heartbeat.ts',
  /** The longest time before an API process that ended is replaced. */
  maxDelayMs: 'src/processes/primary.ts',
  /** A stream that drains nothing for so long is closed. */
  stuckMs: 'src/graphql/http-streams.ts',
  /** A client that has much to read and reads little of it for so long is closed. */
  slowMs: 'src/http/connections.ts',
  /** So long spans wait to be sent together. */
  delayMs: 'src/telemetry/otel.ts',
} as const

export type Intervals = Partial<Record<keyof typeof places, number>>

/** What Node has to be started with. The process ends where a source does not have the interval exactly once. */
export function withIntervals(intervals: Intervals): string[] {
  if (Object.keys(intervals).length === 0) return []
  const changes = Object.entries(intervals).map(([name, ms]) => [places[name as keyof typeof places], name, ms])
  const preload = `
    import { registerHooks } from 'node:module'
    const changes = ${JSON.stringify(changes)}
    registerHooks({
      load(url, context, next) {
        const loaded = next(url, context)
        for (const [file, name, ms] of changes) {
          if (!url.endsWith('/' + file)) continue
          const found = new RegExp('(\\\\b' + name + ' (?:=|[?][?]) )[0-9_]+', 'g')
          const source = String(loaded.source)
          if (source.match(found)?.length !== 1) throw new Error(file + ' does not have the interval ' + name + ' once')
          loaded.source = source.replace(found, '$1' + ms)
        }
        return loaded
      },
    })`
  return ['--import', `data:text/javascript,${encodeURIComponent(preload)}`]
}
