/** Operations of one WebSocket: which are being set up, and what to call when the client does not wait for one any longer. */
import type { Client } from '../app/save.ts'

export class Leaving {
  readonly #operations = new Map<string, Set<() => void>>()
  readonly #opening = new Map<string, Promise<void>>()

  /**
   * An operation is being set up until a moment after the returned function is called. graphql-ws knows an operation by its id alone:
   * a `complete` that came before would end the next operation of that id, and this one would never end.
   */
  opening(id: string): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#opening.set(id, promise)
    return () =>
      setImmediate(() => {
        if (this.#opening.get(id) === promise) this.#opening.delete(id)
        resolve()
      })
  }

  /** Resolves when the operation is set up; undefined where none of this id is being set up. */
  opened(id: string): Promise<void> | undefined {
    return this.#opening.get(id)
  }

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
