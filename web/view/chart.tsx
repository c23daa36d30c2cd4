/** Lines over the time of a history, drawn by uPlot. A line is broken where there is no value; what it shows is said in words, too. */
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { clockOf, compact, duration } from '../format.ts'
import { type History, type Point, stepsOf } from '../history.ts'

export interface Line {
  value: (point: Point) => number | null | undefined
  /** `ms` is logarithmic. */
  scale: 'count' | 'rate' | 'ms'
  /** A custom property of CSS. */
  color: string
  dash?: number[]
  fill?: string
}

interface Props {
  name: string
  label: string
  history: History
  lines: readonly Line[]
  height: number
  /** The step that is looked at; undefined: none. */
  at: number | undefined
  lookAt: (step: number | undefined) => void
}

export function Chart({ name, label, history, lines, height, at, lookAt }: Props) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const props = useRef({ history, lines, lookAt })
  props.current = { history, lines, lookAt }
  useEffect(() => {
    const element = box.current!
    const dark = matchMedia('(prefers-color-scheme: dark)')
    const make = () => {
      plot.current?.destroy()
      const { history, lines } = props.current
      const look = (step: number | undefined) => props.current.lookAt(step)
      plot.current = new uPlot(
        options(element, lines, height, () => props.current.history, look),
        dataOf(history, lines),
        element,
      )
    }
    make()
    dark.addEventListener('change', make)
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }))
    resized.observe(element)
    return () => {
      dark.removeEventListener('change', make)
      resized.disconnect()
      plot.current?.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(dataOf(history, lines)), [history])
  useEffect(() => {
    const chart = plot.current
    if (!chart || (chart.cursor.idx ?? undefined) === at) return
    const left = at === undefined ? -10 : chart.valToPos(chart.data[0]![at]!, 'x')
    chart.setCursor({ left, top: at === undefined ? -10 : 0 })
  }, [at])
  return (
    <div class="chart" data-chart={name} ref={box} role="img" aria-label={label} style={{ height: `${height}px` }} />
  )
}

function dataOf(history: History, lines: readonly Line[]): uPlot.AlignedData {
  const steps = stepsOf(history)
  return [
    steps.map(({ at }) => at / 1_000),
    ...lines.map(({ value }) => steps.map(({ point }) => (point && value(point)) ?? null)),
  ]
}

function options(
  box: HTMLElement,
  lines: readonly Line[],
  height: number,
  history: () => History,
  lookAt: (step: number | undefined) => void,
): uPlot.Options {
  const style = getComputedStyle(box)
  const color = (name: string) => style.getPropertyValue(name)
  const font = `11px ${style.fontFamily}`
  const axis = { stroke: color('--muted'), font, ticks: { show: false }, gap: 6 }
  /** Room for the longest label, and never less than `least`, so that the lines seldom move. */
  const roomFor =
    (least: number) =>
    ({ ctx }: uPlot, labels: string[] | null): number => {
      // uPlot remembers which font it has set.
      ctx.save()
      ctx.font = font
      const longest = Math.max(0, ...(labels ?? []).map((label) => ctx.measureText(label).width))
      ctx.restore()
      return Math.max(least, Math.ceil(longest) + axis.gap + 4)
    }
  const grid = { stroke: color('--grid'), width: 1 }
  const seconds = (iso: string) => Date.parse(iso) / 1_000
  const fromZero = (_: uPlot, _min: number | null, max: number | null): uPlot.Range.MinMax => [
    0,
    Math.max(10, (max ?? 0) * 1.1),
  ]
  const axes = {
    count: { values: (_: uPlot, splits: number[]) => splits.map(compact), size: roomFor(46) },
    rate: {
      values: (_: uPlot, splits: number[]) => splits.map((s) => `${compact(s)}/s`),
      size: roomFor(54),
      side: 1 as const,
      grid: { show: false },
    },
    ms: {
      filter: (_: uPlot, splits: number[]) => splits.map((s) => (Number.isInteger(Math.log10(s)) ? s : null)),
      values: (_: uPlot, splits: (number | null)[]) => splits.map((s) => (s === null ? '' : duration(s))),
      size: roomFor(54),
    },
  }
  const scales = [...new Set(lines.map(({ scale }) => scale))]
  return {
    width: box.clientWidth,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'history' } },
    hooks: { setCursor: [({ cursor: { idx } }) => lookAt(idx ?? undefined)] },
    // Where no axis is at the right, the last time needs room for its half.
    padding: [8, scales.includes('rate') ? 0 : 26, 0, 0],
    scales: {
      x: { time: true, range: () => [seconds(history().from), seconds(history().to)] },
      count: { range: fromZero },
      rate: { range: fromZero },
      ms: { distr: 3, range: decades },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 70,
        values: (_, splits, _axis, _space, incr) => splits.map((s) => clockOf(s * 1_000, incr < 60)),
        size: 26,
      },
      ...scales.map((scale) => ({ ...axis, grid, scale, ...axes[scale] })),
    ],
    series: [
      {},
      ...lines.map(({ scale, color: name, dash, fill }) => ({
        scale,
        stroke: color(name),
        width: scale === 'count' ? 2 : 1.5,
        ...(dash && { dash }),
        ...(fill && { fill: color(fill) }),
        points: { show: false, size: 4, fill: color(name), filter: alone },
      })),
    ],
  }
}

/** A whole number of decades, so that the axis has a line to read. */
function decades(_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax {
  const low = Math.floor(Math.log10(Math.max(0.1, min ?? 1)))
  const high = Math.ceil(Math.log10(Math.max(1, max ?? 1_000)))
  return [10 ** low, 10 ** Math.max(high, low + 2)]
}

/** Values between two gaps: no line would show them. */
function alone({ data }: uPlot, series: number): number[] {
  const values = data[series]!
  const isKnown = (i: number) => (values[i] ?? null) !== null
  return Array.from(values.keys()).filter((i) => isKnown(i) && !isKnown(i - 1) && !isKnown(i + 1))
}
