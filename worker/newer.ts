/**
 * Entries that only a newer release can decode, during a rolling upgrade. The worker releases them, so that one of the newer release receives
 * them when their lease has ended. Invariant: an entry becomes a dead letter only when this worker has just received it once more, and has
 * known it for `deadLetterAfterMs`; and the memory for known entries is bounded.
 */
import type { Log } from '../src/model/log.ts'
import type { Entry } from '../src/queue/queue.ts'
import { deadLetter, type RejectedEntry } from './outcome.ts'

export interface NewerOptions {
  log: Log
  deadLetterAfterMs?: number | undefined
}

/** performance.now() of the first delivery, and of the last one. */
interface Known {
  since: number
  seenAt: number
}

const defaultDeadLetterAfterMs = 600_000
/** Of those that are not kept the time begins again with each delivery. */
const mostKept = 50_000
/** Longer than a lease: an entry that was not received again for so long is saved. */
const forgetAfterMs = 600_000
const logEveryMs = 60_000

export class NewerEntries {
  readonly #options: NewerOptions
  /** By handle, the one that was received the longest time ago first. */
  readonly #known = new Map<string, Known>()
  #lastLogged = Number.NEGATIVE_INFINITY

  constructor(options: NewerOptions) {
    this.#options = options
  }

  /** Whether this worker has received the entry before, and survived that. */
  has({ handle }: Entry): boolean {
    return this.#known.has(handle)
  }

  /** Those whose time is over, and the others, which the worker should release. */
  add(received: readonly { entry: Entry; problem: string }[]): { due: RejectedEntry[]; released: Entry[] } {
    const { deadLetterAfterMs = defaultDeadLetterAfterMs } = this.#options
    const due: RejectedEntry[] = []
    const released: Entry[] = []
    if (received.length === 0) return { due, released }
    const now = performance.now()
    this.#forget(now - forgetAfterMs)
    for (const { entry, problem } of received) {
      const since = this.#known.get(entry.handle)?.since ?? now
      this.#known.delete(entry.handle)
      if (now - since >= deadLetterAfterMs) {
        due.push(deadLetter(entry, 'UNDECODABLE', problem, { model: undefined }))
        continue
      }
      if (this.#known.size < mostKept) this.#known.set(entry.handle, { since, seenAt: now })
      released.push(entry)
    }
    if (released.length > 0) this.#log(now, received[0]!.problem)
    return { due, released }
  }

  /** Drops those that were not received again since `before`: another worker has saved them. */
  #forget(before: number): void {
    for (const [handle, { seenAt }] of this.#known) {
      if (seenAt > before) return
      this.#known.delete(handle)
    }
  }

  #log(now: number, reason: string): void {
    if (now - this.#lastLogged < logEveryMs) return
    this.#lastLogged = now
    this.#options.log.warn(
      { entries: this.#known.size, reason },
      'messages wait for a worker of a newer release; this one cannot decode them, and dead-letters them after ten minutes',
    )
  }
}
