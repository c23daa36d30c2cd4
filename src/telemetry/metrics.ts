/** Metrics for Prometheus: what the layers count, and the state of the queue at each scrape. Names follow OpenMetrics. */
import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import type { Bytes } from '../app/bytes.ts'
import { codes } from '../model/error.ts'
import type { Meter, Stage, StoreWaiting } from '../model/meter.ts'
import type { Queue } from '../queue/queue.ts'

/** A metric with its values, as it goes from process to process. */
export type Sample = MetricObjectWithValues<MetricValue<string>>

/** prom-client's metrics of the process cannot be stopped: there is one registry of them, however many APIs a process starts and closes. */
let ofProcess: Registry | undefined

function processRegistry(): Registry {
  if (!ofProcess) {
    ofProcess = new Registry()
    collectDefaultMetrics({ register: ofProcess })
    for (const metric of ofProcess.getMetricsAsArray() as unknown as { name: string; aggregator: string }[]) {
      // The mean of several processes would hide the one that is slow.
      if (metric.aggregator === 'average') metric.aggregator = 'max'
      if (metric.name === 'process_start_time_seconds') metric.aggregator = 'min'
    }
  }
  return ofProcess
}

export class Metrics implements Meter {
  readonly #registry = new Registry()
  readonly #rejected = this.#counter('spillway_saves_rejected_total', 'Saves that were rejected.', ['model', 'code'])
  readonly #ack = this.#histogram(
    'spillway_save_ack_duration_seconds',
    'Time from a save to its acknowledgement.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5],
  )
  readonly #cache = this.#counter('spillway_cache_requests_total', 'Pages requested from the cache.', [
    'model',
    'result',
  ])
  readonly #delivered = this.#counter('spillway_events_delivered_total', 'Events delivered to subscribers.')
  readonly #rows = this.#histogram(
    'spillway_batch_rows',
    'Rows committed together.',
    [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000],
  )
  readonly #persisted = this.#counter('spillway_rows_persisted_total', 'Rows committed.', ['model'])
  readonly #stage = this.#histogram(
    'spillway_batch_duration_seconds',
    'Duration of one step of a batch.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    ['stage'],
  )
  readonly #lag = this.#histogram(
    'spillway_persist_lag_seconds',
    'Time from the acceptance of the oldest row of a batch to its commit.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600],
  )
  readonly #parked = new Gauge({
    name: 'spillway_rows_parked',
    help: 'Rows that failed alone and are retried.',
    labelNames: ['model'],
    registers: [this.#registry],
  })
  readonly #models: readonly string[]
  /** Saves by model. Counted here, since a counter with labels costs each save a microsecond. */
  readonly #accepted = new Map<string, number>()
  /** By model. */
  readonly #waiting = new Map<string, StoreWaiting>()

  /** `models`: their names. */
  constructor(models: readonly string[]) {
    this.#models = models
    const waiting: Gauge = new Gauge({
      name: 'spillway_store_waiting_seconds',
      aggregator: 'max',
      help: 'How long the worker has been waiting for a database that accepts no rows; 0 while it accepts them.',
      labelNames: ['model'],
      registers: [this.#registry],
      collect: () => {
        for (const model of this.#models) {
          const since = this.#waiting.get(model)?.since
          waiting.set({ model }, since === undefined ? 0 : Math.max(0.001, (Date.now() - since) / 1_000))
        }
      },
    })
    const accepted = this.#accepted
    new Counter({
      name: 'spillway_saves_accepted_total',
      help: 'Saves that were acknowledged.',
      labelNames: ['model'],
      registers: [this.#registry],
      collect() {
        this.reset()
        for (const [model, saves] of accepted) this.inc({ model }, saves)
      },
    })
    // A counter that appears with its first increment hides that increment from rate().
    for (const model of models) {
      this.#accepted.set(model, 0)
      this.#persisted.inc({ model }, 0)
      this.#parked.set({ model }, 0)
      for (const code of codes) this.#rejected.inc({ model, code }, 0)
    }
  }

  #counter(name: string, help: string, labelNames: string[] = []) {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #histogram(name: string, help: string, buckets: number[], labelNames: string[] = []) {
    return new Histogram({ name, help, buckets, labelNames, registers: [this.#registry] })
  }

  enqueued(model: string, saves: number, seconds: number): void {
    this.#accepted.set(model, (this.#accepted.get(model) ?? 0) + saves)
    this.#ack.observe(seconds)
  }

  rejected(model: string, saves: number, code: string): void {
    this.#rejected.inc({ model, code }, saves)
  }

  cacheRequest(model: string, result: 'hit' | 'miss' | 'unavailable'): void {
    this.#cache.inc({ model, result })
  }

  delivered(events: number): void {
    this.#delivered.inc(events)
  }

  stage(stage: Stage, seconds: number): void {
    this.#stage.observe({ stage }, seconds)
  }

  committed(model: string, rows: number, lagSeconds: number): void {
    this.#rows.observe(rows)
    this.#persisted.inc({ model }, rows)
    this.#lag.observe(lagSeconds)
  }

  deadLettered(): void {}

  published(): void {}

  storeWaiting(model: string, waiting: StoreWaiting | undefined): void {
    if (waiting) this.#waiting.set(model, waiting)
    else this.#waiting.delete(model)
  }

  /** The models whose tables the worker of this process waits for, and why; for /readyz. */
  get waiting(): ReadonlyMap<string, StoreWaiting> {
    return this.#waiting
  }

  parked(model: string, rows: number): void {
    this.#parked.set({ model }, rows)
  }

  /** Gauges of the queue, read at each scrape. While the queue is unavailable they are absent, not zero. */
  watchQueue(queue: Pick<Queue, 'status'>): void {
    // All processes read the same queue.
    const gauge = (name: string, help: string) =>
      new Gauge({ name, help, aggregator: 'max', registers: [this.#registry] })
    const depth = gauge('spillway_queue_depth', 'Messages accepted and not yet saved.')
    const inFlight = gauge('spillway_queue_in_flight', 'Messages that a worker has received and not acknowledged.')
    const age = gauge(
      'spillway_queue_oldest_age_seconds',
      'Age of the oldest message that is not saved: alert on this.',
    )
    const capacity = gauge('spillway_queue_capacity', 'Depth from which on saves are refused.')
    const deadLetters = gauge('spillway_dead_letters', 'Messages that could not be saved.')
    const paused = gauge('spillway_persisting_paused', '1 while persisting is paused, else 0.')
    const shardUp = new Gauge({
      name: 'spillway_queue_shard_up',
      help: '1 while a shard answers, else 0; only of a queue of several shards.',
      aggregator: 'min',
      labelNames: ['shard'],
      registers: [this.#registry],
    })
    const replicas = new Gauge({
      name: 'spillway_queue_replicas',
      help: "Connected replicas of the queue's Redis, of several shards at the one that has the fewest; only with QUEUE_REPLICAS.",
      aggregator: 'min',
      registers: [this.#registry],
    })
    const required = new Gauge({
      name: 'spillway_queue_replicas_required',
      help: 'Replicas that must have a save before it is acknowledged; only with QUEUE_REPLICAS.',
      aggregator: 'max',
      registers: [this.#registry],
    })
    const unconfirmed = new Counter({
      name: 'spillway_queue_unconfirmed_total',
      help: 'Calls of the queue that too few replicas confirmed in time.',
      registers: [this.#registry],
    })
    const up = new Gauge({
      name: 'spillway_queue_up',
      help: '1 while the queue answers, else 0.',
      aggregator: 'min',
      registers: [this.#registry],
      collect: async () => {
        try {
          const status = await queue.status()
          depth.set(status.depth)
          inFlight.set(status.inFlight)
          age.set(status.oldestAgeMs / 1_000)
          capacity.set(status.capacity)
          deadLetters.set(status.deadLetters)
          paused.set(status.paused ? 1 : 0)
          for (const { shard, code } of status.shards ?? []) shardUp.set({ shard }, code === undefined ? 1 : 0)
          if (status.replicas?.connected === undefined) replicas.remove()
          else replicas.set(status.replicas.connected)
          if (status.replicas === undefined) required.remove()
          else required.set(status.replicas.required)
          unconfirmed.reset()
          unconfirmed.inc(status.replicas?.unconfirmed ?? 0)
          up.set(1)
        } catch {
          for (const stale of [depth, inFlight, age, capacity, deadLetters, paused, replicas, required]) stale.remove()
          shardUp.reset()
          up.set(0)
        }
      },
    })
  }

  /** Dropped log lines, read at each scrape. */
  watchLog(dropped: () => number): void {
    new Counter({
      name: 'spillway_log_lines_dropped_total',
      help: 'Log lines dropped because the output did not take them.',
      registers: [this.#registry],
      collect() {
        this.reset()
        this.inc(dropped())
      },
    })
  }

  /** Connected subscribers, read at each scrape. */
  watchSubscribers(open: () => Record<string, number>): void {
    const subscribers: Gauge = new Gauge({
      name: 'spillway_subscribers',
      help: 'Subscribers connected.',
      labelNames: ['transport'],
      registers: [this.#registry],
      collect: () => {
        for (const [transport, count] of Object.entries(open())) subscribers.set({ transport }, count)
      },
    })
  }

  /** Bytes held for clients, read at each scrape. */
  watchBytes(bytes: Bytes): void {
    const registers = [this.#registry]
    const labelNames = ['account']
    new Gauge({
      name: 'spillway_bytes_held',
      help: 'Bytes held for clients.',
      labelNames,
      registers,
      collect() {
        for (const { name: account, held } of bytes.all) this.set({ account }, held)
      },
    })
    new Gauge({
      name: 'spillway_bytes_limit',
      help: 'Bytes that may be held for clients.',
      labelNames,
      registers,
      collect() {
        for (const { name: account, most } of bytes.all) this.set({ account }, most)
      },
    })
    new Counter({
      name: 'spillway_bytes_refused_total',
      help: 'Requests refused because too many bytes were held.',
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const { name: account, refused } of bytes.all) this.inc({ account }, refused)
      },
    })
    new Counter({
      name: 'spillway_slow_connections_closed_total',
      help: 'Connections closed because the client read too slowly.',
      registers,
      collect() {
        this.reset()
        this.inc(bytes.slowClosed)
      },
    })
  }

  /** The API processes of this machine, read at each scrape. */
  watchProcesses(count: () => { running: number; silent: number }): void {
    const registers = [this.#registry]
    new Gauge({
      name: 'spillway_api_processes',
      help: 'API processes of this machine.',
      registers,
      collect() {
        this.set(count().running)
      },
    })
    new Gauge({
      name: 'spillway_api_processes_silent',
      help: 'API processes that did not answer this scrape in time: their counters are as they were, their gauges are missing.',
      registers,
      collect() {
        this.set(count().silent)
      },
    })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  async text(): Promise<string> {
    return await (await this.#all()).metrics()
  }

  /** For the primary, which adds up the metrics of all API processes. */
  async samples(): Promise<Sample[]> {
    return await (await this.#all()).getMetricsAsJSON()
  }

  async #all(): Promise<Registry> {
    // Collecting `spillway_queue_up` sets the other gauges of the queue: it comes first, so that none is one scrape old.
    await this.#registry.getSingleMetric('spillway_queue_up')?.get()
    return Registry.merge([processRegistry(), this.#registry])
  }
}
