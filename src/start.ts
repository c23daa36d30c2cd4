/** From the settings to a running API or worker: opens what it needs, wires it, and returns what closes it again. */
import { spawnEmbedded } from '../worker/spawn.ts'
import { startWorking } from '../worker/working.ts'
import type { Config } from './config.ts'
import type { Clients } from './db/dialect.ts'
import type { SchemaOptions } from './graphql/schema.ts'
import type { AccessOf, Subschema } from './graphql/subschema.ts'
import type { HttpServer } from './http/listen.ts'
import { limitColumns, listModels } from './model/define.ts'
import { SpillwayError } from './model/error.ts'
import type { Log } from './model/log.ts'
import type { Model, Models } from './model/model.ts'
import { sleep } from './model/sleep.ts'
import {
  describeImplementations,
  isEmbedded,
  openCache,
  openQueue,
  openStore,
  openTracer,
  sharedVersionsBytes,
} from './open.ts'
import type { Member } from './processes/member.ts'
import type { Queue } from './queue/queue.ts'
import { HistoryRecorder } from './telemetry/history-recorder.ts'
import type { Metrics } from './telemetry/metrics.ts'

/** The models of a Spillway and the Prisma clients that they are defined with: what src/models/index.ts exports. */
export interface Given {
  models: readonly Model[]
  prisma: Clients & SchemaOptions
  /** Of the module that exports them: the embedded worker's thread imports it. */
  url: string
}

export interface Running {
  /** Takes no more work, finishes what it has begun, and closes everything. May be called twice. */
  close(): Promise<void>
  /** Rejects when a part fails without which the process cannot go on. Never resolves. */
  failed: Promise<never>
}

/** How long the API waits for the database before it accepts saves without it. */
const storeWaitMs = 3_000
/** How long it waits for the events log before it serves without it. */
const eventsWaitMs = 2_000
/** How long it waits for the queue to be prepared, which takes longer than a second only where QUEUE_SHARDS has a new value. */
const queueWaitMs = 10_000
const durabilityRetryMs = 1_000

interface ApiOptions {
  config: Config
  given: Given
  log: Log
  /** See startApi. */
  machine?: Member | undefined
}

/**
 * The API and, with an embedded queue, its worker. Rejects, with everything closed, when it cannot start or `stop` aborts before it has.
 * `machine`: what it shares with other API processes; undefined: it is the only one.
 */
export function startApi(
  config: Config,
  given: Given,
  log: Log,
  stop?: AbortSignal,
  machine?: Member,
): Promise<Running & { url: string }> {
  return opening({ log, stop }, async (stack, signal) => {
    // Loaded here, since GraphQL and the HTTP server take longer to load than all the rest, and a worker process needs neither.
    const [{ serve }, { openFilesAdvice }] = await Promise.all([
      import('./server/server.ts'),
      import('./http/listen.ts'),
    ])
    // What holds for all processes of the machine is logged once.
    const isFirst = machine === undefined || machine.place.number === 1
    const advice = openFilesAdvice(config.maxConnections, machine?.place.of ?? 1)
    if (advice && isFirst) log.warn({}, advice)
    let server: HttpServer | undefined
    const api = await openApi({ config, given, log, machine }, { stack, signal, closeFirst: () => server?.close() })
    const { app, store, events, tracer, metrics, prepared, failed } = api
    server = await serve(
      app,
      { client: store.prisma, datamodel: given.prisma.datamodel },
      {
        host: config.host,
        port: config.port,
        graphiql: config.introspection && config.operations === undefined,
        introspection: config.introspection,
        operations: config.operations,
        consoleSpike: config.consoleSpike,
        auth: config.auth,
        requestsPerSecond: config.requestsPerSecond,
        streamsPerClient: config.streamsPerClient,
        counts: machine?.counts,
        maxConnections: config.maxConnections,
        others: machine,
        metrics,
        metricsText: machine && (() => machine.metrics()),
        store,
        events,
        prepared,
        hosts: config.allowedHosts,
        origins: config.corsOrigins,
        tracer,
        log,
      },
    )
    const { url } = server
    if (machine) machine.ready({ url, implementations: describeImplementations(config) })
    else log.info({ url, ...describeImplementations(config) }, 'listening')
    if (isFirst) void warnOfDurability(app.queue, log, signal)
    return { url, failed }
  })
}

