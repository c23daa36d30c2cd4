/**
 * Enqueues a request whose ids are of several shards, all or none: every shard first checks its part and reserves the ids and their room, and
 * only if none refuses, each shard enqueues its part.
 *
 * - A shard refuses (ID_CONFLICT, QUEUE_FULL), or cannot be reached: nothing is enqueued anywhere.
 * - The process dies before the first commit: nothing is enqueued. The reservations expire after `reservedMs` (redis.ts); until then requests
 *   with the same ids are told to try again.
 * - The process dies between two commits, or a shard fails at its commit: some items are enqueued, and others are not. The client was not told
 *   that anything was refused: it has no answer, or OUTCOME_UNKNOWN. A retry with the same ids enqueues the rest, and each id is saved once.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { SpillwayError } from '../model/error.ts'
import type { Enqueued, Item } from './queue.ts'
import type { RedisQueue } from './redis.ts'

/** The items of one shard. */
export interface Part {
  queue: RedisQueue
  items: readonly Item[]
}

/** After this time nothing is committed any more: the reservations must hold until the last commit. */
const commitBeforeMs = 5_000
/** Two requests may reserve each other's ids. */
const tries = 6

export async function enqueueSpanning(
  request: readonly Item[],
  parts: readonly Part[],
): Promise<Enqueued[] | SpillwayError> {
  const token = randomBytes(9).toString('base64url')
  // Where it fails, the reservations expire.
  const release = () => Promise.allSettled(parts.map(({ queue, items }) => queue.release(items, token)))
  const since = performance.now()
  for (let attempt = 1; ; attempt += 1) {
    const refusals = (await all(parts, ({ queue, items }) => queue.reserve(items, token))).filter(isError)
    const refused = refusals.find(({ code }) => code === 'ID_CONFLICT') ?? refusals[0]
    if (!refused) break
    // Before the next try: it has the same token.
    await release()
    if (refused.code === 'ID_CONFLICT' || refused.code === 'QUEUE_FULL') return refused
    if (!isReserved(refused) || attempt === tries) return unavailable(refused)
    await sleep(20 * attempt * (0.5 + Math.random()))
  }
  if (performance.now() - since > commitBeforeMs) {
    await release()
    return unavailable()
  }
  const committed = await all(parts, ({ queue, items }) => queue.commit(items, token))
  const failed = committed.find(isError)
  if (failed) {
    await release()
    return committed.every((part) => isError(part) && part.code === 'QUEUE_UNAVAILABLE')
      ? unavailable(failed)
      : new SpillwayError('OUTCOME_UNKNOWN', 'The ids are of several shards, and one of them failed midway.', {
          retryAfterMs: 1_000,
          cause: failed,
        })
  }
  const byItem = new Map<Item, Enqueued[]>()
  for (const [p, { items }] of parts.entries())
    for (const [n, item] of items.entries()) {
      const results = byItem.get(item) ?? []
      results.push((committed[p] as Enqueued[])[n]!)
      byItem.set(item, results)
    }
  return request.map((item) => byItem.get(item)!.shift()!)
}

const isError = (value: unknown): value is SpillwayError => value instanceof SpillwayError

function all<T>(parts: readonly Part[], act: (part: Part) => Promise<T>): Promise<(T | SpillwayError)[]> {
  return Promise.all(
    parts.map((part) =>
      act(part).catch((error) => {
        if (error instanceof SpillwayError) return error
        throw error
      }),
    ),
  )
}

const isReserved = ({ cause }: SpillwayError) => cause === 'reserved'

function unavailable(cause?: SpillwayError): SpillwayError {
  return new SpillwayError(
    'QUEUE_UNAVAILABLE',
    cause?.code === 'QUEUE_UNAVAILABLE'
      ? cause.message
      : 'A shard of the queue did not answer in time. Nothing was changed; try again.',
    { retryAfterMs: cause?.retryAfterMs ?? 1_000, ...(cause ? { cause } : {}) },
  )
}
