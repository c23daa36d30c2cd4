/** The numbers, for Prometheus: what the layers count, and what the queue says of itself when asked. Names are OpenMetrics'. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Bytes } from '../app/bytes.ts'
import { codes } from '../model/error.ts'
import type { Meter, Stage, StoreWaiting } from '../model/meter.ts'
import type { Queue } from '../queue/queue.ts'

/** What watches the process itself (prom-client's) cannot be stopped again: once, however many APIs a process starts and closes. */
let ofProcess: Registry | undefined

function processRegistry(): Registry {
  if (!ofProcess) {
    ofProcess = new Registry()
    collectDefaultMetrics({ register: ofProcess })
  }
  return ofProcess
}

export class Metrics implements Meter {
  readonly #registry = new Registry()
  readonly #enqueued = this.#counter('spillway_saves_accepted_total', 'Saves that were acknowledged.')
  readonly #rejected = this.#counter('spillway_saves_rejected_total', 'Saves that were refused.', ['code'])
  readonly #ack = this.#histogram(
    'spillway_save_ack_duration_seconds',
    'From the save to its acknowledgement.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5],
  )
  readonly #cache = this.#counter('spillway_cache_requests_total', 'Pages asked of the cache.', ['result'])
  readonly #delivered = this.#counter('spillway_events_delivered_total', 'Events handed to subscribers.')
  readonly #rows = this.#histogram(
    'spillway_batch_rows',
    'Rows committed together.',
    [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000],
  )
  readonly #persisted = this.#counter('spillway_rows_persisted_total', 'Rows committed.')
  readonly #stage = this.#histogram(
    'spillway_batch_duration_seconds',
    'Of one step with a batch.',
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    ['stage'],
  )
  readonly #lag = this.#histogram(
    'spillway_persist_lag_seconds',
    'From the acceptance of the oldest row of a batch to its commit.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600],
  )
  readonly #parked = new Gauge({
    name: 'spillway_rows_parked',
    help: 'Rows that failed by themselves and are tried again by themselves.',
    registers: [this.#registry],
  })
  #waiting: StoreWaiting | undefined

  constructor() {
    const waiting: Gauge = new Gauge({
      name: 'spillway_store_waiting_seconds',
      help: 'For how long the worker has been waiting for a database that takes no rows; 0 while it takes them.',
      registers: [this.#registry],
      collect: () => waiting.set(this.#waiting ? Math.max(0.001, (Date.now() - this.#waiting.since) / 1_000) : 0),
    })
    // A counter that appears only with its first refusal hides that one from rate().
    for (const code of codes) this.#rejected.inc({ code }, 0)
  }

  #counter(name: string, help: string, labelNames: string[] = []) {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #histogram(name: string, help: string, buckets: number[], labelNames: string[] = []) {
    return new Histogram({ name, help, buckets, labelNames, registers: [this.#registry] })
  }

  enqueued(saves: number, seconds: number): void {
    this.#enqueued.inc(saves)
    this.#ack.observe(seconds)
  }

  rejected(saves: number, code: string): void {
    this.#rejected.inc({ code }, saves)
  }

  cacheRequest(result: 'hit' | 'miss' | 'unavailable'): void {
    this.#cache.inc({ result })
  }

  delivered(events: number): void {
    this.#delivered.inc(events)
  }

  stage(stage: Stage, seconds: number): void {
    this.#stage.observe({ stage }, seconds)
  }

  committed(rows: number, lagSeconds: number): void {
    this.#rows.observe(rows)
    this.#persisted.inc(rows)
    this.#lag.observe(lagSeconds)
  }

  storeWaiting(waiting: StoreWaiting | undefined): void {
    this.#waiting = waiting
  }

  /** What the worker of this process waits for: for /readyz. */
  get waiting(): StoreWaiting | undefined {
    return this.#waiting
  }

  parked(rows: number): void {
    this.#parked.set(rows)
  }

  /** Gauges of the queue, asked for at each scrape. A queue that is out of reach has none: absent, not zero. */
  watchQueue(queue: Pick<Queue, 'status'>): void {
    const gauge = (name: string, help: string) => new Gauge({ name, help, registers: [this.#registry] })
    const depth = gauge('spillway_queue_depth', 'Messages accepted and not yet saved.')
    const inFlight = gauge('spillway_queue_in_flight', 'Of these, how many a worker holds.')
    const age = gauge('spillway_queue_oldest_age_seconds', 'Age of the oldest of them: what to alert on.')
    const capacity = gauge('spillway_queue_capacity', 'The depth from which on saves are refused.')
    const deadLetters = gauge('spillway_dead_letters', 'Messages that could not be saved.')
    const up = new Gauge({
      name: 'spillway_queue_up',
      help: '1 where the queue answers.',
      registers: [this.#registry],
      collect: async () => {
        try {
          const status = await queue.status()
          depth.set(status.depth)
          inFlight.set(status.inFlight)
          age.set(status.oldestAgeMs / 1_000)
          capacity.set(status.capacity)
          deadLetters.set(status.deadLetters)
          up.set(1)
        } catch {
          for (const stale of [depth, inFlight, age, capacity, deadLetters]) stale.remove()
          up.set(0)
        }
      },
    })
  }

  /** Lines of the log that were dropped, asked for at each scrape. */
  watchLog(dropped: () => number): void {
    new Counter({
      name: 'spillway_log_lines_dropped_total',
      help: 'Log lines dropped because the output took no more.',
      registers: [this.#registry],
      collect() {
        this.reset()
        this.inc(dropped())
      },
    })
  }

  /** How many subscribers are connected, asked for at each scrape. */
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

  /** What is held for clients, asked for at each scrape. */
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
      help: 'Connections closed because the client took too little of what was sent.',
      registers,
      collect() {
        this.reset()
        this.inc(bytes.slowClosed)
      },
    })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  async text(): Promise<string> {
    // The queue's gauges are set while the first of them is collected; twice, so that none is one scrape old.
    await this.#registry.getSingleMetric('spillway_queue_up')?.get()
    return await Registry.merge([processRegistry(), this.#registry]).metrics()
  }
}
