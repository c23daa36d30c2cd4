/** How many requests a client may make: by token where there is one, else by address; counted by each API process for itself. */
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import { SpillwayError } from '../model/error.ts'

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

  /** Throws RATE_LIMITED where it is one too many. */
  async count(client: string): Promise<void> {
    try {
      await this.#limiter?.consume(client)
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error
      throw new SpillwayError(
        'RATE_LIMITED',
        `At most ${this.#perSecond} requests a second are allowed; wait a moment.`,
        {
          retryAfterMs: error.msBeforeNext,
        },
      )
    }
  }
}
