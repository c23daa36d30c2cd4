/** Whole systems, from the request to the row: an API, and what writes its queue into the table. */
import {
  type Contender,
  type Process,
  type Server,
  startPeer,
  startPeerOn,
  startSpillway,
  type Table,
} from './contender.ts'
import { startNats } from './nats.ts'
import type { Parts } from './parts.ts'
import { startPostgres } from './postgres.ts'

export interface Stack {
  api: Process
  /** None where the API inserts by itself. */
  worker?: Process
  stop(): Promise<void>
}

export interface StackKind {
  name: string
  role: Contender['role']
  start(parts: Parts): Promise<Stack>
}

const stackOf = (api: Process, worker?: Process): Stack => ({
  api,
  ...(worker && { worker }),
  stop: async () => {
    await Promise.all([api.stop(), worker?.stop()])
  },
})

/** `env`: of the worker. */
export const spillwayStack = (env: Record<string, string> = {}): StackKind => ({
  name: 'Spillway',
  role: 'ours',
  start: async (parts) =>
    stackOf(await startSpillway('api', parts.env), await startSpillway('worker', { ...parts.env, ...env })),
})

const peers = (name: string, api: string, worker?: string): StackKind => ({
  name,
  role: 'peer',
  start: async (parts) => {
    const env = { ...parts.env, QUEUE_NAME: api }
    return stackOf(await startPeer(api, env), worker === undefined ? undefined : await startPeer(worker, env))
  },
})

const peersOn = (startServer: () => Promise<Server>, name: string, api: string, worker: string): StackKind => ({
  name,
  role: 'peer',
  start: async (parts) => {
    const accepting = await startPeerOn(startServer, api, parts)
    const inserting = await startPeer(worker, { ...parts.env, ...accepting.server.env })
    return {
      api: accepting,
      worker: inserting,
      stop: async () => {
        await inserting.stop()
        await accepting.stop()
      },
    }
  },
})

/** The nearest. */
export const streamStack = peers('Mercurius + jit + XADD, forty lines that insert', 'mercurius-stream', 'stream-insert')
export const batchStack = peers('Apollo Server + BullMQ + createMany of 1,000', 'apollo-bullmq', 'bullmq-batch')
export const jetstreamStack = peersOn(
  startNats,
  'Mercurius + jit + NATS JetStream, forty lines that insert',
  'mercurius-jetstream',
  'jetstream-insert',
)
export const graphileStack = peersOn(
  startPostgres,
  'Mercurius + jit + graphile-worker, PostgreSQL',
  'mercurius-graphile',
  'graphile-insert',
)
export const createStack = peers('stock Yoga + Pothos + BullMQ + Prisma create', 'yoga-bullmq', 'bullmq-create')
export const directStack = peers('stock Yoga + Pothos + Prisma create', 'yoga-create')

/** Resolves when the table has so many rows; with the milliseconds that this took. */
export async function written(table: Table, rows: number, patienceMs = 300_000): Promise<number> {
  const since = performance.now()
  for (;;) {
    const there = await table.rows()
    const ms = performance.now() - since
    if (there >= rows) return ms
    if (ms > patienceMs) throw new Error(`${rows} saves were acknowledged, ${there} are rows`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
