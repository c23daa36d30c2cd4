/**
 * One WebSocket and its limits. Invariants: the server sends to a socket only after the kernel has taken what came before, so that a slow client
 * holds one message and its position in the log; it reads from a socket only while fewer than a bounded number of messages wait for their
 * responses; and the bytes of a message count from the first one until the response is sent, so that a client that never reads, or never
 * ends a message, holds little.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { CloseCode, type makeServer } from 'graphql-ws'
import type { WebSocket } from 'ws'
import { type Bytes, type Hold, largeBytes } from '../app/bytes.ts'
import type { Auth } from '../http/auth.ts'
import { clientOf, type RateLimit, type StreamLimit } from '../http/client-limits.ts'
import type { Connection } from '../http/connections.ts'
import { type MaskError, shownErrors, truncate } from '../http/errors.ts'
import { checkValues } from '../http/input.ts'
import { frameCost, type Share } from '../http/share.ts'
import { IncompleteMessage, sliceReads } from '../http/ws-reads.ts'
import type { Grant } from '../model/grant.ts'
import type { Log } from '../model/log.ts'
import { heartbeatMs, SocketCursors } from './heartbeat.ts'
import { completedId, isServerMessage, Operations, subscribeId, withQuery } from './ws-messages.ts'

/** Pings without a pong before the socket is closed. With fewer, clients that only read slowly would be closed, too. */
const maxUnanswered = 3
/** Try again later (RFC 6455's registry): clients of graphql-ws do so. */
const tryAgainLater = 1013
/** A message is too big (RFC 6455). */
const messageTooBig = 1009
/** Bytes before a connection_init is accepted: it holds a token, and little more. */
const maxInitBytes = 16 * 1024
/** The payload of a longer ping is not sent back; a pong needs none. */
const maxPingBytes = 1_024
/** Messages in progress or waiting for the client to read their responses; at this number reading pauses. */
const maxMessages = 200
/** A close frame holds 123 bytes of reason, three of them for the mark of truncation. */
const maxReasonBytes = 120
/** The bytes that cost one unit of a turn: a chunk may hold ten thousand frames, which ws does not report one by one. */
const bytesPerCost = 64
/** The same while the socket closes, when frames are not counted. */
const bytesPerCostClosing = 8
/** With more bytes waiting to be sent, a ping of the WebSocket protocol gets no pong. */
const maxBufferedForPong = 64 * 1024
const terminateAfterMs = 1_000

const overloadedReason = 'This process holds as many bytes as it may; try again shortly.'
const initReason = `At most ${maxInitBytes} bytes may be sent before connection_init is accepted.`

export type Protocol = ReturnType<typeof makeServer<Record<string, unknown>, WsSocket>>

export interface WsSocketDeps {
  auth: Auth
  rateLimit: RateLimit
  limit: StreamLimit
  bytes: Bytes
  maskError: MaskError
  log: Log
}

export class WsSocket {
  readonly #deps: WsSocketDeps
  readonly #socket: WebSocket
  /** The upgrade, until its client is known: an idle socket needs no more of it. */
  #request: IncomingMessage | undefined
  readonly #connection: Connection
  readonly #incomplete: IncompleteMessage
  /** The bytes that were read and wait for a later turn. */
  readonly #unprocessed: Hold
  readonly #discard: () => void
  #leaveLimit = () => {}
  #unwatchToken = () => {}
  #unanswered = 0
  /** The end of the line of messages that wait for an earlier one. */
  #line: Promise<void> | undefined
  /** undefined before a connection_init was accepted. */
  grant: Grant | undefined
  /** The client that limits count by. */
  client = ''
  /** Messages in progress. */
  messages = 0
  /** The message that the protocol handles at the moment: its bytes and its length. */
  message: { held: Hold; length: number } | undefined
  /** Payloads of pings that are not sent back. */
  readonly largePings = new WeakSet<object>()
  readonly operations = new Operations()
  readonly cursors = new SocketCursors()
  /** Whether an operation with this id is in progress. The protocol sets it. */
  isInProgress: (id: string) => boolean = () => false

