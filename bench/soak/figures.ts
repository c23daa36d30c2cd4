/** What is looked at during the soak, and the slopes of memory. */
import { residentKiB } from '../process-figures.ts'
import type { Load } from './load.ts'
import type { System } from './system.ts'

export interface Sample {
  /** Seconds after the beginning of the run. */
  at: number
  /** Resident MiB of each process that runs. */
  memory: Readonly<Record<string, { pid: number; mib: number }>>
  /** Undefined where Redis did not answer. */
  depth: number | undefined
  redisMiB: number | undefined
  /** Acknowledged a second, since the sample before. */
  rate: number
  p50: number
  p99: number
}

/** From the first to the last sample of one process. */
export interface Life {
  name: string
  pid: number
  /** Seconds. */
  from: number
  until: number
  points: readonly (readonly [at: number, mib: number])[]
}

export class Sampler {
  readonly samples: Sample[] = []
  readonly #system: System
  readonly #load: Load
  readonly #others: Readonly<Record<string, number>>
  #acknowledged = 0
  #lastAt = 0

  /** `others`: processes that are no part of Spillway. */
  constructor(system: System, load: Load, others: Readonly<Record<string, number>>) {
    this.#system = system
    this.#load = load
    this.#others = others
  }

  async take(at: number): Promise<Sample> {
    const { processes, redis, mariadb } = this.#system
    const pids = { Redis: redis.pid, MariaDB: mariadb.pid, ...this.#others }
    const all = [...processes.map(({ name, pid }) => [name, pid] as const), ...Object.entries(pids)]
    const latency = this.#load.takeLatency()
    const { size } = this.#load.acknowledged
    const rate = (size - this.#acknowledged) / (at - this.#lastAt)
    ;[this.#acknowledged, this.#lastAt] = [size, at]
    const [depth, redisMiB] = await Promise.all([this.#system.depth(), this.#system.redisMiB()])
    const sample: Sample = {
      at,
      memory: Object.fromEntries(all.flatMap(([name, pid]) => memoryOf(name, pid))),
      depth,
      redisMiB,
      rate,
      p50: latency.quantile(0.5),
      p99: latency.quantile(0.99),
    }
    this.samples.push(sample)
    return sample
  }
}

function memoryOf(name: string, pid: number | undefined): [string, { pid: number; mib: number }][] {
  try {
    const mib = pid === undefined ? Number.NaN : residentKiB(pid) / 1_024
    return Number.isNaN(mib) ? [] : [[name, { pid: pid!, mib }]]
  } catch {
    // It has ended just now.
    return []
  }
}

export function livesOf(samples: readonly Sample[]): Life[] {
  const lives = new Map<string, Life & { points: [number, number][] }>()
  for (const { at, memory } of samples) {
    for (const [name, { pid, mib }] of Object.entries(memory)) {
      const key = `${name} ${pid}`
      const life = lives.get(key) ?? { name, pid, from: at, until: at, points: [] }
      life.until = at
      life.points.push([at, mib])
      lives.set(key, life)
    }
  }
  return [...lives.values()]
}

export interface Growth {
  name: string
  /** The most that any process of this name had. */
  most: number
  /** Of the one that lived for at least half of the run, if any. */
  line?: { from: number; until: number; perHour: number; first: number; last: number }
}

/** MiB, and minutes: a line through the memory of a process, after a sixth of the run for warming up. */
export function growthOf(samples: readonly Sample[]): Growth[] {
  const seconds = samples.at(-1)?.at ?? 0
  const lives = livesOf(samples)
  return [...new Set(lives.map(({ name }) => name))].map((name) => {
    const its = lives.filter((life) => life.name === name)
    const most = Math.max(...its.flatMap(({ points }) => points.map(([, mib]) => mib)))
    const long = its.find(({ from, until }) => until - from >= seconds / 2)
    if (!long) return { name, most }
    const points = long.points.filter(([at]) => at >= long.from + seconds / 6)
    const [from, until] = [points[0]![0], points.at(-1)![0]]
    const slope = slopeOf(points)
    const middle = meanOf(points.map(([, mib]) => mib)) - slope * meanOf(points.map(([at]) => at))
    const [first, last] = [from, until].map((at) => middle + slope * at) as [number, number]
    return { name, most, line: { from: from / 60, until: until / 60, perHour: slope * 3_600, first, last } }
  })
}

/** Least squares: how much the second value of the points grows with the first. */
export function slopeOf(points: readonly (readonly [number, number])[]): number {
  const x = meanOf(points.map(([at]) => at))
  const y = meanOf(points.map(([, value]) => value))
  const covariance = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return covariance / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
