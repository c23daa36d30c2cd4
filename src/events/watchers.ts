/** Callbacks for the events of single ids: receipts wait with them. */
import type { Event, LogEntry } from './events.ts'

/** Called with each event of the id, and with undefined when events may have been missed: then the watcher must look up the state itself. */
export type Watcher = (event: Event | undefined) => void

export class Watchers {
  readonly #byId = new Map<string, Set<Watcher>>()

  /** Calls back until the returned function is called. */
  watch(id: string, watcher: Watcher): () => void {
    const watchers = this.#byId.get(id) ?? new Set()
    this.#byId.set(id, watchers.add(watcher))
    return () => {
      watchers.delete(watcher)
      if (watchers.size === 0 && this.#byId.get(id) === watchers) this.#byId.delete(id)
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
    for (const watchers of this.#byId.values()) for (const watcher of watchers) watcher(undefined)
  }
}

function idOf(event: Event): string | undefined {
  if (event.type === 'unknown') return undefined
  return event.type === 'saved' ? event.row.id : event.id
}