  constructor(deps: WsSocketDeps, socket: WebSocket, request: IncomingMessage, raw: Duplex, connection: Connection) {
    this.#deps = deps
    this.#socket = socket
    this.#request = request
    this.#connection = connection
    this.#incomplete = new IncompleteMessage(connection.receive())
    this.#unprocessed = connection.receive()
    connection.share.paused = () => socket.isPaused
    this.#discard = sliceReads(raw, connection.share, this.#unprocessed, {
      processed: (length) => this.#processed(length),
      full: () => this.#refuse(tryAgainLater, overloadedReason),
    })
  }

  /** The Authorization header of the upgrade; connection_init may hold one, too. */
  get authorization(): string | undefined {
    return this.#request?.headers.authorization
  }

  get share(): Share {
    return this.#connection.share
  }

  /** Call when the token was accepted. Rejects with RATE_LIMITED. */
  async granted(grant: Grant): Promise<void> {
    // The client may have disconnected while its token was verified, and while its streams are counted.
    const isOpen = () => this.#socket.readyState === this.#socket.OPEN
    if (!isOpen()) return
    this.client = clientOf(grant, this.#request!)
    this.#request = undefined
    const leave = await this.#deps.limit.enter(this.client)
    if (!isOpen()) {
      leave()
      return
    }
    this.#leaveLimit = leave
    this.#unwatchToken = this.#deps.auth.watch(grant, () =>
      this.#socket.close(CloseCode.Unauthorized, 'The token is not valid any more.'),
    )
  }

  /** Call when the socket has a subscription: its client may read more slowly. */
  subscribed(): void {
    this.#connection.stream = true
  }

  closeForRateLimit(message: string): void {
    this.close(tryAgainLater, message)
  }

  /** The reason may repeat an id as long as the client likes; ws throws for a long one, and would leave the socket half closed. */
  close(code: number, reason: string): void {
    this.#socket.close(code, truncate(reason, maxReasonBytes))
  }

  /** Call for a graphql-transport-ws ping, before its pong. */
  pinged(payload: object | undefined): void {
    if (payload && this.message!.length > maxPingBytes) this.largePings.add(payload)
  }

  serve(protocol: Protocol): void {
    const socket = this.#socket
    const heartbeat = setInterval(() => {
      if (this.#unanswered >= maxUnanswered) return socket.terminate()
      this.#unanswered += 1
      socket.ping()
      // A client that does not read gets no more, and keeps the cursors that it has.
      const ping = socket.bufferedAmount === 0 ? this.cursors.ping() : undefined
      if (ping) void this.#send(ping)
    }, heartbeatMs)
    socket.on('pong', (data) => {
      if (!this.#useFrame()) return
      if (this.#unanswered === 0) void this.#count()
      this.#unanswered = 0
      this.#incomplete.frame(data.length)
    })
    socket.on('ping', (data) => {
      if (!this.#useFrame()) return
      void this.#count()
      this.#incomplete.frame(data.length)
      if (socket.bufferedAmount < maxBufferedForPong) socket.pong(data)
    })
    // The client violated the WebSocket protocol; ws closes the connection itself.
    socket.on('error', this.#discard)
    const closed = protocol.opened(
      {
        protocol: socket.protocol,
        send: (data) => this.#send(data),
        onPong: () => void (this.cursors.isAnswer() || this.#count()),
        onPing: (payload) => {
          void this.#count()
          const echo = payload && !this.largePings.has(payload)
          return this.#send(JSON.stringify(echo ? { type: 'pong', payload } : { type: 'pong' }))
        },
        close: (code, reason) => this.close(code!, reason!),
        onMessage: (handle) => {
          socket.on('message', (data: Buffer) => this.#receive(data, handle))
        },
      },
      this,
    )
    socket.on('close', (code, reason) => {
      clearInterval(heartbeat)
      this.#unwatchToken()
      this.#leaveLimit()
      this.#incomplete.end()
      this.#discard()
      this.operations.cancelAll()
      void closed(code, String(reason))
    })
  }

  /** Resolves when the kernel has the bytes, which is the back-pressure. A broken socket is about to close, and ends everything. */
  #send(data: string): Promise<void> {
    const socket = this.#socket
    return new Promise<void>((resolve) => {
      if (socket.readyState !== socket.OPEN) return resolve()
      let sent = () => {}
      socket.send(data, () => {
        sent()
        resolve()
      })
      if (socket.bufferedAmount > 0) sent = this.#connection.sending(data.length)
    })
  }

  async #receive(data: Buffer, handle: (text: string) => Promise<void>): Promise<void> {
    if (!this.#useFrame()) return
    this.#incomplete.message(data.length)
    if (!this.grant && data.length > maxInitBytes) return this.#refuse(messageTooBig, initReason)
    const held = this.#connection.receive()
    try {
      held.add(data.length)
    } catch {
      return this.#refuse(tryAgainLater, overloadedReason)
    }
    this.messages += 1
    // The client does not read its responses: reading from it stops, its pongs included, and the heartbeat closes the socket.
    if (this.messages === maxMessages) this.#socket.pause()
    try {
      await this.#handleInOrder(data, held, handle)
    } catch (error) {
      if (isServerMessage(data)) return this.close(CloseCode.BadRequest, 'Invalid message received')
      this.#deps.log.error({ err: error }, 'a WebSocket message could not be handled')
      this.#socket.close(CloseCode.InternalServerError, 'Unexpected error.')
    } finally {
      held.release()
      this.messages -= 1
      if (this.messages === maxMessages - 1) this.#socket.resume()
    }
  }

  async #handleInOrder(data: Buffer, held: Hold, handle: (text: string) => Promise<void>): Promise<void> {
    const text = String(data)
    const completed = completedId(text)
    const opened = () => (completed === undefined ? undefined : this.operations.opened(completed))
    if (this.#line || text.length > largeBytes || opened()) {
      // Later messages wait behind a large message, and behind the end of an operation that is being set up.
      const mine: Promise<void> = (this.#line ?? Promise.resolve()).then(() =>
        text.length > largeBytes ? this.#deps.bytes.turn() : opened(),
      )
      this.#line = mine
      await mine
      if (this.#line === mine) this.#line = undefined
    }
    if (completed !== undefined) this.operations.cancel(completed)
    try {
      checkValues(text)
    } catch (error) {
      return this.#refuseOperation(subscribeId(text), error as Error)
    }
    this.message = { held, length: text.length }
    await handle(text.includes('"persistedQuery"') ? withQuery(text) : text)
  }

  /** Refuses a message that is not parsed: its operation fails, and the others on the socket continue. */
  #refuseOperation(id: string | undefined, error: Error): Promise<void> | void {
    if (id === undefined) return this.close(CloseCode.BadRequest, error.message)
    void this.#count()
    if (this.isInProgress(id))
      return this.close(CloseCode.SubscriberAlreadyExists, `Subscriber for ${id} already exists`)
    return this.#send(JSON.stringify({ id, type: 'error', payload: shownErrors([error], this.#deps.maskError).errors }))
  }

  /** Closes the socket and discards what the client still sends. */
  #refuse(code: number, reason: string): void {
    this.#discard()
    this.#socket.close(code, reason)
    setTimeout(() => this.#socket.terminate(), terminateAfterMs).unref()
  }

  /** ws has processed a slice of so many bytes. */
  #processed(length: number): void {
    const isOpen = this.#socket.readyState === this.#socket.OPEN
    this.#connection.share.use(length / (isOpen ? bytesPerCost : bytesPerCostClosing))
    if (!isOpen) return
    if (!this.#incomplete.slice(length)) this.#refuse(tryAgainLater, overloadedReason)
    else if (!this.grant && this.#incomplete.bytes > maxInitBytes) this.#refuse(messageTooBig, initReason)
  }

  /** Counts a frame for the share; returns false if the socket is closing and frames are ignored. */
  #useFrame(): boolean {
    if (this.#socket.readyState !== this.#socket.OPEN) return false
    this.#connection.share.use(frameCost)
    return true
  }

  /** Counts a message for the rate limit. */
  async #count(): Promise<void> {
    const { rateLimit } = this.#deps
    if (!rateLimit.on || !this.grant) return
    try {
      await rateLimit.count(this.client)
    } catch (error) {
      this.closeForRateLimit((error as Error).message)
    }
  }

  /** Closes the socket, and does not wait for a client that does not close its end. */
  closeAndTerminate(code: number, reason: string): void {
    this.#socket.close(code, reason)
    setTimeout(() => this.#socket.terminate(), terminateAfterMs).unref()
  }
}
