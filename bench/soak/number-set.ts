/** A set of whole numbers from 0 on, a bit each: ten million of them take 1.2 MiB. */
export class NumberSet {
  #bytes = new Uint8Array(1 << 10)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** False where it is there already. */
  add(n: number): boolean {
    const at = Math.floor(n / 8)
    if (at >= this.#bytes.length) {
      const larger = new Uint8Array(Math.max(at + 1, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    const bit = 1 << (n % 8)
    if ((this.#bytes[at]! & bit) !== 0) return false
    this.#bytes[at]! |= bit
    this.#size += 1
    return true
  }

  has(n: number): boolean {
    return ((this.#bytes[Math.floor(n / 8)] ?? 0) & (1 << (n % 8))) !== 0
  }
}
