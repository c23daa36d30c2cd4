/**
 * The queue as it is and as it was in the last five minutes. Depth and the like are asked for; what was written is counted from the
 * events of saved rows by the time they carry, so that a page that lags, or comes back, still puts them where they belong; what was accepted
 * follows: the change of the depth, and what left it. Asked for and not subscribed to: a browser has six connections to a server for
 * all its tabs together, and a stream would hold one.
 */
import type { SpillwayError } from '../client/index.ts'
import { access } from './access.ts'
import { ask, client, problemOf, unreachable } from './client.ts'
import { Queue } from './operations.ts'
import { pause } from './pause.ts'
import { makeStore } from './store.ts'

export const windowMs = 300_000
const everyMs = 1_000
/** While something is in the queue. */
const everyMsBusy = 500
const tickMs = 100
/** Never more often, whoever wants to know. */
const leastMs = 250
/** Rates are means over so long, before and after: what is being settled just now is counted twice for a moment. */
const smoothMs = 2_000

export interface Status {
  depth: number
  inFlight: number
  oldestAgeMs: number
  deadLetters: number
  capacity: number
  durability: 'EVERYSEC' | 'FSYNC' | 'MEMORY' | 'REPLICATED'
}

export interface Sample {
  at: number
  /** undefined: nobody answered. */
  status: Status | undefined
}

export const queue = makeStore({
  status: undefined as Status | undefined,
  samples: [] as Sample[],
  /** Of the last moments, per second. */
  savesPerS: 0,
  persistedPerS: 0,
  /** Whether written rows are counted just now, of every model. */
  counts: true,
  /** Events since the page was opened. */
  persisted: 0,
  /** Since when nobody answers. */
  lostSince: undefined as number | undefined,
  /** Why there is no answer about the queue, where the server does answer. */
  trouble: undefined as SpillwayError | undefined,
  /** Since when messages wait and nothing is written. */
  stuckSince: undefined as number | undefined,
})

const written = new Map<number, number>()
let lastMoveAt = 0
/** When the oldest message was enqueued: later than before, and something has left the queue. */
let oldestAt = 0
/** Answers take their time, and not the same each time. */
const jitterMs = 250
let wake = new AbortController()

/** Takes note of events: when their rows were written, by the server's clock. */
export function noteWritten(savedAt: number, rows: number): void {
  const tick = Math.floor((savedAt - client.$now() + Date.now()) / tickMs)
  written.set(tick, (written.get(tick) ?? 0) + rows)
  lastMoveAt = Date.now()
  queue.patch({ persisted: queue.get().persisted + rows })
}

export function writtenBetween(from: number, to: number): number {
  let rows = 0
  for (let tick = Math.floor(from / tickMs); tick < Math.floor(to / tickMs); tick++) rows += written.get(tick) ?? 0
  return rows
}

/** Saves and rows per second at one of the samples. */
export function ratesAt(samples: readonly Sample[], i: number): { saves: number; persisted: number } | undefined {
  const here = samples[i]
  if (!here) return undefined
  let to = i
  while (to < samples.length - 1 && samples[to + 1]!.at - here.at <= smoothMs / 2) to += 1
  const last = samples[to]!
  let from = i
  while (from > 0 && last.at - samples[from]!.at < smoothMs) from -= 1
  const first = samples[from]!
  if (!last.status || !first.status || first === last) return undefined
  const rows = writtenBetween(first.at, last.at)
  const left = last.status.depth + last.status.deadLetters - first.status.depth - first.status.deadLetters
  const seconds = (last.at - first.at) / 1_000
  return { saves: Math.max(0, left + rows) / seconds, persisted: rows / seconds }
}

/** Asks at once instead of at the next turn: something is about to change. */
export function look(): void {
  if (Date.now() - (queue.get().samples.at(-1)?.at ?? 0) >= leastMs) wake.abort()
}

export async function watchQueue(): Promise<never> {
  for (;;) {
    if (access.get().may.admin) await sample()
    wake = new AbortController()
    await pause((queue.get().status?.depth ?? 0) > 0 ? everyMsBusy : everyMs, wake.signal)
  }
}

async function sample(): Promise<void> {
  try {
    const { queue: status } = await ask(Queue, 'admin', {})
    record({ at: Date.now(), status: status ?? undefined })
  } catch (error) {
    const trouble = problemOf(error)
    const at = Date.now()
    record({ at, status: undefined })
    if (unreachable(trouble)) queue.patch({ lostSince: queue.get().lostSince ?? at })
    else if (access.get().may.admin) queue.patch({ trouble, lostSince: undefined })
    else queue.patch({ status: undefined, lostSince: undefined })
  }
}

function record(sample: Sample): void {
  const { at, status } = sample
  const samples = [...queue.get().samples.filter((old) => old.at > at - windowMs - 5_000), sample]
  const oldest = Math.floor((at - windowMs - 60_000) / tickMs)
  for (const tick of written.keys()) if (tick < oldest) written.delete(tick)
  const rates = ratesAt(samples, samples.length - 1)
  queue.patch({ samples, savesPerS: rates?.saves ?? 0, persistedPerS: rates?.persisted ?? 0 })
  if (!status) return
  const enqueuedAt = at - status.oldestAgeMs
  if (status.depth === 0 || enqueuedAt > oldestAt + jitterMs) lastMoveAt = at
  oldestAt = Math.max(enqueuedAt, oldestAt)
  // Both: a queue that moved lately is not stuck, nor is one whose oldest message just came.
  const since = Math.max(lastMoveAt, at - status.oldestAgeMs)
  queue.patch({ status, lostSince: undefined, trouble: undefined, stuckSince: at - since > 5_000 ? since : undefined })
}
