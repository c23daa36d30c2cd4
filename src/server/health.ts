/**
 * /livez, /readyz and /metrics, for the API and for a worker (on a port of its own). Ready means: can do its work now. For the API that is
 * accepting saves, for which no database is needed: its absence is shown and fails nothing.
 */
import type { Reader } from '../db/store.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { Queue } from '../queue/queue.ts'
import { Access, type AccessOptions } from './access.ts'
import { boundedLog } from './bounded-log.ts'
import { Guard, type GuardOptions } from './guard.ts'
import { type HttpServer, listen, type Route, sendJson, sendText } from './http.ts'
import type { Metrics } from './metrics.ts'
import { RateLimit } from './rate.ts'

export interface HealthParts {
  queue: Pick<Queue, 'status'>
  store: Pick<Reader, 'find'>
  /** Whether the database was there and its migrations are applied. */
  prepared: () => boolean
  metrics: Metrics
}

const databasePatienceMs = 500
/** An id that no content has. */
const nobody = '00000000-0000-0000-0000-000000000000'

/** The routes. A worker is ready when it can write; the API, when it can accept. */
export function healthRoutes(role: 'api' | 'worker', parts: HealthParts): [string, Route][] {
  const { queue, metrics } = parts
  metrics.watchQueue(queue)
  const ready: Route = {
    scope: 'open',
    GET: async ({ response }) => {
      const [state, database] = await Promise.all([queueState(queue), databaseState(parts)])
      const { waiting } = metrics
      const canWork = role === 'api' ? state.accepts : state.reachable && database === 'ready' && !waiting
      sendJson(response, canWork ? 200 : 503, {
        status: canWork ? 'ready' : 'not ready',
        queue: state.shown,
        database,
        ...(waiting && { worker: { waitingSince: new Date(waiting.since).toISOString(), code: waiting.code } }),
      })
    },
  }
  const live: Route = { scope: 'open', GET: ({ response }) => sendJson(response, 200, { status: 'alive' }) }
  const numbers: Route = {
    scope: 'admin',
    GET: async ({ response }) => sendText(response, 200, metrics.contentType, await metrics.text()),
  }
  return [
    ['/livez', live],
    ['/readyz', ready],
    ['/metrics', numbers],
  ]
}

async function queueState(queue: Pick<Queue, 'status'>) {
  try {
    const { depth, capacity, durability } = await queue.status()
    const full = depth >= capacity
    return { reachable: true, accepts: !full, shown: { state: full ? 'full' : 'ready', depth, capacity, durability } }
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error
    return { reachable: false, accepts: false, shown: { state: 'away' } }
  }
}

async function databaseState({ store, prepared }: HealthParts): Promise<'ready' | 'waiting' | 'away'> {
  if (!prepared()) return 'waiting'
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'away'>((resolve) => {
    timer = setTimeout(resolve, databasePatienceMs, 'away')
  })
  const answer = store.find([nobody]).then(
    () => 'ready' as const,
    () => 'away' as const,
  )
  return await Promise.race([answer, late]).finally(() => clearTimeout(timer))
}

/** A worker's own server, for probes and Prometheus. */
export function serveHealth(
  parts: HealthParts,
  options: GuardOptions & { host: string; port: number; auth: AccessOptions; log: Log },
): Promise<HttpServer> {
  const routes = new Map(healthRoutes('worker', parts))
  return listen(
    {
      route: (path) => routes.get(path),
      upgrade: (_request, socket) => socket.destroy(),
      access: new Access(options.auth),
      guard: new Guard(options),
      rate: new RateLimit(undefined),
    },
    { ...options, log: boundedLog(options.log), maxBodyBytes: 0, maxConnections: 1_000 },
  )
}
