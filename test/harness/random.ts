/** Chance that can be had again: a test that goes by it prints its seed, and SEED=… makes it do the same once more. */
export interface Random {
  readonly seed: number
  /** From 0 up to, not including, `below`. */
  whole(below: number): number
  pick<T>(from: readonly T[]): T
}

/** Mulberry32. */
export function seeded(seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))): Random {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const whole = (below: number) => Math.floor(next() * below)
  return { seed, whole, pick: (from) => from[whole(from.length)]! }
}
