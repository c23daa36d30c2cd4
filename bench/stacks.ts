/** Whole systems, from the request to the row: an API, and what writes its queue into the table. */
import { type Contender, type Process, startPeer, startSpillway } from './contender.ts'
import type { Parts } from './parts.ts'

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
  start: async (parts) =>
    stackOf(await startPeer(api, parts.env), worker === undefined ? undefined : await startPeer(worker, parts.env)),
})

/** The nearest. */
export const streamStack = peers('Mercurius + jit + XADD, forty lines that insert', 'mercurius-stream', 'stream-insert')
export const batchStack = peers('Apollo Server + BullMQ + createMany of 1,000', 'apollo-bullmq', 'bullmq-batch')
export const createStack = peers('stock Yoga + Pothos + BullMQ + Prisma create', 'yoga-bullmq', 'bullmq-create')
export const directStack = peers('stock Yoga + Pothos + Prisma create', 'yoga-create')

/** Resolves when the table has so many rows; with the milliseconds that this took. */
export async function written(parts: Parts, rows: number, patienceMs = 300_000): Promise<number> {
  const since = performance.now()
  for (;;) {
    const there = await parts.rows()
    const ms = performance.now() - since
    if (there >= rows) return ms
    if (ms > patienceMs) throw new Error(`${rows} saves were acknowledged, ${there} are rows`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
