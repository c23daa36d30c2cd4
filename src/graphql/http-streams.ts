/**
 * Subscriptions over HTTP: as Server-Sent Events (GraphQL over SSE, distinct connections), by POST, and by GET for a browser's own EventSource,
 * which resumes by itself with Last-Event-ID; or as multipart responses (stream-formats.ts). Invariant: at most one batch per socket waits to be sent; the next one is read after it has drained.
 *
 * A server that stops ends the stream without `complete`: to a client, complete means that no more events will follow.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { Hold } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
import type { StreamType } from '../http/accept.ts'
import type { Auth } from '../http/auth.ts'
import { checkSubscription, clientOf, type StreamLimit } from '../http/client-limits.ts'
import type { Connection } from '../http/connections.ts'
import { type MaskError, shownErrors, thrownErrors } from '../http/errors.ts'
import { setCommonHeaders } from '../http/respond.ts'
import type { Call } from '../http/route.ts'
import type { Grant } from '../model/grant.ts'
import type { Meter } from '../model/meter.ts'
import type { Context } from './builder.ts'
import type { Document } from './documents.ts'
import { heartbeatMs, type Known } from './heartbeat.ts'
import type { GraphQLParams } from './params.ts'
import { formats, type StreamFormat } from './stream-formats.ts'
import type { Stream } from './streams.ts'
import type { Subscriptions } from './subscriptions.ts'

/** A socket that drains nothing for so long is closed. Its client can reconnect and resume with its cursor. */
const stuckMs = 45_000

/** An open stream. What it refers to stays in memory while nothing happens. */
interface Open extends Known {
  readonly socket: Socket
  readonly connection: Connection
  readonly format: StreamFormat
  /** The request id. */
  readonly id: string
  /** Since when its socket does not drain; undefined: it drains. */
  stuckSince: number | undefined
  /** Whether the next results, or errors, are the first. */
  isFirst: boolean
  /** Sends what there is; again, when there is more. */
  readonly pump: () => void
}

interface Failing {
  format: StreamFormat
  id: string
  isFirst: boolean
}

export interface HttpStreamsDeps {
  subscriptions: Subscriptions
  contextOf: (grant: Grant, client?: Client) => Context
  auth: Auth
  limit: StreamLimit
  maskError: MaskError
  meter: Meter
}

export class HttpStreams {
  readonly #deps: HttpStreamsDeps
  readonly #open = new Set<Open>()
  readonly #heartbeat = setInterval(() => this.#beat(), heartbeatMs)
  #closing = false

  constructor(deps: HttpStreamsDeps) {
    this.#deps = deps
  }

  /** How many streams are open, by their types. */
  get open(): Record<StreamType, number> {
    let multipart = 0
    for (const { format } of this.#open) if (format === formats.multipart) multipart += 1
    return { sse: this.#open.size - multipart, multipart }
  }

  /** Opens the subscription; either side may end it. Throws RATE_LIMITED and BAD_USER_INPUT; other errors are sent in the stream. */
  async handle(call: Call, document: Document, params: GraphQLParams, type: StreamType): Promise<void> {
    const { request, response, connection, id } = call
    const format = formats[type]
    await connection.turnOf(response)
    if (connection.gone) return
    const leave = await this.#enter(call)
    let stream: Stream
    try {
      const context = this.#deps.contextOf(call.grant, connection)
      stream = await this.#deps.subscriptions.open(document, params, context, headerOf(request, 'last-event-id'))
    } catch (error) {
      leave()
      this.#fail(begin(response, format), error, { format, id, isFirst: true })
      return
    }
    // The client may have disconnected while the log was read; and HEAD gets the headers only.
    if (response.destroyed || request.method === 'HEAD') {
      leave()
      stream.close()
      begin(response, format).end()
      return
    }
    const { cursor } = stream
    begin(response, format).write(format.begin(cursor))
    const held = call.held
    call.held = undefined
    const socket = connection.takeOver(response)
    const open: Open = {
      socket,
      connection,
      format,
      stream,
      sent: cursor,
      id,
      stuckSince: undefined,
      isFirst: true,
      pump: () => void this.#pump(open),
    }
    this.#serve(open, call.grant, leave, held)
  }

  /** Counts the stream that the call becomes; call the returned function when it ends. */
  async #enter({ request, grant, body, connection, held }: Call): Promise<() => void> {
    checkSubscription(body.length)
    connection.stream = true
    held?.subscribe()
    return await this.#deps.limit.enter(clientOf(grant, request))
  }

  #serve(open: Open, grant: Grant, leave: () => void, held: Hold | undefined): void {
    const unwatch = this.#deps.auth.watch(grant, () => open.socket.destroy())
    this.#open.add(open)
    open.socket.on('close', () => {
      this.#open.delete(open)
      unwatch()
      leave()
      held?.release()
      open.stream.close()
    })
    open.pump()
  }

