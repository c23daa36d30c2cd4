/** Backlog, saves/s and persisted/s over five minutes. uPlot draws it; what it shows is said in words, too. */
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { compact, count } from '../format.ts'
import { queue, ratesAt, type Sample, windowMs } from '../queue.ts'
import { useStore } from '../store.ts'

const height = 200

export function Chart() {
  const { samples } = useStore(queue)
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  useEffect(() => {
    const dark = matchMedia('(prefers-color-scheme: dark)')
    const make = () => {
      plot.current?.destroy()
      plot.current = new uPlot(options(box.current!), dataOf(queue.get().samples), box.current!)
    }
    make()
    dark.addEventListener('change', make)
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: box.current!.clientWidth, height }))
    resized.observe(box.current!)
    return () => {
      dark.removeEventListener('change', make)
      resized.disconnect()
      plot.current?.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(dataOf(samples)), [samples])
  return <div class="chart" ref={box} role="img" aria-label={inWords(samples)} />
}

function dataOf(samples: readonly Sample[]): uPlot.AlignedData {
  const now = (samples.at(-1)?.at ?? Date.now()) / 1_000
  const x: number[] = []
  const depth: (number | null)[] = []
  const saves: (number | null)[] = []
  const persisted: (number | null)[] = []
  samples.forEach((sample, i) => {
    const rates = ratesAt(samples, i)
    x.push(sample.at / 1_000 - now)
    depth.push(sample.status?.depth ?? null)
    saves.push(rates ? rates.saves : null)
    persisted.push(rates ? rates.persisted : null)
  })
  return [x, depth, saves, persisted]
}

function inWords(samples: readonly Sample[]): string {
  const known = samples.filter(({ status }) => status)
  const most = Math.max(0, ...known.map(({ status }) => status!.depth))
  return `The last five minutes: the backlog was ${count(most)} at most and is ${count(known.at(-1)?.status?.depth ?? 0)} now.`
}

function options(box: HTMLElement): uPlot.Options {
  const style = getComputedStyle(box)
  const color = (name: string) => style.getPropertyValue(name)
  const axis = { stroke: color('--muted'), font: `11px ${style.fontFamily}`, ticks: { show: false }, gap: 6 }
  const grid = { stroke: color('--grid'), width: 1 }
  const values = (_: uPlot, splits: number[]) => splits.map(compact)
  const fromZero = (_: uPlot, _min: number | null, max: number | null): uPlot.Range.MinMax => [
    0,
    Math.max(10, (max ?? 0) * 1.1),
  ]
  return {
    width: box.clientWidth,
    height,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 0, 0, 0],
    scales: {
      x: { time: false, range: [-windowMs / 1_000, 0] },
      depth: { range: fromZero },
      rate: { range: fromZero },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        splits: () => [-300, -240, -180, -120, -60, 0],
        values: (_, splits) => splits.map((s) => (s === 0 ? 'now' : `${s / 60} min`.replace('-', '−'))),
        size: 26,
      },
      { ...axis, scale: 'depth', grid, values, size: 46 },
      {
        ...axis,
        scale: 'rate',
        side: 1,
        grid: { show: false },
        values: (_, splits) => splits.map((s) => `${compact(s)}/s`),
        size: 54,
      },
    ],
    series: [
      {},
      { scale: 'depth', stroke: color('--depth'), fill: color('--depth-fill'), width: 2, points: { show: false } },
      { scale: 'rate', stroke: color('--saves'), width: 1.5, dash: [5, 3], points: { show: false } },
      { scale: 'rate', stroke: color('--persisted'), width: 1.5, points: { show: false } },
    ],
  }
}
