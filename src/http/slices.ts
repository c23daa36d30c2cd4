/** What was read of a WebSocket, given to ws in slices. Invariant: a connection whose share of a turn is used gets its next slice in a later turn, in order. */
import type { Duplex } from 'node:stream'
import type { Share } from './share.ts'

/** A hundred and seventy of the smallest frames. */
const sliceBytes = 1_024

type Listener = (this: Duplex, chunk: Buffer) => void

/** `taken` is called behind each slice that ws took apart. The function that this returns throws away what else comes. */
export function sliceReads(raw: Duplex, share: Share, taken: (length: number) => void): () => void {
  const listeners = raw.listeners('data') as Listener[]
  raw.removeAllListeners('data')
  let rest: Buffer | undefined
  const handle = () => {
    while (rest && !raw.destroyed && !share.waits && !share.paused()) {
      const slice = rest.subarray(0, sliceBytes)
      rest = rest.length > sliceBytes ? rest.subarray(sliceBytes) : undefined
      for (const listener of listeners) listener.call(raw, slice)
      taken(slice.length)
    }
  }
  share.handleRest = handle
  raw.on('resume', handle)
  raw.on('data', (chunk: Buffer) => {
    rest = rest ? Buffer.concat([rest, chunk]) : chunk
    handle()
  })
  return () => {
    rest = undefined
    raw.off('resume', handle)
    raw.removeAllListeners('data')
    raw.on('data', () => {})
    if (!share.waits) raw.resume()
  }
}
