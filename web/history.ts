/**
 * What the server counted: in the last five minutes, hour or day, of all its processes, and of one model or of all. Invariant: a step
 * without a point is not known, and is never taken for zero.
 */
import { access } from './access.ts'
import { ask, client, problemOf, textOf } from './client.ts'
import { count, minute, plural } from './format.ts'
import { QueueHistory } from './operations.ts'
import { pause } from './pause.ts'
import { makeStore } from './store.ts'

export type Range = 'FIVE_MINUTES' | 'HOUR' | 'DAY'
export const ranges: Record<Range, { short: string; long: string }> = {
  FIVE_MINUTES: { short: '5 min', long: 'last five minutes' },
  HOUR: { short: '1 hour', long: 'last hour' },
  DAY: { short: '24 hours', long: 'last 24 hours' },
}
/** Only these have a history of their own. */
export const mostModels = 8

export interface Quantiles {
  p50: number
  p95: number
  p99: number
}

type Rate = 'accepted' | 'refused' | 'persisted' | 'deadLettered'

export interface Point extends Record<Rate, number | null> {
  at: string
  backlog: number | null
  ack: Quantiles | null
  saveToEvent: Quantiles | null
}

export interface History {
  from: string
  to: string
  stepMs: number
  points: Point[]
}

/** After the end of a step, all processes have added what they counted. */
const settledMs = 800
const againMs = 2_000
const key = 'spillway.range'
const kept = sessionStorage.getItem(key)

export const history = makeStore({
  range: (kept !== null && kept in ranges ? kept : 'FIVE_MINUTES') as Range,
  /** Empty: all of them. */
  model: '',
  /** Of this range and model. */
  shown: undefined as History | undefined,
  /** The last five minutes of all models. */
  recent: undefined as History | undefined,
  problem: '',
})

let wake = new AbortController()

export function showHistory(part: { range: Range } | { model: string }): void {
  history.patch({ ...part, shown: undefined })
  sessionStorage.setItem(key, history.get().range)
  wake.abort()
}

export async function watchHistory(): Promise<never> {
  let mayBefore = access.get().may.admin
  access.follow(() => {
    const { admin } = access.get().may
    if (admin && !mayBefore) wake.abort()
    mayBefore = admin
  })
  for (;;) {
    wake = new AbortController()
    if (access.get().may.admin) await read()
    else history.patch({ shown: undefined, recent: undefined })
    await pause(Math.max(500, Math.min(nextIn(history.get().recent), 5_000)), wake.signal)
  }
}

/** In how many milliseconds there is another point. */
function nextIn(known: History | undefined): number {
  return known ? Date.parse(known.to) + known.stepMs + settledMs - client.$now() : againMs
}

async function read(): Promise<void> {
  try {
    const recent = await readOne('FIVE_MINUTES', '')
    const { range, model, shown } = history.get()
    const isRecent = range === 'FIVE_MINUTES' && model === ''
    const next = isRecent ? recent : nextIn(shown) <= 0 || !shown ? await readOne(range, model) : shown
    const now = history.get()
    history.patch({ recent, problem: '', ...(now.range === range && now.model === model && { shown: next }) })
  } catch (error) {
    history.patch({ problem: textOf(problemOf(error)) })
  }
}

async function readOne(range: Range, model: string): Promise<History | undefined> {
  return (await ask(QueueHistory, 'admin', { range, model: model || null })).queueHistory ?? undefined
}

/** A point of each step, oldest first; undefined where nothing was counted. */
export function stepsOf({ from, to, stepMs, points }: History): { at: number; point: Point | undefined }[] {
  const byTime = new Map(points.map((point) => [Date.parse(point.at), point]))
  const [first, end] = [Date.parse(from), Date.parse(to)]
  return Array.from({ length: Math.round((end - first) / stepMs) }, (_, i) => {
    const at = first + i * stepMs
    return { at, point: byTime.get(at) }
  })
}

/** The point of the last step, or of the one before, as long as not every process has added to the last. */
export function newest(known: History | undefined): Point | undefined {
  const last = known?.points.at(-1)
  return last && Date.parse(last.at) >= Date.parse(known!.to) - 2 * known!.stepMs ? last : undefined
}

/** How many there were; undefined if that is not known. */
export function total(known: History | undefined, rate: Rate): number | undefined {
  const counted = known?.points.flatMap((point) => point[rate] ?? []) ?? []
  if (counted.length === 0) return undefined
  return Math.round((counted.reduce((sum, each) => sum + each, 0) * known!.stepMs) / 1_000)
}

/** What the chart shows, in a few sentences. */
export function inWords(known: History, range: Range): string {
  const { points } = known
  const span = `In the ${ranges[range].long}`
  if (points.length === 0)
    return `${span}, nothing was counted: no process of Spillway ran, or its events log was away.`
  const said = (rate: Rate, one: string, verb: string) => {
    const all = total(known, rate)
    return all === undefined ? `${one}s ${verb}: not known` : `${plural(all, one)} ${verb}`
  }
  const backlogs = points.filter(({ backlog }) => backlog !== null)
  const most = backlogs.reduce<Point | undefined>((a, b) => (a && a.backlog! >= b.backlog! ? a : b), undefined)
  const now = newest(known)?.backlog
  const backlog = most
    ? ` The backlog was ${count(most.backlog!)} at most${most.backlog! > 0 ? `, at ${minute(most.at)},` : ''} and ${
        now === null || now === undefined ? 'is not known now' : `is ${count(now)} now`
      }.`
    : ' The backlog is not known.'
  const missing = stepsOf(known).filter(({ point }) => !point).length
  const gaps =
    missing > 0 ? ` Nothing was counted in ${plural(missing, 'step')} of ${count(stepsOf(known).length)}.` : ''
  return `${span}: ${said('accepted', 'save', 'accepted')}, ${said('persisted', 'row', 'persisted')}, ${said('refused', 'save', 'refused')}, ${said('deadLettered', 'save', 'dead-lettered')}.${backlog}${gaps}`
}
