/**
 * A scenario: contenders, measured in turns for some rounds, each round in another order, and what is to be reached. Invariant: what is
 * compared was measured in the same round, minutes apart at most. A figure is the median of the rounds, a ratio that of two such figures;
 * beside it are the least and the largest ratio of a round.
 */
import { type Contender, type Figures, NotRun, type Running } from './contender.ts'
import type { Pace, Parts } from './parts.ts'
import { median } from './samples.ts'

export interface Scenario {
  /** For --only. */
  name: string
  title: string
  /** The figure that contenders are compared by, and its unit. */
  figure: string
  unit: string
  /** What a reader has to know. */
  note: string
  contenders: Contender[]
  targets: Target[]
  /** Whose process is profiled in a full run: the first contender's. */
  profile?: boolean
  /** Why it cannot be measured on this machine, if it cannot. */
  unable?(pace: Pace): string | undefined
  /** What runs beside all contenders; returns what ends it. */
  stage?(parts: Parts): Promise<() => Promise<void>>
}

export type Target =
  | /** The first contender's figure is at least, or at most, so many times this one's. Without `figure`: the scenario's own. */
  { beside: string; figure?: string; unit?: string; atLeast?: number; atMost?: number }
  | { figure: string; unit: string; atLeast?: number; atMost?: number }

export interface Line {
  scenario: string
  what: string
  ours: number
  unit: string
  /** `notRun`: why it has no value. */
  beside?: { name: string; role: Contender['role']; value: number; notRun?: string | undefined }
  ratio?: number
  /** The least and the largest ratio of a round. */
  range?: readonly [number, number]
  target: string
  /** Undefined: nothing was to be reached. */
  reached: boolean | undefined
}

export interface Result {
  scenario: Scenario
  /** Medians, by contender. */
  figures: Map<string, Figures>
  /** The contenders without figures, and why. */
  notRun: ReadonlyMap<string, string>
  lines: Line[]
  /** Why there are no figures. */
  unable?: string
}

export async function runScenario(scenario: Scenario, parts: Parts, progress: (text: string) => void): Promise<Result> {
  const unable = scenario.unable?.(parts.pace)
  if (unable !== undefined) {
    progress(`${scenario.name}: not measured: ${unable}`)
    return unmeasured(scenario, unable)
  }
  const rounds: Map<string, Figures>[] = []
  const running = new Map<string, Running>()
  const notRun = new Map<string, string>()
  const leave = await scenario.stage?.(parts)
  try {
    for (const contender of scenario.contenders) {
      progress(`${scenario.name}: starting ${contender.name}`)
      try {
        running.set(contender.name, await contender.start(parts))
      } catch (error) {
        if (!(error instanceof NotRun)) throw error
        notRun.set(contender.name, error.message)
        progress(`${scenario.name}: ${contender.name}: not run: ${error.message}`)
      }
    }
    for (let round = 1; round <= parts.pace.rounds; round++) {
      const figures = new Map<string, Figures>()
      for (const [name, contender] of rotated([...running], round - 1)) {
        progress(`${scenario.name}: round ${round} of ${parts.pace.rounds}, ${name}`)
        const measured = await contender.measure()
        figures.set(name, measured)
        progress(`${scenario.name}: round ${round} of ${parts.pace.rounds}, ${name}: ${show(measured)}`)
      }
      rounds.push(figures)
    }
  } finally {
    for (const contender of running.values()) await contender.stop()
    await leave?.()
  }
  return summarise(scenario, rounds, notRun)
}

export function unmeasured(scenario: Scenario, unable: string): Result {
  return { scenario, figures: new Map(), notRun: new Map(), lines: [], unable }
}

function rotated<T>(all: readonly T[], by: number): T[] {
  const first = by % all.length
  return [...all.slice(first), ...all.slice(0, first)]
}

function summarise(
  scenario: Scenario,
  rounds: readonly Map<string, Figures>[],
  notRun: ReadonlyMap<string, string>,
): Result {
  const figures = new Map<string, Figures>()
  for (const { name } of scenario.contenders.filter(({ name }) => !notRun.has(name))) {
    const all = rounds.map((round) => round.get(name)!)
    const medians: Figures = {}
    for (const figure of Object.keys(all[0]!)) {
      // A single error in any round counts.
      const values = all.map((measured) => measured[figure]!)
      medians[figure] = figure === 'errors' ? Math.max(...values) : median(values)
    }
    figures.set(name, medians)
  }
  const first = scenario.contenders[0]!
  const ours = figures.get(first.name)!
  const clean = !ours.errors
  const lines = scenario.targets.map((target): Line => {
    const { figure = scenario.figure, unit = scenario.unit, atLeast, atMost } = target
    const bound = atLeast !== undefined ? `≥ ${number(atLeast)}` : atMost !== undefined ? `≤ ${number(atMost)}` : ''
    const reached = (value: number) =>
      bound === '' ? undefined : clean && value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity)
    const line = { scenario: scenario.title, what: figure, ours: ours[figure]!, unit }
    if ('beside' in target) {
      const { role } = scenario.contenders.find(({ name }) => name === target.beside)!
      const reason = notRun.get(target.beside)
      if (reason !== undefined) {
        const beside = { name: target.beside, role, value: Number.NaN, notRun: reason }
        return { ...line, beside, target: '', reached: undefined }
      }
      const value = figures.get(target.beside)![figure]!
      const ratio = ours[figure]! / value
      const ratios = rounds.map((round) => round.get(first.name)![figure]! / round.get(target.beside)![figure]!)
      return {
        ...line,
        beside: { name: target.beside, role, value },
        ratio,
        range: [Math.min(...ratios), Math.max(...ratios)],
        target: bound === '' || role === 'limit' ? bound : `${bound} ×`,
        reached: reached(ratio),
      }
    }
    return { ...line, target: bound === '' ? '' : `${bound} ${unit}`.trim(), reached: reached(line.ours) }
  })
  return { scenario, figures, notRun, lines }
}

export function show(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${number(value)}`)
    .join(', ')
}

/** Three digits, or all of a whole number: 31,400 · 4.21 · 0.087 */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Number.isInteger(value) && Math.abs(value) < 1_000) return String(value)
  if (Math.abs(value) >= 1_000) return Number(value.toPrecision(3)).toLocaleString('en-US')
  return String(Number(value.toPrecision(3)))
}
