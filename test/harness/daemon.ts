/**
 * What a test's own Redis and MariaDB have in common: a free port, a throw-away directory, and a life that a test may interrupt in
 * every way: stopped, killed, restarted on the same port and data, frozen and thawed.
 */
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Child, Exit } from './child.ts'
import { eventually } from './eventually.ts'

export interface Daemon {
  readonly port: number
  /** Of the process that runs now, or ran last. */
  readonly pid: number
  readonly dir: string
  logs(): string
  /** Resolves when the process is gone. Harmless when it is gone already. */
  stop(signal?: NodeJS.Signals): Promise<Exit>
  /** Same port, same data; stops it first (SIGTERM) where it runs. Ready when it resolves. `args`: for this life only (Redis). */
  restart(args?: readonly string[]): Promise<void>
  /** Freezes it: connections stay open and nothing is answered, until `resume`. */
  pause(): void
  resume(): void
  /** Ends it and removes its directory, where that is not the caller's own. May be called twice. */
  cleanup(): Promise<void>
}

export interface DaemonSpec {
  name: string
  dir: string
  /** The directory is not the caller's: it goes with the process. */
  throwAway: boolean
  /** Left out: a free one. */
  port?: number | undefined
  launch(port: number, args: readonly string[]): Child
  /** Resolves when the server answers. */
  ping(port: number): Promise<unknown>
  readyMs: number
}

export async function startDaemon(spec: DaemonSpec): Promise<Daemon> {
  // Between the look for a free port and its use, another test process may take it.
  for (let tries = 1; ; tries++) {
    try {
      return await startOn(spec.port ?? (await freePort()), spec)
    } catch (error) {
      if (tries < 5 && /address already in use/i.test(String(error))) continue
      if (spec.throwAway) await rm(spec.dir, { recursive: true, force: true })
      throw error
    }
  }
}

async function startOn(port: number, spec: DaemonSpec): Promise<Daemon> {
  const start = async (args: readonly string[] = []) => {
    const child = spec.launch(port, args)
    let exit: Exit | undefined
    void child.exited.then((code) => {
      exit = code
    })
    try {
      await eventually(async () => exit !== undefined || (await spec.ping(port)) || true, { timeoutMs: spec.readyMs })
      if (exit !== undefined) throw new Error(`it ended with ${exit}`)
      return child
    } catch (error) {
      child.kill('SIGKILL')
      await child.exited
      throw new Error(`${spec.name} did not start: ${(error as Error).message}\n${child.logs().slice(-4000)}`)
    }
  }

  let child = await start()

  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    child.kill(signal)
    // A frozen process hears only SIGKILL.
    child.kill('SIGCONT')
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
    const exit = await child.exited
    clearTimeout(timer)
    if (exit === 'SIGKILL' && signal !== 'SIGKILL') {
      throw new Error(`${spec.name} did not end within 20 s of ${signal} and was killed:\n${child.logs().slice(-4000)}`)
    }
    return exit
  }

  return {
    port,
    get pid() {
      return child.pid
    },
    dir: spec.dir,
    logs: () => child.logs(),
    stop,
    async restart(args) {
      if (child.running()) await stop()
      child = await start(args)
    },
    pause: () => child.kill('SIGSTOP'),
    resume: () => child.kill('SIGCONT'),
    async cleanup() {
      await stop('SIGKILL')
      if (spec.throwAway) await rm(spec.dir, { recursive: true, force: true })
    },
  }
}

/**
 * A port nobody listens on. From below the range that systems take for outgoing connections: in that range, a client that keeps
 * trying a dead port of its own machine ends up connected to itself, or to a stranger who was given the port meanwhile.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
      probe.once('error', () => resolve(false))
      probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
}
