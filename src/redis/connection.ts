/**
 * One connection to a Redis. It never re-sends a command and never queues commands while it is down. Its errors distinguish a command that
 * certainly had no effect (QUEUE_UNAVAILABLE) from one that may have had an effect (OUTCOME_UNKNOWN). Invariant: each promise of `ask`
 * resolves or rejects by its deadline.
 *
 * In a cluster it serves the keys of one hash tag. Where a node answers that it does not serve them (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), it has
 * not run the command: the connection goes to the node that does, and sends the command there.
 *
 * ioredis' defaults differ: they re-send after a lost reply (two entries for one save) and wait for ever on a frozen server.
 */
import { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { RedisAddress } from './address.ts'
import { type RedisReports, reportsOf } from './reports.ts'
import { ignoreErrorsOfDetector, Route, sentinelProblem } from './route.ts'
import { isRedirection, type Problem, problemOf, setUp } from './setup.ts'

/**
 * Whether an error of Redis may come after a write. A command either runs or fails, and so does a transaction. The writes of a script that
 * fails midway stay; Redis marks its error with the script's name. Redis refuses a script's first write with four codes and never a later
 * one, and SCRIPT KILL does not end a script that has written. An error that a script returns has no mark: our scripts return errors only
 * before their first write.
 */
function mayHaveWritten(message: string): boolean {
  if (!message.includes('user_script')) return false
  return !/\b(OOM|READONLY|MISCONF|NOREPLICAS)\b|Script killed by user/.test(message)
}

const exhausted =
  'a stream of its Redis has an entry with the highest possible id, so that none can be added (EXHAUSTED). Find out what added it; once ' +
  'the workers have drained the queue, delete the key of the stream, as docs/operations.md says'

export const retryAfterMs = 1_000
const readyDeadlineMs = 3_000
/** How long commands wait for the node that serves their keys now. */
const followMs = 1_000
/** MOVED replies in a row that are followed at once: nodes that do not know of a failover yet may name each other. */
const hopsAtOnce = 5
/** How often a connection looks whether the slot of its keys has moved. */
const migratingMs = 100

const redirected = Symbol('redirected')

export class RedisConnection {
  readonly client: Redis
  readonly role: string
  readonly #tag: string
  readonly #address: RedisAddress
  readonly #reports: RedisReports
  readonly #keeps: boolean
  readonly #deadlineMs: number
  readonly #route: Route
  readonly #listeners = new Set<() => void>()
  #ready = false
  /** Why it is not ready. */
  #problem: Problem = { code: 'CONNECTING', reason: 'not connected yet' }
  /** The problem of the current attempt to connect was logged. */
  #failed = false
  #closed = false
  /** Connections in a row that failed. */
  #failures = 0
  /** MOVED replies in a row. */
  #hops = 0
  /** When the next connection is tried; undefined: later with each failure. */
  #retryMs: number | undefined
  /** Commands without an answer. */
  #inFlight = 0
  /** The node does not serve the keys. The connection is closed when it has answered the commands in flight. */
  #leaving = false
  /** Until then, commands wait for the connection. */
  #followUntil = 0
  /** Why no Sentinel has named the master. */
  #sentinelProblem: Problem | undefined
  /** An object for each connection: a late result of an earlier one is ignored. */
  #settingUp: object | undefined
  #readyTimer: NodeJS.Timeout | undefined

  /**
   * `role` names it in messages and in CLIENT LIST; `tag` is the hash tag of every key that it is used for. `keeps`: a server that evicts keys
   * is refused. Connects by itself and tries again without a limit.
   */
  constructor(
    address: RedisAddress,
    options: { role: string; tag: string; log: Log; keeps?: boolean; deadlineMs?: number },
  ) {
    this.role = options.role
    this.#tag = options.tag
    this.#address = address
    this.#reports = reportsOf(options.log, address)
    this.#keeps = options.keeps ?? false
    this.#deadlineMs = options.deadlineMs ?? 2_000
    this.#route = new Route(address)
    // No user, password, database or name: the client continues if Redis refuses one of them. setUp does not.
    this.client = new Redis({
      ...this.#route.options(() => this.#backOffMs()),
      enableReadyCheck: false,
      disableClientInfo: true,
      autoResubscribe: false,
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      connectTimeout: readyDeadlineMs,
      // A frozen server never closes its side.
      disconnectTimeout: 100,
      retryStrategy: () => this.#nextConnection(),
    })
    this.client.on('error', (error: Error) => this.#onError(error))
    this.client.on('sentinelError', (error: Error) => {
      const problem = sentinelProblem(error.message)
      if (!this.#sentinelProblem || problem.code !== 'NO_SENTINEL') this.#sentinelProblem = problem
    })
    this.client.on('connect', () => {
      clearTimeout(this.#readyTimer)
      ignoreErrorsOfDetector(this.client)
      // The kernel of a frozen server accepts the connection; the server never answers.
      this.#readyTimer = setTimeout(() => {
        this.#fail({ code: 'TIMEOUT', reason: 'connected, but no answer' })
        this.client.disconnect(true)
      }, readyDeadlineMs)
    })
    this.client.on('ready', () => void this.#begin())
    this.client.on('close', () => this.#lost())
    this.client.on('end', () => {
      clearTimeout(this.#readyTimer)
      // The client gives up where it is disconnected while it asks the Sentinels.
      if (!this.#closed) setTimeout(() => !this.#closed && this.client.connect().catch(() => {}), this.#backOffMs())
    })
  }

  #backOffMs(): number {
    return Math.min(50 * 2 ** Math.min(this.#failures, 6), 1_000) * (0.5 + Math.random() / 2)
  }

  /** In how many milliseconds the client connects again; in a cluster, to the node that the route names. */
  #nextConnection(): number {
    const retryMs = this.#retryMs
    this.#retryMs = undefined
    if (this.#route.inCluster) {
      // A server that was ready may have been restarted, and is tried first.
      if (retryMs === undefined && !this.#ready) this.#route.next()
      if (retryMs === undefined) this.#hops = 0
      Object.assign(this.client.options, this.#route.host())
    }
    return retryMs ?? this.#backOffMs()
  }

  #onError(error: Error): void {
    // It was disconnected while it asked the Sentinels: `end` follows.
    if (error.message === 'Connection is closed.') return
    if (!error.message.startsWith('All sentinels are unreachable')) {
      this.#fail(problemOf(error))
      return
    }
    // It says only that all of them were asked. Those that named a master have no problem.
    if (this.#sentinelProblem) this.#fail(this.#sentinelProblem)
    this.#sentinelProblem = undefined
  }

  async #begin(): Promise<void> {
    const current = {}
    this.#settingUp = current
    // Redis allows no space in a name. If the connection breaks meanwhile, `close` handles it.
    let problem: Problem | undefined
    try {
      const name = `spillway-${this.role.replaceAll(' ', '-')}`
      const onSlots = (slots: unknown) => this.#settingUp === current && this.#route.learn(slots)
      problem = await setUp(this.client, this.#address, { name, tag: this.#tag, keeps: this.#keeps, onSlots })
    } catch {
      return
    }
    if (this.#settingUp !== current) return
    if (problem) {
      this.#decline(problem)
      this.client.disconnect(true)
      return
    }
    clearTimeout(this.#readyTimer)
    this.#ready = true
    this.#failures = 0
    this.#hops = 0
    this.#reports.ready(this)
    for (const listener of this.#listeners) listener()
  }

  /** The server cannot be used. Another node of its cluster may be named, or the keys are being moved from this one. */
  #decline(problem: Problem): void {
    if (problem.moved !== undefined) {
      this.#route.moved(problem.moved)
      this.#hops += 1
      this.#retryMs = this.#hops <= hopsAtOnce ? 0 : this.#backOffMs()
    } else if (problem.code === 'ASK' || problem.code === 'TRYAGAIN') {
      this.#retryMs = migratingMs
    }
    // A new connection begins at any node.
    if (problem.moved !== undefined && this.#hops <= hopsAtOnce) this.#failed = true
    else this.#fail(problem)
  }

  #fail(problem: Problem): void {
    this.#failed = true
    this.#problem = problem
    if (!this.#closed) this.#reports.problem(this, problem)
  }

  #lost(): void {
    clearTimeout(this.#readyTimer)
    const closed = { code: 'CLOSED', reason: 'the server closed the connection' }
    // A lost connection that was ready is made again before anything is logged.
    if (this.#ready) this.#problem = closed
    else if (!this.#failed && !this.#closed && !this.#leaving) this.#fail(closed)
    this.#ready = false
    this.#failed = false
    this.#leaving = false
    this.#settingUp = undefined
    this.#failures += 1
  }

  get ready(): boolean {
    return this.#ready && this.client.status === 'ready'
  }

  /** Calls back after each connect, as soon as the connection can be used and before any other command. */
  onReady(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** Resolves with true when the connection is ready, with false after `timeoutMs` or when the signal aborts. */
  whenReady(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (this.ready || signal?.aborted) return Promise.resolve(this.ready)
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#listeners.delete(done)
        signal?.removeEventListener('abort', done)
        resolve(this.ready)
      }
      const timer = setTimeout(done, timeoutMs)
      this.#listeners.add(done)
      signal?.addEventListener('abort', done)
    })
  }

  /** Runs a trial. Undefined if it succeeds; else a code: of the failure, or the one that `run` returned. Never throws. */
  async probe(run: (client: Redis) => Promise<string | undefined>): Promise<string | undefined> {
    if (!this.ready) return this.#problem.code
    try {
      return await this.ask(run)
    } catch (error) {
      const { code, cause } = error as Error & { code?: string }
      if (code === 'OUTCOME_UNKNOWN') return 'TIMEOUT'
      return (cause as Error | undefined)?.name === 'ReplyError'
        ? (cause as Error).message.split(' ', 1)[0]
        : (code ?? 'ERROR')
    }
  }

  /**
   * Runs one command, script or transaction. Rejects with QUEUE_UNAVAILABLE if it certainly had no effect, and with OUTCOME_UNKNOWN if it
   * may have had one: no answer by the deadline, or the connection broke before the answer.
   */
  ask<T>(run: (client: Redis) => Promise<T>, deadlineMs = this.#deadlineMs): Promise<T> {
    // Only the nodes of a cluster send it elsewhere. All others answer at once or fail.
    if (this.ready && !this.#route.inCluster) return this.#askOnce(run, deadlineMs) as Promise<T>
    return this.#askNodes(run, deadlineMs)
  }

  async #askNodes<T>(run: (client: Redis) => Promise<T>, deadlineMs: number): Promise<T> {
    const until = performance.now() + deadlineMs
    for (;;) {
      const waitMs = Math.min(until, this.#followUntil) - performance.now()
      if (!this.ready && waitMs > 0) await this.whenReady(waitMs)
      const leftMs = until - performance.now()
      if (!this.ready || leftMs <= 0) throw this.#unavailable(`it cannot be reached (${this.#problem.code})`)
      const answer = await this.#askOnce(run, leftMs)
      if (answer !== redirected) return answer
    }
  }

  /** As `ask`, for what changes nothing: it rejects with QUEUE_UNAVAILABLE alone. */
  async read<T>(run: (client: Redis) => Promise<T>): Promise<T> {
    try {
      return await this.ask(run)
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code !== 'OUTCOME_UNKNOWN') throw error
      throw this.#unavailable('it did not answer', error)
    }
  }

  async #askOnce<T>(run: (client: Redis) => Promise<T>, deadlineMs: number): Promise<T | typeof redirected> {
    let timer: NodeJS.Timeout | undefined
    let isOver = false
    const deadline = new Promise<never>((_, reject) => {
      const giveUp = () => {
        if (isOver) return
        reject(this.#unknown(`no answer within ${Math.ceil(deadlineMs)} ms`))
        // Other commands in flight on it will not be answered either; a new connection may reach a healthy server.
        this.client.disconnect(true)
      }
      // Where this process itself was busy, the answer may be there, not read yet: timers come before the network.
      timer = setTimeout(() => setImmediate(giveUp), deadlineMs)
    })
    this.#inFlight += 1
    try {
      return await Promise.race([run(this.client), deadline])
    } catch (error) {
      const { name, message } = error as Error
      if (!this.#route.inCluster || name !== 'ReplyError' || !isRedirection(message))
        throw this.#translate(error as Error)
      this.#leave(message)
      return redirected
    } finally {
      isOver = true
      clearTimeout(timer)
      this.#inFlight -= 1
      if (this.#leaving && this.#inFlight === 0) this.client.disconnect(true)
    }
  }

  /** Goes to the node that serves the keys, after the commands in flight: their answers would be lost. */
  #leave(reply: string): void {
    if (!this.#ready) return
    const code = reply.split(' ', 1)[0]!
    this.#ready = false
    this.#leaving = true
    this.#problem = { code, reason: 'the keys are on another node of the cluster' }
    this.#followUntil = performance.now() + followMs
    this.#retryMs = code === 'MOVED' || code === 'CLUSTERDOWN' ? 0 : migratingMs
    if (code === 'MOVED') this.#route.moved(reply)
    if (code === 'CLUSTERDOWN') this.#route.next()
    this.#reports.follows(this, code)
  }

  #translate(error: Error): Error {
    if (error instanceof SpillwayError) return error
    if (error.name === 'ReplyError') {
      // After a failover the old master answers READONLY; a new connection finds the new one.
      if (/\bREADONLY\b/.test(error.message)) this.client.disconnect(true)
      // The first word is the code of Redis: OOM, MISCONF, NOREPLICAS … The rest may name hosts.
      const code = error.message.split(' ', 1)[0]
      return mayHaveWritten(error.message)
        ? this.#unknown(`its script failed midway with ${code}`, error)
        : this.#unavailable(code === 'EXHAUSTED' ? exhausted : `it answered ${code}`, error)
    }
    if (error.message.startsWith("Stream isn't writeable")) return this.#unavailable('it cannot be reached', error)
    // Or the answer was not RESP (ParserError), or a transaction was cut short (AbortError).
    const broken = /Connection is closed|max retries per request|ECONN|EPIPE|ETIMEDOUT|ParserError|AbortError/i
    if (broken.test(`${error.message} ${error.name}`)) {
      return this.#unknown('the connection broke before the answer came', error)
    }
    return error
  }

  #unavailable(reason: string, cause?: unknown): SpillwayError {
    return new SpillwayError(
      'QUEUE_UNAVAILABLE',
      `The ${this.role} is unavailable: ${reason}. Nothing was changed; try again.`,
      {
        retryAfterMs,
        cause,
      },
    )
  }

  #unknown(reason: string, cause?: unknown): SpillwayError {
    return new SpillwayError('OUTCOME_UNKNOWN', `The command to the ${this.role} may have been done: ${reason}.`, {
      retryAfterMs,
      cause,
    })
  }

  close(): void {
    this.#closed = true
    this.#reports.forget(this)
    clearTimeout(this.#readyTimer)
    this.client.disconnect()
  }
}
