/** A log that keeps what was said, for tests to look at. */
import type { Log } from '../../src/model/log.ts'

export function quiet(): Log & { said: string[] } {
  const said: string[] = []
  const say = (_fields: object, message: string) => void said.push(message)
  return { said, info: say, warn: say, error: say }
}
