/** A process of Spillway's as its users run it: `src/main.ts` or `worker/main.ts`, with the settings of the test and no others. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type Exit, launch } from './child.ts'
import { Client } from './client.ts'
import { eventually } from './eventually.ts'
import { temporary } from './temporary.ts'

export interface SpillwayProcess {
  readonly pid: number
  /** Where the API listens; undefined for a worker, and for an API that was not waited for and does not listen yet. */
  readonly url?: string
  /** Of the API. */
  readonly client: Client
  /** Its stdout and stderr so far. */
  logs(): string
  kill(signal: NodeJS.Signals): void
  /** The exit code, or the signal that ended it. */
  readonly exited: Promise<Exit>
}

/** What a process takes over of the test's environment: no setting of Spillway's. */
export function inherited(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, NODE_COMPILE_CACHE } = process.env
  return Object.fromEntries(Object.entries({ PATH, HOME, TMPDIR, NODE_COMPILE_CACHE }).filter(([, value]) => value))
}

const root = fileURLToPath(new URL('../../', import.meta.url))
const roles = {
  api: { file: 'src/main.ts', ready: 'listening' },
  worker: { file: 'worker/main.ts', ready: 'working' },
}

/**
 * Resolves when the process says that it is ready; rejects with its output when it ends before that. With `ready: false` it resolves at
 * once: for a start that is to fail, or to wait. The working directory is an empty one unless given, so that neither a .env nor a
 * data/ of the checkout takes part. Where `env` sets SPILLWAY_FAILPOINT, failpoints.ts is preloaded; then it may also have ended there.
 */
export async function spawnSpillway(
  role: 'api' | 'worker',
  env: Record<string, string>,
  options: {
    ready?: boolean
    timeoutMs?: number
    cwd?: string
    /** A copy of the project (tree.ts), in place of the project. */
    tree?: string | undefined
    /** A file in place of the role's own. */
    main?: URL | undefined
    execArgv?: string[]
    stdout?: number
    stderr?: number
  } = {},
): Promise<SpillwayProcess> {
  const { file, ready } = roles[role]
  const { tree = root } = options
  const failpoints = pathToFileURL(join(tree, 'test/harness/failpoints.ts')).href
  const cwd = options.cwd ?? (await temporary(`spillway-${role}-`))
  let isReady = false
  let url: string | undefined
  const child = launch(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      ...(env.SPILLWAY_FAILPOINT === undefined ? [] : ['--import', failpoints]),
      ...(options.execArgv ?? []),
      options.main ? fileURLToPath(options.main) : join(tree, file),
    ],
    {
      cwd,
      env: { ...inherited(), ...(role === 'api' && { PORT: '0' }), ...env },
      throwAway: options.cwd ? undefined : cwd,
      stdout: options.stdout,
      stderr: options.stderr,
      onLine(line) {
        const entry = parse(line)
        if (entry?.msg !== ready) return
        isReady = true
        if (typeof entry.url === 'string') url = entry.url
      },
    },
  )
  let exit: Exit | undefined
  const exited = child.exited.then(async (code) => {
    exit = code
    if (!options.cwd) await rm(cwd, { recursive: true, force: true })
    return code
  })
  const spillway: SpillwayProcess = {
    pid: child.pid,
    get url() {
      return url!
    },
    client: new Client(() => url!),
    logs: child.logs,
    kill(signal) {
      child.kill(signal)
    },
    exited,
  }
  if (options.ready === false) return spillway
  try {
    await eventually(() => isReady || exit !== undefined, { timeoutMs: options.timeoutMs ?? 60_000 })
    // The line that it was ready may be lost with it.
    const isAtFailpoint = env.SPILLWAY_FAILPOINT !== undefined && exit === 'SIGKILL'
    if (!isReady && !isAtFailpoint) throw new Error(`it ended with ${exit}`)
    return spillway
  } catch (error) {
    child.kill('SIGKILL')
    await exited
    throw new Error(`the ${role} did not get ready: ${(error as Error).message}\n${child.logs().slice(-4000)}`)
  }
}

function parse(line: string): { msg?: unknown; url?: unknown } | undefined {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
