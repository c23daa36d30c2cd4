/** Waiting for the next try. Invariant: whatever wakes the client (the network is back, a retry by hand) ends every pause. */

const mostMs = 60_000

export interface Waker {
  /**
   * Resolves after the time for so many tries, and no sooner than the server asks; at `wake()`; or when the signal aborts. Full jitter:
   * clients that lost one server do not come back together.
   */
  backOff(tries: number, retryAfterMs: number | undefined, signal: AbortSignal): Promise<void>
  wake(): void
}

export function makeWaker(closed: AbortSignal): Waker {
  const sleeping = new Set<() => void>()
  const wake = () => {
    for (const done of sleeping) done()
  }
  globalThis.addEventListener?.('online', wake, { signal: closed })
  return {
    wake,
    backOff: (tries, retryAfterMs = 0, signal) =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer)
          sleeping.delete(done)
          signal.removeEventListener('abort', done)
          resolve()
        }
        const ms = Math.max(Math.min(retryAfterMs, mostMs), Math.random() * Math.min(5_000, 250 * 2 ** tries))
        const timer = setTimeout(done, ms)
        sleeping.add(done)
        signal.addEventListener('abort', done)
        if (signal.aborted) done()
      }),
  }
}
