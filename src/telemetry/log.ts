/** The log of a process: JSON lines, or text on a terminal. Invariant: it never holds up the service (see Output), and no secret is in it. */
import { type Logger, pino } from 'pino'
import pretty from 'pino-pretty'
import type { Log } from '../model/log.ts'
import { describeErrors } from './log-errors.ts'
import { Output } from './log-output.ts'

export interface ProcessLog extends Log {
  fatal(fields: object, message: string): void
  /** Lines that the output did not take. */
  dropped(): number
  /** Resolves when all is written, or after that time. */
  flush(withinMs: number): Promise<void>
  /** Texts that may not be in any line, as the settings turned out. `text`: lines for a person, where one is looking. */
  configure(options: { secrets: readonly string[]; text: boolean }): void
}

const mask = '[redacted]'

export function openLog(): ProcessLog {
  const output = new Output(1)
  const asText = pretty.prettyFactory({ ignore: 'pid,hostname', colorize: pretty.isColorSupported })
  let text = process.stdout.isTTY === true
  let secrets: readonly string[] = []
  const write = (line: string) => {
    let shown = line
    for (const secret of secrets) if (shown.includes(secret)) shown = shown.replaceAll(secret, mask)
    output.write(text ? asText(shown) : shown)
  }
  const logger: Logger = pino(
    // The standard serializer would take apart again what the formatter made of an error.
    { serializers: { err: (error) => error }, formatters: { log: describeErrors } },
    { write },
  )
  output.onRecovered = (dropped) => {
    logger.warn({ dropped }, 'log lines were dropped: the output took no more of them')
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
      text = options.text && process.stdout.isTTY === true
    },
  }
}
