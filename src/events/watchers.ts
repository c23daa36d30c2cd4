/** Callbacks for the events of single ids: receipts wait with them. */
import type { Event, LogEntry } from './events.ts'

/** Called with each event of its ids, and with undefined when events may have been missed: then the watcher must look up the states itself. */
export type Watcher = (event: Event | undefined) => void

export class Watchers {
  readonly #byId = new Map<string, Set<Watcher>>()

  /** Calls back until the returned function is called, which may be called twice. */
  watch(ids: readonly string[], watcher: Watcher): () => void {
    for (const id of ids) {
      const watchers = this.#byId.get(id) ?? new Set()
      this.#byId.set(id, watchers.add(watcher))
    }
    return () => {
      for (const id of ids) {
        const watchers = this.#byId.get(id)
        if (watchers?.delete(watcher) && watchers.size === 0) this.#byId.delete(id)
      }
    }
  }

  notify(entries: readonly LogEntry[]): void {
    if (this.#byId.size === 0) return
    for (const { events } of entries) {
      for (const event of events) {
        const id = idOf(event)
        for (const watcher of (id !== undefined && this.#byId.get(id)) || []) watcher(event)
      }
    }
  }

  /** Events of any id may have been missed. */
  missed(): void {
    const all = new Set([...this.#byId.values()].flatMap((watchers) => [...watchers]))
    for (const watcher of all) watcher(undefined)
  }
}

function idOf(event: Event): string | undefined {
  if (event.type === 'unknown') return undefined
  return event.type === 'saved' ? event.row.id : event.id
}
