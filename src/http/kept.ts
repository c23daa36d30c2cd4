/** The values used last: up to a number of them, and up to a size in all. */
export class Kept<T> {
  readonly #values = new Map<string, T>()
  readonly #most: number
  readonly #size: (value: T) => number
  readonly #sizeOfAll: number
  #total = 0

  /** `size`: of one value; its key counts, too. */
  constructor(most: number, sizeOfAll = Number.POSITIVE_INFINITY, size: (value: T) => number = () => 0) {
    this.#most = most
    this.#sizeOfAll = sizeOfAll
    this.#size = size
  }

  get(key: string): T | undefined {
    const value = this.#values.get(key)
    // Order of use is only worth keeping when something may have to go soon.
    if (value !== undefined && (this.#values.size > this.#most / 2 || this.#total > this.#sizeOfAll / 2)) {
      this.#values.delete(key)
      this.#values.set(key, value)
    }
    return value
  }

  set(key: string, value: T): void {
    this.#delete(key)
    this.#values.set(key, value)
    this.#total += key.length + this.#size(value)
    while (this.#values.size > this.#most || this.#total > this.#sizeOfAll)
      this.#delete(this.#values.keys().next().value!)
  }

  #delete(key: string): void {
    const value = this.#values.get(key)
    if (value === undefined) return
    this.#values.delete(key)
    this.#total -= key.length + this.#size(value)
  }
}
