/**
 * The HTTP server: reads bodies (bounded, and only well-formed UTF-8), routes, and stops cleanly. Invariant: every request gets one
 * answer, and after `close` no connection is left.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Bytes, type Hold, largeBytes, overloaded } from '../app/bytes.ts'
import type { Log } from '../model/log.ts'
import type { Tracer } from '../model/tracer.ts'
import { type Auth, type Grant, requireScope, type Scope } from './auth.ts'
import { decode, discard, hasBody, mayCost, readBody } from './body.ts'
import { checkTransfer } from './codings.ts'
import { type Connection, Connections, checkRequests } from './connections.ts'
import { cut } from './cut.ts'
import { errorBody, errorHeaders, type PublicError, publicError } from './errors.ts'
import { HttpError } from './http-error.ts'
import { checkValues } from './json-values.ts'
import { mute } from './mute.ts'
import { allowOrigin, type OriginCheck, preflightHeaders } from './origin-check.ts'
import type { RateLimit } from './rate-limit.ts'
import { requestCost } from './share.ts'
import { clientOf } from './stream-limit.ts'
import { checkTarget, normalizeTarget, wantsWebSocket } from './target.ts'
import { trace } from './trace.ts'

/** One request, as a route gets it. */
export interface Call {
  request: IncomingMessage
  response: ServerResponse
  /** Read already, where the method has one. */
  body: string
  /** What stands behind the `?`. */
  query: string
  grant: Grant
  connection: Connection
  /** What its body takes, until the answer is made. */
  held: Hold | undefined
  /** In the answer's x-request-id, in what is logged of it, and in an unexpected error. */
  id: string
}

export interface Route {
  GET?: (call: Call) => Promise<void> | void
  POST?: (call: Call) => Promise<void> | void
  /** What it takes to use it; 'any': a token, whatever its scopes; 'open': not even that. */
  scope: Scope | 'any' | 'open'
}

export interface Front {
  route(path: string, request: IncomingMessage): Route | undefined
  upgrade: Upgrade
  auth: Auth
  originCheck: OriginCheck
  rateLimit: RateLimit
}

export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, connection: Connection) => void

export interface HttpServer {
  /** http://HOST:PORT, with the real port. */
  url: string
  /** Stops listening, lets what is under way finish, ends the streams. May be called twice. */
  close(): Promise<void>
}

export interface HttpOptions {
  host: string
  port: number
  /** The setting that `port` is from, for the error of one that is in use. */
  portSetting?: 'PORT' | 'WORKER_PORT'
  maxBodyBytes: number
  maxConnections: number
  bytes: Bytes
  /** A connection on which nothing moves for so long has nobody at its other end; longer than any answer takes. */
  idleTimeoutMs?: number
  /** undefined: nothing is traced. */
  tracer?: Tracer | undefined
  log: Log
}

