/**
 * One connection to a Redis, with the manners everything here needs: it never re-sends by itself, never queues while it is down, always
 * answers within its deadline, and tells what certainly did not happen from what may have. Invariant: a promise made by `ask` settles.
 *
 * ioredis' defaults do otherwise: they re-send after a lost reply (two entries for one save) and wait for ever on a frozen server.
 */
import { Redis, type RedisOptions } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'

export interface RedisAddress {
  url: string
  /** What all keys and channels begin with: `?prefix=` of the URL. */
  prefix: string
}

/** Takes `?prefix=` off a redis:// URL. */
export function parseRedisUrl(text: string): RedisAddress {
  const url = new URL(text)
  const prefix = url.searchParams.get('prefix') ?? 'spillway'
  url.searchParams.delete('prefix')
  return { url: url.href, prefix }
}

/**
 * Whether an error that Redis answered may come after a write. A command either runs or answers an error, and so does a transaction.
 * A script that dies keeps what it wrote until then; Redis marks its error with the script's name. A script's first write is refused
 * with four codes, no later one is, and SCRIPT KILL ends no script that has written. An error that a script returns has no mark: ours
 * return one before their first write only.
 */
function mayHaveWritten(message: string): boolean {
  if (!message.includes('user_script')) return false
  return !/\b(OOM|READONLY|MISCONF|NOREPLICAS)\b|Script killed by user/.test(message)
}

export const retryAfterMs = 1_000
const readyDeadlineMs = 3_000

export class RedisConnection {
  readonly client: Redis
  readonly #role: string
  readonly #deadlineMs: number
  #lastError = 'not connected yet'
  #readyTimer: NodeJS.Timeout | undefined

  /** `role` names it in messages and in CLIENT LIST. Connects by itself and goes on trying for ever. */
  constructor(url: string, options: { role: string; log: Log; deadlineMs?: number; redis?: RedisOptions }) {
    this.#role = options.role
    this.#deadlineMs = options.deadlineMs ?? 2_000
    this.client = new Redis(url, {
      // Redis takes no name with a space in it.
      connectionName: `spillway-${options.role.replaceAll(' ', '-')}`,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      connectTimeout: readyDeadlineMs,
      // A frozen server never answers the goodbye.
      disconnectTimeout: 100,
      retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 1_000) * (0.5 + Math.random() / 2),
      ...options.redis,
    })
    let down = false
    this.client.on('error', (error: Error) => {
      this.#lastError = error.message || error.name
      if (!down)
        options.log.warn({ role: options.role, reason: this.#lastError }, 'Redis is out of reach; trying again')
      down = true
    })
    this.client.on('ready', () => {
      clearTimeout(this.#readyTimer)
      if (down) options.log.info({ role: options.role }, 'Redis is back')
      down = false
    })
    // A frozen server accepts the connection (its kernel does) and then says nothing.
    this.client.on('connect', () => {
      clearTimeout(this.#readyTimer)
      this.#readyTimer = setTimeout(() => {
        this.#lastError = 'connected, but no answer'
        this.client.disconnect(true)
      }, readyDeadlineMs)
    })
    this.client.on('end', () => clearTimeout(this.#readyTimer))
    this.client.on('close', () => clearTimeout(this.#readyTimer))
  }

  get ready(): boolean {
    return this.client.status === 'ready'
  }

  /** Resolves when the connection is ready, or after `timeoutMs`; tells which. */
  whenReady(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (this.ready || signal?.aborted) return Promise.resolve(this.ready)
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.client.off('ready', done)
        signal?.removeEventListener('abort', done)
        resolve(this.ready)
      }
      const timer = setTimeout(done, timeoutMs)
      this.client.on('ready', done)
      signal?.addEventListener('abort', done)
    })
  }

  /**
   * Runs one command (or script, or transaction). Rejects with QUEUE_UNAVAILABLE where it certainly had no effect, and with
   * OUTCOME_UNKNOWN where it may have had one: no answer by the deadline, or the connection broke in between.
   */
  async ask<T>(run: (client: Redis) => Promise<T>, deadlineMs = this.#deadlineMs): Promise<T> {
    if (!this.ready) throw this.#unavailable('it cannot be reached', this.#lastError)
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(this.#unknown(`no answer within ${deadlineMs} ms`))
        // Whatever else is in flight on it will not be answered either; a new connection may find a healthier peer.
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
      // The first word is Redis' own code: OOM, MISCONF, NOREPLICAS … The rest may name hosts.
      const code = error.message.split(' ', 1)[0]
      return mayHaveWritten(error.message)
        ? this.#unknown(`its script failed midway with ${code}`, error)
        : this.#unavailable(`it answered ${code}`, error)
    }
    if (error.message.startsWith("Stream isn't writeable")) return this.#unavailable('it cannot be reached', error)
    // Or the answer was no RESP (ParserError), or a transaction was cut short (AbortError).
    const broken = /Connection is closed|max retries per request|ECONN|EPIPE|ETIMEDOUT|ParserError|AbortError/i
    if (broken.test(`${error.message} ${error.name}`)) {
      return this.#unknown('the connection broke before the answer came', error)
    }
    return error
  }

  #unavailable(reason: string, cause?: unknown): SpillwayError {
    return new SpillwayError(
      'QUEUE_UNAVAILABLE',
      `The ${this.#role} cannot take this now: ${reason}. Nothing was changed; try again.`,
      {
        retryAfterMs,
        cause,
      },
    )
  }

  #unknown(reason: string, cause?: unknown): SpillwayError {
    return new SpillwayError('OUTCOME_UNKNOWN', `The ${this.#role} was asked, but ${reason}. It may have been done.`, {
      retryAfterMs,
      cause,
    })
  }

  close(): void {
    clearTimeout(this.#readyTimer)
    this.client.disconnect()
  }
}
