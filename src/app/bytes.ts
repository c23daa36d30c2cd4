/**
 * The bytes that this process holds for its clients, in three accounts: what came in and is not answered yet, what is being read or
 * waits to be sent, and the requests of open subscriptions. Invariant: each account has a bound that follows from the heap limit, and
 * whatever would exceed it is refused with OVERLOADED, so that the process stays within its memory whatever its clients do.
 */
import { getHeapStatistics } from 'node:v8'
import { SpillwayError } from '../model/error.ts'

const mebibyte = 1024 * 1024
/** Requests up to this size may use the last quarter of an account: a flood of large ones does not refuse the small ones. */
const smallBytes = 16 * 1024
/** Work on more than this is done in a turn of the event loop of its own. */
export const largeBytes = 256 * 1024
/** How long a reader waits for room, and how many may wait. */
const waitMs = 2_000
const mostWaiting = 1_000

export type AccountName = 'in' | 'out' | 'subscriptions'

export class Account {
  readonly name: AccountName
  readonly most: number
  #held = 0
  #refused = 0
  #line: { bytes: number; enter: () => void }[] = []

  constructor(name: AccountName, most: number) {
    this.name = name
    this.most = most
  }

  get held(): number {
    return this.#held
  }

  /** How often it had no room. */
  get refused(): number {
    return this.#refused
  }

  /** Holds more bytes for a request that holds `ofRequest` with them. Throws OVERLOADED. */
  hold(bytes: number, ofRequest: number): void {
    const most = ofRequest <= smallBytes ? this.most : this.most * 0.75
    if (this.#held + bytes > most) throw this.refuse()
    this.#held += bytes
  }

  /** Holds bytes that are there already, whatever the bound. */
  force(bytes: number): void {
    this.#held += bytes
  }

  release(bytes: number): void {
    this.#held -= bytes
    while (this.#line.length > 0 && this.#fits(this.#line[0]!.bytes)) this.#line.shift()!.enter()
  }

  /** Holds bytes as soon as there is room, first come, first served. Throws OVERLOADED when there is none in time. */
  async reserve(bytes: number): Promise<void> {
    if (this.#line.length === 0 && this.#fits(bytes)) {
      this.#held += bytes
      return
    }
    if (this.#line.length >= mostWaiting) throw this.refuse()
    await new Promise<void>((resolve, reject) => {
      const waiting = {
        bytes,
        enter: () => {
          clearTimeout(timer)
          this.#held += bytes
          resolve()
        },
      }
      const timer = setTimeout(() => {
        this.#line = this.#line.filter((other) => other !== waiting)
        reject(this.refuse())
      }, waitMs)
      this.#line.push(waiting)
    })
  }

  /** One that is larger than the whole account is alone in it. */
  #fits(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.most
  }

  refuse(): SpillwayError {
    this.#refused += 1
    return overloaded('holding as many bytes for its clients as it may')
  }
}

/** What one owner, a connection, holds of requests. */
export interface Owner {
  /** In all. */
  requests: number
  /** Of these, of open subscriptions. */
  subscriptions: number
  /** It has given back what it held. */
  readonly gone: boolean
}

/** What one connection may hold of requests that are not answered. */
const mostOfOwner = 16 * mebibyte

/** The bytes of one request. */
export class Hold {
  readonly #bytes: Bytes
  readonly #owner: Owner
  #held = 0
  #subscription = false

  constructor(bytes: Bytes, owner: Owner) {
    this.#bytes = bytes
    this.#owner = owner
  }

  get #account(): Account {
    return this.#subscription ? this.#bytes.subscriptions : this.#bytes.in
  }

  /** Throws OVERLOADED, and then holds what it held before. */
  add(bytes: number): void {
    const owner = this.#owner
    if (owner.gone) return
    if (owner.requests + bytes > mostOfOwner) throw this.#account.refuse()
    this.#account.hold(bytes, this.#held + bytes)
    this.#held += bytes
    owner.requests += bytes
    if (this.#subscription) owner.subscriptions += bytes
  }

  /** Holds less. */
  lessen(bytes: number): void {
    const owner = this.#owner
    if (owner.gone) return
    this.#held -= bytes
    owner.requests -= bytes
    if (this.#subscription) owner.subscriptions -= bytes
    this.#account.release(bytes)
  }

  /** From now on it is that of an open subscription. Throws OVERLOADED, and then nothing has changed. */
  subscribe(): void {
    const owner = this.#owner
    if (owner.gone || this.#subscription) return
    this.#bytes.subscriptions.hold(this.#held, this.#held)
    this.#bytes.in.release(this.#held)
    owner.subscriptions += this.#held
    this.#subscription = true
  }

  /** May be called twice. */
  release(): void {
    if (this.#held > 0) this.lessen(this.#held)
  }
}

export class Bytes {
  /** A byte of a request costs up to eight while it is decoded, parsed, checked and encoded. */
  readonly in: Account
  /** What is read counts for as much as it takes meanwhile; what waits to be sent, once. */
  readonly out: Account
  readonly subscriptions: Account
  /** Connections that were closed because their clients took too little of what was sent. */
  slowClosed = 0
  #turn: Promise<void> = Promise.resolve()

  constructor(heapLimit = getHeapStatistics().heap_size_limit) {
    const part = (of: number, most: number) => Math.min(Math.floor(heapLimit / of), most * mebibyte)
    this.in = new Account('in', part(16, 128))
    this.out = new Account('out', part(8, 256))
    this.subscriptions = new Account('subscriptions', part(32, 64))
  }

  /** Gives back what an owner holds that is about to be gone. */
  releaseAll({ requests, subscriptions }: Owner): void {
    this.in.release(requests - subscriptions)
    this.subscriptions.release(subscriptions)
  }

  get all(): readonly Account[] {
    return [this.in, this.out, this.subscriptions]
  }

  /** Resolves in a turn of the event loop in which no other caller's turn is: between two large pieces of work others are served. */
  turn(): Promise<void> {
    this.#turn = this.#turn.then(() => new Promise((resolve) => setImmediate(resolve)))
    return this.#turn
  }
}

export function overloaded(why: string): SpillwayError {
  return new SpillwayError('OVERLOADED', `This process is ${why}; try again shortly.`, { retryAfterMs: 2_000 })
}
