/**
 * Entries that only a newer release can decode, during a rolling upgrade. They stay in the queue without an extended lease, so that a worker
 * of the newer release receives them when the lease has ended. Invariant: an entry becomes a dead letter only after this worker has known it
 * for `buryAfterMs`, and the memory for them is bounded.
 */
import type { Log } from '../src/model/log.ts'
import type { Entry } from '../src/queue/queue.ts'
import { deadLetter, type RejectedEntry } from './outcome.ts'

export interface NewerOptions {
  log: Log
  buryAfterMs?: number | undefined
}

interface Known {
  entry: Entry
  problem: string
  /** performance.now() */
  since: number
}

const defaultBuryAfterMs = 600_000
/** Of those that are not kept the time begins again with each delivery. */
const mostKept = { entries: 20_000, characters: 32 * 1024 * 1024 }
const logEveryMs = 60_000

export class NewerEntries {
  readonly #options: NewerOptions
  /** By handle. */
  readonly #known = new Map<string, Known>()
  #characters = 0
  #lastLogged = Number.NEGATIVE_INFINITY

  constructor(options: NewerOptions) {
    this.#options = options
  }

  add(received: readonly { entry: Entry; problem: string }[]): void {
    for (const { entry, problem } of received) {
      const known = this.#known.get(entry.handle)
      if (known) known.entry = entry
      else if (this.#known.size < mostKept.entries && this.#characters < mostKept.characters) {
        this.#known.set(entry.handle, { entry, problem, since: performance.now() })
        this.#characters += entry.body.length
      }
    }
    const now = performance.now()
    if (received.length === 0 || now - this.#lastLogged < logEveryMs) return
    this.#lastLogged = now
    this.#options.log.warn(
      { entries: this.#known.size, reason: received[0]!.problem },
      'messages wait for a worker of a newer release; this one cannot decode them, and dead-letters them after ten minutes',
    )
  }

  /** Those whose time is over. */
  takeDue(): RejectedEntry[] {
    const { buryAfterMs = defaultBuryAfterMs } = this.#options
    const due = [...this.#known.values()].filter(({ since }) => performance.now() - since >= buryAfterMs)
    for (const { entry } of due) {
      this.#known.delete(entry.handle)
      this.#characters -= entry.body.length
    }
    return due.map(({ entry, problem }) => deadLetter(entry, 'UNDECODABLE', problem))
  }
}