/** Rejects where the address cannot be listened on, saying so. */
export async function listen(front: Front, options: HttpOptions): Promise<HttpServer> {
  const { host, port, portSetting = 'PORT', tracer, log } = options
  const connections = new Connections(options.maxConnections, options.bytes)
  const serve = (request: IncomingMessage, response: ServerResponse, id: string) => {
    const connection = connections.of(request.socket)
    if (!connection.share.use(requestCost)) {
      connection.share.stop()
      mute(request.socket)
    }
    connection.underWay += 1
    answer(front, options, connection, request, response, id).then(
      () => {
        connection.underWay -= 1
        if (!response.writableFinished) connection.finishing(response, (response as Named)[bodyKey])
      },
      (error) => {
        connection.underWay -= 1
        if (mayCost(request)) discard(request, connection.share)
        fail(response, error, id, log)
      },
    )
  }
  const server = createServer(
    {
      headersTimeout: 5_000,
      requestTimeout: 20_000,
      connectionsCheckingInterval: 1_000,
      // Longer than proxies keep theirs (60 s is common): one that sends just when this end hangs up would answer 502.
      keepAliveTimeout: 75_000,
      shouldUpgradeCallback: wantsWebSocket,
    },
    (request, response) => {
      normalizeTarget(request)
      const id = requestId(request)
      ;(response as Named)[requestIdKey] = id
      if (tracer === undefined) serve(request, response, id)
      else trace(tracer, request, response, id, () => serve(request, response, id))
    },
  )
  server.setTimeout(options.idleTimeoutMs ?? 90_000)
  connections.watch(server)
  server.on('upgrade', (request, socket, head) => {
    // Nobody else listens while the handshake is made.
    socket.on('error', () => socket.destroy())
    const connection = connections.of(request.socket)
    if (connection.surplus) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
      return
    }
    try {
      normalizeTarget(request)
      front.originCheck.check(request)
      front.upgrade(request, socket, head, connection)
    } catch (error) {
      const status = publicError(error, log).status
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    }
  })
  // Without a listener, Node answers with a page of its own.
  server.on('checkExpectation', (request, response) => {
    response.shouldKeepAlive = false
    const got = JSON.stringify(cut(request.headers.expect ?? '', 100))
    fail(
      response,
      new HttpError(417, `Expect: ${got} cannot be met; leave it out, or send 100-continue.`),
      requestId(request),
      log,
    )
  })
  // This server is no proxy. Without a listener, Node closes the connection without a response.
  server.on('connect', (_request, socket: Duplex) => {
    socket.on('error', () => socket.destroy())
    socket.end(`HTTP/1.1 405 Method Not Allowed\r\nAllow: ${allow}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(
              `Port ${port} on ${host} is in use: stop what listens there, or set ${portSetting} to another one.`,
            )
          : new Error(`Cannot listen on ${host}:${port}: ${error.message}. Check HOST and ${portSetting}.`),
      ),
    )
    server.listen(port, host, resolve)
  })
  const address = server.address() as AddressInfo
  const name = address.family === 'IPv6' ? `[${address.address}]` : address.address
  let closed: Promise<void> | undefined
  return {
    url: `http://${name}:${address.port}`,
    close: () => {
      closed ??= close(server)
      return closed
    },
  }
}

/** On the response itself: a WeakMap costs more than all that is done with it. */
const requestIdKey = Symbol('request id')
/** Of an answer that is kept, and sent to others, too: what it is. */
const bodyKey = Symbol('body')
type Named = ServerResponse & { [requestIdKey]?: string; [bodyKey]?: Buffer }

/** The headers of every answer, where it is sent otherwise than by `sendText`: the request's name, and that no browser guesses another type. */
export function nameRequest(response: ServerResponse): void {
  response.setHeader('x-content-type-options', 'nosniff')
  const id = (response as Named)[requestIdKey]
  if (id !== undefined) response.setHeader('x-request-id', id)
}

/** Of the server as a whole; a route may have fewer. */
const allow = 'GET, HEAD, POST, OPTIONS'

const nobody: Grant = { subject: undefined, scopes: new Set(), expiresAt: undefined }

async function answer(
  front: Front,
  options: HttpOptions,
  connection: Connection,
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
): Promise<void> {
  const { url = '/', method = 'GET' } = request
  if (method !== 'POST' && hasBody(request)) {
    response.shouldKeepAlive = false
    discard(request, connection.share)
  }
  checkTarget(url)
  checkTransfer(request)
  const crossOrigin = front.originCheck.check(request)
  // Set before anything can fail: a page may read an error only with these.
  for (const name in crossOrigin) response.setHeader(name, crossOrigin[name]!)
  checkRequests(connection)
  if (method === 'OPTIONS' && (request.headers['access-control-request-method'] !== undefined || url === '*')) {
    nameRequest(response)
    response.writeHead(204, { allow, ...(crossOrigin?.[allowOrigin] ? preflightHeaders(request) : {}) }).end()
    return
  }
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  const route = front.route(path, request)
  if (!route) {
    throw new HttpError(
      404,
      `There is nothing at ${cut(path, 200)}; try /graphql, POST /save, GET / or GET /receipts/:id.`,
    )
  }
  const handler = method === 'GET' || method === 'HEAD' ? route.GET : method === 'POST' ? route.POST : undefined
  if (!handler) {
    const methods = [route.GET && 'GET', route.POST && 'POST'].filter(Boolean).join(', ')
    throw new HttpError(405, `${path} takes ${methods}, not ${method}.`, { allow: methods })
  }
  if (route.scope !== 'open' && connection.surplus) {
    response.shouldKeepAlive = false
    throw overloaded('holding as many connections as it may')
  }
  let grant = nobody
  if (route.scope !== 'open') {
    const asked = front.auth.grant(request.headers.authorization, request)
    grant = asked instanceof Promise ? await asked : asked
    if (route.scope !== 'any') requireScope(grant, route.scope)
    if (front.rateLimit.on) await front.rateLimit.count(clientOf(grant, request))
  }
  const query = mark < 0 ? '' : url.slice(mark + 1)
  if (method !== 'POST') {
    await handler({ request, response, body: '', query, grant, connection, held: undefined, id })
    return
  }
  const held = connection.receive()
  try {
    const body = decode(await readBody(request, options.maxBodyBytes, held, connection.share))
    if (body.length > largeBytes) {
      await options.bytes.turn()
      checkValues(body)
    }
    await handler({ request, response, body, query, grant, connection, held, id })
  } finally {
    held.release()
  }
}

const instance = randomBytes(4).toString('hex')
let requests = 0

/** The caller's own, where it is one that can stand in a log line; else one of ours. */
function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  if (typeof given === 'string' && /^[\w.:-]{1,100}$/.test(given)) return given
  requests += 1
  return `${instance}-${requests.toString(36)}`
}

