/** Numbers that were measured, for percentiles that are exact: all of them are kept. */
export class Samples {
  #values = new Float64Array(1 << 16)
  #count = 0
  #sorted = true

  add(value: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(this.#count * 2)
      larger.set(this.#values)
      this.#values = larger
    }
    this.#values[this.#count++] = value
    this.#sorted = false
  }

  get count(): number {
    return this.#count
  }

  /** `at` from 0 to 1. NaN when there are no samples. */
  quantile(at: number): number {
    if (!this.#sorted) {
      this.#values.subarray(0, this.#count).sort()
      this.#sorted = true
    }
    return this.#values[Math.min(this.#count - 1, Math.floor(at * this.#count))] ?? Number.NaN
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