  /** Synchronous if possible: what waits between two events is the stream, and no promise. */
  async #pump(open: Open): Promise<void> {
    const { socket, connection, format, stream } = open
    try {
      for (;;) {
        const polled = stream.poll()
        const batch = polled instanceof Promise ? await polled : polled
        if (batch === 'none') return stream.onMore(open.pump)
        if (!batch) break
        if (socket.destroyed) return
        const frames = format.frames(batch)
        open.isFirst = false
        this.#deps.meter.delivered(batch.length)
        open.sent = batch.cursor
        if (!writeTogether(socket, frames)) {
          const sent = connection.sending(socket.writableLength, frames)
          await this.#drained(open)
          sent()
        }
      }
      if (stream.completes && !this.#closing) socket.write(format.complete)
    } catch (error) {
      this.#fail(socket, error, open)
    }
    socket.destroySoon()
  }

  async #drained(open: Open): Promise<void> {
    const { socket } = open
    open.stuckSince = performance.now()
    await new Promise<void>((resolve) => {
      const done = () => {
        socket.off('drain', done)
        socket.off('close', done)
        resolve()
      }
      socket.on('drain', done)
      socket.on('close', done)
      if (socket.destroyed) done()
    })
    open.stuckSince = undefined
  }

  /** Sends the errors, and `complete` unless the client should retry later. */
  #fail(out: Writable, error: unknown, { format, id, isFirst }: Failing): void {
    const { errors } = shownErrors(thrownErrors(error), this.#deps.maskError, id)
    const isFinal = errors.every(({ extensions }) => extensions?.retryAfterMs === undefined)
    out.end(format.errors({ errors, isFirst, isFinal }))
  }

  #beat(): void {
    const now = performance.now()
    for (const open of this.#open) {
      if (open.stuckSince === undefined) {
        if (!open.socket.write(open.format.heartbeat(open))) void this.#drained(open)
      } else if (now - open.stuckSince > stuckMs) open.socket.destroy()
    }
  }

  /** Ends every stream, without `complete`. */
  close(): void {
    this.#closing = true
    clearInterval(this.#heartbeat)
    for (const { stream } of this.#open) stream.close()
  }
}

/** The frames that a socket gets before the event loop goes on leave in one system call, as with Node's own HTTP response. */
function writeTogether(socket: Socket, frames: Buffer): boolean {
  if (socket.writableCorked === 0) {
    socket.cork()
    process.nextTick(uncork, socket)
  }
  return socket.write(frames)
}

const uncork = (socket: Socket) => socket.uncork()

function begin(response: ServerResponse, { contentType }: StreamFormat): ServerResponse {
  // The end of the connection ends the response: without chunk sizes between the frames, all sockets get the same bytes.
  response.useChunkedEncodingByDefault = false
  setCommonHeaders(response)
  response.writeHead(200, {
    'content-type': contentType,
    'cache-control': 'no-cache, no-store, no-transform',
    // Otherwise some proxies buffer the stream.
    'x-accel-buffering': 'no',
  })
  response.socket?.setNoDelay(true)
  return response
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' ? value : undefined
}
