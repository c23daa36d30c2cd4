/**
 * An HTTP proxy between a client and a real server, which answers in the server's place where a test says so: what proxies, gateways and
 * broken networks do. Invariant: what it passes on is unchanged.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'

export interface Asked {
  path: string
  headers: IncomingMessage['headers']
  body: string
  /** A request for a stream. */
  isStream: boolean
  /** A mutation. */
  isSave: boolean
}

/**
 * Instead of passing the request on: an answer; `cut` closes the connection at once, `lose` after the server has answered, and
 * `hang` never answers.
 */
export type Instead =
  | { status: number; type?: string; headers?: Record<string, string>; body: string }
  | 'cut'
  | 'lose'
  | 'hang'

export interface Between {
  readonly url: string
  /** Of each request, in order. */
  readonly asked: Asked[]
  /** Undefined: everything is passed on. */
  instead: ((asked: Asked) => Instead | undefined) | undefined
  /** The server that requests go to. */
  upstream: string
  /** HTML pages and scripts that the proxy has itself, by path. */
  readonly files: Map<string, { type: string; body: string }>
  /** Characters a millisecond that the network takes, each way; undefined: all of them at once. */
  pace: number | undefined
  /** What the server gets in place of the body. */
  change: ((body: string) => string) | undefined
  /** Sends a text in every open stream. */
  inject(text: string): void
  /** Closes every open connection. */
  cut(): void
  close(): Promise<void>
}

/** An error as the server sends it. */
export function refusal(status: number, code: string, extensions: object = {}): Instead {
  return {
    status,
    type: 'application/json; charset=utf-8',
    body: JSON.stringify({ errors: [{ message: `A test's ${code}.`, extensions: { code, ...extensions } }] }),
  }
}

export const html: Exclude<Instead, string> = { status: 502, type: 'text/html', body: '<h1>Bad gateway</h1>' }

export async function putBetween(upstream: string): Promise<Between> {
  const streams = new Set<ServerResponse>()
  const server = createServer(async (incoming, response) => {
    let body = ''
    try {
      for await (const chunk of incoming.setEncoding('utf8')) body += chunk
    } catch {
      return
    }
    const file = between.files.get(incoming.url!)
    if (file) {
      response.writeHead(200, { 'content-type': file.type }).end(file.body)
      return
    }
    const { headers } = incoming
    const asked: Asked = {
      path: incoming.url!,
      headers,
      body,
      isStream: headers.accept === 'text/event-stream',
      isSave: body.includes('"mutation'),
    }
    between.asked.push(asked)
    const { pace } = between
    if (pace) await setTimeout(body.length / pace)
    const instead = between.instead?.(asked)
    if (instead === 'hang') return
    if (instead === 'cut') response.destroy()
    else if (typeof instead === 'object') {
      const { status, type = 'text/plain', headers, body } = instead
      response.writeHead(status, { 'content-type': type, ...headers }).end(body)
    } else {
      if (asked.isStream) {
        streams.add(response)
        response.on('close', () => streams.delete(response))
      }
      const { upstream, change = (text: string) => text } = between
      passOn(incoming, change(body), response, { upstream, loses: instead === 'lose', pace })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const between: Between = {
    url: `http://127.0.0.1:${port}`,
    asked: [],
    instead: undefined,
    upstream,
    files: new Map(),
    pace: undefined,
    change: undefined,
    inject(text) {
      for (const stream of streams) stream.write(text)
    },
    cut: () => server.closeAllConnections(),
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return between
}

async function trickle(answer: IncomingMessage, response: ServerResponse, pace: number): Promise<void> {
  const most = 20 * pace
  for await (const chunk of answer as AsyncIterable<Buffer>)
    for (let sent = 0; sent < chunk.length && !response.destroyed; sent += most) {
      response.write(chunk.subarray(sent, sent + most))
      await setTimeout(20)
    }
  response.end()
}

function passOn(
  { url, method, headers }: IncomingMessage,
  body: string,
  response: ServerResponse,
  { upstream, loses, pace }: { upstream: string; loses: boolean; pace: number | undefined },
): void {
  const { host: _, origin: __, 'content-length': ___, 'sec-fetch-site': ____, ...rest } = headers
  const outgoing = request(upstream + url, { method: method!, headers: { ...rest, connection: 'close' } }, (answer) => {
    answer.on('error', () => response.destroy())
    if (loses) {
      response.destroy()
      answer.resume()
      return
    }
    response.writeHead(answer.statusCode!, answer.headers)
    if (pace) trickle(answer, response, pace).catch(() => response.destroy())
    else answer.pipe(response)
  })
  outgoing.on('error', () => response.destroy())
  response.on('close', () => outgoing.destroy())
  outgoing.end(body)
}
