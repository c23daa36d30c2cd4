/**
 * The connections of one server. Invariant: there is a most of them, of the requests at once on each, and of the bytes that each holds,
 * so that no client makes the process grow by opening, pipelining, never ending or never reading. Beyond the most there is some room:
 * probes are still answered there, and others are told to come back.
 */
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Bytes, Hold, type Owner } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
import { SpillwayError } from '../model/error.ts'
import { Share } from './share.ts'

/** Connections beyond the most that are still taken, to be told so; what comes then is closed without a word. */
const room = 500
/** On one connection. Nobody but a flood pipelines more. */
const requestsAtOnce = 100
/** Of answers that one connection has not taken, from which on it gets no more. */
const untakenBytes = 16 * 1024 * 1024

/** A connection that holds more than `slowBytes` takes as much within the time, or is closed. */
const slowBytes = 64 * 1024
const slowMs = 15_000
/** A stream's client may stop for longer: it holds one batch, and resumes with its cursor. */
const slowStreamMs = 45_000
/** What has taken nothing for so long is the first to be closed when there is no more room. */
const stalledMs = 1_000
const refreshEveryMs = 2_500

interface Pending {
  bytes: number
  body: Buffer | undefined
}

export class Connection implements Owner, Client {
  /** Requests under way. */
  underWay = 0
  readonly surplus: boolean
  /** Of each turn of the event loop. */
  readonly share: Share
  /** Bytes of requests: see Owner. */
  requests = 0
  subscriptions = 0
  /** Whether it has become a stream of events. */
  stream = false
  readonly #socket: Socket
  readonly #connections: Connections
  #out = 0
  readonly #pending = new Set<Pending>()
  gone = false
  #leaving: Set<() => void> | undefined
  /** Of what the client took: how much at the last look at which it was more, and when that was. */
  #taken = 0
  #takenAt = 0
  /** The same at the beginning of the time in which it has to take `slowBytes`. */
  #window = { taken: 0, at: 0 }

  constructor(connections: Connections, socket: Socket, surplus: boolean) {
    this.#connections = connections
    this.#socket = socket
    this.surplus = surplus
    this.share = new Share(socket)
  }

  /** Bytes that were sent and not taken. */
  get out(): number {
    return this.#out
  }

