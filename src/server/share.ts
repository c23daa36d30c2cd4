/**
 * What one connection makes this process do in one turn of the event loop. A socket is read up to 32 times in a turn, and Node handles all
 * of it at once. Invariant: a connection that used its share of a turn is read again in the next one, so that others are served between.
 */
import type { Socket } from 'node:net'

/** Of a turn: a hundred requests, two hundred WebSocket frames, or a thousand pieces of a body. */
const mostOfTurn = 1_000
/** From what was read already. Nobody but a flood sends so much at once. */
const mostAtOnce = 5_000
export const requestCost = 10
export const frameCost = 5
export const pieceCost = 1
/** How long a client that is not read any more has to take its answer. */
const partMs = 500

let turn = 0
let counting = false

function currentTurn(): number {
  if (!counting) {
    counting = true
    setImmediate(() => {
      counting = false
      turn += 1
    })
  }
  return turn
}

export class Share {
  readonly #socket: Socket
  #turn = -1
  #used = 0
  #waits = false
  #listens = false
  #stopped = false
  /** Whether somebody else wants the socket paused when its turn comes. */
  paused: () => boolean = () => false

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** False: it is more than any connection may use of one turn. */
  use(cost: number): boolean {
    const now = currentTurn()
    if (now !== this.#turn) {
      this.#turn = now
      this.#used = 0
    }
    this.#used += cost
    if (this.#used >= mostOfTurn && !this.#waits) this.#wait()
    return this.#used <= mostAtOnce
  }

  /** Reads no more, and closes the connection when the client had the time to take its answer. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#pause()
    setTimeout(() => this.#socket.destroy(), partMs).unref()
  }

  #wait(): void {
    this.#pause()
    setImmediate(() => {
      if (this.#stopped) return
      this.#waits = false
      if (!this.#socket.destroyed && !this.paused()) this.#socket.resume()
    })
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
