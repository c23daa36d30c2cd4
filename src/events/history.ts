/**
 * The history of a Spillway: what all of its processes counted, in buckets of three widths, kept beside the events log. Each process adds its
 * counts to a bucket, so that several processes make one picture. Durations are counted on a logarithmic scale, and such counts can be added.
 * Invariant: the history is bounded, by the number of buckets and by `mostBytes` of each.
 */

/** Numbers by name; each is the sum of what the processes added, but for `depth`. */
export interface Counts {
  [name: string]: number | Counts
}

/** One process adds this to a bucket. A process that adds nothing is told apart from one that counted nothing. */
export interface BucketCounts extends Counts {
  /** How many times API processes, and workers, have added. */
  apis: number
  workers: number
  models: Record<string, ModelCounts>
}

export interface ModelCounts extends Counts {
  accepted: number
  persisted: number
  refused: number
  deadLettered: number
  /** Durations: the number of their step on the scale -> how many. */
  ack: Record<string, number>
  event: Record<string, number>
}

export interface Ring {
  name: string
  /** The width of a bucket. */
  widthMs: number
  /** How many buckets are kept. */
  length: number
}

/** How often a process adds its counts, and the width of the narrowest buckets. */
export const addEveryMs = 5_000
export const rings = {
  fiveMinutes: { name: '5m', widthMs: addEveryMs, length: 62 },
  hour: { name: '1h', widthMs: 15_000, length: 242 },
  day: { name: '1d', widthMs: 300_000, length: 290 },
} as const satisfies Record<string, Ring>
/** So many models have counts of their own; those of the others are counted together. */
export const mostModels = 8
export const otherModels = '*'
/** A bucket of more bytes takes no more. */
export const mostBytes = 16_384

export interface Bucket {
  /** When it begins, by the clock of the store; milliseconds since 1970. */
  at: number
  counts: BucketCounts
}

export interface HistoryStore {
  /** Adds to the last complete bucket of `addEveryMs`, and to the wider ones that it is in. Returns the time of the store. Rejects as EventLog.append does. */
  add(counts: BucketCounts): Promise<number>
  /** The buckets that are complete, oldest first, and the time of the store. */
  read(ring: Ring): Promise<{ now: number; buckets: Bucket[] }>
}

/** When the bucket begins that counts are added to now, in a ring of this width. */
export function bucketAt(now: number, { widthMs }: Ring): number {
  const last = (Math.floor(now / addEveryMs) - 1) * addEveryMs
  return Math.floor(last / widthMs) * widthMs
}

export const slotOf = (at: number, { widthMs, length }: Ring): number => (at / widthMs) % length

/** Adds `more` to `counts`. */
export function addCounts(counts: Counts, more: Counts): void {
  for (const [name, value] of Object.entries(more)) {
    const known = counts[name]
    if (typeof value === 'number') counts[name] = typeof known === 'number' && name !== 'depth' ? known + value : value
    else if (typeof known === 'object') addCounts(known, value)
    else counts[name] = value
  }
}

/** The buckets that are complete at `now`, oldest first, of texts "at counts". */
export function bucketsOf(texts: readonly (string | null)[], now: number, { widthMs, length }: Ring): Bucket[] {
  const buckets = texts.flatMap((text): Bucket[] => {
    const separator = text?.indexOf(' ') ?? -1
    if (text === null || separator < 0) return []
    const at = Number(text.slice(0, separator))
    if (at + widthMs > now || at < now - widthMs * length) return []
    try {
      return [{ at, counts: JSON.parse(text.slice(separator + 1)) }]
    } catch {
      return []
    }
  })
  return buckets.sort((a, b) => a.at - b.at)
}

/** The scale: each step is a fifth longer than the one before it, from 0.1 ms on. */
const firstSeconds = 0.0001
const growth = Math.log(1.2)
const mostSteps = 90

export function stepOf(seconds: number): number {
  if (!(seconds > firstSeconds)) return 0
  return Math.min(mostSteps, Math.ceil(Math.log(seconds / firstSeconds) / growth))
}

/** The longest duration of a step: no more than a fifth above the duration that was counted. */
export function secondsOf(step: number): number {
  return firstSeconds * Math.exp(step * growth)
}

/** The duration, in seconds, that this part of the counted durations does not exceed; undefined if none was counted. */
export function quantileOf(durations: Record<string, number>, part: number): number | undefined {
  const steps = Object.entries(durations).sort(([a], [b]) => Number(a) - Number(b))
  const all = steps.reduce((sum, [, count]) => sum + count, 0)
  let left = all * part
  for (const [step, count] of steps) {
    left -= count
    if (left <= 1e-9) return secondsOf(Number(step))
  }
  return undefined
}
