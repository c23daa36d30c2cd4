/**
 * Subscriptions over Server-Sent Events (GraphQL over SSE, distinct connections): by POST, and by GET for a browser's own EventSource, which
 * resumes by itself with Last-Event-ID. Invariant: bytes wait in at most one batch per socket; a socket that does not drain waits.
 *
 * A server that stops ends the stream without `complete`: to a client, complete means that there will never be more.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Client } from '../app/save.ts'
import type { Grant } from '../http/auth.ts'
import type { Connection } from '../http/connections.ts'
import { type MaskError, shownErrors, thrownErrors } from '../http/errors.ts'
import { type Call, nameRequest } from '../http/http.ts'
import type { Meter } from '../model/meter.ts'
import type { Context } from './builder.ts'
import type { Document } from './documents.ts'
import type { Params } from './params.ts'
import { frameOf, type Stream } from './stream.ts'
import type { Subscriptions } from './subscriptions.ts'

const heartbeatMs = 12_000
/** A socket that took nothing for so long has nobody at its other end. A client that comes back resumes with its cursor. */
const stuckMs = 45_000
const beat = ':\n\n'
const complete = 'event: complete\ndata:\n\n'
const cursorErrors = ['CURSOR_EXPIRED', 'BAD_USER_INPUT']

/** A stream that is sent, and since when its socket does not drain; undefined: it does. */
interface Open {
  stream: Stream
  stuckSince: number | undefined
}

export interface SseParts {
  subscriptions: Subscriptions
  contextOf: (grant: Grant, client?: Client) => Context
  /** Counts a stream; throws where that is one too many. */
  enter: (call: Call) => void
  maskError: MaskError
  meter: Meter
}

export class SseServer {
  readonly #deps: SseParts
  readonly #open = new Map<ServerResponse, Open>()
  readonly #heartbeat = setInterval(() => this.#beat(), heartbeatMs)
  #closing = false

  constructor(deps: SseParts) {
    this.#deps = deps
  }

  get open(): number {
    return this.#open.size
  }

  /** Serves the subscription until either side ends it. Throws what `enter` throws; what else is wrong is said in the stream. */
  async handle(call: Call, document: Document, params: Params): Promise<void> {
    const { request, response, grant, connection, id } = call
    this.#deps.enter(call)
    let stream: Stream
    try {
      const context = this.#deps.contextOf(grant, connection)
      stream = await this.#deps.subscriptions.open(document, params, context, header(request, 'last-event-id'))
    } catch (error) {
      begin(response)
      this.#fail(response, error, id)
      return
    }
    // The client may have left while the log was asked; and HEAD asks for nothing else.
    if (response.destroyed || request.method === 'HEAD') {
      stream.close()
      begin(response).end()
      return
    }
    // A place to resume from even before the first event; and something, for proxies and browsers that wait for it.
    begin(response).write(stream.cursor === undefined ? beat : `id: ${stream.cursor}\n\n`)
    const open: Open = { stream, stuckSince: undefined }
    this.#open.set(response, open)
    response.on('close', () => {
      this.#open.delete(response)
      stream.close()
    })
    await this.#pump(response, open, connection, id)
  }

  async #pump(response: ServerResponse, open: Open, connection: Connection, id: string): Promise<void> {
    const { stream } = open
    try {
      for (;;) {
        const batch = await stream.next()
        if (!batch) break
        if (response.destroyed) return
        const { frames, results } = batch
        if (frames.length === 0) continue
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

  /** Tells the client what is wrong; and, unless it only has to come back later, that nothing will come. */
  #fail(response: ServerResponse, error: unknown, id: string): void {
    const { errors } = shownErrors(thrownErrors(error), this.#deps.maskError, id)
    const isFinal = errors.every(({ extensions }) => extensions?.retryAfterMs === undefined)
    // An empty id: a browser is not to come back with a cursor that does not work. One that does is kept.
    const forgets = errors.some(({ extensions }) => cursorErrors.includes(String(extensions?.code)))
    response.end(`${forgets ? 'id:\n' : ''}${frameOf({ errors })}${isFinal ? complete : ''}`)
  }

  #beat(): void {
    const now = performance.now()
    for (const [response, { stuckSince }] of this.#open) {
      if (stuckSince === undefined) response.write(beat)
      else if (now - stuckSince > stuckMs) response.destroy()
    }
  }

  /** Ends every stream, none of them complete. */
  close(): void {
    this.#closing = true
    clearInterval(this.#heartbeat)
    for (const { stream } of this.#open.values()) stream.close()
  }
}

function begin(response: ServerResponse): ServerResponse {
  // Ended by the end of the connection: no chunk sizes between the frames, so that all sockets get the same bytes.
  response.useChunkedEncodingByDefault = false
  nameRequest(response)
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-store, no-transform',
    // Proxies that would otherwise collect the stream before they pass it on.
    'x-accel-buffering': 'no',
  })
  response.socket?.setNoDelay(true)
  return response
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' ? value : undefined
}
