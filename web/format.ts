/** Numbers, durations and times as the console writes them: always the same width of digits, always a unit. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })
const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
const day = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' })

/** 1,204 */
export const count = (n: number): string => whole.format(n)
/** 0.3, 1,204: what happens seldom is not nothing. */
export const rate = (n: number): string => (n >= 10 || n < 0.05 ? count(n) : n.toFixed(1))
/** 1.2K, for the axis of a chart. */
export const compact = (n: number): string => short.format(n)
/** 0.8 %; never 0 % of something, never 100 % before it is all. */
export function percent(part: number, all: number): string {
  if (part <= 0 || all <= 0) return '0 %'
  const p = (part / all) * 100
  if (p < 0.1) return '< 0.1 %'
  if (p >= 100) return `${whole.format(p)} %`
  return p < 10 ? `${p.toFixed(1)} %` : `${Math.floor(p)} %`
}

/** 23 ms, 3.2 s, 2 min 5 s, 1 h 3 min, 2 d 4 h */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < 10_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`
  const s = Math.floor(ms / 1_000)
  if (s < 60) return `${s} s`
  if (s < 3_600) return two(Math.floor(s / 60), 'min', s % 60, 's')
  if (s < 86_400) return two(Math.floor(s / 3_600), 'h', Math.floor((s % 3_600) / 60), 'min')
  return two(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3_600), 'h')
}

const two = (a: number, unitA: string, b: number, unitB: string) => `${a} ${unitA}${b > 0 ? ` ${b} ${unitB}` : ''}`

/** 16:48:05 today, 24 Nov 16:48:05 before. */
export function time(iso: string): string {
  const date = new Date(iso)
  const at = clock.format(date)
  return date.toDateString() === new Date().toDateString() ? at : `${day.format(date)} ${at}`
}

const minutes = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })

/** 16:48 today, 24 Nov 16:48 before. */
export function minute(at: string | number): string {
  const date = new Date(at)
  const text = minutes.format(date)
  return date.toDateString() === new Date().toDateString() ? text : `${day.format(date)} ${text}`
}

/** 16:48, or 16:48:05. */
export const clockOf = (at: number, withSeconds: boolean): string => (withSeconds ? clock : minutes).format(at)

/** One, or many of it. */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`
