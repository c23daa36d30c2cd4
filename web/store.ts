/** A value that views follow. Invariant: a view shows the newest value, at most once a frame, however often it changes. */
import { useEffect, useState } from 'preact/hooks'

export interface Store<T> {
  get(): T
  set(value: T): void
  /** Changes some of it. */
  patch(part: Partial<T>): void
  /** Called after each change, until the returned function is called. */
  follow(changed: () => void): () => void
}

export function makeStore<T extends object>(initial: T): Store<T> {
  let value = initial
  const followers = new Set<() => void>()
  const set = (next: T) => {
    value = next
    for (const changed of followers) changed()
  }
  return {
    get: () => value,
    set,
    patch: (part) => set({ ...value, ...part }),
    follow: (changed) => {
      followers.add(changed)
      return () => followers.delete(changed)
    },
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, show] = useState(store.get)
  useEffect(() => {
    let frame = 0
    const changed = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0
        show(store.get())
      })
    }
    changed()
    const stop = store.follow(changed)
    return () => {
      stop()
      cancelAnimationFrame(frame)
    }
  }, [store])
  return value
}
