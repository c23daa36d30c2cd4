/**
 * What stands in front of every route: which hosts this server answers for, and which pages of other sites may call it. Against DNS
 * rebinding (a page whose own name suddenly points here) and cross-site requests; a browser says truly where a request comes from.
 */
import type { IncomingMessage } from 'node:http'
import { SpillwayError } from '../model/error.ts'

const knownHosts = 100

export interface GuardOptions {
  /** Host names, without port, that it answers for; empty: all. */
  hosts: readonly string[]
  /** Origins (https://app.example) whose pages may call it. */
  origins: readonly string[]
}

export class Guard {
  readonly #hosts: ReadonlySet<string>
  readonly #origins: ReadonlySet<string>
  /** Host headers that were found good: to take one apart anew for each request is a fourteenth of all that a save costs. */
  readonly #known = new Set<string>()

  constructor({ hosts, origins }: GuardOptions) {
    this.#hosts = new Set(hosts)
    this.#origins = new Set(origins)
  }

  /** Throws FORBIDDEN for what is not to be served. The headers that a browser needs to hand the answer to a listed page. */
  check(request: IncomingMessage): Record<string, string> | undefined {
    const { host, origin, 'sec-fetch-site': site } = request.headers
    if (this.#hosts.size > 0 && !this.#knows(host)) {
      throw new SpillwayError('FORBIDDEN', 'This server does not answer for that host name; list it in ALLOWED_HOSTS.')
    }
    if (origin === undefined) {
      if (site === 'cross-site' && request.method !== 'GET') throw crossSite()
      return undefined
    }
    if (this.#origins.has(origin)) return { 'access-control-allow-origin': origin, vary: 'Origin' }
    if (site === 'cross-site' || site === 'same-site' || !sameHost(origin, host)) throw crossSite()
    return undefined
  }

  #knows(host: string | undefined): boolean {
    if (host === undefined) return false
    if (this.#known.has(host)) return true
    if (!URL.canParse(`http://${host}`)) return false
    const name = new URL(`http://${host}`).hostname
    const knows = this.#hosts.has(name) || this.#hosts.has(name.replace(/^\[|\]$/g, ''))
    // With ports and capitals there are many ways to write a host that is known.
    if (knows && this.#known.size < knownHosts) this.#known.add(host)
    return knows
  }
}

/** Answers to a preflight request of a listed origin. */
export const preflightHeaders = {
  'access-control-allow-methods': 'GET, POST',
  'access-control-allow-headers': 'content-type, authorization, last-event-id',
  'access-control-max-age': '7200',
}

function crossSite(): SpillwayError {
  return new SpillwayError(
    'FORBIDDEN',
    'Requests from pages of other sites are refused; list their origin in CORS_ORIGINS.',
  )
}

function sameHost(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host
}
