/**
 * The saves of the soak, at a rate that does not depend on the answers. As docs/protocol.md asks a client to, it repeats a save that was not
 * answered, or was answered with `retryAfterMs`, under its id until it is acknowledged, at whichever API process accepts connections.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Connection, open, type Response, requestOf } from '../client.ts'
import { Samples } from '../samples.ts'
import { saveOf } from './messages.ts'
import { NumberSet } from './number-set.ts'

const connections = 64
/** Later than the API's own bounds: the process is frozen, or gone. */
const answerWithinMs = 10_000
/** A connection that a fault has driven to another API process is opened at its own again, so that the load stays spread. */
const astrayMs = 10_000
const mostRefusals = 20

export interface LoadOptions {
  urls: readonly string[]
  /** Saves a second. */
  rate: number
  prefix: string
  rooms: number
}

export class Load {
  readonly acknowledged = new NumberSet()
  /** Saves 0 to this were sent at least once. */
  sent = 0
  /** Times that a save was sent again. */
  repeated = 0
  /** Acknowledged saves that an earlier request had already brought into the queue. */
  duplicates = 0
  /** Answers after which a client must not repeat; none is expected. */
  readonly refusals: string[] = []
  refused = 0
  readonly #options: LoadOptions
  readonly #started = performance.now()
  readonly #clients: Promise<void>[]
  readonly #timer: NodeJS.Timeout
  readonly #waiting: ((n: number | undefined) => void)[] = []
  readonly #givenUp = new AbortController()
  #isStopping = false
  #latency = new Samples()
  #lastAcknowledgedAt = performance.now()
  #longestPauseMs = 0

  constructor(options: LoadOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#giveOut(), 1)
    this.#clients = Array.from({ length: connections }, (_, i) => this.#client(i))
  }

  /** Milliseconds from when a save was due to its acknowledgement, of those since the last call. */
  takeLatency(): Samples {
    const taken = this.#latency
    this.#latency = new Samples()
    return taken
  }

  /** The longest time without an acknowledgement since the last call. */
  takePauseMs(): number {
    const ms = Math.max(this.#longestPauseMs, performance.now() - this.#lastAcknowledgedAt)
    this.#longestPauseMs = 0
    return ms
  }

  /** Sends nothing new, and resolves when everything that was sent is acknowledged, or `withinMs` are over. */
  async stop(withinMs: number): Promise<void> {
    this.#isStopping = true
    clearInterval(this.#timer)
    for (const give of this.#waiting.splice(0)) give(undefined)
    const timer = setTimeout(() => this.#givenUp.abort(), withinMs)
    await Promise.all(this.#clients)
    clearTimeout(timer)
  }

  #dueAt(n: number): number {
    return this.#started + (n / this.#options.rate) * 1_000
  }

  #giveOut(): void {
    const now = performance.now()
    while (this.#waiting.length > 0 && this.#dueAt(this.sent) <= now) this.#waiting.shift()!(this.sent++)
  }

  async #next(): Promise<number | undefined> {
    if (this.#isStopping) return undefined
    const next = new Promise<number | undefined>((resolve) => this.#waiting.push(resolve))
    this.#giveOut()
    return await next
  }

  async #client(i: number): Promise<void> {
    const { urls, prefix, rooms } = this.#options
    let connection: Connection | undefined
    let turn = i
    let openedAt = 0
    for (let n = await this.#next(); n !== undefined; n = await this.#next()) {
      const body = saveOf(n, prefix, rooms)
      if (turn !== i && performance.now() - openedAt > astrayMs) {
        connection?.close()
        turn = i
      }
      for (let attempt = 0; !this.#givenUp.signal.aborted; attempt++) {
        if (attempt > 0) this.repeated += 1
        let waitMs: number | undefined
        try {
          const url = urls[turn % urls.length]!
          if (!connection?.alive) {
            connection = await open(url, true)
            openedAt = performance.now()
          }
          waitMs = this.#judge(n, await answerOf(connection, requestOf(url, '/graphql', body)))
        } catch {
          waitMs = 200
        }
        if (waitMs === undefined) break
        if (!connection?.alive) turn += 1
        await sleep(Math.min(waitMs, 1_000) * (0.5 + Math.random()))
      }
    }
    connection?.close()
  }

  /** Milliseconds until the save is to be repeated; undefined: it is not. Throws where there is no answer. */
  #judge(n: number, response: Response | undefined): number | undefined {
    if (!response) throw new Error('no answer')
    const text = response.body.toString()
    const { data, errors } = JSON.parse(text)
    if (data?.saveMessage) {
      this.#acknowledge(n, data.saveMessage.duplicate)
      return undefined
    }
    const { code, retryAfterMs } = errors?.[0]?.extensions ?? {}
    if (retryAfterMs !== undefined) return retryAfterMs
    if (code === 'OUTCOME_UNKNOWN') return 200
    this.refused += 1
    if (this.refusals.length < mostRefusals) this.refusals.push(`${response.status} ${text.slice(0, 300)}`)
    return undefined
  }

  #acknowledge(n: number, isDuplicate: boolean): void {
    const now = performance.now()
    this.acknowledged.add(n)
    if (isDuplicate) this.duplicates += 1
    this.#latency.add(now - this.#dueAt(n))
    this.#longestPauseMs = Math.max(this.#longestPauseMs, now - this.#lastAcknowledgedAt)
    this.#lastAcknowledgedAt = now
  }
}

async function answerOf(connection: Connection, request: Buffer): Promise<Response | undefined> {
  const timer = setTimeout(() => connection.close(), answerWithinMs)
  try {
    return await new Promise((resolve) => connection.send(request, resolve))
  } finally {
    clearTimeout(timer)
  }
}
