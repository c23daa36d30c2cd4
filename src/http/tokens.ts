/** Verifies tokens, with a secret or with the issuer's keys. See openAuth. */
import {
  createRemoteJWKSet,
  customFetch,
  errors,
  type FetchImplementation,
  type JWTVerifyOptions,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type AuthOptions, keysRecheckMs, leewaySeconds, refused, type Verify } from './auth.ts'

/** How long the last keys are used while the issuer's keys cannot be read. */
const keysGraceMs = 3_600_000
/** The timeout of reading keys while the last ones can be used. */
const keysTimeoutMs = 1_000

export function verifierOf(options: AuthOptions, log: Log): Verify {
  const verify = checkOf(options, log)
  return async (token) => {
    try {
      return (await verify(token)).payload
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw refused('the token has expired')
      if (error instanceof errors.JWTClaimValidationFailed)
        throw refused(`the token's claim ${JSON.stringify(error.claim)} is missing, or has an unexpected value`)
      if (error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError)) {
        throw new SpillwayError('UNAUTHENTICATED', 'The token cannot be checked now; try again shortly.', {
          retryAfterMs: 1_000,
          cause: error,
        })
      }
      throw refused('the token is not valid')
    }
  }
}

function checkOf(
  { secret, jwksUrl, issuer, audience, ...times }: AuthOptions,
  log: Log,
): (token: string) => Promise<JWTVerifyResult> {
  const options: JWTVerifyOptions = {
    clockTolerance: leewaySeconds,
    // A token without an expiry would be valid forever.
    requiredClaims: ['exp', 'sub'],
    ...(issuer ? { issuer } : {}),
    ...(audience ? { audience } : {}),
  }
  if (secret) {
    const key = new TextEncoder().encode(secret)
    // The server sets the algorithm: if the token did, "none", or a public key used as a secret, would be accepted.
    return (token) => jwtVerify(token, key, { ...options, algorithms: ['HS256'] })
  }
  const keys = createRemoteJWKSet(new URL(jwksUrl!), {
    timeoutDuration: 5_000,
    cooldownDuration: 30_000,
    cacheMaxAge: times.recheckMs ?? keysRecheckMs,
    [customFetch]: lastGood(times.keysGraceMs ?? keysGraceMs, log),
  })
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
  return (token) => verifyWithAny(token, keys, { ...options, algorithms })
}

type Keys = ReturnType<typeof createRemoteJWKSet>

/** If several of the issuer's keys have the token's key id, tries each: an issuer that rotates its keys may publish two. */
async function verifyWithAny(token: string, keys: Keys, options: JWTVerifyOptions): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(token, keys, options)
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    for await (const key of error) {
      try {
        return await jwtVerify(token, key, options)
      } catch (refusal) {
        if (!(refusal instanceof errors.JWSSignatureVerificationFailed)) throw refusal
      }
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

/** Reads the issuer's keys; while that fails, returns the last ones for up to `graceMs`. */
function lastGood(graceMs: number, log: Log): FetchImplementation {
  let logged = 0
  let last: { text: string; readAt: number } | undefined
  return async (url, options) => {
    const usable = last !== undefined && performance.now() - last.readAt < graceMs
    const signal = usable ? AbortSignal.any([options.signal, AbortSignal.timeout(keysTimeoutMs)]) : options.signal
    try {
      const response = await fetch(url, { ...options, signal })
      const text = await response.text()
      const members = JSON.parse(text)?.keys
      if (response.status !== 200 || !Array.isArray(members)) throw new Error('no key set')
      const keys = members.filter(isKey)
      const skipped = members.length - keys.length
      if (skipped > 0 && skipped !== logged)
        log.warn(
          { skipped, used: keys.length },
          'members of the key set at AUTH_JWKS_URL are no keys; they are skipped',
        )
      logged = skipped
      last = { text: JSON.stringify({ keys }), readAt: performance.now() }
    } catch (error) {
      if (!usable) throw error
    }
    return new Response(last!.text)
  }
}

/** jose would refuse a set that has a member without a type. */
function isKey(member: unknown): boolean {
  return typeof member === 'object' && member !== null && 'kty' in member && typeof member.kty === 'string'
}
