/** Reads fields of graphql-transport-ws messages before graphql-ws parses them, and cancels operations that a client completes. */
import type { Client } from '../app/save.ts'
import { endOfString } from '../http/input.ts'

/** The longest id of an operation that is sent back, in characters. */
const maxIdLength = 1_000

/** The id in a `complete` message; undefined for another message. */
export function completedId(text: string): string | undefined {
  if (text.length > 1_000 || !text.includes('"complete"')) return undefined
  try {
    const { type, id } = JSON.parse(text)
    return type === 'complete' ? id : undefined
  } catch {
    return undefined
  }
}

/** Adds an empty query, which the protocol demands, to a subscribe message that names its document by its hash alone. */
export function withQuery(text: string): string {
  try {
    const message = JSON.parse(text)
    const { type, payload } = message
    if (type !== 'subscribe' || payload?.query != null || !payload?.extensions?.persistedQuery) return text
    return JSON.stringify({ ...message, payload: { ...payload, query: '' } })
  } catch {
    return text
  }
}

/** Whether only a server may send the message; graphql-ws throws for it. */
export function isServerMessage(data: Buffer): boolean {
  try {
    return ['connection_ack', 'next', 'error'].includes(JSON.parse(String(data)).type)
  } catch {
    return false
  }
}

/** The id of a subscribe message, found without parsing the message; undefined if there is none, or a long one. */
export function subscribeId(text: string): string | undefined {
  const found: { id?: unknown; type?: unknown } = {}
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x5b || code === 0x7b) depth += 1
    else if (code === 0x5d || code === 0x7d) depth -= 1
    else if (code === 0x22) {
      const name = depth === 1 ? nameAt(text, i) : undefined
      i = endOfString(text, i)
      // Without a colon after it, the string is a value and no name.
      if (name) found[name] = stringAfter(text, i) ?? found[name]
    }
  }
  return found.type === 'subscribe' && typeof found.id === 'string' && found.id ? found.id : undefined
}

function nameAt(text: string, at: number): 'id' | 'type' | undefined {
  if (text.startsWith('"id"', at)) return 'id'
  return text.startsWith('"type"', at) ? 'type' : undefined
}

/** The string value of the name that ends at `end`. */
function stringAfter(text: string, end: number): unknown {
  const colon = /^\s*:\s*(?=")/.exec(text.slice(end + 1, end + 20))
  if (!colon) return undefined
  const start = end + 1 + colon[0].length
  const last = endOfString(text, start)
  if (last - start > maxIdLength) return undefined
  try {
    return JSON.parse(text.slice(start, last + 1))
  } catch {
    return undefined
  }
}

/** The operations of one WebSocket: which are being set up, and what to call when the client cancels one. */
export class Operations {
  readonly #listeners = new Map<string, Set<() => void>>()
  readonly #opening = new Map<string, Promise<void>>()

  /**
   * Marks the operation as being set up until shortly after the returned function is called. graphql-ws identifies an operation by its id
   * alone: a `complete` processed before the end of the setup would end the next operation with that id, and this one would never end.
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

  /** Resolves when the operation has been set up; undefined if no operation with this id is being set up. */
  opened(id: string): Promise<void> | undefined {
    return this.#opening.get(id)
  }

  /** The client that waits for the operation. */
  client(id: string): Client {
    return {
      onLeave: (listener) => {
        const all = this.#listeners.get(id) ?? new Set()
        this.#listeners.set(id, all.add(listener))
        return () => {
          all.delete(listener)
          if (all.size === 0 && this.#listeners.get(id) === all) this.#listeners.delete(id)
        }
      },
    }
  }

  cancel(id: string): void {
    for (const listener of this.#listeners.get(id) ?? []) listener()
  }

  cancelAll(): void {
    for (const id of [...this.#listeners.keys()]) this.cancel(id)
  }
}
