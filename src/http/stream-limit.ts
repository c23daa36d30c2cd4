/**
 * What a client may hold open: event streams and WebSockets, counted by token where there is one, else by address, by each API process
 * for itself; and how long the request for one may be, since it is kept for as long as the stream lasts.
 */
import type { IncomingMessage } from 'node:http'
import { badInput, SpillwayError } from '../model/error.ts'
import type { Grant } from './auth.ts'

/** Of a subscription's request, in characters. */
const requestLength = 32 * 1024

export class StreamLimit {
  readonly #most: number
  readonly #open = new Map<string, number>()

  /** undefined: no limit. */
  constructor(perClient: number | undefined) {
    this.#most = perClient ?? Number.POSITIVE_INFINITY
  }

  /** Counts one more. Throws RATE_LIMITED where it is one too many. Call what it returns, once, when it ends. */
  enter(client: string): () => void {
    const open = this.#open.get(client) ?? 0
    if (open >= this.#most) {
      const message = `At most ${this.#most} streams at once are allowed; close one, or wait.`
      throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 5_000 })
    }
    this.#open.set(client, open + 1)
    return () => {
      const left = this.#open.get(client)! - 1
      if (left > 0) this.#open.set(client, left)
      else this.#open.delete(client)
    }
  }
}

/** Throws BAD_USER_INPUT. */
export function checkSubscription(length: number): void {
  if (length > requestLength)
    throw badInput(`the request for a subscription has ${length} characters; at most ${requestLength} are allowed`)
}

/** Whom limits are counted by. */
export function clientOf({ subject }: Grant, { socket }: IncomingMessage): string {
  return subject ?? socket.remoteAddress ?? ''
}
