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

export interface Slope {
  name: string
  /** Minutes, of what the slope is of. */
  from: number
  until: number
  mibPerHour: number
  first: number
  last: number
}

/** Of the processes that lived for at least half of the run, after a sixth of it for warming up. */
export function slopesOf(samples: readonly Sample[]): Slope[] {
  const seconds = samples.at(-1)?.at ?? 0
  return livesOf(samples)
    .filter(({ from, until }) => until - from >= seconds / 2)
    .map(({ name, from, points }) => {
      const measured = points.filter(([at]) => at >= from + seconds / 6)
      const [start, end] = [measured[0]!, measured.at(-1)!]
      return {
        name,
        from: start[0] / 60,
        until: end[0] / 60,
        mibPerHour: slopeOf(measured) * 3_600,
        first: start[1],
        last: end[1],
      }
    })
}

/** Least squares: how much the second value of the points grows with the first. */
export function slopeOf(points: readonly (readonly [number, number])[]): number {
  const mean = (i: 0 | 1) => points.reduce((sum, point) => sum + point[i], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const covariance = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return covariance / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}
