/** Watches ids: collects the news from their events until their receipts are read again. Invariant: it keeps a bounded number of bytes. */
import type { Follower } from '../events/follower.ts'
import { type Model, type Row, sizeOf } from '../model/model.ts'
import { largeBytes } from './bytes.ts'

export interface News {
  /** The rows of `saved` events. */
  saved: readonly { model: Model; row: Row }[]
  /** The ids whose state must be read from the queue. */
  stale: readonly string[]
}

export class IdWatch {
  /** Ends the watch. May be called twice. */
  readonly stop: () => void
  readonly #ids: readonly string[]
  #saved = new Map<string, { model: Model; row: Row }>()
  #bytes = 0
  #stale = new Set<string>()
  #wake = () => {}

  constructor(follower: Pick<Follower, 'watch'>, ids: readonly string[]) {
    this.#ids = ids
    this.stop = follower.watch(ids, (event) => {
      if (event?.type === 'saved') this.#add(event)
      // A message failed, which may have had other content than the save that is waited for; or events of any id were missed.
      else this.refresh(event?.type === 'failed' ? [event.id] : this.#ids)
    })
  }

  /** Of more rows than it may keep, the states are read from the queue, and the rows from the store. */
  #add(saved: { model: Model; row: Row }): void {
    const { model, row } = saved
    this.#bytes += sizeOf(model, row)
    if (this.#bytes > largeBytes && this.#saved.size > 0) this.refresh([row.id])
    else this.#saved.set(row.id, saved)
    this.#wake()
  }

  /** Makes `next` return, so that its caller asks the queue for the state of these ids. */
  refresh(ids: readonly string[]): void {
    for (const id of ids) this.#stale.add(id)
    this.#wake()
  }

  /** Resolves when there is news; with undefined when the signal aborts. */
  async next(signal: AbortSignal): Promise<News | undefined> {
    const abort = () => this.#wake()
    signal.addEventListener('abort', abort)
    try {
      while (!signal.aborted) {
        if (this.#saved.size > 0 || this.#stale.size > 0) {
          const news = { saved: [...this.#saved.values()], stale: [...this.#stale] }
          this.#saved = new Map()
          this.#stale = new Set()
          this.#bytes = 0
          return news
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      return undefined
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }
}
