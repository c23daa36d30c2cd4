/**
 * The connections of one server. Invariant: their number, the requests in progress on each, and the bytes that each holds are bounded, so that
 * no client makes the process grow by opening, pipelining, never ending or never reading. Some surplus connections are accepted: they serve
 * probes, and respond 503 to every other request.
 */
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Bytes, type ConnectionBytes, Hold } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
import { SpillwayError } from '../model/error.ts'
import type { ConnectionLimit } from './connection-limit.ts'
import { pieceCost, Share } from './share.ts'

/** In progress on one connection; only a flood pipelines more. */
const maxRequests = 100
/** Bytes of responses that the client has not read; above them, its requests are refused. */
const maxUnreadBytes = 16 * 1024 * 1024

/** A client with more than `slowBytes` to read must read as many within `slowMs`, or the connection is closed. */
const slowBytes = 64 * 1024
const slowMs = 15_000
/** The same for a stream, which holds one batch and can be resumed. */
const slowStreamMs = 45_000
/** When memory runs out, connections whose clients have read nothing for so long are closed first. */
const stalledMs = 1_000
const refreshEveryMs = 2_500

/** Bytes that a client may send after a request whose response ends the connection. */
const maxDiscardedBytes = 64 * 1024

/** Node's HTTP parser of a socket. */
interface Parser {
  remove(): void
  close(): void
}

/** Not while the parser may be running: it reads the request that began the stream. */
function freeParser(parser: Parser): void {
  parser.remove()
  parser.close()
}

/** Node's HTTP server stops the handle of a paused socket, and after the takeover starts it no more. */
function startReading(this: Socket): void {
  const { _handle: handle } = this as unknown as { _handle?: { reading: boolean; readStart(): void } }
  if (!handle || handle.reading) return
  handle.reading = true
  handle.readStart()
}

function endSocket(this: Socket): void {
  this.end()
}

function destroySocket(this: Socket): void {
  this.destroy()
}

/** The socket closes after an error. */
function ignoreError(): void {}

interface Pending {
  bytes: number
  body: Buffer | undefined
}

export class Connection implements ConnectionBytes, Client {
  /** Requests in progress. */
  inProgress = 0
  /** Whether it was opened above the maximum. */
  readonly surplus: boolean
  /** Its share of each turn of the event loop. */
  readonly share: Share
  /** Bytes of requests: see ConnectionBytes. */
  requests = 0
  subscriptions = 0
  /** Whether it serves a stream of events. */
  stream = false
  readonly #socket: Socket
  readonly #connections: Connections
  #unread = 0
  #pending: Set<Pending> | undefined
  /** Bytes that the client sent after the socket was taken over. */
  #discarded = 0
  gone = false
  #closeListeners: Set<() => void> | undefined
  /** How many bytes the client had read when the number last grew, and when that was. */
  #read = 0
  #readAt = 0
  /** The same at the beginning of the time in which the client must read `slowBytes`. */
  #windowRead = 0
  #windowAt = 0

  constructor(connections: Connections, socket: Socket, surplus: boolean) {
    this.#connections = connections
    this.#socket = socket
    this.surplus = surplus
    this.share = new Share(socket)
  }

  /** Bytes that were sent and that the client has not read. */
  get unread(): number {
    return this.#unread
  }

