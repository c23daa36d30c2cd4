/**
 * Subscriptions over Server-Sent Events (GraphQL over SSE, distinct connections): by POST, and by GET for a browser's own EventSource, which
 * resumes by itself with Last-Event-ID. Invariant: at most one batch per socket waits to be sent; the next one is read after it has drained.
 *
 * A server that stops ends the stream without `complete`: to a client, complete means that no more events will follow.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
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
import type { GraphQLParams } from './params.ts'
import { frameOf, type Stream } from './streams.ts'
import type { Subscriptions } from './subscriptions.ts'

const heartbeatMs = 12_000
/** A socket that drains nothing for so long is closed. Its client can reconnect and resume with its cursor. */
const stuckMs = 45_000
const beat = ':\n\n'
const complete = 'event: complete\ndata:\n\n'
const cursorErrors = ['CURSOR_EXPIRED', 'BAD_USER_INPUT']

/** An open stream. */
interface Open {
  stream: Stream
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
  readonly #open = new Map<ServerResponse, Open>()
  readonly #heartbeat = setInterval(() => this.#beat(), heartbeatMs)
  #closing = false

  constructor(deps: SseDeps) {
    this.#deps = deps
  }

  get open(): number {
    return this.#open.size
  }

  /** Serves the subscription until either side ends it. Throws RATE_LIMITED and BAD_USER_INPUT; other errors are sent in the stream. */
  async handle(call: Call, document: Document, params: GraphQLParams): Promise<void> {
    const { request, response, grant, connection, id } = call
    this.#enter(call)
    let stream: Stream
    try {
      const context = this.#deps.contextOf(grant, connection)
      stream = await this.#deps.subscriptions.open(document, params, context, headerOf(request, 'last-event-id'))
    } catch (error) {
      begin(response)
      this.#fail(response, error, id)
      return
    }
    // The client may have disconnected while the log was read; and HEAD gets the headers only.
    if (response.destroyed || request.method === 'HEAD') {
      stream.close()
      begin(response).end()
      return
    }
    // A cursor to resume from before the first event, and the first bytes that some proxies and browsers wait for.
    begin(response).write(stream.cursor === undefined ? beat : `id: ${stream.cursor}\n\n`)
    const open: Open = { stream, stuckSince: undefined }
    this.#open.set(response, open)
    response.on('close', () => {
      this.#open.delete(response)
      stream.close()
    })
    await this.#pump(response, open, connection, id)
  }

  /** Counts the stream that the call becomes, and closes it when its token expires. */
  #enter({ request, response, grant, body, connection, held }: Call): void {
    const { auth, limit } = this.#deps
    checkSubscription(body.length)
    if (response.destroyed) return
    connection.stream = true
    held?.subscribe()
    response.once('close', limit.enter(clientOf(grant, request)))
    response.once(
      'close',
      auth.watch(grant, () => response.destroy()),
    )
  }

  async #pump(response: ServerResponse, open: Open, connection: Connection, id: string): Promise<void> {
    const { stream } = open
    try {
      for (;;) {
        const batch = await stream.next()
        if (!batch) break
        if (response.destroyed) return
        const { frames, results } = batch
        this.#deps.meter.delivered(results.length)
        if (!response.write(frames)) {
          const sent = connection.sending(response.writableLength, frames)
          await this.#drained(response, open)
          sent()
        }
      }
      response.end(stream.completes && !this.#closing ? complete : undefined)
    } catch (error) {
      this.#fail(response, error, id)
    }
  }

  async #drained(response: ServerResponse, open: Open): Promise<void> {
    open.stuckSince = performance.now()
    await new Promise<void>((resolve) => {
      const done = () => {
        response.off('drain', done)
        response.off('close', done)
        resolve()
      }
      response.on('drain', done)
      response.on('close', done)
      if (response.destroyed) done()
    })
    open.stuckSince = undefined
  }

  /** Sends the errors, and `complete` unless the client should retry later. */
  #fail(response: ServerResponse, error: unknown, id: string): void {
    const { errors } = shownErrors(thrownErrors(error), this.#deps.maskError, id)
    const isFinal = errors.every(({ extensions }) => extensions?.retryAfterMs === undefined)
    // An empty id replaces an invalid or expired cursor in the browser, so that it does not reconnect with that cursor.
    const resetsCursor = errors.some(({ extensions }) => cursorErrors.includes(String(extensions?.code)))
    response.end(`${resetsCursor ? 'id:\n' : ''}${frameOf({ errors })}${isFinal ? complete : ''}`)
  }

  #beat(): void {
    const now = performance.now()
    for (const [response, { stuckSince }] of this.#open) {
      if (stuckSince === undefined) response.write(beat)
      else if (now - stuckSince > stuckMs) response.destroy()
    }
  }

  /** Ends every stream, without `complete`. */
  close(): void {
    this.#closing = true
    clearInterval(this.#heartbeat)
    for (const { stream } of this.#open.values()) stream.close()
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
