/**
 * What one client may use: requests per second, and streams (Server-Sent Events and WebSockets) at once. A client is a token's subject, or
 * an address where there is no token.
 */
import type { IncomingMessage } from 'node:http'
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import { badInput, SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'

/** The client that a request counts for. */
export function clientOf({ subject }: Grant, { socket }: IncomingMessage): string {
  return subject ?? socket.remoteAddress ?? ''
}

/** Counts what clients use: of this process, or of all API processes of the machine. */
export interface ClientCounts {
  /** Counts a request. Resolves to the milliseconds that the client must wait; 0: the request is within the limit. */
  request(client: string): Promise<number>
  /** Counts a stream and resolves to true; to false if the client has as many as it may. */
  enter(client: string): Promise<boolean>
  /** A stream that was counted has ended. */
  leave(client: string): void
}

/** Left out: no limit. */
export interface ClientLimits {
  requestsPerSecond?: number | undefined
  streamsPerClient?: number | undefined
}

/** Counts in the memory of this process. */
export class LocalCounts implements ClientCounts {
  readonly #limiter: RateLimiterMemory | undefined
  readonly #maxStreams: number
  readonly #streams = new Map<string, number>()

  constructor({ requestsPerSecond: points, streamsPerClient }: ClientLimits) {
    this.#limiter = points === undefined ? undefined : new RateLimiterMemory({ points, duration: 1 })
    this.#maxStreams = streamsPerClient ?? Number.POSITIVE_INFINITY
  }

  async request(client: string): Promise<number> {
    try {
      await this.#limiter?.consume(client)
      return 0
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error
      return Math.max(1, error.msBeforeNext)
    }
  }

  async enter(client: string): Promise<boolean> {
    const open = this.#streams.get(client) ?? 0
    if (open >= this.#maxStreams) return false
    this.#streams.set(client, open + 1)
    return true
  }

  leave(client: string): void {
    const left = this.#streams.get(client)! - 1
    if (left > 0) this.#streams.set(client, left)
    else this.#streams.delete(client)
  }
}

export class RateLimit {
  readonly #counts: ClientCounts
  readonly #perSecond: number | undefined

  /** undefined: no limit. */
  constructor(perSecond: number | undefined, counts: ClientCounts = new LocalCounts({ requestsPerSecond: perSecond })) {
    this.#perSecond = perSecond
    this.#counts = counts
  }

  get on(): boolean {
    return this.#perSecond !== undefined
  }

  /** Throws RATE_LIMITED above the limit. */
  async count(client: string): Promise<void> {
    const retryAfterMs = this.on ? await this.#counts.request(client) : 0
    if (retryAfterMs === 0) return
    const message = `At most ${this.#perSecond} requests a second are allowed; wait a moment.`
    throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs })
  }
}

export class StreamLimit {
  readonly #counts: ClientCounts
  readonly #max: number | undefined

  /** undefined: no limit. */
  constructor(perClient: number | undefined, counts: ClientCounts = new LocalCounts({ streamsPerClient: perClient })) {
    this.#max = perClient
    this.#counts = counts
  }

  /** Counts one more stream. Rejects with RATE_LIMITED above the limit. Call the returned function once, when the stream ends. */
  async enter(client: string): Promise<() => void> {
    if (this.#max === undefined) return () => {}
    if (await this.#counts.enter(client)) return () => this.#counts.leave(client)
    const message = `At most ${this.#max} streams at once are allowed; close one, or wait.`
    throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 5_000 })
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
