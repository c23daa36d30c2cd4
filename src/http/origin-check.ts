/**
 * The check before every route: the Host header must name an allowed host, and the Origin header a page that may call this server. It protects
 * against DNS rebinding (a page whose own name resolves to this server) and cross-site requests; browsers set both headers truthfully.
 */
import type { IncomingMessage } from 'node:http'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'

const maxKnownHosts = 100
/** A name or an address, and a port (RFC 9110, 7.2); no user, path or blank. */
const hostForm = /^(\[[\da-f:.]+\]|[\w.-]+)(:\d{0,5})?$/i

export interface OriginCheckOptions {
  /** Allowed host names, without port, in lower case; empty: all. */
  hosts: readonly string[]
  /** Origins (https://app.example), as a browser writes them, whose pages may call this server. */
  origins: readonly string[]
  log: Log
}

export class OriginCheck {
  readonly #hosts: ReadonlySet<string>
  readonly #origins: ReadonlySet<string>
  /** Host headers that passed: parsing one for each request would be a fourteenth of the cost of a save. */
  readonly #known = new Set<string>()
  readonly #foreignHosts: Refusals
  readonly #foreignOrigins: Refusals

  constructor({ hosts, origins, log }: OriginCheckOptions) {
    this.#hosts = new Set(hosts)
    this.#origins = new Set(origins)
    this.#foreignHosts = new Refusals(
      log,
      'host',
      'requests for a foreign host name were refused; ALLOWED_HOSTS does not list it',
    )
    this.#foreignOrigins = new Refusals(
      log,
      'origin',
      'requests of a page of another site were refused; CORS_ORIGINS does not list it',
    )
  }

  /** Throws FORBIDDEN for a foreign host or origin. Returns the headers that a browser needs to pass the response to a listed page. */
  check(request: IncomingMessage): Record<string, string> | undefined {
    const { host, origin, 'sec-fetch-site': site } = request.headers
    if (!this.#isHost(host, request)) {
      const message = 'The Host header must be one host name or address, with or without a port.'
      throw new SpillwayError('BAD_USER_INPUT', message)
    }
    if (this.#hosts.size > 0 && !this.#knows(host)) {
      this.#foreignHosts.add(host)
      throw new SpillwayError('FORBIDDEN', 'This server does not answer for that host name; list it in ALLOWED_HOSTS.')
    }
    // A shared cache must not pass a response without these headers to a page that needs them.
    const shared = this.#origins.size > 0 ? notListed : undefined
    if (origin === undefined) {
      if (site === 'cross-site' && request.method !== 'GET') throw this.#crossSite(origin)
      return shared
    }
    if (this.#origins.has(origin)) return { ...shared, [allowOrigin]: origin, 'access-control-expose-headers': exposed }
    if (site === 'cross-site' || site === 'same-site' || !sameHost(origin, host)) throw this.#crossSite(origin)
    return shared
  }

  #crossSite(origin: string | undefined): SpillwayError {
    this.#foreignOrigins.add(origin)
    return new SpillwayError(
      'FORBIDDEN',
      'Requests from pages of other sites are refused; list their origin in CORS_ORIGINS.',
    )
  }

  /** Whether there is at most one Host header, and a URL can be made of it, as libraries do. HTTP/1.0 may leave it out. */
  #isHost(host: string | undefined, { rawHeaders }: IncomingMessage): boolean {
    let given = 0
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === 'host') given += 1
    }
    if (given > 1) return false
    if (host === undefined || this.#known.has(host)) return true
    if (!hostForm.test(host) || !URL.canParse(`http://${host}`)) return false
    if (this.#hosts.size === 0 && this.#known.size < maxKnownHosts) this.#known.add(host)
    return true
  }

  #knows(host: string | undefined): boolean {
    if (host === undefined) return false
    if (this.#known.has(host)) return true
    if (!URL.canParse(`http://${host}`)) return false
    const name = new URL(`http://${host}`).hostname.replace(/\.$/, '')
    const knows = this.#hosts.has(name) || this.#hosts.has(name.replace(/^\[|\]$/g, ''))
    // Ports and capitals give many spellings of one host, so the set is bounded.
    if (knows && this.#known.size < maxKnownHosts) this.#known.add(host)
    return knows
  }
}

export const allowOrigin = 'access-control-allow-origin'
const notListed = { vary: 'Origin' }
/** The response headers that a page may read in addition to the CORS-safelisted ones. */
const exposed = 'retry-after, x-request-id, www-authenticate, allow'

/** Names of headers, separated by commas. */
const headerNames = /^[\w!#$%&'*+.^`|~, -]{1,2000}$/

/**
 * The headers of the response to a preflight request from a listed origin. Every request header is allowed: clients send many (traceparent,
 * x-request-id, apollographql-client-name), and the server ignores those that it does not know.
 */
export function preflightHeaders({ headers }: IncomingMessage): Record<string, string> {
  const requested = headers['access-control-request-headers'] ?? ''
  return {
    vary: 'Origin, Access-Control-Request-Headers',
    'access-control-allow-methods': 'GET, HEAD, POST',
    'access-control-max-age': '7200',
    ...(headerNames.test(requested) ? { 'access-control-allow-headers': requested } : {}),
    // For a page of a public site that calls a server on a private address (Private Network Access).
    ...(headers['access-control-request-private-network'] === 'true'
      ? { 'access-control-allow-private-network': 'true' }
      : {}),
  }
}

const logEveryMs = 60_000

/** Logs refused requests of one kind: a line at once, then at most one a minute with their number. */
class Refusals {
  readonly #log: Log
  readonly #name: string
  readonly #message: string
  #count = 0
  #lastLogged = Number.NEGATIVE_INFINITY

  constructor(log: Log, name: string, message: string) {
    this.#log = log
    this.#name = name
    this.#message = message
  }

  /** `value` comes from the client: it is truncated, and characters that no name or address has are replaced. */
  add(value: string | undefined): void {
    this.#count += 1
    const now = performance.now()
    if (now - this.#lastLogged < logEveryMs) return
    const shown = value?.slice(0, 100).replace(/[^\w.:/[\]*-]/g, '?')
    this.#log.warn({ [this.#name]: shown, refused: this.#count }, this.#message)
    this.#count = 0
    this.#lastLogged = now
  }
}

function sameHost(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host
}
