/**
 * The primary: it starts the API processes of a machine, which share one port, replaces those that end, and stops them together. It serves no
 * request itself. Invariant: no API process outlives it. It exits only when no process can run, with what that process logged above.
 */
import cluster from 'node:cluster'
import { type ClientLimits, LocalCounts } from '../http/client-limits.ts'
import type { Log } from '../model/log.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { sleep } from '../model/sleep.ts'
import { MachineMetrics } from '../telemetry/machine-metrics.ts'
import { Metrics } from '../telemetry/metrics.ts'
import { ApiProcess, type End } from './api-process.ts'
import { cannotRun } from './member.ts'
import { memoryAdvice } from './memory.ts'

export interface PrimaryOptions extends ClientLimits {
  processes: number
  /** Throws where the settings, read anew, are wrong, or differ in what a restart of the processes cannot change. */
  checkSettings(): void
  log: Log
}

/** A process that ends before it has listened for so long counts as a failed start. */
const shortLifeMs = 10_000
/** Before the first failed start is repeated; each further one doubles it. */
const firstDelayMs = 100
const maxDelayMs = 30_000
/** So many failed starts in a row, while no process runs, end the primary. */
const maxFailedStarts = 10

export class Primary {
  readonly #options: PrimaryOptions
  readonly #processes = new Set<ApiProcess>()
  readonly #counts: LocalCounts
  readonly #metrics: MachineMetrics
  readonly #scrapes = new SingleFlight<string>()
  readonly #closing = new AbortController()
  readonly #failure = Promise.withResolvers<never>()
  #areFull = false
  #listens = false
  #failedStarts = 0
  #restarting = false

  constructor(options: PrimaryOptions) {
    this.#options = options
    this.#counts = new LocalCounts(options)
    const own = new Metrics([])
    own.watchProcesses(() => ({ running: this.#running().length, silent: this.#metrics.silent }))
    own.watchLog(() => options.log.dropped?.() ?? 0)
    this.#metrics = new MachineMetrics(own)
    this.#failure.promise.catch(() => {})
    cluster.schedulingPolicy = cluster.SCHED_RR
    process.on('exit', this.#killAll)
    process.on('SIGUSR2', this.#onRestart)
  }

  /** Rejects when no API process can run. Never resolves. */
  get failed(): Promise<never> {
    return this.#failure.promise
  }

  /** Starts the first process alone: what is wrong with all of them is logged once. */
  start(): void {
    const advice = memoryAdvice(this.#options.processes)
    if (advice) this.#options.log.warn({}, advice)
    const first = this.#fork(1)
    void first.listening.then(async (ready) => {
      const { processes, log } = this.#options
      if (!ready || this.#closing.signal.aborted) return
      const others = Array.from({ length: processes - 1 }, (_, i) => this.#fork(i + 2))
      await Promise.all(others.map(({ listening }) => listening))
      if (this.#closing.signal.aborted) return
      this.#listens = true
      log.info({ url: ready.url, processes: this.#running().length, ...ready.implementations }, 'listening')
    })
  }

  /** Stops all processes at the same time, and waits for them. */
  async close(): Promise<void> {
    this.#closing.abort()
    process.off('SIGUSR2', this.#onRestart)
    const ends = await Promise.all([...this.#processes].map((each) => each.stop()))
    process.off('exit', this.#killAll)
    const incomplete = ends.filter((end) => end !== 0 && end !== 'SIGTERM')
    if (incomplete.length > 0) throw new Error(`API processes did not stop completely: ${incomplete.join(', ')}`)
  }

  readonly #killAll = () => {
    for (const each of this.#processes) each.kill()
  }

  #running(): ApiProcess[] {
    return [...this.#processes].filter(({ isListening, isStopping }) => isListening && !isStopping)
  }

  #fork(number: number): ApiProcess {
    const each = new ApiProcess({ number, of: this.#options.processes }, this.#counts)
    this.#processes.add(each)
    each.channel.on('metrics', () =>
      this.#scrapes.run('', () => this.#metrics.text([...this.#processes].filter(({ isListening }) => isListening))),
    )
    each.onFull = () => this.#tellIfAllFull()
    void each.listening.then((ready) => {
      if (!ready) return
      this.#tellIfAllFull()
      void each.channel.tell('all-full', this.#areFull)
    })
    void each.ended.then((end) => this.#replace(each, end))
    return each
  }

  #tellIfAllFull(): void {
    const running = this.#running()
    const areFull = running.length > 0 && running.every(({ isFull }) => isFull)
    if (areFull === this.#areFull) return
    this.#areFull = areFull
    for (const { channel } of running) void channel.tell('all-full', areFull)
  }

  #replace(each: ApiProcess, end: End): void {
    this.#processes.delete(each)
    this.#metrics.end(each, each.lastSamples)
    this.#tellIfAllFull()
    if (this.#closing.signal.aborted || each.isStopping) return
    const { log } = this.#options
    const { number } = each.place
    const { pid, listensSince } = each
    // While a process is being restarted, there are two with its number.
    if ([...this.#processes].some(({ place, isStopping }) => place.number === number && !isStopping)) {
      log.error({ process: number, ended: end, pid }, 'an API process has ended; the other one with its number goes on')
      return
    }
    const isShort = listensSince === undefined || performance.now() - listensSince < shortLifeMs
    this.#failedStarts = isShort ? this.#failedStarts + 1 : 0
    const isHopeless = end === cannotRun || !this.#listens || this.#failedStarts >= maxFailedStarts
    if (isHopeless && this.#running().length === 0) {
      this.#failure.reject(
        new Error(`API process ${number} ended with ${end}, and no other one runs: see its log above.`),
      )
      return
    }
    const delayMs = this.#failedStarts === 0 ? 0 : Math.min(maxDelayMs, firstDelayMs * 2 ** (this.#failedStarts - 1))
    log.error({ process: number, ended: end, pid, delayMs }, 'an API process has ended; another one replaces it')
    void sleep(delayMs, this.#closing.signal).then(() => this.#closing.signal.aborted || this.#fork(number))
  }

  readonly #onRestart = () => void this.#restart()

  /** Replaces the processes one by one: each is stopped when its successor listens. */
  async #restart(): Promise<void> {
    const { log, checkSettings } = this.#options
    if (this.#restarting || !this.#listens) {
      log.warn({}, 'SIGUSR2 is ignored, because the API processes are being started')
      return
    }
    this.#restarting = true
    try {
      checkSettings()
      log.info({}, 'restarting the API processes one by one')
      for (const old of this.#running()) {
        if (!this.#processes.has(old)) continue
        this.#closing.signal.throwIfAborted()
        const successor = this.#fork(old.place.number)
        if (!(await successor.listening)) throw new Error('the new API process did not start: see its log above')
        await old.stop()
      }
      log.info({}, 'the API processes were restarted')
    } catch (error) {
      if (!this.#closing.signal.aborted)
        log.error({ err: error }, 'the API processes were not restarted; the old ones go on')
    } finally {
      this.#restarting = false
    }
  }
}
