/**
 * Bounds on what is read from a WebSocket. The library `ws` processes a chunk at once and buffers incomplete messages, and reports neither.
 * So chunks are passed to it in slices, and the bytes that it buffers are counted.
 */
import type { Duplex } from 'node:stream'
import type { Hold } from '../app/bytes.ts'
import type { Share } from './share.ts'

/** 170 of the smallest frames. */
const sliceBytes = 1_024

type Listener = (this: Duplex, chunk: Buffer) => void

/**
 * Passes chunks of `raw` to ws in slices and in order; once the connection has used its share of a turn, the next slice waits for a later
 * turn. Calls `processed` after each slice, and `full` if the process has no room for the bytes that wait; `held` counts these. The returned
 * function discards everything that is read from then on.
 */
export function sliceReads(
  raw: Duplex,
  share: Share,
  held: Hold,
  on: { processed: (length: number) => void; full: () => void },
): () => void {
  const listeners = raw.listeners('data') as Listener[]
  raw.removeAllListeners('data')
  let rest: Buffer | undefined
  let counted = 0
  const countRest = () => {
    const more = (rest?.length ?? 0) - counted
    try {
      if (more > 0) held.add(more)
      else if (more < 0) held.lessen(-more)
      counted += more
    } catch {
      on.full()
    }
  }
  const handle = () => {
    while (rest && !raw.destroyed && !share.waits && !share.paused()) {
      const slice = rest.subarray(0, sliceBytes)
      rest = rest.length > sliceBytes ? rest.subarray(sliceBytes) : undefined
      for (const listener of listeners) listener.call(raw, slice)
      on.processed(slice.length)
    }
    countRest()
  }
  share.handleRest = handle
  raw.on('resume', handle)
  raw.on('data', (chunk: Buffer) => {
    rest = rest ? Buffer.concat([rest, chunk]) : chunk
    handle()
  })
  return () => {
    rest = undefined
    countRest()
    raw.off('resume', handle)
    raw.removeAllListeners('data')
    raw.on('data', () => {})
    if (!share.waits) raw.resume()
  }
}

/** Header and mask of the smallest frame. */
const frameBytes = 6

/** Counts the bytes of a message that is not complete yet: ws buffers them, up to the largest message allowed. */
export class IncompleteMessage {
  readonly #held: Hold
  /** The bytes of complete frames in the current slice. */
  #framed = 0
  #endsMessage = false
  bytes = 0

  constructor(held: Hold) {
    this.#held = held
  }

  message(length: number): void {
    this.#endsMessage = true
    this.frame(length)
  }

  frame(length: number): void {
    this.#framed += length + frameBytes
  }

  /** Call after ws has processed a slice. Returns false if the process has no room for the bytes that remain buffered. */
  slice(length: number): boolean {
    const left = Math.max(0, this.bytes + length - this.#framed)
    // After a complete message, at most the rest of the slice is buffered.
    const bytes = this.#endsMessage ? Math.min(left, length) : left
    const more = bytes - this.bytes
    this.#framed = 0
    this.#endsMessage = false
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
