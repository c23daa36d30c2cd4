/** Who is measured: each one a process (or an API and a worker) of its own, started before the first round and kept until the last. */
import { fileURLToPath } from 'node:url'
import { launch } from '../test/harness/child.ts'
import { eventually } from '../test/harness/eventually.ts'
import { spawnSpillway } from '../test/harness/process.ts'
import type { Parts } from './parts.ts'

/** What was measured, by name. `errors`, where it is there, must be 0 for a target to count as reached. */
export type Figures = Record<string, number>

export interface Contender {
  name: string
  role: 'ours' | 'peer' | 'limit'
  start(parts: Parts, execArgv?: string[]): Promise<Running>
}

/** Thrown by a contender's start: what it needs is not on this machine and cannot be had. The others are measured without it. */
export class NotRun extends Error {}

export interface Running {
  measure(): Promise<Figures>
  stop(): Promise<void>
}

export interface Process {
  url: string
  pid: number
  /** What it runs on in place of the servers of all. */
  server?: Server
  stop(): Promise<void>
}

/** A server that a few contenders need, started for them and stopped with them. */
export interface Server {
  /** The part that its CPU is counted as: "NATS". */
  name: string
  pid: number
  /** Of the peers that use it. */
  env: Record<string, string>
  /** Has the table, in place of MariaDB. */
  table?: Table
  /** Empties the queue, and the table that it has. */
  reset(): Promise<void>
  stop(): Promise<void>
}

/** The table that the rows end in. */
export interface Table {
  rows(): Promise<number>
  truncate(): Promise<void>
  /** Resolves when the database has nothing to do for a while. */
  databaseIdle(): Promise<void>
}

/** bench/peers/`name`.ts */
export async function startPeer(
  name: string,
  env: Record<string, string>,
  execArgv: readonly string[] = [],
): Promise<Process> {
  const file = fileURLToPath(new URL(`peers/${name}.ts`, import.meta.url))
  let said: { url?: string } | undefined
  const { PATH } = process.env
  const child = launch(process.execPath, ['--disable-warning=ExperimentalWarning', ...execArgv, file], {
    env: { PATH, QUEUE_NAME: 'save', ...env },
    onLine(line) {
      if (line.startsWith('{"msg":"ready"')) said = JSON.parse(line)
    },
  })
  await eventually(() => said !== undefined || !child.running(), { timeoutMs: 20_000 })
  if (!said) throw new Error(`the peer ${name} did not start:\n${child.logs().slice(-4_000)}`)
  return {
    url: said.url ?? '',
    pid: child.pid,
    stop: async () => {
      child.kill('SIGTERM')
      await child.exited
    },
  }
}

/** A peer on a server of its own, which is started with it. */
export async function startPeerOn(
  startServer: () => Promise<Server>,
  name: string,
  parts: Parts,
): Promise<Process & { server: Server }> {
  const server = await startServer()
  const peer = await startPeer(name, { ...parts.env, ...server.env })
  return {
    ...peer,
    server,
    stop: async () => {
      await peer.stop()
      await server.stop()
    },
  }
}

/** `main`: a file in place of the role's own. */
export async function startSpillway(
  role: 'api' | 'worker',
  env: Record<string, string>,
  execArgv: string[] = [],
  main?: URL,
): Promise<Process> {
  // More than any scenario fills: the capacity is not what is measured.
  const child = await spawnSpillway(role, { QUEUE_CAPACITY: '100000000', ...env }, { execArgv, main })
  return {
    url: child.url ?? '',
    pid: child.pid,
    stop: async () => {
      child.kill('SIGTERM')
      await child.exited
    },
  }
}
