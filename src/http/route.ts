/** One request, from its target to the handler of its route: checks in order of their cost, then auth, limits, and the body. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Bytes, type Hold, largeBytes, overloaded } from '../app/bytes.ts'
import type { Grant, Scope } from '../model/grant.ts'
import { type Auth, requireScope } from './auth.ts'
import { checkTransfer, decode, discard, hasBody, readBody } from './body.ts'
import { clientOf, type RateLimit } from './client-limits.ts'
import { type Connection, checkRequests } from './connections.ts'
import { HttpError, truncate } from './errors.ts'
import { checkValues } from './input.ts'
import { allowOrigin, type OriginCheck, preflightHeaders } from './origin-check.ts'
import { setCommonHeaders } from './respond.ts'
import { checkTarget } from './target.ts'

/** One request, with what its route needs. */
export interface Call {
  request: IncomingMessage
  response: ServerResponse
  /** Read already; empty for a method other than POST. */
  body: string
  /** The part of the target after `?`. */
  query: string
  grant: Grant
  connection: Connection
  /** Counts the bytes of the body until the handler is done; a handler that keeps them longer takes it away. */
  held: Hold | undefined
  /** The request id: in x-request-id of the response, in log lines, and in an unexpected error. */
  id: string
}

export interface Route {
  GET?: (call: Call) => Promise<void> | void
  POST?: (call: Call) => Promise<void> | void
  /** The scope that a request needs; 'any': a valid token, whatever its scopes; 'open': no token. */
  scope: Scope | 'any' | 'open'
  /** The scope of POST, where it differs. */
  postScope?: Scope
}

export interface RouterDeps {
  /** The paths that there are, for the error of another one. */
  paths: string
  route(path: string, request: IncomingMessage): Route | undefined
  upgrade: Upgrade
  auth: Auth
  originCheck: OriginCheck
  rateLimit: RateLimit
}

export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, connection: Connection) => void

/** The methods of the server as a whole; a route may have fewer. */
export const allow = 'GET, HEAD, POST, OPTIONS'

const anonymous: Grant = { subject: undefined, scopes: new Set(), expiresAt: undefined, claims: {} }

/** Finds the route and runs its handler. Rejects with what sendError takes. */
export async function handleRequest(
  deps: RouterDeps,
  options: { maxBodyBytes: number; bytes: Bytes },
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
  const crossOrigin = deps.originCheck.check(request)
  // Set before anything else can fail: a page may read an error only with these headers.
  for (const name in crossOrigin) response.setHeader(name, crossOrigin[name]!)
  checkRequests(connection)
  if (method === 'OPTIONS' && (request.headers['access-control-request-method'] !== undefined || url === '*')) {
    setCommonHeaders(response)
    response.writeHead(204, { allow, ...(crossOrigin?.[allowOrigin] ? preflightHeaders(request) : {}) }).end()
    return
  }
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  const route = deps.route(path, request)
  if (!route) {
    throw new HttpError(404, `There is nothing at ${truncate(path, 200)}; try ${deps.paths}.`)
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
  let grant = anonymous
  if (route.scope !== 'open') {
    const granted = deps.auth.grant(request.headers.authorization, request)
    grant = granted instanceof Promise ? await granted : granted
    const scope = method === 'POST' ? (route.postScope ?? route.scope) : route.scope
    if (scope !== 'any') requireScope(grant, scope)
    if (deps.rateLimit.on) await deps.rateLimit.count(clientOf(grant, request))
  }
  const query = mark < 0 ? '' : url.slice(mark + 1)
  if (method !== 'POST') {
    await handler({ request, response, body: '', query, grant, connection, held: undefined, id })
    return
  }
  const held = connection.receive()
  const call: Call = { request, response, body: '', query, grant, connection, held, id }
  try {
    call.body = decode(await readBody(request, options.maxBodyBytes, held, connection.share))
    if (call.body.length > largeBytes) {
      await options.bytes.turn()
      checkValues(call.body)
    }
    await handler(call)
  } finally {
    call.held?.release()
  }
}
