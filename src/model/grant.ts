/** What a client may do, and who it is: the grant of a request, whether it came over HTTP, Server-Sent Events or WebSocket. */

/** read: contents, receipts, events. write: save. admin: the queue, dead letters, metrics. */
export type Scope = 'read' | 'write' | 'admin'
export const scopes: readonly Scope[] = ['read', 'write', 'admin']

export interface Grant {
  /** The subject of the token, by which limits count. */
  subject: string | undefined
  scopes: ReadonlySet<string>
  /** Milliseconds since 1970; undefined: it does not expire. */
  expiresAt: number | undefined
  /** The payload of the verified token. Without authentication: AUTH_DEV_CLAIMS, or none. */
  claims: Readonly<Record<string, unknown>>
}

/**
 * A claim as text, or undefined if there is no such claim. Only a string and a number are claims; a number is its decimal text. A value that
 * could be mistaken for another one is no claim: a blank text, one that ends with a space (a database that pads texts compares it equal to
 * the text without the space), a lone surrogate, and a number that a double does not represent exactly, such as an integer beyond 2^53. The
 * name is a plain key, whatever characters it has; inherited properties are no claims.
 */
export function claimOf({ claims }: Pick<Grant, 'claims'>, name: string): string | undefined {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined
  if (typeof value === 'string') return isUnmistakable(value) ? value : undefined
  if (typeof value !== 'number' || Math.abs(value) > Number.MAX_SAFE_INTEGER) return undefined
  const text = String(value)
  return /^-?\d+(\.\d+)?$/.test(text) ? text : undefined
}

function isUnmistakable(text: string): boolean {
  return text.trim() !== '' && !text.endsWith(' ') && text.isWellFormed()
}
