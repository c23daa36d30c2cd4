/** Request bodies: read up to their bounds, or discarded. Invariant: no body costs much more than its bytes. */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { MIMEType } from 'node:util'
import { type Hold, largeBytes } from '../app/bytes.ts'
import { HttpError, truncate } from './errors.ts'
import { muteParser, pieceCost, type Share } from './share.ts'

/** Throws 413 and 415. */
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
    // A body that ends early is an error, too.
    request.on('error', reject)
  })
}

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Whether the rest of the body is large, or may come in any number of pieces. */
export function mayCost({ complete, headers }: IncomingMessage): boolean {
  return (
    !complete && (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > largeBytes)
  )
}

const maxDiscardedPieces = 50
const averageDiscardedBytes = 1_024
const maxDiscardedBytes = 32 * 1024 * 1024

/** Discards the rest of the body, up to a bound; then the connection closes. */
export function discard(request: IncomingMessage, share: Share): void {
  let pieces = 0
  let bytes = 0
  request.removeAllListeners('data')
  request.on('data', (piece: Buffer) => {
    share.use(pieceCost)
    pieces += 1
    bytes += piece.length
    if (pieces <= maxDiscardedPieces + bytes / averageDiscardedBytes && bytes <= maxDiscardedBytes) return
    share.stop()
    muteParser(request.socket)
  })
}

/** Throws 400 for bytes that are not UTF-8: they would become U+FFFD, which is not what the client sent. */
export function decode(body: Buffer): string {
  if (!isUtf8(body)) throw new HttpError(400, 'The body is not well-formed UTF-8.')
  const text = body.toString()
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
}

/** Throws 501 for a transfer coding other than chunked (RFC 9112, 6.1), the only one that Node decodes. */
export function checkTransfer({ headers }: IncomingMessage): void {
  const coding = headers['transfer-encoding']
  if (coding === undefined || coding.toLowerCase() === 'chunked') return
  throw new HttpError(
    501,
    `Transfer-Encoding ${truncate(coding, 100)} is not supported; send the body as it is, or in chunks.`,
  )
}

/** Throws 415 for a body that is compressed, or in another charset than UTF-8. */
function checkCoding({ headers }: IncomingMessage): void {
  const encoding = headers['content-encoding']
  if (encoding && encoding !== 'identity') {
    throw new HttpError(415, `Content-Encoding ${truncate(encoding, 100)} is not supported; send the body as it is.`)
  }
  const charset = charsetOf(headers['content-type'])
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    throw new HttpError(415, `The charset ${JSON.stringify(truncate(charset, 100))} is not supported; send UTF-8.`)
  }
}

/** undefined: the type names no charset. */
function charsetOf(type: string | undefined): string | undefined {
  if (type === undefined || !/charset/i.test(type)) return undefined
  try {
    return new MIMEType(type).params.get('charset') ?? undefined
  } catch {
    return undefined
  }
}

const blockBytes = 16 * 1024
/** A piece of this size is kept as it is. */
const largePiece = 4 * 1024
/** The memory of an object besides its bytes. */
const objectBytes = 100
/** So many pieces may have any size; with more, the average size must be `averageBytes`. */
const freePieces = 200
const averageBytes = 16

/** The pieces of one body. Invariant: small pieces are copied into blocks, so that a piece costs its bytes and no object. */
class Pieces {
  readonly #buffers: Buffer[] = []
  #block: Buffer | undefined
  #used = 0
  #count = 0
  /** The length of the body. */
  bytes = 0
  /** The memory that the pieces take until they are joined. */
  held = 0

  get tooMany(): boolean {
    return this.#count > freePieces + this.bytes / averageBytes
  }

  add(piece: Buffer): void {
    this.#count += 1
    this.bytes += piece.length
    // Most bodies are one piece.
    if (this.#count === 1 || piece.length >= largePiece) {
      this.#flush()
      this.#buffers.push(piece)
      this.held += piece.length + objectBytes
      return
    }
    if (!this.#block || this.#used + piece.length > blockBytes) {
      this.#flush()
      this.#block = Buffer.allocUnsafeSlow(blockBytes)
      this.held += blockBytes + objectBytes
    }
    this.#used += piece.copy(this.#block, this.#used)
  }

  #flush(): void {
    if (this.#block) this.#buffers.push(this.#block.subarray(0, this.#used))
    this.#block = undefined
    this.#used = 0
  }

  join(): Buffer {
    this.#flush()
    return this.#buffers.length === 1 ? this.#buffers[0]! : Buffer.concat(this.#buffers)
  }
}
