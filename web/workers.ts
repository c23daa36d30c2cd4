/** The workers, as they report themselves every three seconds: those that run first, then those that have ended, latest first. */
import { access } from './access.ts'
import { ask, problemOf, textOf } from './client.ts'
import { Workers } from './operations.ts'
import { pause } from './pause.ts'
import type { LoggedError } from './queue.ts'
import { makeStore } from './store.ts'

const everyMs = 3_000

export interface Held {
  model: string | null
  inFlight: number
  parked: number
  waitingSince: string | null
  waitingCode: string | null
}

export interface Worker {
  name: string
  state: 'GONE' | 'PAUSED' | 'STOPPED' | 'WAITING' | 'WORKING'
  host: string
  pid: number
  release: string
  startedAt: string
  /** Of one that has stopped or is gone. */
  endedAt: string | null
  rowsPerSecond: number
  held: Held[]
  lastError: LoggedError | null
}

export const workers = makeStore({
  /** undefined: there was no answer yet. */
  list: undefined as readonly Worker[] | undefined,
  problem: '',
})

export async function watchWorkers(): Promise<never> {
  for (;;) {
    if (access.get().may.admin) await read()
    await pause(everyMs)
  }
}

async function read(): Promise<void> {
  try {
    workers.set({ list: (await ask(Workers, 'admin', {})).queueWorkers ?? [], problem: '' })
  } catch (error) {
    workers.patch({ problem: textOf(problemOf(error)) })
  }
}
