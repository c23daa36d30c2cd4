/**
 * A fair share of the event loop for every connection. In one turn, Node reads a socket up to 32 times, 64 KiB at a time, and handles all of
 * it at once. Invariant: a connection that has used its share of a turn is read again in a later turn. When all connections together have
 * used up a turn, none is read before the next one, so that a turn is short however many connections there are.
 */
import type { Socket } from 'node:net'

/** The cost that one connection may use of a turn: 100 requests, 200 WebSocket frames, or 1,000 pieces of a body. */
const maxPerTurn = 1_000
/** The cost of one read; only a flood reaches it. */
const maxPerRead = 5_000
/** The cost that all connections together may use of a turn. */
const maxOfAll = 15_000
/** How many connections that used up a turn are read again per turn: together they use less than all may, so that others are read, too. */
const resumedPerTurn = 2
export const requestCost = 10
export const frameCost = 5
export const pieceCost = 1
/** How long a stopped connection stays open, so that its client can receive the response. */
const closeAfterMs = 500

let turn = 0
let counting = false
let usedByAll = 0
const open = new Set<Share>()
/** The connections to read again in the next turn. */
let next: Share[] = []
/** The connections that used up a turn, in the order in which they are read again. */
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
  // A flood opens its connections together: every other turn begins with those that are older than the flood, or newer.
  if (turn % 2 === 0) now.reverse()
  for (const share of now) share.resume()
  let resumed = 0
  for (const share of line) {
    if (resumed >= resumedPerTurn) break
    line.delete(share)
    resumed += 1
    share.resume()
  }
  // The remaining connections need another turn, whether or not anything else happens.
  if (line.size > 0) currentTurn()
}

const isNotPaused = () => false
const hasNoRest = () => {}

export class Share {
  readonly #socket: Socket
  #turn = -1
  #used = 0
  #waits = false
  #listens = false
  #stopped = false
  /** Whether the connection used up the last turn in which it was read. */
  #heavy = false
  /** Whether the socket must stay paused for another reason when its turn comes. */
  paused: () => boolean = isNotPaused
  /** Handles what has been read and not handled, before more is read. */
  handleRest: () => void = hasNoRest

  constructor(socket: Socket) {
    this.#socket = socket
    open.add(this)
  }

  /** Whether the connection waits for a later turn. */
  get waits(): boolean {
    return this.#waits
  }

  /** Returns false above the cost that any connection may use of one turn. */
  use(cost: number): boolean {
    const now = currentTurn()
    if (now !== this.#turn) {
      this.#heavy = false
      this.#turn = now
      this.#used = 0
    }
    this.#used += cost
    usedByAll += cost
    if (this.#used >= maxPerTurn) this.#heavy = true
    if (this.#heavy) this.#wait()
    if (usedByAll >= maxOfAll && usedByAll - cost < maxOfAll) for (const share of open) share.#wait()
    return this.#used <= maxPerRead
  }

  /** Stops reading, and closes the connection after a moment in which the client can receive the response. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#pause()
    setTimeout(() => this.#socket.destroy(), closeAfterMs).unref()
  }

  /** Reads again, in the connection's turn. */
  resume(): void {
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
    // Node's HTTP server resumes the socket after every request.
    if (!this.#listens) {
      this.#socket.on('resume', () => {
        if (this.#waits) this.#socket.pause()
      })
    }
    this.#listens = true
    this.#socket.pause()
  }
}

/** The callbacks of Node's HTTP parser, by number: headers, end of headers, piece of a body, end of a message. */
const parserCallbacks = [1, 2, 3, 4] as const

/**
 * Removes the callbacks of the connection's HTTP parser, so that what a flood has sent already costs nothing. The connection must be closed
 * afterwards; on close the callbacks are restored, because Node reuses the parser for other connections.
 */
export function muteParser(socket: Socket): void {
  const { parser } = socket as unknown as { parser?: Record<number, unknown> | null }
  if (!parser || socket.closed) return
  const callbacks = parserCallbacks.map((number) => parser[number])
  for (const number of parserCallbacks) parser[number] = undefined
  socket.once('close', () => {
    for (const number of parserCallbacks) parser[number] = callbacks[number - 1]
  })
}
