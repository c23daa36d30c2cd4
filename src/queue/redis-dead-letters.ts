/**
 * The dead letters of the queue on Redis. Invariant: one call of a script reads, moves or deletes a bounded number of dead letters, however
 * many an id has. More of them need several calls, and other clients of the server come between two calls.
 */
import type { Redis } from 'ioredis'
import { readFailure, SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type RedisConnection, retryAfterMs } from '../redis/connection.ts'
import { keptInPlace, noHandle } from './dead-letter-steps.ts'
import {
  type DeadLetter,
  type DeadLetterRange,
  type DeadLetterStep,
  handlesAtOnce,
  type Item,
  type Queue,
  type SaveState,
} from './queue.ts'
import type { ReplicatedWrites } from './redis-replicas.ts'
import { type QueueKeys, record, type Scripts } from './redis-scripts.ts'

const pageBytes = 4 * 1024 * 1024
/** Small, because the script reads a dead letter of each. */
const idsAtOnce = 100
/** How long a call waits for the repair of the index. It takes about one second for 100,000 dead letters. */
const repairPatienceMs = 2_000

interface Deps {
  connection: RedisConnection
  scripts: Redis & Scripts
  writes: ReplicatedWrites
  keys: QueueKeys
  log: Log
}

interface Written<Name extends keyof Scripts> {
  reply: Exclude<Awaited<ReturnType<Scripts[Name]>>, 'REPAIR'>
  unconfirmed?: SpillwayError
}

