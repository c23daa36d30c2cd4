/**
 * /livez, /readyz and /metrics, for the API and for a worker (on a port of its own). Ready means that each step from a save to its event can be
 * done now; a probe did each step a moment ago. The API is ready without the database, and shows that it is unavailable. Both are ready
 * without the cache: reads go to the database, and events wait until cached pages have expired.
 *
 * Probes need no token. So all probes within a second share one result, and no response waits for a part that hangs.
 */
import { Bytes } from '../app/bytes.ts'
import { StoreFault } from '../db/store.ts'
import type { AuthOptions } from '../http/auth.ts'
import { boundedLog } from '../http/bounded-log.ts'
import { RateLimit } from '../http/client-limits.ts'
import { type HttpServer, listen } from '../http/listen.ts'
import { openAuth } from '../http/open-auth.ts'
import { OriginCheck, type OriginCheckOptions } from '../http/origin-check.ts'
import { sendJson, sendText } from '../http/respond.ts'
import type { Route } from '../http/route.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { StoreWaiting } from '../model/meter.ts'
import { SingleFlight } from '../model/single-flight.ts'
import type { Queue, ShardState } from '../queue/queue.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** Tries an operation and returns the code of its failure; undefined if it succeeded. */
type Probe = () => Promise<string | undefined>

export interface HealthDeps {
  queue: Pick<Queue, 'status'>
  /** What a save needs of each part: in the API, to enqueue and to publish; in a worker, to write and to publish. */
  probes: { queue: Probe; events: Probe; cache: Probe }
  /** Reads or writes the database; rejects if that fails. */
  database: () => Promise<unknown>
  /** Whether the database was reachable once and its migrations are applied. */
  prepared: () => boolean
  metrics: Metrics
  /** What /metrics answers; left out: the metrics of this process. */
  metricsText?: (() => Promise<string>) | undefined
}

/** How long probes share one result. */
const sharedMs = 1_000
/** A part that does not respond within this time is unavailable. */
const timeoutMs = 800

/** The routes. A worker is ready when it can write; the API, when it can enqueue. */
export function healthRoutes(role: 'api' | 'worker', deps: HealthDeps): [string, Route][] {
  const { queue, probes, metrics, metricsText = () => metrics.text() } = deps
  metrics.watchQueue(queue)
  const late = { state: 'unavailable', code: 'TIMEOUT' } as const
  const queueOf = shared<QueueState>(() => queueState(queue, probes.queue), late)
  const eventsOf = shared(() => partState(probes.events), late)
  const cacheOf = shared(() => partState(probes.cache), late)
  const databaseOf = shared<PartState>(() => databaseState(deps), late)
  const ready: Route = {
    scope: 'open',
    GET: async ({ response }) => {
      const [state, events, cache, database] = await Promise.all([queueOf(), eventsOf(), cacheOf(), databaseOf()])
      const waiting = waitingOf(metrics.waiting)
      const canSave =
        events.state === 'ready' && (state.state === 'ready' || (role === 'worker' && state.state === 'full'))
      const isReady = canSave && (role === 'api' || (database.state === 'ready' && !waiting))
      sendJson(response, isReady ? 200 : 503, {
        status: isReady ? 'ready' : 'not ready',
        queue: state,
        events,
        cache,
        database: database.state,
        ...(database.code !== undefined && { databaseCode: database.code }),
        ...(waiting && { worker: waiting }),
      })
    },
  }
  const live: Route = { scope: 'open', GET: ({ response }) => sendJson(response, 200, { status: 'alive' }) }
  const metricsRoute: Route = {
    scope: 'admin',
    GET: async ({ response }) => sendText(response, 200, metrics.contentType, await metricsText()),
  }
  return [
    ['/livez', live],
    ['/readyz', ready],
    ['/metrics', metricsRoute],
  ]
}

