/**
 * One connection to a Redis. It never re-sends a command and never queues commands while it is down. Its errors distinguish a command that
 * certainly had no effect (QUEUE_UNAVAILABLE) from one that may have had an effect (OUTCOME_UNKNOWN). Invariant: each promise of `ask`
 * resolves or rejects by its deadline.
 *
 * ioredis' defaults differ: they re-send after a lost reply (two entries for one save) and wait for ever on a frozen server.
 */
import { isIP } from 'node:net'
import { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { RedisAddress } from './address.ts'
import { type Problem, problemOf, setUp } from './setup.ts'

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

export class RedisConnection {
  readonly client: Redis
  readonly #role: string
  readonly #tag: string
  readonly #address: RedisAddress
  readonly #log: Log
  readonly #deadlineMs: number
  readonly #listeners = new Set<() => void>()
  #ready = false
  /** Why it is not ready. */
  #problem: Problem = { code: 'CONNECTING', reason: 'not connected yet' }
  /** The problem of the current attempt to connect was logged. */
  #failed = false
  #closed = false
  /** The code logged last since it was ready. */
  #lastLogged: string | undefined
  /** Connections in a row that failed. */
  #failures = 0
  /** An object for each connection: a late result of an earlier one is ignored. */
  #settingUp: object | undefined
  #readyTimer: NodeJS.Timeout | undefined

  /**
   * `role` names it in messages and in CLIENT LIST; `tag` is the hash tag of every key that it is used for. Connects by itself and tries
   * again without a limit.
   */
  constructor(address: RedisAddress, options: { role: string; tag: string; log: Log; deadlineMs?: number }) {
    this.#role = options.role
    this.#tag = options.tag
    this.#address = address
    this.#log = options.log
    this.#deadlineMs = options.deadlineMs ?? 2_000
    const { host, port, tls } = address
    // No user, password, database or name: the client continues if Redis refuses one of them. setUp does not.
    this.client = new Redis({
      host,
      port,
      // For servers with several certificates, or behind a proxy.
      ...(tls && { tls: { host, ...(isIP(host) ? {} : { servername: host }) } }),
      enableReadyCheck: false,
      disableClientInfo: true,
      autoResubscribe: false,
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      connectTimeout: readyDeadlineMs,
      // A frozen server never closes its side.
      disconnectTimeout: 100,
      retryStrategy: () => Math.min(50 * 2 ** Math.min(this.#failures, 6), 1_000) * (0.5 + Math.random() / 2),
    })
    this.client.on('error', (error: Error) => this.#fail(problemOf(error)))
    this.client.on('connect', () => {
      clearTimeout(this.#readyTimer)
      // The kernel of a frozen server accepts the connection; the server never answers.
      this.#readyTimer = setTimeout(() => {
        this.#fail({ code: 'TIMEOUT', reason: 'connected, but no answer' })
        this.client.disconnect(true)
      }, readyDeadlineMs)
    })
    this.client.on('ready', () => void this.#begin())
    this.client.on('close', () => this.#lost())
    this.client.on('end', () => clearTimeout(this.#readyTimer))
  }

  async #begin(): Promise<void> {
    const current = {}
    this.#settingUp = current
    // Redis allows no space in a name. If the connection breaks meanwhile, `close` handles it.
    let problem: Problem | undefined
    try {
      const name = `spillway-${this.#role.replaceAll(' ', '-')}`
      problem = await setUp(this.client, this.#address, { name, tag: this.#tag })
    } catch {
      return
    }
    if (this.#settingUp !== current) return
    if (problem) {
      this.#fail(problem)
      this.client.disconnect(true)
      return
    }
    clearTimeout(this.#readyTimer)
    this.#ready = true
    this.#failures = 0
    if (this.#lastLogged !== undefined) this.#log.info({ role: this.#role }, 'Redis is back')
    this.#lastLogged = undefined
    for (const listener of this.#listeners) listener()
  }

  #fail(problem: Problem): void {
    this.#failed = true
    this.#problem = problem
    if (this.#lastLogged === problem.code) return
    this.#lastLogged = problem.code
    this.#log.warn({ role: this.#role, ...problem }, 'Redis cannot be used; trying again')
  }

  #lost(): void {
    clearTimeout(this.#readyTimer)
    const closed = { code: 'CLOSED', reason: 'the server closed the connection' }
    // A lost connection that was ready is made again before anything is logged.
    if (this.#ready) this.#problem = closed
    else if (!this.#failed && !this.#closed) this.#fail(closed)
    this.#ready = false
    this.#failed = false
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
  async ask<T>(run: (client: Redis) => Promise<T>, deadlineMs = this.#deadlineMs): Promise<T> {
    if (!this.ready) throw this.#unavailable(`it cannot be reached (${this.#problem.code})`)
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(this.#unknown(`no answer within ${deadlineMs} ms`))
        // Other commands in flight on it will not be answered either; a new connection may reach a healthy server.
        this.client.disconnect(true)
      }, deadlineMs)
    })
    try {
      return await Promise.race([run(this.client), deadline])
    } catch (error) {
      throw this.#translate(error as Error)
    } finally {
      clearTimeout(timer)
    }
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
      `The ${this.#role} is unavailable: ${reason}. Nothing was changed; try again.`,
      {
        retryAfterMs,
        cause,
      },
    )
  }

  #unknown(reason: string, cause?: unknown): SpillwayError {
    return new SpillwayError('OUTCOME_UNKNOWN', `The command to the ${this.#role} may have been done: ${reason}.`, {
      retryAfterMs,
      cause,
    })
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#readyTimer)
    this.client.disconnect()
  }
}
