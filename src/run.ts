/**
 * A process of either role: it listens for signals, reads the settings, starts, and stops within a bound. It imports everything else after
 * it listens for signals, because process 1 of a container loses a signal that it does not listen for.
 */
import cluster from 'node:cluster'
import type { Config } from './config.ts'
import type { Member } from './processes/member.ts'
import type { Given, Running } from './start.ts'
import type { ProcessLog } from './telemetry/log.ts'

/** A signal repeated within this time counts once: on Ctrl-C, the child of npm receives one from the terminal and one from npm. */
const sameSignalMs = 500
const stopWithinMs = 9_500
/** For the last lines of a log whose output is blocked. */
const flushWithinMs = 500

/**
 * Starts a role with the models that `load` imports, and stops it on SIGTERM or SIGINT. Exits with 0 after a complete stop, else with 1. With
 * API_PROCESSES above 1, this process is the primary, which starts API processes; each of them runs this function, too.
 */
export async function run(role: 'api' | 'worker', load: () => Promise<Given>): Promise<void> {
  const stop = stopSignals()
  const [{ openLog }, { cannotRun, joinMachine }] = await Promise.all([
    import('./telemetry/log.ts'),
    import('./processes/member.ts'),
  ])
  const log = openLog()
  logConsole(log)
  const machine = joinMachine()
  const end = async (code: number) => {
    await log.flush(flushWithinMs)
    process.exit(code)
  }
  const endLate = () => {
    log.error(
      { holding: process.getActiveResourcesInfo() },
      'the stop took too long: exiting; unfinished messages stay in the queue',
    )
    void end(1)
  }
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, error.message)
    void end(1)
  })
  stop.addEventListener('abort', () => {
    log.info({ signal: stop.reason }, machine ? 'stopping' : 'stopping; a second signal exits at once')
    setTimeout(endLate, stopWithinMs)
  })
  let running: Running | undefined
  let code = 0
  try {
    running = await start({ role, load, log, stop, machine })
    await Promise.race([running.failed, aborted(stop)])
  } catch (error) {
    if (!stop.aborted) {
      code = machine ? cannotRun : 1
      setTimeout(endLate, stopWithinMs)
      await report(error as Error, log)
    }
  }
  try {
    await running?.close()
  } catch (error) {
    log.error({ err: error }, 'cannot close everything that was opened')
    code = 1
  }
  if (code === 0) log.info({}, 'stopped')
  await end(code)
}

interface StartOptions {
  role: 'api' | 'worker'
  load: () => Promise<Given>
  log: ProcessLog
  stop: AbortSignal
  /** Undefined: this process is no API process among several. */
  machine: Member | undefined
}

async function start({ role, load, log, stop, machine }: StartOptions): Promise<Running> {
  const { readConfig } = await import('./config.ts')
  checkNode()
  const config = readConfig()
  log.configure({ secrets: config.secrets, text: !config.production })
  if (!machine) for (const note of config.notes) log.warn({}, note)
  if (role === 'api' && config.apiProcesses > 1 && cluster.isPrimary) return await startPrimary(config, readConfig, log)
  const given = await load().catch((error: Error) => {
    if (!error.message.includes('/generated/')) throw error
    throw new Error('The Prisma clients are missing, as after "npm ci --ignore-scripts": run "npm run prepare".', {
      cause: error,
    })
  })
  const { startApi, startWorker } = await import('./start.ts')
  return await (role === 'api' ? startApi(config, given, log, stop, machine) : startWorker(config, given, log, stop))
}

/** What the primary itself uses: other values need a new start. */
const ofPrimary = {
  apiProcesses: 'API_PROCESSES',
  requestsPerSecond: 'RATE_LIMIT',
  streamsPerClient: 'STREAM_LIMIT',
} as const satisfies Partial<Record<keyof Config, string>>

async function startPrimary(config: Config, readConfig: () => Config, log: ProcessLog): Promise<Running> {
  const { Primary } = await import('./processes/primary.ts')
  const checkSettings = () => {
    const now = readConfig()
    log.configure({ secrets: now.secrets, text: !now.production })
    for (const [field, name] of Object.entries(ofPrimary) as [keyof typeof ofPrimary, string][]) {
      if (now[field] !== config[field]) throw new Error(`${name} has changed, which takes effect at a new start only`)
    }
  }
  const { apiProcesses: processes, requestsPerSecond, streamsPerClient } = config
  const primary = new Primary({ processes, requestsPerSecond, streamsPerClient, checkSettings, log })
  primary.start()
  return primary
}

/** As node-version.mjs does at `npm ci`, for a process that is started without npm. */
function checkNode(): void {
  const { node } = process.versions
  const [major = 0, minor = 0] = node.split('.').map(Number)
  if (major > 24 || (major === 24 && minor >= 9)) return
  throw new Error(
    `Spillway needs Node 24.9 or newer; this is ${node}. Use "npm start", which runs a Node of its own on Linux.`,
  )
}

const mostConsoleTexts = 100

/** Libraries print what they find odd, at each connection again: each text is logged once, and no line of the log is broken by them. */
function logConsole(log: ProcessLog): void {
  const texts = new Set<string>()
  const print = (first: unknown) => {
    const text = String(first).slice(0, 300)
    if (texts.has(text) || texts.size >= mostConsoleTexts) return
    texts.add(text)
    log.warn({}, `a library reports: ${text}`)
  }
  Object.assign(console, { debug: print, error: print, info: print, log: print, warn: print })
}

/** An error of the settings or of a model's definition goes to stderr without a stack, because only they are wrong. */
async function report(error: Error, log: ProcessLog): Promise<void> {
  if (error.name !== 'ConfigError' && error.name !== 'ModelError') {
    log.fatal({ err: error }, error.message)
    return
  }
  const { Output } = await import('./telemetry/log-output.ts')
  const stderr = new Output(2)
  stderr.write(`${error.message}\n`)
  await stderr.flush(flushWithinMs)
}

/** Aborts with the first signal's name. A later signal exits at once; that of an API process is for the primary to decide. */
function stopSignals(): AbortSignal {
  const stop = new AbortController()
  let first = Number.POSITIVE_INFINITY
  const listener = (signal: NodeJS.Signals) => {
    if (stop.signal.aborted) {
      if (performance.now() - first > sameSignalMs && cluster.isPrimary) process.exit(1)
      return
    }
    first = performance.now()
    stop.abort(signal)
  }
  process.on('SIGTERM', listener)
  process.on('SIGINT', listener)
  return stop.signal
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
