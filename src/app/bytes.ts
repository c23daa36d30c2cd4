/**
 * The bytes that this process keeps in memory for its clients, in three accounts: unanswered requests, reads and unsent responses, and the
 * requests of open subscriptions. Invariant: each account has a bound that follows from the heap limit, and a request that would exceed
 * it is refused with OVERLOADED, so that clients cannot exhaust the memory of the process.
 */
import { getHeapStatistics } from 'node:v8'
import { SpillwayError } from '../model/error.ts'

const mebibyte = 1024 * 1024
/** Requests up to this size may use the last quarter of an account: a flood of large ones does not refuse the small ones. */
const smallBytes = 16 * 1024
/** Work on more bytes than this gets a turn of the event loop of its own. */
export const largeBytes = 256 * 1024
/** How long a reader waits for free bytes, and how many readers may wait. */
const waitMs = 2_000
const mostWaiting = 1_000

export type AccountName = 'in' | 'out' | 'subscriptions'

/** A number of bytes, or of something else that is bounded, that may be held at once. */
export class Account<Name extends string = AccountName> {
  readonly name: Name
  readonly most: number
  /** What the process does at the bound, in the words of the error. */
  readonly #at: string
  readonly #waitMs: number
  #held = 0
  #refused = 0
  #waiting: { bytes: number; enter: () => void }[] = []

  constructor(name: Name, most: number, at = 'using all memory that it may use for requests', patienceMs = waitMs) {
    this.name = name
    this.most = most
    this.#at = at
    this.#waitMs = patienceMs
  }

  get held(): number {
    return this.#held
  }

  /** How often it refused. */
  get refused(): number {
    return this.#refused
  }

  /** Counts `bytes` more of a request that has `ofRequest` bytes with them. Throws OVERLOADED. */
  hold(bytes: number, ofRequest: number): void {
    const most = ofRequest <= smallBytes ? this.most : this.most * 0.75
    if (this.#held + bytes > most) throw this.refuse()
    this.#held += bytes
  }

  /** Counts bytes that are in memory already, whatever the bound. */
  force(bytes: number): void {
    this.#held += bytes
  }

  release(bytes: number): void {
    this.#held -= bytes
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!.bytes)) this.#waiting.shift()!.enter()
  }

  /** Counts bytes as soon as they fit, in the order of the calls. Throws OVERLOADED if they do not fit in time. */
  async reserve(bytes: number): Promise<void> {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#held += bytes
      return
    }
    if (this.#waiting.length >= mostWaiting) throw this.refuse()
    await new Promise<void>((resolve, reject) => {
      const caller = {
        bytes,
        enter: () => {
          clearTimeout(timer)
          this.#held += bytes
          resolve()
        },
      }
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== caller)
        reject(this.refuse())
      }, this.#waitMs)
      this.#waiting.push(caller)
    })
  }

  /** A read that is larger than the whole account runs alone. */
  #fits(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.most
  }

  refuse(): SpillwayError {
    this.#refused += 1
    return overloaded(this.#at)
  }
}

/** The bytes of one connection's requests. */
export interface ConnectionBytes {
  /** Of all requests. */
  requests: number
  /** Of those that are open subscriptions. */
  subscriptions: number
  /** Its bytes were released already. */
  readonly gone: boolean
}

/** The most bytes of one connection's unanswered requests. */
const mostOfConnection = 16 * mebibyte

/** The counted bytes of one request. */
export class Hold {
  readonly #bytes: Bytes
  readonly #connection: ConnectionBytes
  #held = 0
  #subscription = false

  constructor(bytes: Bytes, connection: ConnectionBytes) {
    this.#bytes = bytes
    this.#connection = connection
  }

  get #account(): Account {
    return this.#subscription ? this.#bytes.subscriptions : this.#bytes.in
  }

  /** Counts more bytes. Throws OVERLOADED, and then nothing has changed. */
  add(bytes: number): void {
    const connection = this.#connection
    if (connection.gone) return
    if (connection.requests + bytes > mostOfConnection) throw this.#account.refuse()
    this.#account.hold(bytes, this.#held + bytes)
    this.#held += bytes
    connection.requests += bytes
    if (this.#subscription) connection.subscriptions += bytes
  }

  /** Counts fewer bytes. */
  lessen(bytes: number): void {
    const connection = this.#connection
    if (connection.gone) return
    this.#held -= bytes
    connection.requests -= bytes
    if (this.#subscription) connection.subscriptions -= bytes
    this.#account.release(bytes)
  }

  /** Moves the request to the account of open subscriptions. Throws OVERLOADED, and then nothing has changed. */
  subscribe(): void {
    const connection = this.#connection
    if (connection.gone || this.#subscription) return
    this.#bytes.subscriptions.hold(this.#held, this.#held)
    this.#bytes.in.release(this.#held)
    connection.subscriptions += this.#held
    this.#subscription = true
  }

  /** May be called twice. */
  release(): void {
    if (this.#held > 0) this.lessen(this.#held)
  }
}

export class Bytes {
  /** Unanswered requests. A byte of a request costs up to eight while it is decoded, parsed, checked and encoded. */
  readonly in: Account
  /** Reads, each with all memory that it takes meanwhile (see Reads), and unsent responses. */
  readonly out: Account
  readonly subscriptions: Account
  /** Connections that were closed because their clients read too slowly. */
  slowClosed = 0
  #turn: Promise<void> = Promise.resolve()

  constructor(heapLimit = getHeapStatistics().heap_size_limit) {
    const part = (of: number, most: number) => Math.min(Math.floor(heapLimit / of), most * mebibyte)
    this.in = new Account('in', part(16, 128))
    this.out = new Account('out', part(8, 256))
    this.subscriptions = new Account('subscriptions', part(32, 64))
  }

  /** Releases all bytes of a connection that is being closed. */
  releaseAll({ requests, subscriptions }: ConnectionBytes): void {
    this.in.release(requests - subscriptions)
    this.subscriptions.release(subscriptions)
  }

  get all(): readonly Account[] {
    return [this.in, this.out, this.subscriptions]
  }

  /** Resolves in a turn of the event loop that no other caller gets: between two large pieces of work, small ones are served. */
  turn(): Promise<void> {
    this.#turn = this.#turn.then(() => new Promise((resolve) => setImmediate(resolve)))
    return this.#turn
  }
}

export function overloaded(why: string): SpillwayError {
  return new SpillwayError('OVERLOADED', `This process is ${why}; try again shortly.`, { retryAfterMs: 2_000 })
}
