/**
 * What stands in front of every route: which hosts this server answers for, and which pages of other sites may call it. Against DNS
 * rebinding (a page whose own name suddenly points here) and cross-site requests; a browser says truly where a request comes from.
 */
import type { IncomingMessage } from 'node:http'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'

const knownHosts = 100
/** A name or an address, and a port (RFC 9110, 7.2); no user, path or blank. */
const hostForm = /^(\[[\da-f:.]+\]|[\w.-]+)(:\d{0,5})?$/i

export interface OriginCheckOptions {
  /** Host names, without port, in lower case, that it answers for; empty: all. */
  hosts: readonly string[]
  /** Origins (https://app.example), as a browser writes them, whose pages may call it. */
  origins: readonly string[]
  log: Log
}

export class OriginCheck {
  readonly #hosts: ReadonlySet<string>
  readonly #origins: ReadonlySet<string>
  /** Host headers that were found good: to take one apart anew for each request is a fourteenth of all that a save costs. */
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

  /** Throws FORBIDDEN for what is not to be served. The headers that a browser needs to hand the answer to a listed page. */
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
    // A cache must not hand an answer without these headers to a page that needs them.
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

  /** Whether it is what a URL may be made of; libraries do that. HTTP/1.0 may leave it out. Two of them may be read as either. */
  #isHost(host: string | undefined, { rawHeaders }: IncomingMessage): boolean {
    let given = 0
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (rawHeaders[i]!.length === 4 && rawHeaders[i]!.toLowerCase() === 'host') given += 1
    }
    if (given > 1) return false
    if (host === undefined || this.#known.has(host)) return true
    if (!hostForm.test(host) || !URL.canParse(`http://${host}`)) return false
    if (this.#hosts.size === 0 && this.#known.size < knownHosts) this.#known.add(host)
    return true
  }

  #knows(host: string | undefined): boolean {
    if (host === undefined) return false
    if (this.#known.has(host)) return true
    if (!URL.canParse(`http://${host}`)) return false
    const name = new URL(`http://${host}`).hostname.replace(/\.$/, '')
    const knows = this.#hosts.has(name) || this.#hosts.has(name.replace(/^\[|\]$/g, ''))
    // With ports and capitals there are many ways to write a host that is known.
    if (knows && this.#known.size < knownHosts) this.#known.add(host)
    return knows
  }
}

export const allowOrigin = 'access-control-allow-origin'
const notListed = { vary: 'Origin' }
/** Headers of responses that a page may read, besides those that every page may. */
const exposed = 'retry-after, x-request-id, www-authenticate, allow'

/** Names of headers, by commas. */
const headerNames = /^[\w!#$%&'*+.^`|~, -]{1,2000}$/

/**
 * Answers to a preflight request of a listed origin. Every header that the page asks for is allowed: clients send many (traceparent,
 * x-request-id, apollographql-client-name), the server ignores those that it does not know, and the origin is listed.
 */
export function preflightHeaders({ headers }: IncomingMessage): Record<string, string> {
  const asked = headers['access-control-request-headers'] ?? ''
  return {
    vary: 'Origin, Access-Control-Request-Headers',
    'access-control-allow-methods': 'GET, HEAD, POST',
    'access-control-max-age': '7200',
    ...(headerNames.test(asked) ? { 'access-control-allow-headers': asked } : {}),
    // A page of a public site that calls a server on a private address (Private Network Access).
    ...(headers['access-control-request-private-network'] === 'true'
      ? { 'access-control-allow-private-network': 'true' }
      : {}),
  }
}

const logEveryMs = 60_000

/** Refused requests of one kind, for the operator: a line at once, then at most one a minute with their number. */
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

  /** `value` is the client's: it is cut, and what could be anything else than a name or an address is taken out. */
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
