/**
 * `saved` over Server-Sent Events (GraphQL over SSE, distinct connections): by POST, and by GET for a browser's own EventSource, which
 * resumes by itself with Last-Event-ID. Invariant: bytes wait in at most one batch per socket; a socket that does not drain waits.
 *
 * A server that stops ends the stream without `complete`: to a client, complete means that there will never be more.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { formatCursor } from '../events/events.ts'
import type { Connection } from '../http/connections.ts'
import { errorBody, publicError } from '../http/errors.ts'
import { type Call, nameRequest } from '../http/http.ts'
import type { Log } from '../model/log.ts'
import type { Meter } from '../model/meter.ts'
import type { Params } from './params.ts'
import type { SavedStream, SavedStreams } from './streams.ts'

const heartbeatMs = 12_000
/** A socket that took nothing for so long has nobody at its other end. A client that comes back resumes with its cursor. */
const stuckMs = 45_000

export class SseServer {
  readonly #streams: SavedStreams
  readonly #enter: (call: Call) => void
  readonly #log: Log
  readonly #meter: Meter
  /** Since when its socket does not drain; undefined: it does. */
  readonly #open = new Map<ServerResponse, number | undefined>()
  readonly #heartbeat: NodeJS.Timeout

  /** `enter` counts a stream; it throws where that is one too many. */
  constructor(streams: SavedStreams, enter: (call: Call) => void, log: Log, meter: Meter) {
    this.#streams = streams
    this.#enter = enter
    this.#meter = meter
    this.#log = log
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
  }

  get open(): number {
    return this.#open.size
  }

  /** Serves the subscription until either side ends it; false where it is for Yoga. */
  async handle(call: Call, params: Params): Promise<boolean> {
    const { request, response, grant, connection } = call
    let stream: SavedStream | undefined
    try {
      stream = await this.#streams.open(params, grant, header(request, 'last-event-id'))
    } catch (error) {
      begin(response)
      this.#fail(response, error)
      return true
    }
    if (!stream) return false
    // The client may have left while the log was asked.
    if (response.destroyed) {
      stream.close()
      return true
    }
    try {
      this.#enter(call)
    } catch (error) {
      stream.close()
      throw error
    }
    begin(response)
    // A place to resume from even before the first event.
    response.write(`id: ${formatCursor(stream.feed.cursor)}\n\n`)
    this.#open.set(response, undefined)
    response.on('close', () => {
      this.#open.delete(response)
      stream.close()
    })
    await this.#pump(response, stream, connection)
    return true
  }

  async #pump(response: ServerResponse, { feed, render }: SavedStream, connection: Connection): Promise<void> {
    try {
      for (;;) {
        const events = await feed.next()
        if (!events) break
        const { frames, results } = await render(events)
        if (response.destroyed) return
        if (frames.length === 0) continue
        this.#meter.delivered(results.length)
        if (!response.write(frames)) {
          const sent = connection.sending(response.writableLength, frames)
          await this.#drained(response)
          sent()
        }
      }
      response.end()
    } catch (error) {
      this.#fail(response, error)
    }
  }

  async #drained(response: ServerResponse): Promise<void> {
    this.#open.set(response, performance.now())
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
    if (this.#open.has(response)) this.#open.set(response, undefined)
  }

  /** Tells the client what is wrong; and, unless it only has to come back later, that nothing will come. */
  #fail(response: ServerResponse, error: unknown): void {
    const shown = publicError(error, this.#log)
    // An empty id: a browser is not to come back with a cursor that does not work. One that does is kept.
    const forget = shown.code === 'CURSOR_EXPIRED' || shown.code === 'BAD_USER_INPUT' ? 'id:\n' : ''
    const complete = shown.retryAfterMs === undefined ? 'event: complete\ndata:\n\n' : ''
    response.end(`${forget}event: next\ndata: ${JSON.stringify(errorBody(shown))}\n\n${complete}`)
  }

  #beat(): void {
    const now = performance.now()
    for (const [response, stuckSince] of this.#open) {
      if (stuckSince === undefined) response.write(':\n\n')
      else if (now - stuckSince > stuckMs) response.destroy()
    }
  }

  close(): void {
    clearInterval(this.#heartbeat)
  }
}

function begin(response: ServerResponse): void {
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
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return typeof value === 'string' ? value : undefined
}
