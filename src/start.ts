/**
 * Settings in, running system out. The only place that names implementations: it picks them by URL, wires them by hand, and returns what
 * stops them again. main.ts, the worker and the end-to-end tests all use it.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type MessagePort, Worker as Thread } from 'node:worker_threads'
import { Worker } from '../worker/worker.ts'
import type { Cache } from './cache/cache.ts'
import { MemoryCache, SharedVersion } from './cache/memory.ts'
import { RedisCache, RedisVersion } from './cache/redis.ts'
import { Closing } from './closing.ts'
import { describeUrl, filePath, storeName } from './config/urls.ts'
import type { Config } from './config.ts'
import { PrismaStore } from './db/prisma.ts'
import { SqliteFile } from './embedded/file.ts'
import type { EventLog } from './events/events.ts'
import { RedisEventLog } from './events/redis.ts'
import { SqliteEventLog } from './events/sqlite.ts'
import type { HttpServer } from './http/http.ts'
import { SpillwayError } from './model/error.ts'
import type { Log } from './model/log.ts'
import type { Meter } from './model/meter.ts'
import { sleep } from './model/sleep.ts'
import type { Tracer } from './model/tracer.ts'
import type { Queue } from './queue/queue.ts'
import { RedisQueue } from './queue/redis.ts'
import { SqliteQueue } from './queue/sqlite.ts'
import { parseRedisUrl } from './redis/address.ts'
import type { Metrics } from './telemetry/metrics.ts'
import { traced } from './telemetry/traced-worker.ts'

export interface Running {
  /** Stops taking work, finishes what is in hand, lets go of everything. May be called twice. */
  close(): Promise<void>
  /** Rejects when a part died without which nothing can go on. Never resolves. */
  failed: Promise<never>
}

const silent: Log = { info() {}, warn() {}, error() {} }

/** How long the start waits for the database before it begins to accept saves without it. */
const storePatienceMs = 3_000
/** … and how long a thread that comes after it does. */
const threadPatienceMs = 1_000

/** The API; with an embedded queue, the worker, too. Rejects when it cannot start, or `stop` aborts before it has: nothing is left open. */
export async function startApi(config: Config, log: Log, stop?: AbortSignal): Promise<Running & { url: string }> {
  const closing = new Closing(stop)
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => {})
  try {
    // Here, since GraphQL and the HTTP server take longer to load than all the rest, and a worker has neither.
    const [{ makeApp }, { serve }, { openFilesAdvice }] = await Promise.all([
      import('./app/app.ts'),
      import('./server/server.ts'),
      import('./http/open-files.ts'),
    ])
    const advice = openFilesAdvice(config.maxConnections)
    if (advice) log.warn({}, advice)
    const tracer = await openTracer(config, log, closing)
    const version = new SharedVersion()
    const { queue, events, file } = await openQueue(config, log, closing, {
      store: storeName(config.databaseUrl),
      onUnfit: failure.reject,
    })
    const cache = openCache(config, version, log, closing)
    const store = openStore(config, log, closing)
    const preparing = store.prepare(closing.signal)
    preparing.catch((error) => closing.signal.aborted || failure.reject(error))
    let prepared = false
    preparing.then(
      () => {
        prepared = true
      },
      () => {},
    )
    await Promise.race([preparing, sleep(storePatienceMs, closing.signal)])

    const metrics = await openMetrics(log)
    // Before clients may take all the files that modules are read with.
    if (file) await startWorkerThread(config, file, version, { metrics, log, closing, fail: failure.reject })
    const app = makeApp({ queue, store, cache, events, log, meter: metrics, tracer }, config)
    let server: HttpServer | undefined
    closing.add(async () => {
      // The streams end when the follower does; then the server has only short requests left.
      const closed = server?.close()
      await app.follower.close()
      await closed
    })
    app.follower.start()
    server = await serve(app, store.prisma, {
      host: config.host,
      port: config.port,
      contentMaxBytes: config.contentMaxBytes,
      graphiql: config.introspection && config.operations === undefined,
      introspection: config.introspection,
      operations: config.operations,
      auth: config.auth,
      requestsPerSecond: config.requestsPerSecond,
      streamsPerClient: config.streamsPerClient,
      maxConnections: config.maxConnections,
      metrics,
      store,
      events,
      prepared: () => prepared,
      hosts: config.allowedHosts,
      origins: config.corsOrigins,
      tracer,
      log,
    })
    log.info({ url: server.url, ...inUse(config) }, 'listening')
    void warnOfDurability(queue, log, closing.signal)
    return { url: server.url, close: () => closing.close(), failed: failure.promise }
  } catch (error) {
    await closing.close().catch((reason) => log.error({ err: reason }, 'not everything could be closed'))
    throw error
  }
}

