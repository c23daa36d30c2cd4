/**
 * What one client may use: requests per second, and streams (Server-Sent Events and WebSockets) at once. A client is a token's subject, or
 * an address where there is no token. Each API process counts by itself.
 */
import type { IncomingMessage } from 'node:http'
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import { badInput, SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'

/** The client that a request counts for. */
export function clientOf({ subject }: Grant, { socket }: IncomingMessage): string {
  return subject ?? socket.remoteAddress ?? ''
}

export class RateLimit {
  readonly #limiter: RateLimiterMemory | undefined
  readonly #perSecond: number | undefined

  /** undefined: no limit. */
  constructor(perSecond: number | undefined) {
    this.#perSecond = perSecond
    this.#limiter = perSecond === undefined ? undefined : new RateLimiterMemory({ points: perSecond, duration: 1 })
  }

  get on(): boolean {
    return this.#limiter !== undefined
  }

  /** Throws RATE_LIMITED above the limit. */
  async count(client: string): Promise<void> {
    try {
      await this.#limiter?.consume(client)
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error
      const message = `At most ${this.#perSecond} requests a second are allowed; wait a moment.`
      throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: error.msBeforeNext })
    }
  }
}

export class StreamLimit {
  readonly #max: number
  readonly #open = new Map<string, number>()

  /** undefined: no limit. */
  constructor(perClient: number | undefined) {
    this.#max = perClient ?? Number.POSITIVE_INFINITY
  }

  /** Counts one more stream. Throws RATE_LIMITED above the limit. Call the returned function once, when the stream ends. */
  enter(client: string): () => void {
    const open = this.#open.get(client) ?? 0
    if (open >= this.#max) {
      const message = `At most ${this.#max} streams at once are allowed; close one, or wait.`
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

/** In characters: a thousand ids have 40,000. The server keeps the request of a subscription for as long as the stream lasts. */
const maxSubscriptionLength = 64 * 1024

/** Throws BAD_USER_INPUT. */
export function checkSubscription(length: number): void {
  if (length > maxSubscriptionLength)
    throw badInput(
      `the request for a subscription has ${length} characters; at most ${maxSubscriptionLength} are allowed`,
    )
}
