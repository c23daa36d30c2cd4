/** Auth from the settings. What verifies tokens is imported only where they name a secret or keys: it is a twentieth of a start. */
import type { Log } from '../model/log.ts'
import { Auth, type AuthOptions } from './auth.ts'

export async function openAuth(options: AuthOptions, log: Log): Promise<Auth> {
  if (!options.secret && !options.jwksUrl) return new Auth(options, undefined)
  const { verifierOf } = await import('./tokens.ts')
  return new Auth(options, verifierOf(options, log))
}
