/**
 * The dead letters of the queue on Redis. Invariant: no call of a script moves, reads or deletes more than a bounded number of letters,
 * however many an id has; what is more takes several calls, and other clients of the server come in between.
 */
import type { Redis } from 'ioredis'
import { readFailure } from '../model/error.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { DeadLetter, Queue } from './queue.ts'
import { type QueueKeys, record, type Scripts } from './redis-scripts.ts'
import { inSteps } from './steps.ts'

const pageBytes = 4 * 1024 * 1024
/** Each may have a body to be copied. */
const retriedAtOnce = 50
const idsAtOnce = 500

export class RedisLetters implements Pick<Queue, 'deadLetters' | 'retry' | 'discard'> {
  readonly #connection: RedisConnection
  readonly #scripts: Redis & Scripts
  readonly #keys: QueueKeys

  constructor(connection: RedisConnection, scripts: Redis & Scripts, keys: QueueKeys) {
    this.#connection = connection
    this.#scripts = scripts
    this.#keys = keys
  }

  async deadLetters(
    first: number,
    after?: string,
  ): Promise<{ letters: { handle: string; letter: DeadLetter }[]; more: boolean }> {
    const { dead, deadIds } = this.#keys
    const start = after === undefined ? '-' : `(${after}`
    const [found, more] = await this.#connection.ask(() =>
      this.#scripts.spillPage(dead, deadIds, start, first, pageBytes),
    )
    const letters = found.map(([handle, fields]) => {
      const { id = handle, m: body = '', f } = record(fields)
      return { handle, letter: { id, body, failure: failureOf(f, Number.parseInt(handle, 10)) } }
    })
    return { letters, more: more === 1 }
  }

  retry(ids: readonly string[]): Promise<number> {
    const { stream, pending, oldDeadIndex, deadIds, dead } = this.#keys
    return inSteps(ids, retriedAtOnce, async (some) => {
      const count = await this.ask(
        () => some,
        () => this.#scripts.spillRetry(stream, pending, oldDeadIndex, deadIds, dead, ...some),
      )
      return [count, some.length]
    })
  }

  discard(ids: readonly string[]): Promise<number> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    return inSteps(ids, idsAtOnce, (some) =>
      this.ask(
        () => some,
        () => this.#scripts.spillDiscard(oldDeadIndex, deadIds, dead, ...some),
      ),
    )
  }

  /** Runs a script that looks for letters of these ids; first adopts those that release 0.1 left. */
  async ask<T>(ids: () => readonly string[], run: () => Promise<T | 'ADOPT'>): Promise<T> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    for (;;) {
      const reply = await this.#connection.ask(run)
      if (reply !== 'ADOPT') return reply
      while ((await this.#connection.ask(() => this.#scripts.spillAdopt(oldDeadIndex, deadIds, dead, ...ids()))) > 0);
    }
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
