/**
 * What connections make this process do in one turn of the event loop. A socket is read up to 32 times in a turn, 64 KiB at a time, and
 * Node handles all of it at once. Invariant: a connection that used its share of a turn is read again in a later one; and when all
 * connections together used theirs, none is read before the next turn, so that a turn is short however many connections there are.
 */
import type { Socket } from 'node:net'

/** Of a turn: a hundred requests, two hundred WebSocket frames, or a thousand pieces of a body. */
const mostOfTurn = 1_000
/** From what was read already. Only a flood sends so much at once. */
const mostAtOnce = 5_000
/** Of a turn, by all connections together. */
const mostOfAll = 15_000
/** Connections that used up a turn are read again so many in a turn: together they use less than all may, so that others are read beside them. */
const resumedAtOnce = 2
export const requestCost = 10
export const frameCost = 5
export const pieceCost = 1
/** How long a client that is not read any more has to take its answer. */
const partMs = 500

let turn = 0
let counting = false
let usedByAll = 0
const open = new Set<Share>()
/** Those to be read again in the next turn, and those that take their turns. */
let next: Share[] = []
const line = new Set<Share>()

function currentTurn(): number {
  if (!counting) {
    counting = true
    setImmediate(endTurn)
  }
  return turn
}

function endTurn(): void {
  counting = false
  turn += 1
  usedByAll = 0
  const now = next
  next = []
  // A flood opens its connections together: those that are older than all of it, or newer, are read first in every other turn.
  if (turn % 2 === 0) now.reverse()
  for (const share of now) share.goOn()
  let resumed = 0
  for (const share of line) {
    if (resumed >= resumedAtOnce) break
    line.delete(share)
    resumed += 1
    share.goOn()
  }
  // The others' turns come, whether or not anything else happens.
  if (line.size > 0) currentTurn()
}

export class Share {
  readonly #socket: Socket
  #turn = -1
  #used = 0
  #waits = false
  #listens = false
  #stopped = false
  /** Whether it used up the turn in which it was read last. */
  #heavy = false
  /** Whether somebody else wants the socket paused when its turn comes. */
  paused: () => boolean = () => false
  /** What else is to be handled of what was read, before more is read. */
  handleRest: () => void = () => {}

  constructor(socket: Socket) {
    this.#socket = socket
    open.add(this)
  }

  /** Whether it has to wait for a turn. */
  get waits(): boolean {
    return this.#waits
  }

  /** False: it is more than any connection may use of one turn. */
  use(cost: number): boolean {
    const now = currentTurn()
    if (now !== this.#turn) {
      this.#heavy = false
      this.#turn = now
      this.#used = 0
    }
    this.#used += cost
    usedByAll += cost
    if (this.#used >= mostOfTurn) this.#heavy = true
    if (this.#heavy) this.#wait()
    if (usedByAll >= mostOfAll && usedByAll - cost < mostOfAll) for (const share of open) share.#wait()
    return this.#used <= mostAtOnce
  }

  /** Reads no more, and closes the connection when the client had the time to take its answer. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#pause()
    setTimeout(() => this.#socket.destroy(), partMs).unref()
  }

  /** Its turn has come. */
  goOn(): void {
    if (this.#stopped || this.#socket.destroyed) return
    this.#waits = false
    this.handleRest()
    if (!this.#waits && !this.paused()) this.#socket.resume()
  }

  close(): void {
    open.delete(this)
    line.delete(this)
  }

  #wait(): void {
    if (this.#waits || this.#stopped) return
    this.#pause()
    if (this.#heavy) line.add(this)
    else next.push(this)
  }

  #pause(): void {
    this.#waits = true
    // Node's HTTP server resumes the socket behind every request.
    if (!this.#listens) {
      this.#socket.on('resume', () => {
        if (this.#waits) this.#socket.pause()
      })
    }
    this.#listens = true
    this.#socket.pause()
  }
}
