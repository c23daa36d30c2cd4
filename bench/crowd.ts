/**
 * Many subscribers. They share the cores with the server they listen to, so a crowd does not read what it is sent: every event of one kind
 * has the same length, and a subscriber is a number of bytes that arrived.
 */
import { type Connection, listen, type Subscriber, type Subscription } from './subscriber.ts'

export interface CrowdOptions extends Omit<Connection, 'localAddress'> {
  /** Taken in turns. */
  subscriptions: readonly Subscription[]
  /** To connect from, taken in turns. */
  localAddresses?: readonly string[]
  size: number
}

export interface Crowd {
  readonly size: number
  /** Counts from zero again. Nothing may be under way. */
  restart(): Promise<void>
  /** Resolves when nothing has arrived for a while. */
  quiet(): Promise<void>
  /** Resolves, with the time of `clock`, when every subscriber that is still connected has received so many bytes. Rejects when nothing has
   *  arrived for `stalledMs`. */
  received(bytes: number, stalledMs: number): Promise<number>
  state(): Promise<CrowdState>
  close(): void
}

export interface CrowdState {
  /** Bytes of the subscriber that received the fewest, and the most. */
  least: number
  most: number
  /** Subscribers that the server disconnected. */
  dropped: number
}

/** Milliseconds, of a clock that all processes of the machine share. */
export const clock = (): number => Number(process.hrtime.bigint()) / 1e6

/** A server's backlog of connections is bounded. */
const openedAtOnce = 100
const quietMs = 300

/** A crowd of this process. */
export class LocalCrowd implements Crowd {
  readonly size: number
  /** Called with the number of bytes that one of the subscribers has received so far. */
  onBytes: (bytes: number) => void = () => {}
  readonly #subscribers: Subscriber[] = []
  /** Infinity: dropped. */
  readonly #received: Float64Array
  #total = 0
  #waiting: { bytes: number; missing: number; resolve(): void } | undefined

  private constructor(size: number) {
    this.size = size
    this.#received = new Float64Array(size)
  }

  static async open({ size, subscriptions, localAddresses = [], ...options }: CrowdOptions): Promise<LocalCrowd> {
    const crowd = new LocalCrowd(size)
    for (let opened = 0; opened < size; opened += openedAtOnce) {
      const some = Array.from({ length: Math.min(openedAtOnce, size - opened) }, async (_, i) => {
        const n = opened + i
        const received = (bytes: number) => crowd.#count(n, bytes)
        const dropped = () => crowd.#count(n, Number.POSITIVE_INFINITY)
        const subscription = subscriptions[n % subscriptions.length]!
        const connection = { ...options, localAddress: localAddresses[n % localAddresses.length] }
        crowd.#subscribers.push(await listen(connection, subscription, { received, dropped }))
      })
      await Promise.all(some)
    }
    return crowd
  }

  #count(subscriber: number, bytes: number): void {
    const before = this.#received[subscriber]!
    const received = before + bytes
    this.#received[subscriber] = received
    this.#total += bytes
    this.onBytes(received)
    const waiting = this.#waiting
    if (!waiting || before >= waiting.bytes || received < waiting.bytes) return
    waiting.missing -= 1
    if (waiting.missing === 0) waiting.resolve()
  }

  async restart(): Promise<void> {
    this.#received.forEach((bytes, n) => {
      if (bytes !== Number.POSITIVE_INFINITY) this.#received[n] = 0
    })
    this.#total = 0
  }

  async quiet(): Promise<void> {
    for (let before = -1; before !== this.#total; ) {
      before = this.#total
      await new Promise((resolve) => setTimeout(resolve, quietMs))
    }
  }

  async received(bytes: number, stalledMs: number): Promise<number> {
    const missing = this.#received.filter((received) => received < bytes).length
    if (missing === 0) return clock()
    let timer: NodeJS.Timeout | undefined
    const waiting = { bytes, missing, resolve() {} }
    await new Promise<void>((resolve, reject) => {
      waiting.resolve = resolve
      this.#waiting = waiting
      let before = this.#total
      const look = () => {
        if (this.#total !== before) before = this.#total
        else {
          const text = `${waiting.missing} of ${this.size} subscribers had not received ${bytes} bytes`
          reject(new Error(`${text}, and nothing arrived for ${stalledMs} ms`))
        }
      }
      timer = setInterval(look, stalledMs)
    }).finally(() => {
      clearInterval(timer)
      this.#waiting = undefined
    })
    return clock()
  }

  async state(): Promise<CrowdState> {
    let [least, most, dropped] = [Number.POSITIVE_INFINITY, 0, 0]
    for (const bytes of this.#received) {
      if (bytes === Number.POSITIVE_INFINITY) dropped += 1
      else {
        least = Math.min(least, bytes)
        most = Math.max(most, bytes)
      }
    }
    return { least, most, dropped }
  }

  close(): void {
    for (const subscriber of this.#subscribers) subscriber.close()
  }
}
