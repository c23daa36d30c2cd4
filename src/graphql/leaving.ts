/** Operations of one WebSocket that are under way, and what to call when the client does not wait for them any longer. */
import type { Client } from '../app/save.ts'

export class Leaving {
  readonly #operations = new Map<string, Set<() => void>>()

  /** The client that waits for an operation. */
  client(id: string): Client {
    return {
      onLeave: (left) => {
        const all = this.#operations.get(id) ?? new Set()
        this.#operations.set(id, all.add(left))
        return () => {
          all.delete(left)
          if (all.size === 0 && this.#operations.get(id) === all) this.#operations.delete(id)
        }
      },
    }
  }

  leave(id: string): void {
    for (const left of this.#operations.get(id) ?? []) left()
  }

  leaveAll(): void {
    for (const id of [...this.#operations.keys()]) this.leave(id)
  }
}
