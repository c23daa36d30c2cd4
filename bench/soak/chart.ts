/** docs/soak.svg: the memory of each process and the depth of the queue over the time, with a mark for each fault. */
import { text } from '../svg.ts'
import type { Aftermath } from './faults.ts'
import { livesOf, type Sample } from './figures.ts'

const [width, left, right] = [880, 70, 150]
const plotWidth = width - left - right
const colours = { 'API 1': 0, 'API 2': 1, 'worker 1': 2, 'worker 2': 3, Redis: 4, MariaDB: 5 } as const

const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .mark { font-size: 10px }
  line { stroke: #d0d7de } .fault { stroke: #cf222e; stroke-opacity: .35 }
  polyline { fill: none; stroke-width: 1.5 }
  .c0 { stroke: #0969da } .c1 { stroke: #54aeff } .c2 { stroke: #1a7f37 } .c3 { stroke: #4ac26b } .c4 { stroke: #bc4c00 } .c5 { stroke: #8250df }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } line { stroke: #30363d } .fault { stroke: #ff7b72 } }`

interface Line {
  colour: number
  points: readonly (readonly [at: number, value: number])[]
}

interface Plot {
  title: string
  height: number
  most: number
  lines: readonly Line[]
}

export function chart(samples: readonly Sample[], aftermaths: readonly Aftermath[]): string {
  const seconds = samples.at(-1)!.at
  const names = [...new Set(aftermaths.map(({ name }) => name))]
  const lives = livesOf(samples).filter(({ name }) => name in colours)
  const memory = lives.map(({ name, points }) => ({ colour: colours[name as keyof typeof colours], points }))
  const depth = samples.flatMap(({ at, depth }) => (depth === undefined ? [] : [[at, depth] as const]))
  const most = (lines: readonly Line[]) => Math.max(1, ...lines.flatMap(({ points }) => points.map(([, y]) => y)))
  const queue = [{ colour: 0, points: depth }]
  const plots: Plot[] = [
    { title: 'resident memory, MiB', height: 300, most: most(memory), lines: memory },
    { title: 'entries in the queue', height: 160, most: most(queue), lines: queue },
  ]
  const x = (at: number) => left + (at / seconds) * plotWidth
  const parts: string[] = []
  let y = 40
  for (const plot of plots) {
    parts.push(...drawn(plot, y, x))
    for (const { at } of aftermaths) parts.push(line('fault', x(at), y, x(at), y + plot.height))
    y += plot.height + 50
  }
  for (const { name, at } of aftermaths) parts.push(text(x(at), 36, letterOf(names.indexOf(name)), 'mark', 'middle'))
  Object.entries(colours).forEach(([name, colour], i) => {
    const at = 60 + i * 20
    parts.push(`<polyline class="c${colour}" points="${width - right + 14},${at} ${width - right + 34},${at}"/>`)
    parts.push(text(width - right + 40, at + 4, name))
  })
  const minutes = Math.max(1, Math.round(seconds / 60 / 6))
  for (let minute = 0; minute * 60 <= seconds; minute += minutes)
    parts.push(text(x(minute * 60), y - 30, `${minute} min`, undefined, 'middle'))
  names.forEach((name, i) => {
    parts.push(text(left + (i % 3) * 270, y + Math.floor(i / 3) * 20, `${letterOf(i)}  ${name}`))
  })
  const height = y + Math.ceil(names.length / 3) * 20
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>Memory and queue of Spillway under load and faults</title>
<style>${style}
</style>
${parts.join('\n')}
</svg>
`
}

/** Of a kind of fault, in the chart and in the table. */
export const letterOf = (kind: number): string => String.fromCharCode(65 + kind)

function drawn({ title, height, most, lines }: Plot, top: number, x: (at: number) => number): string[] {
  const step = stepOf(most)
  const end = Math.ceil(most / step) * step
  const y = (value: number) => top + height - (value / end) * height
  const parts = [text(left, top - 18, title, 'title')]
  for (let value = 0; value <= end; value += step) {
    parts.push(line('', left, y(value), left + plotWidth, y(value)))
    parts.push(text(left - 8, y(value) + 4, value.toLocaleString('en-US'), undefined, 'end'))
  }
  for (const { colour, points } of lines) {
    const path = points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
    parts.push(`<polyline class="c${colour}" points="${path}"/>`)
  }
  return parts
}

const line = (kind: string, ...[x1, y1, x2, y2]: number[]) =>
  `<line${kind && ` class="${kind}"`} x1="${x1!.toFixed(1)}" y1="${y1!.toFixed(1)}" x2="${x2!.toFixed(1)}" y2="${y2!.toFixed(1)}"/>`

/** 1, 2 or 5 times a power of ten: about five of them reach the largest value. */
function stepOf(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most / 5))
  return [1, 2, 5, 10].map((times) => times * power).find((step) => most / step <= 5)!
}
