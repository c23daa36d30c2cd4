/**
 * Subscriptions over Server-Sent Events (GraphQL over SSE, distinct connections): by POST, and by GET for a browser's own EventSource, which
 * resumes by itself with Last-Event-ID. Invariant: at most one batch per socket waits to be sent; the next one is read after it has drained.
 *
 * A server that stops ends the stream without `complete`: to a client, complete means that no more events will follow.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { Hold } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
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
import { heartbeatFrame, heartbeatMs, type Known } from './heartbeat.ts'
import type { GraphQLParams } from './params.ts'
import { frameOf, type Stream } from './streams.ts'
import type { Subscriptions } from './subscriptions.ts'

/** A socket that drains nothing for so long is closed. Its client can reconnect and resume with its cursor. */
const stuckMs = 45_000
const complete = 'event: complete\ndata:\n\n'
const cursorErrors = ['CURSOR_EXPIRED', 'BAD_USER_INPUT']

/** An open stream. What it refers to stays in memory while nothing happens. */
interface Open extends Known {
  readonly socket: Socket
  readonly connection: Connection
  /** The request id. */
  readonly id: string
  /** Since when its socket does not drain; undefined: it drains. */
  stuckSince: number | undefined
}

export interface SseDeps {
  subscriptions: Subscriptions
  contextOf: (grant: Grant, client?: Client) => Context
  auth: Auth
  limit: StreamLimit
  maskError: MaskError
  meter: Meter
}

export class SseServer {
  readonly #deps: SseDeps
  readonly #open = new Set<Open>()
  readonly #heartbeat = setInterval(() => this.#beat(), heartbeatMs)
  #closing = false

  constructor(deps: SseDeps) {
    this.#deps = deps
  }

  get open(): number {
    return this.#open.size
  }

  /** Opens the subscription; either side may end it. Throws RATE_LIMITED and BAD_USER_INPUT; other errors are sent in the stream. */
  async handle(call: Call, document: Document, params: GraphQLParams): Promise<void> {
    const { request, response, connection, id } = call
    await connection.turnOf(response)
    if (connection.gone) return
    const leave = this.#enter(call)
    let stream: Stream
    try {
      const context = this.#deps.contextOf(call.grant, connection)
      stream = await this.#deps.subscriptions.open(document, params, context, headerOf(request, 'last-event-id'))
    } catch (error) {
      leave()
      begin(response)
      this.#fail(response, error, id)
      return
    }
    // The client may have disconnected while the log was read; and HEAD gets the headers only.
    if (response.destroyed || request.method === 'HEAD') {
      leave()
      stream.close()
      begin(response).end()
      return
    }
    const { cursor } = stream
    // A cursor to resume from before the first event, and the first bytes that some proxies and browsers wait for.
    begin(response).write(cursor === undefined ? ':\n\n' : `id: ${cursor}\n\n`)
    const held = call.held
    call.held = undefined
    const socket = connection.takeOver(response)
    this.#serve({ socket, connection, stream, sent: cursor, id, stuckSince: undefined }, call.grant, leave, held)
  }

  /** Counts the stream that the call becomes; call the returned function when it ends. */
  #enter({ request, grant, body, connection, held }: Call): () => void {
    checkSubscription(body.length)
    connection.stream = true
    held?.subscribe()
    return this.#deps.limit.enter(clientOf(grant, request))
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
    void this.#pump(open)
  }

  async #pump(open: Open): Promise<void> {
    const { socket, connection, stream, id } = open
    try {
      for (;;) {
        const batch = await stream.next()
        if (!batch) break
        if (socket.destroyed) return
        const { frames, results, cursor } = batch
        this.#deps.meter.delivered(results.length)
        open.sent = cursor
        if (!socket.write(frames)) {
          const sent = connection.sending(socket.writableLength, frames)
          await this.#drained(open)
          sent()
        }
      }
      if (stream.completes && !this.#closing) socket.write(complete)
    } catch (error) {
      this.#fail(socket, error, id)
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
  #fail(out: Writable, error: unknown, id: string): void {
    const { errors } = shownErrors(thrownErrors(error), this.#deps.maskError, id)
    const isFinal = errors.every(({ extensions }) => extensions?.retryAfterMs === undefined)
    // An empty id replaces an invalid or expired cursor in the browser, so that it does not reconnect with that cursor.
    const resetsCursor = errors.some(({ extensions }) => cursorErrors.includes(String(extensions?.code)))
    out.end(`${resetsCursor ? 'id:\n' : ''}${frameOf({ errors })}${isFinal ? complete : ''}`)
  }

  #beat(): void {
    const now = performance.now()
    for (const open of this.#open) {
      if (open.stuckSince === undefined) {
        if (!open.socket.write(heartbeatFrame(open))) void this.#drained(open)
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

function begin(response: ServerResponse): ServerResponse {
  // The end of the connection ends the response: without chunk sizes between the frames, all sockets get the same bytes.
  response.useChunkedEncodingByDefault = false
  setCommonHeaders(response)
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
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
