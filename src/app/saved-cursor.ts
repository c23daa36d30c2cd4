/**
 * The `savedCursor` of pages: the end of the events log as this process knew it before it read anything for the page. Invariant (P11): a
 * subscription that begins there misses no row that the page lacks.
 *
 * A worker commits a row, invalidates the pages that lack it, and then appends its event (P5). So, for each event up to this end, a version
 * that is looked up afterwards is not that of a page without the row, and a read of the primary that begins afterwards returns the row. A
 * row that the page lacks has its event behind the cursor.
 */
import { formatCursor, type Position } from '../events/events.ts'
import type { Follower } from '../events/follower.ts'

export class SavedCursor {
  readonly #follower: Pick<Follower, 'tail' | 'end'>
  #tail: Position | undefined
  #text: string | undefined

  constructor({ follower }: { follower: Pick<Follower, 'tail' | 'end'> }) {
    this.#follower = follower
  }

  /** Undefined until this process has read the log for the first time. Asks no server; formatted once for each end. */
  get now(): string | undefined {
    const { tail } = this.#follower
    if (tail !== this.#tail) {
      this.#tail = tail
      this.#text = tail && formatCursor({ position: tail, index: 0 })
    }
    return this.#text
  }

  /** Waits until it is known. Throws QUEUE_UNAVAILABLE where that takes too long. */
  async known(): Promise<string> {
    return formatCursor({ position: await this.#follower.end(), index: 0 })
  }
}