export class RedisDeadLetters
  implements Pick<Queue, 'deadLetter' | 'deadLetters' | 'deadLettersOf' | 'retry' | 'replace' | 'discard'>
{
  readonly #connection: RedisConnection
  readonly #scripts: Redis & Scripts
  readonly #writes: ReplicatedWrites
  readonly #keys: QueueKeys
  readonly #log: Log
  #repairing: Promise<void> | undefined

  constructor({ connection, scripts, writes, keys, log }: Deps) {
    this.#connection = connection
    this.#scripts = scripts
    this.#writes = writes
    this.#keys = keys
    this.#log = log
  }

  async deadLetters(
    limit: number,
    { newerThan, olderThan, newestFirst = false }: DeadLetterRange = {},
  ): ReturnType<Queue['deadLetters']> {
    for (const bound of [newerThan, olderThan]) if (bound !== undefined && !isHandle(bound)) throw noHandle()
    const order = newestFirst ? 'newest' : 'oldest'
    const [found, more] = await this.#connection.read(() =>
      this.#scripts.spillPage(this.#keys.dead, order, newerThan ?? '', olderThan ?? '', limit, pageBytes),
    )
    return { deadLetters: found.map(deadLetterOf), more: more === 1 }
  }

  async deadLetter(handle: string): Promise<DeadLetter | undefined> {
    if (!isHandle(handle)) return undefined
    const [found] = await this.#connection.read((client) => client.xrange(this.#keys.dead, handle, handle))
    return found && deadLetterOf(found)
  }

  async deadLettersOf(ids: readonly string[]): ReturnType<Queue['deadLettersOf']> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    const replies = []
    for (let i = 0; i < ids.length; i += idsAtOnce) {
      const some = ids.slice(i, i + idsAtOnce)
      replies.push(
        await this.read(() => this.#scripts.spillHandles(oldDeadIndex, deadIds, dead, handlesAtOnce, ...some)),
      )
    }
    return replies.flat().map(([count, ...handles]) => ({ count, handles }))
  }

  async retry(handles: readonly string[], { dryRun = false } = {}): Promise<DeadLetterStep> {
    if (handles.length === 0) return { done: 0, changed: [] }
    const { stream, pending, oldDeadIndex, deadIds, dead } = this.#keys
    const args = [stream, pending, oldDeadIndex, deadIds, dead, dryRun ? 'dry' : '', ...handles.slice(0, handlesAtOnce)]
    const [done, changed] = dryRun
      ? await this.read(() => this.#scripts.spillRetry(...args))
      : await this.#confirmed('spillRetry', args)
    return { done, changed }
  }

  async replace(handle: string, { id, digest, at, body }: Item): Promise<SaveState | undefined> {
    if (!isHandle(handle)) return undefined
    const { stream, pending, oldDeadIndex, deadIds, dead } = this.#keys
    const keys = [stream, pending, oldDeadIndex, deadIds, dead]
    const reply = await this.#confirmed('spillReplace', [...keys, handle, id, `${digest} ${at}`, body])
    if (reply === 'GONE') return undefined
    if (reply === 'KEPT') throw keptInPlace(id)
    return { status: 'QUEUED', digest, at, conflicts: reply }
  }

  async discard(handles: readonly string[]): Promise<DeadLetterStep> {
    if (handles.length === 0) return { done: 0, changed: [] }
    const { deadIds, dead } = this.#keys
    const [done, changed] = await this.#confirmed('spillDiscard', [deadIds, dead, ...handles.slice(0, handlesAtOnce)])
    return { done, changed }
  }

  /**
   * Runs a script that looks dead letters up by their ids, and changes nothing. If it asks for a repair of the index, runs it again after the
   * repair.
   */
  async read<T>(run: () => Promise<T | 'REPAIR'>): Promise<T> {
    for (;;) {
      const reply = await this.#connection.read(run)
      if (reply !== 'REPAIR') return reply
      await this.#repaired()
    }
  }

  /** As `read`, for a script that writes: see ReplicatedWrites.write. */
  async write<Name extends 'spillEnqueue' | 'spillRetry' | 'spillReplace' | 'spillDiscard'>(
    name: Name,
    args: readonly (string | number)[],
    waits?: boolean,
  ): Promise<Written<Name>> {
    for (;;) {
      const written = await this.#writes.write(name, args, waits)
      if (written.reply !== 'REPAIR') return written as Written<Name>
      await this.#repaired()
    }
  }

  async #confirmed<Name extends 'spillRetry' | 'spillReplace' | 'spillDiscard'>(
    name: Name,
    args: readonly (string | number)[],
  ): Promise<Written<Name>['reply']> {
    const { reply, unconfirmed } = await this.write(name, args)
    if (unconfirmed) throw unconfirmed
    return reply
  }

  /** All callers share one repair. It goes on when a caller has stopped waiting. */
  async #repaired(): Promise<void> {
    this.#repairing ??= this.#repair().finally(() => {
      this.#repairing = undefined
    })
    this.#repairing.catch(() => {})
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the repair takes longer')), repairPatienceMs)
    })
    try {
      await Promise.race([this.#repairing, late])
    } catch (cause) {
      // In any case the caller's script has not run.
      throw new SpillwayError(
        'QUEUE_UNAVAILABLE',
        `The index of the dead letters (${this.#keys.deadIds}) does not match them and is being rebuilt. Nothing was changed; try again.`,
        { retryAfterMs, cause },
      )
    } finally {
      clearTimeout(timer)
    }
  }

  async #repair(): Promise<void> {
    const { oldDeadIndex, deadIds, dead } = this.#keys
    this.#log.warn({ key: deadIds }, 'the index of the dead letters does not match them; rebuilding it')
    let next = ''
    do {
      const from = next
      next = await this.#connection.ask(() => this.#scripts.spillRepair(oldDeadIndex, deadIds, dead, from))
    } while (next !== '')
  }
}

function deadLetterOf([handle, fields]: [handle: string, fields: string[]]): DeadLetter {
  const { id = handle, m: body = '', f } = record(fields)
  return { handle, id, body, failure: failureOf(f, Number.parseInt(handle, 10)) }
}

/** Whether it is an id of a stream entry: two numbers below 2^64. */
function isHandle(text: string): boolean {
  const parts = /^(\d{1,20})-(\d{1,20})$/.exec(text)?.slice(1)
  return parts?.every((part) => BigInt(part) < 2n ** 64n) ?? false
}

/** Returns the failure of a dead letter; for a malformed one, the code UNDECODABLE and the fields that can be read. */
export function failureOf(text: string | undefined, at: number) {
  let value: unknown
  try {
    value = JSON.parse(text ?? '')
  } catch {
    // readFailure returns UNDECODABLE.
  }
  return readFailure(value, at)
}