export const jsonType = 'application/json; charset=utf-8'

export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers?: Record<string, string>,
): void {
  sendText(response, status, jsonType, JSON.stringify(value), headers)
}

export function sendText(
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  headers?: Record<string, string>,
): void {
  // Of a long text the socket would make such a copy, and keep the text beside it.
  if (typeof body === 'string' && body.length > largeBytes) body = Buffer.from(body)
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  // A flat list is what Node writes fastest.
  const all = ['content-type', type, 'content-length', String(length), 'x-content-type-options', 'nosniff']
  if (headers?.['cache-control'] === undefined) all.push('cache-control', 'no-store')
  const id = (response as Named)[requestIdKey]
  if (id !== undefined) all.push('x-request-id', id)
  for (const name in headers) all.push(name, headers[name]!)
  response.writeHead(status, all)
  response.end(response.req.method === 'HEAD' ? undefined : body)
  if (typeof body !== 'string' && !response.writableFinished) (response as Named)[bodyKey] = body
}

function fail(response: ServerResponse, error: unknown, id: string, log: Log): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  // The client hung up while sending: nobody is there to be told.
  if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') {
    response.destroy()
    return
  }
  const shown = error instanceof HttpError ? error.error : publicError(error, log, id)
  const headers = error instanceof HttpError ? error.headers : errorHeaders(shown)
  if (shown.status === 401) headers['www-authenticate'] = 'Bearer'
  if (shown.status === 413 || shown.code === 'OVERLOADED' || mayCost(response.req))
    sendWhileTheySend(response, shown, headers)
  else sendJson(response, shown.status, errorBody(shown), headers)
}

/**
 * The answer to a body that is not read to its end. A connection that is closed while the client still sends is reset, and takes the answer along;
 * so what else comes is let in and thrown away, for a moment.
 */
function sendWhileTheySend(response: ServerResponse, shown: PublicError, headers: Record<string, string>): void {
  const { req: request } = response
  response.shouldKeepAlive = false
  const body = JSON.stringify(errorBody(shown))
  nameRequest(response)
  response.writeHead(shown.status, {
    'content-type': jsonType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...headers,
  })
  response.write(body)
  const end = () => {
    clearTimeout(timer)
    response.end()
  }
  const timer = setTimeout(end, 3_000)
  request.once('end', end)
  request.once('close', end)
  request.resume()
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  // Requests under way have a moment; streams are ended by who holds them.
  const timer = setTimeout(() => server.closeAllConnections(), 3_000)
  await closed
  clearTimeout(timer)
}
