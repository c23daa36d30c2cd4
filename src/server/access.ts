/**
 * Who may do what. One place for all ways in: REST, GraphQL over HTTP, Server-Sent Events, WebSocket, metrics. Invariant: without a grant
 * nothing is answered but liveness and readiness; a grant never outlives its token.
 */
import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose'
import { SpillwayError } from '../model/error.ts'
import { Kept } from './kept.ts'

/** read: contents, receipts, events. write: save. admin: the queue, dead letters, metrics. */
export type Scope = 'read' | 'write' | 'admin'
export const scopes: readonly Scope[] = ['read', 'write', 'admin']

export interface Grant {
  /** Whom it was given to; what limits are counted by. */
  subject: string | undefined
  scopes: ReadonlySet<string>
  /** Milliseconds since 1970; undefined: it does not expire. */
  expiresAt: number | undefined
}

export interface AccessOptions {
  /** HS256, at least 32 bytes. */
  secret?: string | undefined
  /** Where the issuer publishes its keys (RS, ES, EdDSA). */
  jwksUrl?: string | undefined
  issuer?: string | undefined
  audience?: string | undefined
}

/** Clocks differ. */
const leewaySeconds = 30
const tokensKept = 10_000
const tokenLength = 8_000

const everybody: Grant = { subject: undefined, scopes: new Set(scopes), expiresAt: undefined }

export class Access {
  readonly #verify: ((token: string) => Promise<{ payload: JWTPayload }>) | undefined
  /** Verified tokens: a signature is checked once. */
  readonly #grants = new Kept<Grant>(tokensKept)

  /** With neither a secret nor keys, everybody is granted everything. */
  constructor({ secret, jwksUrl, issuer, audience }: AccessOptions) {
    const options: JWTVerifyOptions = {
      clockTolerance: leewaySeconds,
      // A token without an end would be good for ever.
      requiredClaims: ['exp', 'sub'],
      ...(issuer ? { issuer } : {}),
      ...(audience ? { audience } : {}),
    }
    if (secret) {
      const key = new TextEncoder().encode(secret)
      // The algorithm is ours to say and not the token's: else "none", or a public key taken for a secret, would do.
      this.#verify = (token) => jwtVerify(token, key, { ...options, algorithms: ['HS256'] })
    } else if (jwksUrl) {
      const keys = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: 5_000, cooldownDuration: 30_000 })
      const algorithms = [
        'RS256',
        'RS384',
        'RS512',
        'PS256',
        'PS384',
        'PS512',
        'ES256',
        'ES384',
        'ES512',
        'EdDSA',
        'Ed25519',
      ]
      this.#verify = (token) => jwtVerify(token, keys, { ...options, algorithms })
    }
  }

  /** Whether anybody has to show a token at all. */
  get required(): boolean {
    return this.#verify !== undefined
  }

  /** What the bearer of this Authorization header may do. Rejects with UNAUTHENTICATED, saying what is wrong with it. */
  grant(authorization: string | undefined): Grant | Promise<Grant> {
    if (!this.#verify) return everybody
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (!token) return Promise.reject(refused('Authorization: Bearer TOKEN is required'))
    if (token.length > tokenLength) return Promise.reject(refused('the token is too long'))
    const known = this.#grants.get(token)
    if (known && (known.expiresAt === undefined || known.expiresAt > Date.now())) return known
    return this.#check(token, this.#verify)
  }

  async #check(token: string, verify: (token: string) => Promise<{ payload: JWTPayload }>): Promise<Grant> {
    let payload: JWTPayload
    try {
      payload = (await verify(token)).payload
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw refused('the token has expired')
      if (error instanceof errors.JWTClaimValidationFailed)
        throw refused(`the token's claim ${JSON.stringify(error.claim)} is not what it has to be`)
      if (error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError)) {
        throw new SpillwayError('UNAUTHENTICATED', 'The token cannot be checked now; try again shortly.', {
          retryAfterMs: 1_000,
          cause: error,
        })
      }
      throw refused('the token is not valid')
    }
    const grant: Grant = {
      subject: payload.sub,
      scopes: new Set(scopesOf(payload)),
      expiresAt: payload.exp! * 1_000 + leewaySeconds * 1_000,
    }
    this.#grants.set(token, grant)
    return grant
  }
}

/** OAuth's `scope` (a text, RFC 8693) or, as some issuers have it, a list. */
function scopesOf({ scope, scopes: list, scp }: JWTPayload): string[] {
  const claim = scope ?? list ?? scp
  if (typeof claim === 'string') return claim.split(' ')
  return Array.isArray(claim) ? claim.filter((item): item is string => typeof item === 'string') : []
}

function refused(why: string): SpillwayError {
  return new SpillwayError('UNAUTHENTICATED', `Not authenticated: ${why}.`)
}

/** How long until then, as a timer takes it (setTimeout fires at once for more than 24 days). */
export function timerMs(expiresAt: number): number {
  return Math.min(Math.max(0, expiresAt - Date.now()), 2 ** 31 - 1)
}

/** Throws FORBIDDEN where the grant lacks the scope. */
export function requireScope(grant: Grant, scope: Scope): void {
  if (!grant.scopes.has(scope))
    throw new SpillwayError('FORBIDDEN', `This needs a token with the scope ${JSON.stringify(scope)}.`)
}