/**
 * The API as a subschema of another GraphQL server in this process, and its worker with an embedded queue: it listens on no port.
 * `access`: what a client of that server may do here, from the context of its operation.
 */
export function startSubschema(
  config: Config,
  given: Given,
  { access, log }: { access: AccessOf; log: Log },
): Promise<Running & Subschema> {
  return opening({ log, stop: undefined }, async (stack, signal) => {
    const [{ makeSubschema }, { makeSchema }] = await Promise.all([
      import('./graphql/subschema.ts'),
      import('./graphql/schema.ts'),
    ])
    const { app, store, failed } = await openApi({ config, given, log }, { stack, signal, closeFirst: () => {} })
    const schema = makeSchema(app.models, given.prisma)
    log.info(describeImplementations(config), 'a subschema is ready')
    void warnOfDurability(app.queue, log, signal)
    return { ...makeSubschema({ app, prisma: store.prisma, schema, log }, access), failed }
  })
}

/** Everything of an API but what clients reach it by, which `closeFirst` closes when it closes. */
async function openApi(
  { config, given, log, machine }: ApiOptions,
  {
    stack,
    signal,
    closeFirst,
  }: { stack: AsyncDisposableStack; signal: AbortSignal; closeFirst: () => Promise<void> | undefined | void },
) {
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => {})
  const { makeApp } = await import('./app/app.ts')
  const models = modelsOf(given, config)
  const deps = { log, stack, models, clients: given.prisma }
  const sharedVersions = new SharedArrayBuffer(sharedVersionsBytes)
  const tracer = await openTracer(deps, config)
  const { queue, events, file } = await openQueue(
    { ...deps, storeUrl: config.databaseUrl, onUnfit: failure.reject },
    config,
  )
  signal.throwIfAborted()
  const cache = await openCache({ ...deps, sharedVersions }, config)
  const store = await openStore(deps, config)
  const queuePrepared = queue.prepare?.()
  let prepared = false
  const preparing = store.prepare(signal).then(() => {
    prepared = true
  })
  preparing.catch((error) => signal.aborted || failure.reject(error))
  await Promise.race([preparing, sleep(storeWaitMs, signal)])
  signal.throwIfAborted()

  const metrics = await openMetrics(models, log)
  if (machine) stack.defer(machine.shareMetrics(() => metrics.samples()))
  else metrics.watchProcesses(() => ({ running: 1, silent: 0 }))
  const recorder = new HistoryRecorder(events.history, {
    isApi: true,
    isWorker: file !== undefined,
    models: [...models.keys()],
    depth: async () => (await queue.status()).depth,
  })
  const meter = recorder.meter(metrics)
  stack.defer(() => recorder.stop())
  if (file) {
    const ports = { queuePort: file.connect(), eventsPort: file.connect() }
    // Before the server listens: its clients may take all the file descriptors that the thread needs to read its modules.
    await spawnEmbedded(
      { meter, ...deps, signal, onFailed: failure.reject },
      { config, modelsUrl: given.url, sharedVersions, ...ports },
    )
    signal.throwIfAborted()
  }
  const app = makeApp({ models, queue, store, cache, events, log, meter, tracer })
  recorder.start()
  stack.defer(async () => {
    // The follower's end ends the streams; the server then has only short requests left.
    const closed = closeFirst()
    await app.follower.close()
    await closed
  })
  app.follower.start()
  await Promise.race([queuePrepared, sleep(queueWaitMs, signal)])
  // So that the first pages have their savedCursor at once. Without the events log, everything else is served.
  await Promise.race([app.savedCursor.known().catch(() => {}), sleep(eventsWaitMs, signal)])
  signal.throwIfAborted()
  return { app, store, events, tracer, metrics, prepared: () => prepared, failed: failure.promise }
}