/** The models that the worker waits for; since when and why, of the one that it has waited for longest. */
function waitingOf(waiting: ReadonlyMap<string, StoreWaiting>) {
  const [longest] = [...waiting.values()].sort((a, b) => a.since - b.since)
  return (
    longest && { waitingSince: new Date(longest.since).toISOString(), code: longest.code, models: [...waiting.keys()] }
  )
}

interface PartState {
  state: 'ready' | 'waiting' | 'unavailable'
  code?: string
}

interface QueueState {
  state: 'ready' | 'full' | 'unavailable'
  code?: string
  depth?: number
  capacity?: number
  durability?: string
  /** Persisting is paused: since when. */
  pausedSince?: string
  /** Of a queue of several shards: those that are unavailable. The others take saves. */
  unavailableShards?: ShardState[]
}

/** Runs the check once for all calls during it and `sharedMs` after it. Resolves to `late` on timeout, while the check goes on. */
function shared<T>(check: () => Promise<T>, late: T): () => Promise<T> {
  const flight = new SingleFlight<T>()
  let since = 0
  let last: { at: number; value: T } | undefined
  const checkNow = async () => {
    since = performance.now()
    const value = await check()
    last = { at: performance.now(), value }
    return value
  }
  return async () => {
    if (last && performance.now() - last.at < sharedMs) return last.value
    const result = flight.run('', checkNow)
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<T>((resolve) => {
      timer = setTimeout(resolve, Math.max(0, since + timeoutMs - performance.now()), late)
    })
    return await Promise.race([result, deadline]).finally(() => clearTimeout(timer))
  }
}

async function partState(probe: Probe): Promise<PartState> {
  const code = await probe()
  return code === undefined ? { state: 'ready' } : { state: 'unavailable', code }
}

async function queueState(queue: Pick<Queue, 'status'>, probe: Probe): Promise<QueueState> {
  const [code, status] = await Promise.all([probe(), queue.status().catch(codeOf)])
  if (typeof status === 'string') return { state: 'unavailable', code: code ?? status }
  const { depth, capacity, durability, paused, shards = [] } = status
  if (code !== undefined && code !== 'QUEUE_FULL') return { state: 'unavailable', code }
  const state = code === 'QUEUE_FULL' || depth >= capacity ? 'full' : 'ready'
  const unavailableShards = shards.filter((shard) => shard.code !== undefined)
  const pause = paused && { pausedSince: new Date(paused.since).toISOString() }
  return { state, depth, capacity, durability, ...pause, ...(unavailableShards.length > 0 && { unavailableShards }) }
}

async function databaseState({ database, prepared }: HealthDeps): Promise<PartState> {
  if (!prepared()) return { state: 'waiting' }
  return await database().then(
    () => ({ state: 'ready' }),
    (error) => ({ state: 'unavailable', code: codeOf(error) }),
  )
}

/** The code of an error, never its message, which may name hosts. */
function codeOf(error: unknown): string {
  if (error instanceof StoreFault) return error.vendorCode ?? error.kind
  if (!(error instanceof SpillwayError)) return 'ERROR'
  const { cause, code } = error
  // An error reply of Redis begins with its code.
  return cause instanceof Error && cause.name === 'ReplyError' ? cause.message.split(' ', 1)[0]! : code
}

/** The HTTP server of a worker, for probes and Prometheus. */
export async function serveHealth(
  deps: HealthDeps,
  options: OriginCheckOptions & { host: string; port: number; auth: AuthOptions; log: Log },
): Promise<HttpServer> {
  const routes = new Map(healthRoutes('worker', deps))
  return listen(
    {
      paths: [...routes.keys()].join(', '),
      route: (path) => routes.get(path),
      upgrade: (_request, socket) => socket.destroy(),
      auth: await openAuth(options.auth, options.log),
      originCheck: new OriginCheck(options),
      rateLimit: new RateLimit(undefined),
    },
    {
      ...options,
      portSetting: 'WORKER_PORT',
      log: boundedLog(options.log),
      maxBodyBytes: 0,
      maxConnections: 1_000,
      bytes: new Bytes(),
    },
  )
}
