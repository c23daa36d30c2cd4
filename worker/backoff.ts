/** Waits between tries: exponential, with jitter, cut short by a signal. */
import { sleep } from '../src/model/sleep.ts'

const firstMs = 50
const lastMs = 5_000

/** How long to wait before try `n + 1`, in milliseconds; n counts from 1. */
export function delay(n: number): number {
  return Math.min(firstMs * 2 ** Math.min(n - 1, 10), lastMs) * (0.5 + Math.random() / 2)
}

/** Thrown where work is left as it is because the worker stops: its messages stay in the queue. */
export class Stopped extends Error {
  override readonly name = 'Stopped'
}

/** Does it until it succeeds; `onError` is told of each failure and may throw to give up. Throws Stopped when the signal aborts. */
export async function persistently<T>(
  act: () => Promise<T>,
  signal: AbortSignal,
  onError: (error: Error, tries: number) => void,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await act()
    } catch (error) {
      onError(error as Error, tries)
      if (signal.aborted) throw new Stopped()
      await sleep(delay(tries), signal)
      if (signal.aborted) throw new Stopped()
    }
  }
}

/** What `act` comes to; Stopped as soon as the signal aborts, while it may go on by itself. */
export async function orStopped<T>(act: () => Promise<T>, signal: AbortSignal): Promise<T> {
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
