/**
 * Verifies tokens and grants scopes, for REST, GraphQL over HTTP, Server-Sent Events, WebSocket and metrics alike. Invariant: without a grant
 * only pages, liveness and readiness are served; a grant never outlives its token, nor the key that signed it by more than five minutes.
 */
import type { IncomingMessage } from 'node:http'
import type { JWTPayload } from 'jose'
import { LRUCache } from 'lru-cache'
import { SpillwayError } from '../model/error.ts'
import { type Grant, type Scope, scopes } from '../model/grant.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { wantsEventStream } from './accept.ts'

export interface AuthOptions {
  /** HS256, at least 32 bytes. */
  secret?: string | undefined
  /** The URL of the issuer's public keys (RS, ES, EdDSA). */
  jwksUrl?: string | undefined
  issuer?: string | undefined
  audience?: string | undefined
  /** The claims of every client where no token is required. */
  devClaims?: Readonly<Record<string, unknown>> | undefined
  /** Shorter times, for tests. */
  recheckMs?: number
  keysGraceMs?: number
}

/** Allows for clocks that differ. */
export const leewaySeconds = 30
/** After this time a token is verified again, and the issuer's keys are read again: a revoked key is noticed after twice the time. */
export const keysRecheckMs = 150_000
const tokensCached = 10_000
/** Of all cached tokens and their claims. */
const bytesCached = 64 * 1024 * 1024
const tokenLength = 8_000

/** The claims of a token. Rejects with UNAUTHENTICATED. */
export type Verify = (token: string) => Promise<JWTPayload>

export class Auth {
  readonly #verify: Verify | undefined
  /** Of every request, where no token is required. */
  readonly #fullGrant: Grant
  /** Verified tokens, and when (performance.now()). */
  readonly #grants = new LRUCache<string, { grant: Grant; checkedAt: number }>({
    max: tokensCached,
    maxSize: bytesCached,
    sizeCalculation: ({ grant }, token) => token.length + bytesOf(grant.claims),
  })
  readonly #tokens = new WeakMap<Grant, string>()
  /** By token. */
  readonly #checks = new SingleFlight<Grant>()
  readonly #recheckMs: number

  /** Without `verify`, every request gets all scopes. */
  constructor({ jwksUrl, devClaims = {}, ...times }: AuthOptions, verify: Verify | undefined) {
    this.#fullGrant = { subject: undefined, scopes: new Set(scopes), expiresAt: undefined, claims: devClaims }
    // A secret does not change while the process runs.
    this.#recheckMs = jwksUrl ? (times.recheckMs ?? keysRecheckMs) : Number.POSITIVE_INFINITY
    this.#verify = verify
  }

  /** Whether requests need a token. */
  get required(): boolean {
    return this.#verify !== undefined
  }

  /** The grant of an Authorization header. Rejects with UNAUTHENTICATED; the message says what is wrong with the token. */
  grant(authorization: string | undefined, request?: IncomingMessage): Grant | Promise<Grant> {
    if (!this.#verify) return this.#fullGrant
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (!token) return Promise.reject(refused(`Authorization: Bearer TOKEN is required${alternatives(request)}`))
    if (token.length > tokenLength) return Promise.reject(refused('the token is too long'))
    const known = this.#grants.get(token)
    if (known && known.grant.expiresAt! > Date.now() && performance.now() - known.checkedAt < this.#recheckMs)
      return known.grant
    const verify = this.#verify
    return this.#checks.run(token, () => this.#check(token, verify))
  }

  /**
   * Calls `end` when the grant's token expires, or is no longer valid: http-streams.ts then destroys the response, ws-socket.ts closes the socket.
   * Call the returned function to stop watching.
   */
  watch(grant: Grant, end: () => void): () => void {
    const { expiresAt } = grant
    const token = this.#tokens.get(grant)
    if (expiresAt === undefined || token === undefined) return () => {}
    let timer: NodeJS.Timeout
    let stopped = false
    const check = async () => {
      const isValid =
        expiresAt > Date.now() &&
        (await Promise.resolve(this.grant(`Bearer ${token}`)).then(
          () => true,
          () => false,
        ))
      if (stopped) return
      if (isValid) wait()
      else end()
    }
    const wait = () => {
      timer = setTimeout(check, Math.min(timerMs(expiresAt), this.#recheckMs))
    }
    wait()
    return () => {
      stopped = true
      clearTimeout(timer)
    }
  }

  async #check(token: string, verify: Verify): Promise<Grant> {
    const payload = await verify(token)
    // Limits count by the subject; `requiredClaims` checked only that it exists.
    if (typeof payload.sub !== 'string' || payload.sub.trim() === '')
      throw refused(`the token's claim "sub" must be a text that is not empty`)
    const grant: Grant = {
      subject: payload.sub,
      scopes: new Set(scopesOf(payload)),
      expiresAt: payload.exp! * 1_000 + leewaySeconds * 1_000,
      claims: payload,
    }
    this.#grants.set(token, { grant, checkedAt: performance.now() })
    this.#tokens.set(grant, token)
    return grant
  }
}

/** What a claim takes in memory, at most: an empty object in a list takes 64 bytes, which is 20 times its text. */
function bytesOf(claim: unknown): number {
  if (typeof claim === 'string') return 64 + 2 * claim.length
  if (typeof claim !== 'object' || claim === null) return 64
  if (Array.isArray(claim)) return claim.reduce((sum, item) => sum + bytesOf(item), 64)
  return Object.entries(claim).reduce((sum, [name, value]) => sum + bytesOf(name) + bytesOf(value), 64)
}

/** OAuth's `scope` (a text, RFC 8693) or, as some issuers have it, a list. */
function scopesOf({ scope, scopes: list, scp }: JWTPayload): string[] {
  const claim = scope ?? list ?? scp
  if (typeof claim === 'string') return claim.split(' ')
  return Array.isArray(claim) ? claim.filter((item): item is string => typeof item === 'string') : []
}

/** The alternatives to an EventSource, which cannot send headers of the page. */
function alternatives(request: IncomingMessage | undefined): string {
  if (request?.method !== 'GET' || !wantsEventStream(request.headers.accept)) return ''
  return '. EventSource cannot send it: read the stream with fetch (graphql-sse, EventSource libraries that take headers), or subscribe over WebSocket with {"authorization": "Bearer TOKEN"} as the payload of connection_init'
}

export function refused(why: string): SpillwayError {
  return new SpillwayError('UNAUTHENTICATED', `Not authenticated: ${why}.`)
}

/** The time until then, as a delay that setTimeout accepts: it fires at once for more than 24 days. */
export function timerMs(expiresAt: number): number {
  return Math.min(Math.max(0, expiresAt - Date.now()), 2 ** 31 - 1)
}

/** Throws FORBIDDEN if the grant lacks the scope. */
export function requireScope(grant: Grant, scope: Scope): void {
  if (!grant.scopes.has(scope))
    throw new SpillwayError('FORBIDDEN', `This needs a token with the scope ${JSON.stringify(scope)}.`)
}
