/**
 * The queue as it is, and what is wrong with it, as the server says. Invariant: an answer that is older than a failure to get one is not
 * taken for the present state. Asked for and not subscribed to: a browser has six connections to a server for all its tabs together, and a
 * stream would hold one.
 */
import type { SpillwayError } from '../client/index.ts'
import { access } from './access.ts'
import { ask, problemOf, unreachable } from './client.ts'
import { Queue } from './operations.ts'
import { pause } from './pause.ts'
import { makeStore } from './store.ts'

const everyMs = 1_000
/** While something is in the queue. */
const everyMsBusy = 500
/** Never more often, whoever wants to know. */
const leastMs = 250

export interface Status {
  depth: number
  inFlight: number
  oldestAgeMs: number
  deadLetters: number
  capacity: number
  durability: 'EVERYSEC' | 'FSYNC' | 'MEMORY' | 'REPLICATED'
  paused: { since: string; by: string | null } | null
}

export interface LoggedError {
  at: string
  message: string
  code: string | null
}

export interface Condition {
  kind: 'DATABASE_UNAVAILABLE' | 'NO_WORKER' | 'PAUSED' | 'QUEUE_FULL' | 'QUEUE_GROWS' | 'QUEUE_UNAVAILABLE'
  since: string | null
  models: string[]
  code: string | null
  lastError: LoggedError | null
}

export const queue = makeStore({
  /** The last answer. */
  status: undefined as Status | undefined,
  conditions: [] as readonly Condition[],
  /** Since when the server does not answer. */
  lostSince: undefined as number | undefined,
  /** Why there is no answer about the queue, where the server does answer. */
  trouble: undefined as SpillwayError | undefined,
  /** Since when; undefined if the page has never had an answer. */
  troubleSince: undefined as number | undefined,
})

let askedAt = 0
let wake = new AbortController()

/** Asks at once instead of at the next turn: something is about to change. */
export function look(): void {
  if (Date.now() - askedAt >= leastMs) wake.abort()
}

export async function watchQueue(): Promise<never> {
  for (;;) {
    if (access.get().may.admin) await read()
    wake = new AbortController()
    await pause((queue.get().status?.depth ?? 0) > 0 ? everyMsBusy : everyMs, wake.signal)
  }
}

async function read(): Promise<void> {
  const { status, lostSince, troubleSince, trouble } = queue.get()
  askedAt = Date.now()
  try {
    const answer = await ask(Queue, 'admin', {})
    queue.set({
      status: answer.queue ?? undefined,
      conditions: answer.queueConditions ?? [],
      lostSince: undefined,
      trouble: undefined,
      troubleSince: undefined,
    })
  } catch (error) {
    const problem = problemOf(error)
    const now = Date.now()
    if (unreachable(problem)) queue.patch({ lostSince: lostSince ?? now })
    else if (!access.get().may.admin)
      queue.set({
        status: undefined,
        conditions: [],
        lostSince: undefined,
        trouble: undefined,
        troubleSince: undefined,
      })
    else
      queue.patch({
        trouble: problem,
        troubleSince: trouble ? troubleSince : status && now,
        lostSince: undefined,
      })
  }
}
