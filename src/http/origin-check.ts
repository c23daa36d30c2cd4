/**
 * The check before every route: the Host header must name an allowed host, and the Origin header a page that may call this server. It protects
 * against DNS rebinding (a page whose own name resolves to this server) and cross-site requests; browsers set both headers truthfully.
 */
import type { IncomingMessage } from 'node:http'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { truncate } from './errors.ts'

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
    this.#foreignHosts = new Refusals(log, 'host')
    this.#foreignOrigins = new Refusals(log, 'origin')
  }

  /** Throws FORBIDDEN for a foreign host or origin. Returns the headers that a browser needs to pass the response to a listed page. */
  check(request: IncomingMessage): Record<string, string> | undefined {
    const { host, origin, 'sec-fetch-site': site } = request.headers
    if (!this.#isHost(host, request)) {
      const message = 'The Host header must be one host name or address, with or without a port.'
      throw new SpillwayError('BAD_USER_INPUT', message)
    }
    if (this.#hosts.size > 0 && !this.#knows(host)) {
      this.#foreignHosts.add(host, () => hostAdvice(host, this.#hosts))
      throw new SpillwayError('FORBIDDEN', 'This server does not answer for that host name; list it in ALLOWED_HOSTS.')
    }
    // A shared cache must not pass a response without these headers to a page that needs them.
    const shared = this.#origins.size > 0 ? notListed : undefined
    if (origin === undefined) {
      if (site === 'cross-site' && request.method !== 'GET') throw this.#crossSite(origin)
      return shared
    }
    if (this.#origins.has(origin)) return { ...shared, [allowOrigin]: origin, 'access-control-expose-headers': exposed }
    // A proxy between the page and this server may have changed the Host header; to the browser, both have one origin.
    if (site === 'same-origin') return shared
    if (site === 'cross-site' || site === 'same-site' || !sameHost(origin, host)) throw this.#crossSite(origin)
    return shared
  }

  #crossSite(origin: string | undefined): SpillwayError {
    this.#foreignOrigins.add(origin, () => originAdvice(origin, this.#origins))
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
const exposed = 'retry-after, x-request-id, www-authenticate, allow, etag'

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

/** Refused hosts, and origins, that are logged by name, each once. */
const maxNamed = 100
/** Of a host or origin, in characters. */
const maxName = 100
/** Of those beyond that number. */
const logEveryMs = 60_000

/** Logs what was refused of one kind, with what to do: a line for each name, the first time; for further names at most one a minute. */
class Refusals {
  readonly #log: Log
  readonly #kind: 'host' | 'origin'
  readonly #named = new Set<string | undefined>()
  #count = 0
  #lastLogged = Number.NEGATIVE_INFINITY

  constructor(log: Log, kind: 'host' | 'origin') {
    this.#log = log
    this.#kind = kind
  }

  /** `value` comes from the client: it is truncated, and characters that no name or address has are replaced. */
  add(value: string | undefined, advice: () => Advice): void {
    const shown = value?.slice(0, maxName).replace(/[^\w.:/[\]*-]/g, '?')
    if (this.#named.has(shown)) return
    if (this.#named.size < maxNamed) {
      this.#named.add(shown)
      this.#warn(shown, advice())
      return
    }
    this.#count += 1
    const now = performance.now()
    if (now - this.#lastLogged < logEveryMs) return
    this.#warn(shown, advice(), { refused: this.#count })
    this.#count = 0
    this.#lastLogged = now
  }

  #warn(shown: string | undefined, { message, set }: Advice, more: object = {}): void {
    this.#log.warn({ [this.#kind]: shown, ...more, ...(set === undefined ? {} : { set }) }, message)
  }
}

interface Advice {
  message: string
  /** The setting that would permit it. */
  set?: string
}

function originAdvice(origin: string | undefined, origins: Iterable<string>): Advice {
  if (origin === undefined)
    return {
      message: 'requests of a page of another site that names no origin were refused; CORS_ORIGINS cannot list it',
    }
  if (origin === 'null') {
    return {
      message:
        'requests of a page without an origin (a file, a sandboxed frame) were refused; serve it over HTTP, and list it in CORS_ORIGINS',
    }
  }
  const { protocol = '', origin: canonical = '' } = URL.canParse(origin) ? new URL(origin) : {}
  if (!/^https?:$/.test(protocol) || canonical !== origin || origin.length > maxName)
    return { message: 'requests with an Origin header that no browser sends were refused; CORS_ORIGINS cannot list it' }
  const set = settingOf('CORS_ORIGINS', origins, origin)
  return { message: 'requests of pages of this origin were refused; to permit them, set CORS_ORIGINS as shown', set }
}

function hostAdvice(host: string | undefined, hosts: Iterable<string>): Advice {
  if (host === undefined || host.length > maxName)
    return { message: 'requests for a foreign host name were refused; ALLOWED_HOSTS does not list it' }
  const name = new URL(`http://${host}`).hostname.replace(/^\[|\]$/g, '')
  const set = settingOf('ALLOWED_HOSTS', hosts, name)
  return { message: 'requests for this host name were refused; to answer for it, set ALLOWED_HOSTS as shown', set }
}

const settingOf = (name: string, listed: Iterable<string>, more: string) =>
  truncate(`${name}=${[...listed, more].join(',')}`, 500)

function sameHost(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host
}
