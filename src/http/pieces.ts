/** The pieces of one body. Invariant: small ones are copied into blocks, so that a piece costs its bytes and no object. */

const blockBytes = 16 * 1024
/** A piece of this size stays as it is. */
const largePiece = 4 * 1024
/** What an object costs besides its bytes. */
const objectBytes = 100
/** Pieces up to which nobody asks how small they are; beyond, they have to have so many bytes on average. */
const freePieces = 200
const averageBytes = 16

export class Pieces {
  readonly #whole: Buffer[] = []
  #block: Buffer | undefined
  #used = 0
  #count = 0
  /** Of the body. */
  bytes = 0
  /** What it takes meanwhile. */
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
      this.#whole.push(piece)
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
    if (this.#block) this.#whole.push(this.#block.subarray(0, this.#used))
    this.#block = undefined
    this.#used = 0
  }

  join(): Buffer {
    this.#flush()
    return this.#whole.length === 1 ? this.#whole[0]! : Buffer.concat(this.#whole)
  }
}
