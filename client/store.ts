/** A value with subscribers: a store as Svelte (`subscribe` calls at once) and React (`getSnapshot`) expect it. */

export interface Store<T> {
  /** Calls back at once and after each change, until the returned function is called. */
  subscribe(changed: (value: T) => void): () => void
  /** The same object until it changes. */
  getSnapshot(): T
}

/** What a subscriber throws is an unhandled rejection: it stops neither the other subscribers nor what changed the value. */
const call = async <T>(changed: (value: T) => void, value: T) => changed(value)

/** `watched` is called when the first one subscribes, and when the last one has left. */
export function makeStore<T extends object>(value: T, watched: (isWatched: boolean) => void = () => {}) {
  const subscribers = new Set<{ changed: (value: T) => void }>()
  return {
    subscribe(changed: (value: T) => void) {
      // The same function may subscribe twice.
      const subscriber = { changed }
      subscribers.add(subscriber)
      if (subscribers.size === 1) watched(true)
      void call(changed, value)
      return () => {
        if (subscribers.delete(subscriber) && subscribers.size === 0) watched(false)
      }
    },
    getSnapshot: () => value,
    set(part: Partial<T>) {
      value = { ...value, ...part }
      for (const { changed } of subscribers) void call(changed, value)
    },
  }
}