/** A worker process; its queue is on Redis. Rejects as `startApi` does. */
export async function startWorker(config: Config, given: Given, log: Log, stop?: AbortSignal): Promise<Running> {
  if (isEmbedded(config)) {
    throw new Error(
      'QUEUE_URL=file:… is the embedded queue, whose worker is part of `npm start`. Set QUEUE_URL=redis://… to run worker processes.',
    )
  }
  return opening({ log, stop }, async (stack, signal) => {
    const models = modelsOf(given, config)
    const deps = { log, stack, models, clients: given.prisma }
    const tracer = await openTracer(deps, config)
    const { queue, events } = await openQueue(deps, config)
    const cache = await openCache(deps, config)
    const store = await openStore(deps, config)
    const metrics = await openMetrics(models, log)
    const recorder = new HistoryRecorder(events.history, {
      isApi: false,
      isWorker: true,
      models: [...models.keys()],
    })
    stack.defer(() => recorder.stop())
    recorder.start()
    const parts = { queue, events, cache, store, meter: recorder.meter(metrics), tracer }
    const { failed, health } = startWorking({ ...parts, ...deps, signal }, config)
    let url: string | undefined
    if (config.workerPort !== undefined) {
      const { serveHealth } = await import('./server/health.ts')
      const { host, auth, allowedHosts: hosts, corsOrigins: origins, workerPort: port } = config
      const server = await serveHealth({ queue, metrics, ...health }, { host, port, auth, hosts, origins, log })
      stack.defer(() => server.close())
      url = server.url
    }
    signal.throwIfAborted()
    log.info({ ...describeImplementations(config), ...(url ? { url } : {}) }, 'working')
    return { failed }
  })
}

function modelsOf({ models }: Given, { contentMaxBytes }: Config): Models {
  return limitColumns(listModels(models), contentMaxBytes)
}

/** Runs `open`. When it fails, what it has opened is closed; `signal` aborts when `stop` does, and before anything closes. */
async function opening<T extends object>(
  { log, stop }: { log: Log; stop: AbortSignal | undefined },
  open: (stack: AsyncDisposableStack, signal: AbortSignal) => Promise<T>,
): Promise<T & { close(): Promise<void> }> {
  stop?.throwIfAborted()
  const stack = new AsyncDisposableStack()
  const closing = new AbortController()
  let closed: Promise<void> | undefined
  const close = () => {
    closing.abort()
    closed ??= stack.disposeAsync()
    return closed
  }
  try {
    const signal = stop ? AbortSignal.any([stop, closing.signal]) : closing.signal
    return { ...(await open(stack, signal)), close }
  } catch (error) {
    await close().catch((reason) => log.error({ err: reason }, 'cannot close everything that was opened'))
    throw error
  }
}

async function openMetrics(models: Models, log: Log): Promise<Metrics> {
  const { Metrics } = await import('./telemetry/metrics.ts')
  const metrics = new Metrics([...models.keys()])
  metrics.watchLog(() => log.dropped?.() ?? 0)
  return metrics
}

/** Logs what a power cut may cost, as soon as the queue answers. */
async function warnOfDurability(queue: Queue, log: Log, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { durability } = await queue.status()
      if (durability === 'FSYNC' || durability === 'REPLICATED') return
      const loss =
        durability === 'EVERYSEC'
          ? 'about a second of acknowledged saves'
          : 'every acknowledged save that is not in the database yet'
      const advice = `set "appendonly yes" and "appendfsync always" in the queue's Redis`
      log.warn({ durability }, `a power cut may cost ${loss}; ${advice}`)
      return
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      await sleep(durabilityRetryMs, signal)
    }
  }
}
