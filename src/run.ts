/** What a process of Spillway's has in common, whichever role it has: a logger, settings, and stopping on a signal. */
import { type DestinationStream, type Logger, pino } from 'pino'
import pretty from 'pino-pretty'
import { type Config, ConfigError, readConfig } from './config.ts'
import type { Log } from './model/log.ts'
import type { Running } from './start.ts'

/** JSON lines, unless a person is looking. */
export function makeLog(production: boolean): Logger {
  const stream: DestinationStream | undefined =
    process.stdout.isTTY && !production ? pretty({ sync: true, ignore: 'pid,hostname' }) : undefined
  return stream ? pino(stream) : pino()
}

/** A signal repeated within this time is the same one: npm hands Ctrl-C on to a child that the terminal has told already. */
const sameSignalMs = 500
const stopWithinMs = 9_500

/** Starts a role and stops it on SIGTERM or SIGINT; the exit code is 0 when it stopped as it was told. */
export async function run(start: (config: Config, log: Log) => Promise<Running>): Promise<void> {
  let log: Logger = makeLog(false)
  try {
    const config = readConfig()
    log = makeLog(config.production)
    const running = await start(config, log)
    running.failed.catch(async (error) => {
      log.fatal({ err: error }, error.message)
      process.exitCode = 1
      await running.close()
    })
    stopOnSignal(running, log)
  } catch (error) {
    // Settings are for a person to mend: no stack.
    if (error instanceof ConfigError) console.error(error.message)
    else log.fatal({ err: error }, (error as Error).message)
    process.exitCode = 1
  }
}

function stopOnSignal(running: Running, log: Logger): void {
  let first: number | undefined
  const stop = async (signal: NodeJS.Signals) => {
    if (first !== undefined) {
      if (performance.now() - first > sameSignalMs) process.exit(1)
      return
    }
    first = performance.now()
    log.info({ signal }, 'stopping; once more to stop at once')
    setTimeout(() => {
      log.error({ holding: process.getActiveResourcesInfo() }, 'could not stop in time; leaving the rest to the queue')
      process.exit(1)
    }, stopWithinMs).unref()
    await running.close()
    log.info({}, 'stopped')
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}
