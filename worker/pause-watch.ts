/**
 * Watches whether persisting is paused. While the queue does not answer, its last answer holds; before its first answer, the worker receives
 * nothing: it may be paused.
 */
import type { Log } from '../src/model/log.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Operations, Pause } from '../src/queue/operations.ts'

const watchEveryMs = 500
/** Until the first answer: the worker waits for it. */
const firstEveryMs = 50

export class PauseWatch {
  readonly #operations: Pick<Operations, 'paused'>
  readonly #log: Log
  readonly #closing = new AbortController()
  #pause: Pause | undefined
  #isKnown = false
  /** Resolves when persisting is known not to be paused; undefined: it is known. */
  #waiting: PromiseWithResolvers<void> | undefined = Promise.withResolvers()
  #watching: Promise<void> | undefined

  constructor({ operations, log }: { operations: Pick<Operations, 'paused'>; log: Log }) {
    this.#operations = operations
    this.#log = log
  }

  start(): void {
    this.#watching = this.#watch()
  }

  async #watch(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        this.#set(await this.#operations.paused())
        this.#isKnown = true
      } catch {
        // The queue is unavailable, which the consumer logs.
      }
      await sleep(this.#isKnown ? watchEveryMs : firstEveryMs, this.#closing.signal)
    }
  }

  #set(pause: Pause | undefined): void {
    if (pause && !this.#pause) {
      this.#waiting ??= Promise.withResolvers()
      this.#log.warn({ since: new Date(pause.since).toISOString() }, 'persisting is paused; receiving no more entries')
    } else if (!pause) {
      if (this.#pause) this.#log.warn({}, 'persisting is resumed; receiving entries again')
      this.#waiting?.resolve()
      this.#waiting = undefined
    }
    this.#pause = pause
  }

  get isPaused(): boolean {
    return this.#pause !== undefined
  }

  /** Resolves when entries may be received, or the watch is closed; undefined: now. */
  get resumed(): Promise<void> | undefined {
    return this.#waiting?.promise
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#waiting?.resolve()
    await this.#watching
  }
}
