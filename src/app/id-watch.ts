/** Watches one id: collects the news from its events until its receipt is read again. */
import type { Follower } from '../events/follower.ts'
import type { Model, Row } from '../model/model.ts'

/** The row of a `saved` event; undefined: the state of the id must be read from the queue. */
export interface News {
  saved: { model: Model; row: Row } | undefined
}

export class IdWatch {
  /** Ends the watch. May be called twice. */
  readonly stop: () => void
  #saved: News['saved']
  /** True at first: the id may have been saved before the watch began. */
  #stale = true
  #wake = () => {}

  constructor(follower: Pick<Follower, 'watch'>, id: string) {
    this.stop = follower.watch(id, (event) => {
      if (event?.type === 'saved') {
        this.#saved = event
        this.#wake()
      } else {
        // Events were missed; or a message failed, which may have had other content than the save that is waited for.
        this.refresh()
      }
    })
  }

  /** Makes `next` return, so that its caller asks the queue. */
  refresh(): void {
    this.#stale = true
    this.#wake()
  }

  /** Resolves when there is news, at once the first time; with undefined when the signal aborts. */
  async next(signal: AbortSignal): Promise<News | undefined> {
    const abort = () => this.#wake()
    signal.addEventListener('abort', abort)
    try {
      while (!signal.aborted) {
        if (this.#saved || this.#stale) {
          const saved = this.#saved
          this.#saved = undefined
          this.#stale = false
          return { saved }
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