/** A worker process beside an API whose queue is on Redis. Rejects as startApi does. */
export async function startWorker(config: Config, log: Log, stop?: AbortSignal): Promise<Running> {
  if (config.queueUrl.startsWith('file:')) {
    throw new Error(
      'QUEUE_URL=file:… is the embedded queue: `npm start` runs its worker already. Set QUEUE_URL=redis://… to run workers of their own.',
    )
  }
  const closing = new Closing(stop)
  try {
    const tracer = await openTracer(config, log, closing)
    const { queue, events } = await openQueue(config, log, closing)
    const cache = openCache(config, new SharedVersion(), log, closing)
    const metrics = await openMetrics(log)
    const working = startWorking(config, { queue, events, cache, meter: metrics, tracer, log, closing })
    let url: string | undefined
    if (config.workerPort !== undefined) {
      const { serveHealth } = await import('./server/health.ts')
      const { host, auth, allowedHosts: hosts, corsOrigins: origins, workerPort: port } = config
      const server = await serveHealth({ queue, metrics, ...working.health }, { host, port, auth, hosts, origins, log })
      closing.add(() => server.close())
      url = server.url
    }
    log.info({ ...inUse(config), ...(url ? { url } : {}) }, 'working')
    return { close: () => closing.close(), failed: working.failed }
  } catch (error) {
    await closing.close().catch((reason) => log.error({ err: reason }, 'not everything could be closed'))
    throw error
  }
}

/** Only the queue, for a command that looks after it. Throws QUEUE_UNAVAILABLE when it cannot be reached. */
export async function openQueueAlone(config: Config): Promise<{ queue: Queue; close(): Promise<void> }> {
  const closing = new Closing()
  const { queue } = await openQueue(config, silent, closing)
  if (queue instanceof RedisQueue) await queue.connection.whenReady(3_000)
  return { queue, close: () => closing.close() }
}

/** What the thread of the embedded worker is given. */
export interface EmbeddedData {
  config: Config
  queuePort: MessagePort
  eventsPort: MessagePort
  version: SharedArrayBuffer
}

/** The worker of an embedded queue, in a thread of its own, so that writing to a SQLite file never holds up the API. Resolves when it works,
 *  or waits for the database. */
export async function startEmbedded(data: EmbeddedData, meter: Meter, log: Log): Promise<Running> {
  const closing = new Closing()
  // The API, in the same process and with the same receiver, says it where traces cannot be sent.
  const tracer = await openTracer(data.config, silent, closing)
  const queue = new SqliteQueue(data.queuePort)
  const events = new SqliteEventLog(data.eventsPort)
  const cache = openCache(data.config, new SharedVersion(data.version), log, closing)
  closing.add(() => queue.close())
  closing.add(() => events.close())
  const { failed, preparing } = startWorking(data.config, { queue, events, cache, meter, tracer, log, closing })
  await Promise.race([preparing, sleep(threadPatienceMs, closing.signal)])
  return { close: () => closing.close(), failed }
}

interface Parts {
  queue: Queue
  events: EventLog
  cache: Cache
  meter: Meter
  tracer: Tracer | undefined
  log: Log
  closing: Closing
}

/** Begins to work as soon as the store is there. `failed` rejects when it never will be. */
function startWorking(config: Config, { queue, events, cache, meter, tracer, log, closing }: Parts) {
  const store = openStore(config, log, closing)
  const consumer = queue.consumer(`${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`)
  const deps = { consumer, store, events }
  const worker = new Worker(
    { cache, ...(tracer ? traced(deps, tracer) : deps) },
    {
      batch: config.workerBatch,
      concurrency: config.workerConcurrency,
      maxAttempts: config.workerMaxAttempts,
      cacheTtlMs: config.cacheTtlMs,
      log,
      meter,
    },
  )
  closing.add(() => worker.stop())
  let prepared = false
  const preparing = store.prepare(closing.signal)
  const failed = new Promise<never>((_, reject) => {
    preparing.then(
      () => {
        prepared = true
        if (!closing.signal.aborted) worker.start()
      },
      (error) => closing.signal.aborted || reject(error),
    )
  })
  const health = {
    probes: { queue: () => consumer.probe(), events: () => events.probe(), cache: () => cache.probe() },
    database: () => store.probe(),
    prepared: () => prepared,
  }
  return { failed, health, preparing }
}

/** What the thread of the embedded worker tells. */
export interface EmbeddedMessage {
  /** Its modules are imported. */
  ready?: true
  stage?: Parameters<Meter['stage']>
  committed?: Parameters<Meter['committed']>
  storeWaiting?: Parameters<Meter['storeWaiting']>
  parked?: Parameters<Meter['parked']>
  /** For the log of the process: the one that is bounded, and counts what is dropped. */
  log?: { level: 'info' | 'warn' | 'error'; fields: object; message: string }
}

interface EmbeddedDeps {
  metrics: Meter
  log: Log
  closing: Closing
  fail: (error: Error) => void
}

