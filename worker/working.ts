/** A worker from the settings: what worker processes and the embedded worker's thread have in common. */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Cache } from '../src/cache/cache.ts'
import type { Config } from '../src/config.ts'
import type { Store } from '../src/db/store.ts'
import type { EventLog } from '../src/events/events.ts'
import type { Log } from '../src/model/log.ts'
import type { Meter } from '../src/model/meter.ts'
import type { Models } from '../src/model/model.ts'
import type { Tracer } from '../src/model/tracer.ts'
import type { Queue } from '../src/queue/queue.ts'
import { traced } from '../src/telemetry/traced-worker.ts'
import { PauseWatch } from './pause-watch.ts'
import { Reporter } from './reporter.ts'
import { Worker } from './worker.ts'

export interface WorkingDeps {
  models: Models
  queue: Queue
  events: EventLog
  cache: Cache
  store: Store & { prepare(signal: AbortSignal): Promise<void> }
  meter: Meter
  tracer: Tracer | undefined
  log: Log
  /** Stops the worker when it is disposed of. */
  stack: AsyncDisposableStack
  /** Aborts when the worker is to stop, or not to start any more. */
  signal: AbortSignal
}

/** Starts a worker as soon as the store is prepared. `failed` rejects when the store cannot be used. */
export function startWorking(deps: WorkingDeps, config: Config) {
  const { models, queue, events, cache, store, tracer, stack, signal } = deps
  const name = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`
  const { operations } = queue
  const reporter = new Reporter(name, {
    operations,
    holding: () => worker.holding(),
    isPaused: () => pause.isPaused,
  })
  const log = reporter.log(deps.log)
  const meter = reporter.meter(deps.meter)
  const pause = new PauseWatch({ operations, log: deps.log })
  const consumer = queue.consumer(name)
  const traceable = { consumer, store, events }
  const worker = new Worker(
    { cache, pause, ...(tracer ? traced(traceable, tracer) : traceable) },
    {
      models,
      batch: config.workerBatch,
      concurrency: config.workerConcurrency,
      maxAttempts: config.workerMaxAttempts,
      cacheTtlMs: config.cacheTtlMs,
      log,
      meter,
    },
  )
  // Last: when the worker has stopped.
  stack.defer(() => reporter.stop())
  stack.defer(() => pause.close())
  stack.defer(() => worker.stop())
  reporter.start()
  pause.start()
  let prepared = false
  const preparing = store.prepare(signal)
  const failed = new Promise<never>((_, reject) => {
    preparing.then(
      () => {
        prepared = true
        if (!signal.aborted) worker.start()
      },
      (error) => signal.aborted || reject(error),
    )
  })
  const health = {
    probes: { queue: () => consumer.probe(), events: () => events.probe(), cache: () => cache.probe() },
    database: async () => {
      for (const model of models.values()) await store.probe(model)
    },
    prepared: () => prepared,
  }
  return { failed, health, preparing }
}
