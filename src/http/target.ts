/** What a request asks for, as RFC 9112 and RFC 9110 let a client write it: every form of the target, and offers to change the protocol. */
import type { IncomingMessage } from 'node:http'
import { HttpError } from './http-error.ts'

const absolute = /^https?:\/\/([^/?#]*)([/?][^#]*)?/i
/** A host name or address, and a port. Not a user and a password: these do not belong into a target. */
const authority = /^(\[[\da-f:.]+\]|[\w.-]+)(:\d{1,5})?$/i

/**
 * Rewrites the absolute form (`GET http://host/path`, which clients send to a proxy) to the origin form (`GET /path`); the authority of the
 * target replaces the Host header (RFC 9112, 3.2.2). Any other form stays as it is: see `checkTarget`.
 */
export function normalizeTarget(request: IncomingMessage): void {
  const { url = '/' } = request
  if (url.startsWith('/')) return
  const [, host = '', path = '/'] = absolute.exec(url) ?? []
  if (!authority.test(host)) return
  request.headers.host = host
  request.url = path.startsWith('/') ? path : `/${path}`
}

/** Throws 400 for a target that is neither a path nor `*`. */
export function checkTarget(url: string): void {
  if (url.startsWith('/') || url === '*') return
  throw new HttpError(400, 'The request target must be a path, or http://HOST/PATH without a user and password.')
}

/**
 * Whether to answer with a change of protocol. An offer of any other protocol (`Upgrade: h2c` of Java's HttpClient and `curl --http2`) is
 * ignored, as RFC 9110, 7.8 allows: the request is served as it is. So is every offer in HTTP/1.0, in other methods than GET,
 * and elsewhere than at /graphql.
 */
export function wantsWebSocket(request: IncomingMessage): boolean {
  normalizeTarget(request)
  const { method, httpVersion, headers, url } = request
  if (url?.split('?', 1)[0] !== '/graphql') return false
  if (method !== 'GET' || httpVersion !== '1.1') return false
  const offers = (headers.upgrade ?? '').split(',').map((offer) => offer.trim().toLowerCase())
  if (!offers.includes('websocket')) return false
  // ws takes it alone only.
  headers.upgrade = 'websocket'
  return true
}
