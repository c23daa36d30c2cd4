/** The bytes of a WebSocket that are no whole message yet: ws keeps them, up to the largest message there may be, and says nothing of them. */
import type { Hold } from '../app/bytes.ts'

/** Header and mask of the smallest frame. */
const frameBytes = 6

export class Incoming {
  readonly #held: Hold
  /** Of the chunk that ws is taking apart: the frames that it found. */
  #found = 0
  #message = false
  bytes = 0

  constructor(held: Hold) {
    this.#held = held
  }

  message(length: number): void {
    this.#message = true
    this.frame(length)
  }

  frame(length: number): void {
    this.#found += length + frameBytes
  }

  /** A chunk came and was taken apart. False where there is no room for what is left of it. */
  chunk(length: number): boolean {
    const left = Math.max(0, this.bytes + length - this.#found)
    // Behind a message there is at most the rest of its chunk.
    const bytes = this.#message ? Math.min(left, length) : left
    const more = bytes - this.bytes
    this.#found = 0
    this.#message = false
    this.bytes = bytes
    try {
      if (more > 0) this.#held.add(more)
      else this.#held.lessen(-more)
      return true
    } catch {
      return false
    }
  }

  end(): void {
    this.#held.release()
  }
}