/** Resolves when the thread is ready, or is to be closed before that. */
function startWorkerThread(
  config: Config,
  file: SqliteFile,
  version: SharedVersion,
  deps: EmbeddedDeps,
): Promise<void> {
  const { metrics, log, closing, fail } = deps
  const data: EmbeddedData = { config, queuePort: file.connect(), eventsPort: file.connect(), version: version.buffer }
  const thread = new Thread(fileURLToPath(new URL('../worker/embedded.ts', import.meta.url)), {
    name: 'spillway-worker',
    workerData: data,
    transferList: [data.queuePort, data.eventsPort],
  })
  const exited = once(thread, 'exit')
  exited.catch(() => {})
  closing.add(async () => {
    if (thread.threadId === -1) return
    thread.postMessage('stop')
    await exited
  })
  const started = Promise.withResolvers<void>()
  closing.signal.addEventListener('abort', () => started.resolve(), { once: true })
  thread.on('error', (error) => {
    started.reject(error)
    fail(error)
  })
  thread.on('message', ({ ready, stage, committed, storeWaiting, parked, log: line }: EmbeddedMessage) => {
    if (ready) started.resolve()
    if (stage) metrics.stage(...stage)
    if (committed) metrics.committed(...committed)
    if (storeWaiting) metrics.storeWaiting(...storeWaiting)
    if (parked) metrics.parked(...parked)
    if (line) log[line.level](line.fields, line.message)
  })
  return started.promise
}

async function openMetrics(log: Log): Promise<Metrics> {
  const { Metrics } = await import('./telemetry/metrics.ts')
  const metrics = new Metrics()
  metrics.watchLog(() => log.dropped?.() ?? 0)
  return metrics
}

/** `store` is what the queue's messages are written to by this process, if anything is. `onUnfit` is told when the queue turns out to be one that cannot be trusted with saves, or is lost to this process for good; a worker,
 *  which only drains it, need not care. */
async function openQueue(
  config: Config,
  log: Log,
  closing: Closing,
  { store, onUnfit = () => {} }: { store?: string; onUnfit?: (error: Error) => void } = {},
): Promise<{ queue: Queue; events: EventLog; file?: SqliteFile }> {
  const {
    queueUrl,
    queueCapacity: capacity,
    eventsRetentionMs: retentionMs,
    eventsRetentionBytes: retentionBytes,
  } = config
  if (queueUrl.startsWith('file:')) {
    const file = await SqliteFile.open(filePath(queueUrl), { capacity, retentionMs, retentionBytes, store, log })
    closing.add(() => file.close())
    file.failed.catch(onUnfit)
    const queue = new SqliteQueue(file.connect())
    const events = new SqliteEventLog(file.connect())
    closing.add(() => Promise.all([queue.close(), events.close()]))
    return { queue, events, file }
  }
  const address = parseRedisUrl(queueUrl)
  const queue = new RedisQueue(address, { capacity, log, onEvicting: onUnfit })
  const events = new RedisEventLog(address, { retentionMs, retentionBytes, log })
  closing.add(() => Promise.all([queue.close(), events.close()]))
  return { queue, events }
}

function openCache(config: Config, shared: SharedVersion, log: Log, closing: Closing): Cache {
  const { cacheUrl, cacheTtlMs: ttlMs, queueUrl } = config
  if (cacheUrl !== 'memory:') {
    const cache = new RedisCache(parseRedisUrl(cacheUrl), { ttlMs, log })
    closing.add(() => cache.close())
    return cache
  }
  // Pages in this process, but committed to by workers in others: the version has to stand where both can see it.
  const version = queueUrl.startsWith('file:') ? shared : new RedisVersion(parseRedisUrl(queueUrl), { log })
  const cache = new MemoryCache({ ttlMs, version })
  closing.add(() => cache.close())
  return cache
}

/** Loaded only where it is asked for. Closed last, so that what is finished on the way out is told, too. */
async function openTracer({ traces, queueUrl, databaseUrl }: Config, log: Log, closing: Closing) {
  if (!traces) return undefined
  const { OtelTracer } = await import('./telemetry/otel.ts')
  const queue = queueUrl.startsWith('file:') ? 'sqlite' : 'redis'
  const store = databaseUrl.startsWith('file:') ? 'sqlite' : 'mysql'
  const tracer = new OtelTracer({ ...traces, queue, store, log })
  closing.add(() => tracer.close())
  return tracer
}

function openStore(config: Config, log: Log, closing: Closing): PrismaStore {
  const store = new PrismaStore({
    url: config.databaseUrl,
    readUrl: config.databaseReadUrl,
    concurrency: config.workerConcurrency,
    log,
  })
  closing.add(() => store.close())
  return store
}

/** Says aloud what an acknowledged save can survive, as soon as the queue can be asked. */
async function warnOfDurability(queue: Queue, log: Log, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { durability } = await queue.status()
      if (durability === 'FSYNC') return
      const loss =
        durability === 'EVERYSEC'
          ? 'about a second of acknowledged saves'
          : 'every acknowledged save that is not in the database yet'
      log.warn(
        { durability },
        `a power cut may cost ${loss}; set "appendonly yes" and "appendfsync always" in the queue's Redis`,
      )
      return
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      await sleep(1_000, signal)
    }
  }
}

/** Which store, queue and cache, for the log. */
function inUse({ databaseUrl, queueUrl, cacheUrl }: Config) {
  return { store: describeUrl(databaseUrl), queue: describeUrl(queueUrl), cache: describeUrl(cacheUrl) }
}
