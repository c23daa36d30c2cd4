/** Finds what waits for the topics that an entry of the log has events of, in a time that does not depend on the number of other topics. */
import type { LogEntry } from './events.ts'
import { type ColumnSet, type Topic, topicsOf } from './topics.ts'

/** Values by topic. */
export class TopicIndex<T> {
  readonly #sets = new Map<ColumnSet, Map<string, Set<T>>>()

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

  /** Calls back for each topic that has values here and events in the entry. */
  forEach(entry: LogEntry, callback: (values: ReadonlySet<T>) => void): void {
    for (const [set, byKey] of this.#sets) {
      for (const key of topicsOf(entry).by(set).keys()) {
        const values = byKey.get(key)
        if (values) callback(values)
      }
    }
  }

  /** Every value. */
  *all(): Iterable<T> {
    for (const byKey of this.#sets.values()) for (const values of byKey.values()) yield* values
  }
}
