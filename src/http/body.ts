/** Bodies of requests: read up to their bounds, or let in and thrown away. Invariant: none costs much more than its bytes. */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { type Hold, largeBytes } from '../app/bytes.ts'
import { checkCoding } from './codings.ts'
import { HttpError } from './http-error.ts'
import { mute } from './mute.ts'
import { Pieces } from './pieces.ts'
import { pieceCost, type Share } from './share.ts'

export function readBody(request: IncomingMessage, maxBytes: number, held: Hold, share: Share): Promise<Buffer> {
  const tooLarge = () => new HttpError(413, `The body is larger than ${maxBytes} bytes; send less at once.`)
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge()
  checkCoding(request)
  // Listeners and not `for await`, which costs a promise or two for each chunk.
  return new Promise((resolve, reject) => {
    const pieces = new Pieces()
    const end = () => {
      held.lessen(pieces.held - pieces.bytes)
      resolve(pieces.join())
    }
    request.on('data', (piece: Buffer) => {
      try {
        share.use(pieceCost)
        const before = pieces.held
        pieces.add(piece)
        if (pieces.bytes > maxBytes) throw tooLarge()
        if (pieces.tooMany)
          throw new HttpError(413, 'The body comes in too many pieces; send it in fewer, larger ones.')
        held.add(pieces.held - before)
      } catch (error) {
        discard(request, share)
        request.off('end', end)
        reject(error)
      }
    })
    request.on('end', end)
    // One that ends early, too.
    request.on('error', reject)
  })
}

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Whether what is left of its body may come in any number of pieces, or is large. */
export function mayCost({ complete, headers }: IncomingMessage): boolean {
  return (
    !complete && (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > largeBytes)
  )
}

/** Of a body that nobody reads. */
const mostDiscardedPieces = 50
const discardedAverage = 1_024
const mostDiscardedBytes = 32 * 1024 * 1024

/** Lets in what else comes of a body, and throws it away, up to a bound. */
export function discard(request: IncomingMessage, share: Share): void {
  let pieces = 0
  let bytes = 0
  request.removeAllListeners('data')
  request.on('data', (piece: Buffer) => {
    share.use(pieceCost)
    pieces += 1
    bytes += piece.length
    if (pieces <= mostDiscardedPieces + bytes / discardedAverage && bytes <= mostDiscardedBytes) return
    share.stop()
    mute(request.socket)
  })
}

/** Bytes that are not UTF-8 would become U+FFFD: something else than what was sent. */
export function decode(body: Buffer): string {
  if (!isUtf8(body)) throw new HttpError(400, 'The body is not well-formed UTF-8.')
  const text = body.toString()
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
}
