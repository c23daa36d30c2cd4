/**
 * A child process of a test. Invariant: it does not outlive the process that started it, however that one ends: a watchdog holds the
 * other end of a pipe, and when the pipe closes without a word (its owner was killed), it kills the child and removes its directory.
 */
import { type ChildProcess, spawn } from 'node:child_process'

export type Exit = number | NodeJS.Signals

export interface Child {
  readonly pid: number
  /** What it wrote to stdout and stderr, the newest megabytes of it. */
  logs(): string
  kill(signal: NodeJS.Signals): void
  running(): boolean
  /** The exit code, or the signal that ended it. Its output is complete by then. */
  readonly exited: Promise<Exit>
}

const logLimit = 4_000_000

export function launch(
  command: string,
  args: readonly string[],
  options: {
    env?: NodeJS.ProcessEnv
    cwd?: string
    throwAway?: string | undefined
    onLine?: (line: string) => void
    /** Descriptors to write to, in place of what `logs` shows. */
    stdout?: number | undefined
    stderr?: number | undefined
  } = {},
): Child {
  const child: ChildProcess = spawn(command, args, {
    stdio: ['ignore', options.stdout ?? 'pipe', options.stderr ?? 'pipe'],
    ...(options.env && { env: options.env }),
    ...(options.cwd && { cwd: options.cwd }),
  })
  let logs = ''
  let rest = ''
  let running = true
  const exited = new Promise<Exit>((resolve) => {
    child.on('error', (error) => {
      logs += `${error.message}\n`
      if (child.pid === undefined) resolve(127)
    })
    child.on('exit', () => {
      running = false
    })
    child.on('close', (code, signal) => resolve(signal ?? code ?? 0))
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      logs = (logs + chunk).slice(-logLimit)
    })
  }
  child.stdout?.on('data', (chunk: string) => {
    if (!options.onLine) return
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) options.onLine(line)
  })
  const { pid } = child
  if (pid === undefined) throw new Error(`${command} could not be started: is it installed and executable?`)
  watch(child, pid, options.throwAway)
  return {
    pid,
    logs: () => logs,
    kill: (signal) => void (running && child.kill(signal)),
    running: () => running,
    exited,
  }
}

// A session of its own, so that Ctrl-C, which goes to the whole process group, does not end it first.
function watch(child: ChildProcess, pid: number, throwAway = ''): void {
  const script = 'read -r _ || { kill -9 "$1"; sleep 1; [ -z "$2" ] || rm -rf "$2"; }'
  const watchdog = spawn('/bin/sh', ['-c', script, 'watchdog', String(pid), throwAway], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watchdog.on('error', () => child.kill('SIGKILL'))
  // Gone already is as good as told.
  watchdog.stdin.on('error', () => {})
  watchdog.unref()
  ;(watchdog.stdin as unknown as { unref(): void }).unref()
  child.on('exit', () => watchdog.stdin.end('\n'))
}
