/**
 * The dead letters of the queue on Redis. Invariant: no call of a script moves, reads or deletes more than a bounded number of letters,
 * however many an id has; what is more takes several calls, and other clients of the server come in between.
 */
import type { Redis } from 'ioredis'
import { readFailure, SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type RedisConnection, retryAfterMs } from '../redis/connection.ts'
import type { DeadLetter, Queue } from './queue.ts'
import { type QueueKeys, record, type Scripts } from './redis-scripts.ts'
import { inSteps } from './steps.ts'

const pageBytes = 4 * 1024 * 1024
/** Each may have a body to be copied. */
const retriedAtOnce = 50
const idsAtOnce = 500
/** A call waits so long for the index to be repaired. 100,000 letters take about a second. */
const repairPatienceMs = 2_000

export class RedisDeadLetters implements Pick<Queue, 'deadLetters' | 'retry' | 'discard'> {
  readonly #connection: RedisConnection
  readonly #scripts: Redis & Scripts
  readonly #keys: QueueKeys
  readonly #log: Log
  #repairing: Promise<void> | undefined

  constructor(connection: RedisConnection, scripts: Redis & Scripts, keys: QueueKeys, log: Log) {
    this.#connection = connection
    this.#scripts = scripts
    this.#keys = keys
    this.#log = log
  }

  async deadLetters(
    first: number,
    after?: string,
  ): Promise<{ deadLetters: { handle: string; deadLetter: DeadLetter }[]; more: boolean }> {
    const start = after === undefined ? '-' : `(${after}`
    const [found, more] = await this.#connection.ask(() =>
      this.#scripts.spillPage(this.#keys.dead, start, first, pageBytes),
    )
    const deadLetters = found.map(([handle, fields]) => {
      const { id = handle, m: body = '', f } = record(fields)
      return { handle, deadLetter: { id, body, failure: failureOf(f, Number.parseInt(handle, 10)) } }
    })
    return { deadLetters, more: more === 1 }
  }

  retry(ids: readonly string[]): Promise<number> {
    const { stream, pending, oldDeadIndex, deadIds, dead } = this.#keys
    return inSteps(ids, retriedAtOnce, async (some) => {
      const count = await this.ask(() =>
        this.#scripts.spillRetry(stream, pending, oldDeadIndex, deadIds, dead, ...some),
      )
      return [count, some.length]
    })
  }

  discard(ids: readonly string[]): Promise<number> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    return inSteps(ids, idsAtOnce, (some) =>
      this.ask(() => this.#scripts.spillDiscard(oldDeadIndex, deadIds, dead, ...some)),
    )
  }

  /** Runs a script that looks for letters by their ids; where the index is not theirs, once it is. */
  async ask<T>(run: () => Promise<T | 'REPAIR'>): Promise<T> {
    for (;;) {
      const reply = await this.#connection.ask(run)
      if (reply !== 'REPAIR') return reply
      await this.#repaired()
    }
  }

  /** One repair for all who wait for it. It goes on when they have gone. */
  async #repaired(): Promise<void> {
    this.#repairing ??= this.#repair().finally(() => {
      this.#repairing = undefined
    })
    this.#repairing.catch(() => {})
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('it takes longer')), repairPatienceMs)
    })
    try {
      await Promise.race([this.#repairing, late])
    } catch (cause) {
      // Whatever became of the repair: what was asked has not begun.
      throw new SpillwayError(
        'QUEUE_UNAVAILABLE',
        `The index of the dead letters (${this.#keys.deadIds}) does not match them and is being made anew. Nothing was changed; try again.`,
        { retryAfterMs, cause },
      )
    } finally {
      clearTimeout(timer)
    }
  }

  async #repair(): Promise<void> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    this.#log.warn({ key: deadIds }, 'the index of the dead letters does not match them; making it anew')
    let next = ''
    do {
      const from = next
      next = await this.#connection.ask(() => this.#scripts.spillRepair(oldDeadIndex, deadIds, dead, from))
    } while (next !== '')
  }
}

/** Why a letter is one; of a malformed one, what there is. */
export function failureOf(text: string | undefined, at: number) {
  let value: unknown
  try {
    value = JSON.parse(text ?? '')
  } catch {
    // readFailure says so.
  }
  return readFailure(value, at)
}
