/** The request target in every form of RFC 9112, and offers to change the protocol (RFC 9110, 7.8). */
import type { IncomingMessage } from 'node:http'
import { HttpError } from './errors.ts'

const absolute = /^https?:\/\/([^/?#]*)([/?][^#]*)?/i
/** A host name or address, and a port; a user and a password are not allowed in a target. */
const authority = /^(\[[\da-f:.]+\]|[\w.-]+)(:\d{1,5})?$/i

/**
 * Rewrites the absolute form (`GET http://host/path`, which clients send to a proxy) to the origin form (`GET /path`); the authority of the
 * target replaces the Host header (RFC 9112, 3.2.2). Other forms are left unchanged: see `checkTarget`.
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
 * Whether to upgrade to WebSocket. Offers of other protocols (`Upgrade: h2c` of Java's HttpClient and `curl --http2`) are ignored, as RFC 9110,
 * 7.8 allows, and the request is served over HTTP/1.1. So are offers in HTTP/1.0, in methods other than GET, and at paths other than /graphql.
 */
export function wantsWebSocket(request: IncomingMessage): boolean {
  normalizeTarget(request)
  const { method, httpVersion, headers, url } = request
  if (url?.split('?', 1)[0] !== '/graphql') return false
  if (method !== 'GET' || httpVersion !== '1.1') return false
  const offers = (headers.upgrade ?? '').split(',').map((offer) => offer.trim().toLowerCase())
  if (!offers.includes('websocket')) return false
  // ws accepts no list.
  headers.upgrade = 'websocket'
  return true
}
