/** Responses as every route sends them: JSON, text, and the errors of the table in errors.ts. */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { largeBytes } from '../app/bytes.ts'
import type { Log } from '../model/log.ts'
import { mayCost } from './body.ts'
import { errorBody, errorHeaders, HttpError, type PublicError, publicError } from './errors.ts'

export const jsonType = 'application/json; charset=utf-8'

/** These are properties of the response itself: a WeakMap costs more than the rest of the work on a response. */
const requestIdKey = Symbol('request id')
/** The body, if it is a cached one that other connections may be sending, too. */
const bodyKey = Symbol('body')
type Tagged = ServerResponse & { [requestIdKey]?: string; [bodyKey]?: Buffer }

const processId = randomBytes(4).toString('hex')
let requests = 0

/** The client's request id if it is safe to log, else a generated one. */
export function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  if (typeof given === 'string' && /^[\w.:-]{1,100}$/.test(given)) return given
  requests += 1
  return `${processId}-${requests.toString(36)}`
}

export function setRequestId(response: ServerResponse, id: string): void {
  ;(response as Tagged)[requestIdKey] = id
}

/** The cached body that the response sends; undefined for a body of its own. */
export function sharedBody(response: ServerResponse): Buffer | undefined {
  return (response as Tagged)[bodyKey]
}

/** Sets the headers that every response has, where it is not sent by `sendText`: the request id, and no guessing of types by browsers. */
export function setCommonHeaders(response: ServerResponse): void {
  response.setHeader('x-content-type-options', 'nosniff')
  const id = (response as Tagged)[requestIdKey]
  if (id !== undefined) response.setHeader('x-request-id', id)
}

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
  // The socket would make such a copy of a long text, and keep the text beside it.
  if (typeof body === 'string' && body.length > largeBytes) body = Buffer.from(body)
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  // Node writes a flat list fastest.
  const all = ['content-type', type, 'content-length', String(length), 'x-content-type-options', 'nosniff']
  if (headers?.['cache-control'] === undefined) all.push('cache-control', 'no-store')
  const id = (response as Tagged)[requestIdKey]
  if (id !== undefined) all.push('x-request-id', id)
  for (const name in headers) all.push(name, headers[name]!)
  response.writeHead(status, all)
  response.end(response.req.method === 'HEAD' ? undefined : body)
  if (typeof body !== 'string' && !response.writableFinished) (response as Tagged)[bodyKey] = body
}

/** Sends the error as the client may see it. Closes the connection if a response has begun already. */
export function sendError(response: ServerResponse, error: unknown, id: string, log: Log): void {
  // With ECONNRESET, the client closed the connection while it was sending.
  if (response.headersSent || response.destroyed || (error as NodeJS.ErrnoException).code === 'ECONNRESET') {
    response.destroy()
    return
  }
  const shown = error instanceof HttpError ? error.error : publicError(error, log, id)
  const headers = error instanceof HttpError ? error.headers : errorHeaders(shown)
  if (shown.status === 401) headers['www-authenticate'] = 'Bearer'
  if (shown.status === 413 || shown.code === 'OVERLOADED' || mayCost(response.req))
    sendBeforeBodyEnds(response, shown, headers)
  else sendJson(response, shown.status, errorBody(shown), headers)
}

/**
 * Responds to a request whose body is not read to its end. The kernel resets a connection that is closed while the client still sends, and
 * the response would be lost. So the server discards the rest of the body for up to three seconds, then closes.
 */
function sendBeforeBodyEnds(response: ServerResponse, shown: PublicError, headers: Record<string, string>): void {
  const { req: request } = response
  response.shouldKeepAlive = false
  const body = JSON.stringify(errorBody(shown))
  setCommonHeaders(response)
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