  /** Counts the bytes of a request. */
  receive(): Hold {
    return new Hold(this.#connections.bytes, this)
  }

  onLeave(listener: () => void): () => void {
    if (this.gone) {
      listener()
      return () => {}
    }
    this.#closeListeners ??= new Set()
    this.#closeListeners.add(listener)
    return () => this.#closeListeners!.delete(listener)
  }

  /**
   * Counts so many bytes as unread until the returned function is called. `body`: the bytes, if other connections may be sending the same
   * ones; they are counted once.
   */
  sending(bytes: number, body?: Buffer): () => void {
    if (this.gone) return () => {}
    if (this.#unread === 0) {
      this.#read = this.#readBytes()
      this.#readAt = performance.now()
      this.#windowRead = this.#read
      this.#windowAt = this.#readAt
    }
    const pending = { bytes, body }
    this.#pending ??= new Set()
    this.#pending.add(pending)
    this.#unread += bytes
    this.#connections.sending(this, pending)
    return () => this.#sent(pending)
  }

  /** Resolves when all earlier requests of the connection have their responses, or when it has closed. */
  async turnOf(response: ServerResponse): Promise<void> {
    if (response.socket || this.gone) return
    await new Promise<void>((resolve) => {
      const forget = this.onLeave(resolve)
      response.once('socket', () => {
        forget()
        resolve()
      })
    })
  }

  /**
   * Takes the socket over from Node's HTTP server for a response whose head is written and whose end is the connection's end, as Node does
   * for an upgrade: Node's parser, request and response take more memory than everything else of a stream that waits for events. What the
   * client sends from now on is not read as requests: the head says `Connection: close`. The response is done: it emits `close`.
   */
  takeOver(response: ServerResponse): Socket {
    const socket = this.#socket as Socket & { parser: Parser | null }
    const { parser } = socket
    response.detachSocket(socket)
    // Those of the share stay: the socket may be paused at the moment.
    for (const event of socket.eventNames()) {
      if (event !== 'pause' && event !== 'resume') socket.removeAllListeners(event)
    }
    // Node's HTTP server stops reading the socket itself when it gets a listener to its data.
    socket.on('data', (piece) => this.#discard(piece.length))
    socket.on('resume', startReading)
    socket.on('end', endSocket)
    socket.on('error', ignoreError)
    socket.on('timeout', destroySocket)
    socket.on('close', this.#connections.closed)
    socket.parser = null
    if (parser) setImmediate(freeParser, parser)
    response.emit('close')
    return socket
  }

  #discard(bytes: number): void {
    this.share.use(pieceCost)
    this.#discarded += bytes
    if (this.#discarded > maxDiscardedBytes) this.#socket.destroy()
  }

  #sent(pending: Pending): void {
    if (!this.#pending?.delete(pending)) return
    this.#unread -= pending.bytes
    this.#connections.sent(this, pending)
  }

  /** Counts the unsent rest of a response until it is sent. */
  finishing(response: ServerResponse, body?: Buffer): void {
    const bytes = response.writableLength
    if (this.gone || bytes === 0) return
    const sent = this.sending(bytes, body)
    response.once('finish', sent)
    response.once('close', sent)
  }

  /** Counts what a library writes to the response until the client has read it. */
  counting(response: ServerResponse): void {
    const write = response.write.bind(response) as (...args: unknown[]) => boolean
    let sent = () => {}
    const done = () => sent()
    response.on('drain', done)
    response.once('close', done)
    response.write = (...args: unknown[]) => {
      const hasRoom = write(...args)
      if (!hasRoom) {
        sent()
        sent = this.sending(response.writableLength)
      }
      return hasRoom
    }
  }

  /** The bytes written that the client has read; those in the kernel's buffer count as read. */
  #readBytes(): number {
    const { _handle: handle } = this.#socket as unknown as {
      _handle?: { bytesWritten: number; writeQueueSize: number }
    }
    return handle ? handle.bytesWritten - handle.writeQueueSize : 0
  }

  /** Whether the client reads nothing. */
  stalled(now: number): boolean {
    const read = this.#readBytes()
    if (read !== this.#read) {
      this.#read = read
      this.#readAt = now
    }
    return now - this.#readAt > stalledMs
  }

  /** Whether the client reads less than it must. */
  tooSlow(now: number): boolean {
    if (this.#unread < slowBytes) return false
    const read = this.#readBytes()
    if (read - this.#windowRead >= slowBytes) {
      this.#windowRead = read
      this.#windowAt = now
      return false
    }
    return now - this.#windowAt > (this.stream ? slowStreamMs : slowMs)
  }

  destroy(): void {
    this.#socket.destroy()
    this.close()
  }

  close(): void {
    if (this.gone) return
    // A pipelined request whose response waits behind others gets no close event.
    this.#connections.bytes.releaseAll(this)
    this.gone = true
    this.share.close()
    for (const pending of [...(this.#pending ?? [])]) this.#sent(pending)
    for (const listener of this.#closeListeners ?? []) listener()
  }
}

export class Connections {
  readonly bytes: Bytes
  /** The listener to the close of a socket: one for all of them, because idle ones take memory, too. */
  readonly closed: (this: Socket) => void
  readonly #open = new Map<Socket, Connection>()
  readonly #limit: ConnectionLimit
  /** The connections with unread bytes. */
  readonly #sending = new Set<Connection>()
  /**
   * How many responses send the same cached body, which is in memory once, and the bytes that count for all of them: those of the largest,
   * because heads differ, and one response may have sent more than another.
   */
  readonly #shared = new Map<Buffer, { responses: number; bytes: number }>()
  #sendingBytes = 0

  constructor(limit: ConnectionLimit, bytes: Bytes) {
    this.#limit = limit
    this.bytes = bytes
    const open = this.#open
    this.closed = function () {
      const connection = open.get(this)
      open.delete(this)
      connection?.close()
      limit.count(open.size)
    }
  }

  watch(server: Server): void {
    this.#limit.watch(server)
    server.on('connection', (socket: Socket) => {
      this.#open.set(socket, new Connection(this, socket, this.#open.size >= this.#limit.max))
      socket.on('close', this.closed)
      this.#limit.count(this.#open.size)
    })
    const timer = setInterval(() => this.#refresh(), refreshEveryMs)
    server.once('close', () => clearInterval(timer))
  }

  of(socket: Socket): Connection {
    const connection = this.#open.get(socket)
    if (connection) return connection
    // The socket has closed already: the response will be dropped.
    const closed = new Connection(this, socket, false)
    closed.close()
    return closed
  }

  sending(connection: Connection, { bytes, body }: Pending): void {
    this.#sending.add(connection)
    const more = body === undefined ? bytes : this.#share(body, bytes)
    if (more === 0) return
    this.bytes.out.force(more)
    this.#sendingBytes += more
    if (this.#sendingBytes > this.bytes.out.most / 2) this.#makeRoom()
  }

  sent(connection: Connection, { bytes, body }: Pending): void {
    if (connection.unread === 0) this.#sending.delete(connection)
    const held = body === undefined ? bytes : this.#unshare(body)
    if (held === 0) return
    this.bytes.out.release(held)
    this.#sendingBytes -= held
  }

  /** Returns how many bytes one more response with this body adds to what is counted. */
  #share(body: Buffer, bytes: number): number {
    const shared = this.#shared.get(body) ?? { responses: 0, bytes: 0 }
    const more = Math.max(0, bytes - shared.bytes)
    this.#shared.set(body, { responses: shared.responses + 1, bytes: shared.bytes + more })
    return more
  }

  /** Returns how many bytes are counted no more: none while another response has this body. */
  #unshare(body: Buffer): number {
    const { responses, bytes } = this.#shared.get(body)!
    if (responses === 1) this.#shared.delete(body)
    else this.#shared.set(body, { responses: responses - 1, bytes })
    return responses === 1 ? bytes : 0
  }

  /** Closes every connection: Node's HTTP server knows only those that were not taken over. */
  destroyAll(): void {
    for (const connection of this.#open.values()) connection.destroy()
  }

  #refresh(): void {
    const now = performance.now()
    for (const connection of this.#sending) if (connection.tooSlow(now)) this.#close(connection)
  }

  /** Closes connections whose clients read nothing, the largest first; then, if that is not enough, all others in the same order. */
  #makeRoom(): void {
    const now = performance.now()
    const { most } = this.bytes.out
    const largest = [...this.#sending].sort((a, b) => b.unread - a.unread)
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
export function checkRequests({ inProgress, unread }: Connection): void {
  if (inProgress <= maxRequests && unread < maxUnreadBytes) return
  const message =
    inProgress > maxRequests
      ? `At most ${maxRequests} requests at once may be sent on one connection; wait for their responses.`
      : `More than ${maxUnreadBytes} bytes of responses wait on this connection; read them first.`
  throw new SpillwayError('RATE_LIMITED', message, { retryAfterMs: 1_000 })
}
