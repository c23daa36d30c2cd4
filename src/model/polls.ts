/**
 * A source of values that costs nothing while it waits: no promise, no closure. Thousands of subscribers wait most of the time, and what each
 * of them allocates anew for every event survives until the next one, which is the expensive kind of garbage.
 */

/** 'none': there is no value yet. Undefined: the end. */
export type Polled<T> = T | 'none' | undefined

export interface Polls<T> {
  /** The next value, at once where it is at hand; a promise where it must be read. One call at a time. */
  poll(): Polled<T> | Promise<Polled<T>>
  /** Calls back once, when there may be more than the last `poll` found. The listener must not throw. */
  onMore(listener: () => void): void
}

/** Waits for the next value; undefined at the end. */
export async function nextOf<T>(source: Polls<T>): Promise<T | undefined> {
  for (;;) {
    const polled = await source.poll()
    if (polled !== 'none') return polled
    await new Promise<void>((resolve) => source.onMore(resolve))
  }
}
