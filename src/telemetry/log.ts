/** The log of a process: JSON lines, or text on a terminal. Invariant: it never blocks the service (see Output) and contains no secret. */
import { type Logger, pino } from 'pino'
import type { Log } from '../model/log.ts'
import { describeErrors } from './log-errors.ts'
import { Output } from './log-output.ts'

export interface ProcessLog extends Log {
  fatal(fields: object, message: string): void
  /** How many lines the output did not take. */
  dropped(): number
  /** Resolves when everything is written, or after that time. */
  flush(withinMs: number): Promise<void>
  /** `secrets` are masked in each line. `text`: readable lines instead of JSON, where the output is a terminal. */
  configure(options: { secrets: readonly string[]; text: boolean }): void
}

const isTerminal = process.stdout.isTTY === true
const pretty = isTerminal ? (await import('pino-pretty')).default : undefined
const mask = '[redacted]'

export function openLog(): ProcessLog {
  const output = new Output(1)
  const asText = pretty?.prettyFactory({ ignore: 'pid,hostname', colorize: pretty.isColorSupported })
  let text = isTerminal
  let secrets: readonly string[] = []
  const write = (line: string) => {
    let shown = line
    for (const secret of secrets) if (shown.includes(secret)) shown = shown.replaceAll(secret, mask)
    output.write(text && asText ? asText(shown) : shown)
  }
  const logger: Logger = pino(
    // The formatter has described errors already; the standard serializer would change them again.
    { serializers: { err: (error) => error }, formatters: { log: describeErrors } },
    { write },
  )
  output.onRecovered = (dropped) => {
    logger.warn({ dropped }, 'log lines were dropped: the output did not take them')
  }
  return {
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    fatal: (fields, message) => logger.fatal(fields, message),
    dropped: () => output.dropped,
    flush: (withinMs) => output.flush(withinMs),
    configure: (options) => {
      secrets = options.secrets.flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1)])
      text = options.text && isTerminal
    },
  }
}
