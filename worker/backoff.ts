/** Retries with exponential backoff and jitter, ended by a signal. */
import { SpillwayError } from '../src/model/error.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Consumer } from '../src/queue/queue.ts'

const minDelayMs = 50
const maxBackoffMs = 5_000

/** The delay in milliseconds after the failed attempt with this number; the first is 1. */
export function backoffMs(attempt: number): number {
  return Math.min(minDelayMs * 2 ** Math.min(attempt - 1, 10), maxBackoffMs) * (0.5 + Math.random() / 2)
}

/** The worker stops before the work is done. The entries of the work stay in the queue. */
export class Stopped extends Error {
  override readonly name = 'Stopped'
}

/** A shard of the queue has been unavailable for too long. The entries of the work stay in it, and are redelivered. */
export class ShardUnavailable extends Error {
  override readonly name = 'ShardUnavailable'
}

/** How long a step waits for a shard. Until then the worker may be full of batches that have entries of it. */
const shardPatienceMs = 1_000

/** For `onError` of a retry of one step with entries: throws ShardUnavailable when the queue has other shards that the worker can go on with. */
export function shardPatience(consumer: Pick<Consumer, 'shardCount'>): (error: Error) => void {
  const since = performance.now()
  return (error) => {
    const isOnly = (consumer.shardCount?.() ?? 1) === 1
    if (isOnly || !(error instanceof SpillwayError) || performance.now() - since < shardPatienceMs) return
    throw new ShardUnavailable(error.message, { cause: error })
  }
}

/**
 * Calls `act` until it succeeds. Each failure is passed to `onError` with the number of the attempt; `onError` may throw to give up.
 * Throws Stopped after the signal aborts.
 */
export async function retry<T>(
  act: () => Promise<T>,
  signal: AbortSignal,
  onError: (error: Error, attempt: number) => void,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act()
    } catch (error) {
      onError(error as Error, attempt)
      if (signal.aborted) throw new Stopped()
      await sleep(backoffMs(attempt), signal)
      if (signal.aborted) throw new Stopped()
    }
  }
}

/** Resolves or rejects as `act` does. Throws Stopped as soon as the signal aborts; `act` may still be running then. */
export async function abortable<T>(act: () => Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw new Stopped()
  const stopped = Promise.withResolvers<never>()
  const stop = () => stopped.reject(new Stopped())
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([act(), stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
