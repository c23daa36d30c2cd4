/**
 * A log that clients cannot fill: texts of errors are cut, and of the lines of one kind (level, message, name of the error) only some are
 * written a second; how many were not is written after it.
 */
import type { Log } from '../model/log.ts'
import { cut } from './cut.ts'

const linesPerSecond = 10
/** Kinds are constants of the code, but for the names of errors; more than these are one kind. */
const mostKinds = 100
const messageBytes = 1_000
const stackBytes = 4_000

export function boundedLog(log: Log): Log {
  const counts = new Map<string, number>()
  const write = (level: 'warn' | 'error') => (fields: object, message: string) => {
    const name = (fields as { err?: { name?: unknown } }).err?.name ?? ''
    let kind = `${level} ${message} ${cut(String(name), 100)}`
    if (!counts.has(kind) && counts.size >= mostKinds) kind = `${level} others`
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

/** Of an error only what is known to be short: libraries put whole requests beside it. */
function describe(thrown: unknown): Error {
  const {
    name,
    message,
    stack = '',
    cause,
    code,
  } = (thrown instanceof Error ? thrown : new Error(String(thrown))) as Error & { code?: unknown }
  const shown = new Error(cut(message, messageBytes))
  // The stack begins with the message, which may be most of it.
  const frames = stack.slice(Math.max(0, stack.indexOf('\n    at ')))
  shown.stack = `${cut(name, 100)}: ${shown.message}${cut(frames, stackBytes)}`
  if (cause !== undefined) {
    const why = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)
    shown.stack += `\ncaused by ${cut(why, messageBytes)}`
  }
  return Object.assign(shown, { name: cut(name, 100) }, typeof code === 'string' ? { code: cut(code, 100) } : {})
}
