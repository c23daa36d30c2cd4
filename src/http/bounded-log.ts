/**
 * A log that clients cannot fill. Texts of errors are truncated. Lines of one kind (level, message, name of the error) are limited to ten per
 * second; a line after it says how many were suppressed.
 */
import type { Log } from '../model/log.ts'
import { truncate } from './errors.ts'

const linesPerSecond = 10
/** Kinds are constants of the code, except for the names of errors; above this number, all others are one kind. */
const maxKinds = 100
const messageBytes = 1_000
const stackBytes = 4_000

export function boundedLog(log: Log): Log {
  const counts = new Map<string, number>()
  const write = (level: 'warn' | 'error') => (fields: object, message: string) => {
    const name = (fields as { err?: { name?: unknown } }).err?.name ?? ''
    let kind = `${level} ${message} ${truncate(String(name), 100)}`
    if (!counts.has(kind) && counts.size >= maxKinds) kind = `${level} others`
    const count = counts.get(kind) ?? 0
    counts.set(kind, count + 1)
    if (count === 0) {
      setTimeout(() => {
        const suppressed = counts.get(kind)! - linesPerSecond
        counts.delete(kind)
        if (suppressed > 0) log[level]({ suppressed, of: message }, 'lines of one kind were not written')
      }, 1_000).unref()
    }
    if (count < linesPerSecond) log[level](bounded(fields), message)
  }
  return { info: (fields, message) => log.info(fields, message), warn: write('warn'), error: write('error') }
}

function bounded(fields: object): object {
  const { err, ...rest } = fields as { err?: unknown }
  return err === undefined ? fields : { ...rest, err: describe(err) }
}

/** Keeps the parts of an error that are short: libraries attach entire requests to it. */
function describe(thrown: unknown): Error {
  const {
    name,
    message,
    stack = '',
    cause,
    code,
  } = (thrown instanceof Error ? thrown : new Error(String(thrown))) as Error & { code?: unknown }
  const shown = new Error(truncate(message, messageBytes))
  // The stack begins with the message, which may be long.
  const frames = stack.slice(Math.max(0, stack.indexOf('\n    at ')))
  shown.stack = `${truncate(name, 100)}: ${shown.message}${truncate(frames, stackBytes)}`
  if (cause !== undefined) {
    const why = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)
    shown.stack += `\ncaused by ${truncate(why, messageBytes)}`
  }
  return Object.assign(
    shown,
    { name: truncate(name, 100) },
    typeof code === 'string' ? { code: truncate(code, 100) } : {},
  )
}
