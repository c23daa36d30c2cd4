/** A log that keeps what was said, for tests to look at. */
import type { Log } from '../../src/model/log.ts'

export function quiet(): Log & { said: string[] } {
  const said: string[] = []
  const say = (_fields: object, message: string) => void said.push(message)
  return { said, info: say, warn: say, error: say }
}

/** The same, with the fields of each line. */
export function recorded(): Log & { entries: { level: string; fields: object; message: string }[] } {
  const entries: { level: string; fields: object; message: string }[] = []
  const at = (level: string) => (fields: object, message: string) => void entries.push({ level, fields, message })
  return { entries, info: at('info'), warn: at('warn'), error: at('error') }
}
