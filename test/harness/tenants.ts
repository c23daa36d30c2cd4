/** Tokens that the tests sign, and tenants whose tokens differ in nothing but the claim `tenant`. */
import { type JWTPayload, SignJWT } from 'jose'
import { type Client, client } from './client.ts'

/** AUTH_JWT_SECRET of a server under test. */
export const secret = 'a secret of at least thirty-two bytes'

export interface Signing {
  alg?: string
  key?: string
  expires?: string | number
}

/** A token with all scopes, and the claims given; a claim that is undefined is left out. */
export function tokenOf(claims: JWTPayload = {}, { alg = 'HS256', key = secret, expires = '5m' }: Signing = {}) {
  return new SignJWT({ sub: 'somebody', scope: 'read write admin', ...claims })
    .setProtectedHeader({ alg })
    .setExpirationTime(expires)
    .sign(new TextEncoder().encode(key))
}

/** How long after its end a token is still valid, in seconds: clocks differ. */
const leeway = 30

/**
 * What `open` returns with a token that ends one or two seconds later, leeway included. It returns undefined where the machine was too
 * busy to do it in time; then it gets a token that is valid for longer.
 */
export async function beforeExpiry<T>(
  open: (authorization: string) => Promise<T | undefined>,
  claims: JWTPayload = {},
): Promise<T> {
  for (const seconds of [2, 8, 24]) {
    const expires = Math.floor(Date.now() / 1_000) - leeway + seconds
    const opened = await open(`Bearer ${await tokenOf(claims, { expires })}`)
    if (opened !== undefined) return opened
  }
  throw new Error('nothing was opened within 24 s')
}

export interface Tenant {
  name: string
  token: string
  client: Client
}

export const tenantNames = ['acme', 'globex'] as const

/** Two tenants, whose tokens may read and write. `claims` are theirs besides; a tenant's name may be a number, too. */
export async function makeTenants(
  url: string | (() => string),
  { names = tenantNames, ...claims }: JWTPayload & { names?: readonly (string | number)[] } = {},
): Promise<Tenant[]> {
  return await Promise.all(
    names.map(async (name) => {
      const token = await tokenOf({ scope: 'read write', ...claims, tenant: name })
      return { name: String(name), token, client: client(url, token) }
    }),
  )
}
