/**
 * The connections of one server. Invariant: there is a most of them, of the requests at once on each, and of the bytes of bodies that are
 * still coming in, so that nobody makes the process grow by opening, pipelining, or never ending. Beyond the most there is some room:
 * probes are still answered there, and others are told to come back.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { SpillwayError } from '../model/error.ts'

/** Connections beyond the most that are still taken, to be told so; what comes then is closed without a word. */
const room = 500
/** On one connection. Nobody but a flood pipelines more. */
const requestsAtOnce = 100
/** Of all bodies that are not complete yet. */
const bodyBytes = 256 * 1024 * 1024
/** What a piece of a body costs besides its bytes: else a body in pieces of one byte takes a hundred times its length. */
export const pieceBytes = 100

export interface Connection {
  /** Under way. */
  requests: number
  readonly surplus: boolean
}

export class Connections {
  readonly #open = new Map<Socket, Connection>()
  readonly #most: number
  #bodyBytes = 0

  constructor(most: number) {
    this.#most = most
  }

  watch(server: Server): void {
    server.maxConnections = this.#most + room
    server.on('connection', (socket: Socket) => {
      this.#open.set(socket, { requests: 0, surplus: this.#open.size >= this.#most })
      socket.once('close', () => this.#open.delete(socket))
    })
  }

  of(socket: Socket): Connection {
    // Closed already: what becomes of its request is of no interest.
    return this.#open.get(socket) ?? { requests: 0, surplus: false }
  }

  /** Bytes of a body that came, or, negative, that are no longer on their way. Throws OVERLOADED where there are too many. */
  body(bytes: number): void {
    this.#bodyBytes += bytes
    if (bytes > 0 && this.#bodyBytes > bodyBytes) throw overloaded('receiving too much at once')
  }
}

/** Throws RATE_LIMITED. */
export function checkRequests({ requests }: Connection): void {
  if (requests <= requestsAtOnce) return
  const message = `At most ${requestsAtOnce} requests at once may be sent on one connection; wait for their answers.`
  throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 1_000 })
}

export function overloaded(why: string): SpillwayError {
  return new SpillwayError('OVERLOADED', `This process is ${why}; try again shortly.`, { retryAfterMs: 2_000 })
}
