/**
 * Who we are, where the server wants to know: a bearer token, and what it turned out to allow. Invariant: nothing is known of it while
 * nobody asked; the first refusal brings the token field, and what was refused is not offered again until the token changes.
 */
import type { SpillwayError } from '../client/index.ts'
import { makeStore } from './store.ts'

export type Right = 'read' | 'write' | 'admin'

const key = 'spillway.token'

export const access = makeStore({
  /** The server asks for a token. */
  on: sessionStorage.getItem(key) !== null,
  token: sessionStorage.getItem(key) ?? '',
  /** Why the token does not do; empty while it does. */
  problem: '',
  may: { read: true, write: true, admin: true } as Record<Right, boolean>,
})

export const token = (): string => access.get().token

const every = (may: boolean): Record<Right, boolean> => ({ read: may, write: may, admin: may })

export function refused(right: Right, problem: SpillwayError): void {
  if (!isAboutToken(problem)) return
  const { code, message } = problem
  const { may, token } = access.get()
  if (code === 'FORBIDDEN') access.patch({ on: true, may: { ...may, [right]: false } })
  else access.patch({ on: true, may: every(false), problem: token ? message : 'This server asks for a token.' })
}

/** Or else the refusal is of one model, whose rows or columns need a claim: another model may do. */
function isAboutToken({ code, message, path }: SpillwayError): boolean {
  if (code === 'FORBIDDEN') return message.includes('a token with the scope')
  // The token is checked before any field is.
  return code === 'UNAUTHENTICATED' && path === undefined
}

export function granted(right: Right): void {
  const { may, problem } = access.get()
  // An answer to what was asked before the token was forgotten grants nothing.
  if (token() && (!may[right] || problem)) access.patch({ may: { ...may, [right]: true }, problem: '' })
}

/** Takes the value of an Authorization header, too. */
export function setToken(text: string): void {
  const token = text.trim().replace(/^bearer\s+/i, '')
  if (token) sessionStorage.setItem(key, token)
  else sessionStorage.removeItem(key)
  access.patch({ token, problem: '', may: every(true) })
}