  /** The bytes of a request on it. */
  receive(): Hold {
    return new Hold(this.#connections.bytes, this)
  }

  onLeave(left: () => void): () => void {
    if (this.gone) {
      left()
      return () => {}
    }
    this.#leaving ??= new Set()
    this.#leaving.add(left)
    return () => this.#leaving!.delete(left)
  }

  /**
   * So many bytes wait for the client to take them, until the function that this returns is called. `body`: what they are, where other
   * connections may wait with the same.
   */
  sending(bytes: number, body?: Buffer): () => void {
    if (this.gone) return () => {}
    if (this.#out === 0) {
      this.#taken = this.#takenBytes()
      this.#takenAt = performance.now()
      this.#window = { taken: this.#taken, at: this.#takenAt }
    }
    const pending = { bytes, body }
    this.#pending.add(pending)
    this.#out += bytes
    this.#connections.sending(this, pending)
    return () => this.#sent(pending)
  }

  #sent(pending: Pending): void {
    if (!this.#pending.delete(pending)) return
    this.#out -= pending.bytes
    this.#connections.sent(this, pending)
  }

  /** Counts what is left of an answer for as long as it is. */
  finishing(response: ServerResponse, body?: Buffer): void {
    const bytes = response.writableLength
    if (this.gone || bytes === 0) return
    const sent = this.sending(bytes, body)
    response.once('finish', sent)
    response.once('close', sent)
  }

  /** Counts what others write to it, as long as the client has not taken it. */
  counting(response: ServerResponse): void {
    const write = response.write.bind(response) as (...args: unknown[]) => boolean
    let sent = () => {}
    const done = () => sent()
    response.on('drain', done)
    response.once('close', done)
    response.write = (...args: unknown[]) => {
      const goesOn = write(...args)
      if (!goesOn) {
        sent()
        sent = this.sending(response.writableLength)
      }
      return goesOn
    }
  }

  /** What the client took until now, of all that was written: the kernel's part counts as taken. */
  #takenBytes(): number {
    const { _handle: handle } = this.#socket as unknown as {
      _handle?: { bytesWritten: number; writeQueueSize: number }
    }
    return handle ? handle.bytesWritten - handle.writeQueueSize : 0
  }

  /** Whether its client takes nothing. */
  stalled(now: number): boolean {
    const taken = this.#takenBytes()
    if (taken !== this.#taken) {
      this.#taken = taken
      this.#takenAt = now
    }
    return now - this.#takenAt > stalledMs
  }

  /** Whether its client takes less than it must. */
  tooSlow(now: number): boolean {
    if (this.#out < slowBytes) return false
    const taken = this.#takenBytes()
    if (taken - this.#window.taken >= slowBytes) {
      this.#window = { taken, at: now }
      return false
    }
    return now - this.#window.at > (this.stream ? slowStreamMs : slowMs)
  }

  destroy(): void {
    this.#socket.destroy()
    this.close()
  }

  close(): void {
    if (this.gone) return
    // A request whose answer waits behind others may not hear of it.
    this.#connections.bytes.releaseAll(this)
    this.gone = true
    this.share.close()
    for (const pending of [...this.#pending]) this.#sent(pending)
    for (const left of this.#leaving ?? []) left()
  }
}

export class Connections {
  readonly bytes: Bytes
  readonly #open = new Map<Socket, Connection>()
  readonly #most: number
  /** Those whose clients have not taken all that was sent. */
  readonly #sending = new Set<Connection>()
  /** Kept answers that were sent to several: they are there once. */
  readonly #shared = new Map<Buffer, number>()
  #sendingBytes = 0

  constructor(most: number, bytes: Bytes) {
    this.#most = most
    this.bytes = bytes
  }

  watch(server: Server): void {
    server.maxConnections = this.#most + room
    server.on('connection', (socket: Socket) => {
      const connection = new Connection(this, socket, this.#open.size >= this.#most)
      this.#open.set(socket, connection)
      socket.once('close', () => {
        this.#open.delete(socket)
        connection.close()
      })
    })
    const timer = setInterval(() => this.#refresh(), refreshEveryMs)
    server.once('close', () => clearInterval(timer))
  }

  of(socket: Socket): Connection {
    const connection = this.#open.get(socket)
    if (connection) return connection
    // Closed already: what becomes of its request is of no interest.
    const closed = new Connection(this, socket, false)
    closed.close()
    return closed
  }

  sending(connection: Connection, { bytes, body }: Pending): void {
    this.#sending.add(connection)
    const shares = body === undefined ? 0 : (this.#shared.get(body) ?? 0)
    if (body) this.#shared.set(body, shares + 1)
    if (shares > 0) return
    this.bytes.out.force(bytes)
    this.#sendingBytes += bytes
    if (this.#sendingBytes > this.bytes.out.most / 2) this.#makeRoom()
  }

  sent(connection: Connection, { bytes, body }: Pending): void {
    if (connection.out === 0) this.#sending.delete(connection)
    if (body) {
      const shares = this.#shared.get(body)! - 1
      if (shares > 0) this.#shared.set(body, shares)
      else this.#shared.delete(body)
      if (shares > 0) return
    }
    this.bytes.out.release(bytes)
    this.#sendingBytes -= bytes
  }

  #refresh(): void {
    const now = performance.now()
    for (const connection of this.#sending) if (connection.tooSlow(now)) this.#close(connection)
  }

  /** Closes what takes nothing, the largest first; and what takes something, where that is not enough. */
  #makeRoom(): void {
    const now = performance.now()
    const { most } = this.bytes.out
    const largest = [...this.#sending].sort((a, b) => b.out - a.out)
    for (const connection of largest) {
      if (this.#sendingBytes <= most / 2) return
      if (connection.stalled(now)) this.#close(connection)
    }
    for (const connection of largest) {
      if (this.#sendingBytes <= most) return
      this.#close(connection)
    }
  }

  #close(connection: Connection): void {
    this.bytes.slowClosed += 1
    connection.destroy()
  }
}

/** Throws RATE_LIMITED. */
export function checkRequests({ underWay, out }: Connection): void {
  if (underWay <= requestsAtOnce && out < untakenBytes) return
  const message =
    underWay > requestsAtOnce
      ? `At most ${requestsAtOnce} requests at once may be sent on one connection; wait for their answers.`
      : `More than ${untakenBytes} bytes of answers wait on this connection; read them first.`
  throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 1_000 })
}
