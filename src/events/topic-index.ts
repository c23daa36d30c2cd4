/** Finds what waits for the topics that an entry of the log has events of, in a time that does not depend on the number of other topics. */
import type { LogEntry } from './events.ts'
import { type ColumnSet, type Topic, topicsOf } from './topics.ts'

/** Values by topic. */
export class TopicIndex<T> {
  readonly #sets = new Map<ColumnSet, Map<string, Set<T>>>()

  get isEmpty(): boolean {
    return this.#sets.size === 0
  }

  add({ set, key }: Topic, value: T): void {
    const byKey = this.#sets.get(set) ?? new Map<string, Set<T>>()
    const values = byKey.get(key) ?? new Set()
    this.#sets.set(set, byKey.set(key, values.add(value)))
  }

  delete({ set, key }: Topic, value: T): void {
    const byKey = this.#sets.get(set)
    const values = byKey?.get(key)
    values?.delete(value)
    if (values?.size === 0) byKey!.delete(key)
    if (byKey?.size === 0) this.#sets.delete(set)
  }

  /** Calls back with the values of all topics that have events in the entry. */
  forEach(entry: LogEntry, callback: (value: T) => void): void {
    for (const [set, byKey] of this.#sets) {
      for (const key of topicsOf(entry).by(set).keys()) byKey.get(key)?.forEach(callback)
    }
  }

  /** Every value. */
  *all(): Iterable<T> {
    for (const byKey of this.#sets.values()) for (const values of byKey.values()) yield* values
  }

  /** Removes and returns the values of all topics that have events in the entry. */
  take(entry: LogEntry): Set<T>[] {
    const taken: Set<T>[] = []
    for (const [set, byKey] of this.#sets) {
      for (const key of topicsOf(entry).by(set).keys()) {
        const values = byKey.get(key)
        if (!values) continue
        byKey.delete(key)
        taken.push(values)
      }
      if (byKey.size === 0) this.#sets.delete(set)
    }
    return taken
  }

  /** Takes over all values of another index, which must not be used any more. The larger parts stay, and the smaller ones are added. */
  join(other: TopicIndex<T>): void {
    for (const [set, theirs] of other.#sets) {
      const ours = this.#sets.get(set)
      if (!ours) this.#sets.set(set, theirs)
      else this.#sets.set(set, joinedKeys(ours, theirs))
    }
  }

  /** Removes and returns all values. */
  takeAll(): Set<T>[] {
    const taken = [...this.#sets.values()].flatMap((byKey) => [...byKey.values()])
    this.#sets.clear()
    return taken
  }
}

function joinedKeys<T>(one: Map<string, Set<T>>, other: Map<string, Set<T>>): Map<string, Set<T>> {
  const [large, small] = one.size < other.size ? [other, one] : [one, other]
  for (const [key, values] of small) {
    const known = large.get(key)
    large.set(key, known ? joinedValues(known, values) : values)
  }
  return large
}

function joinedValues<T>(one: Set<T>, other: Set<T>): Set<T> {
  const [large, small] = one.size < other.size ? [other, one] : [one, other]
  for (const value of small) large.add(value)
  return large
}
