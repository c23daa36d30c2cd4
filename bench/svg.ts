/** The picture of the results: a group of bars for each scenario that compares. Its colours follow the reader's light or dark theme. */
import { number, type Result } from './scenario.ts'

const width = 880
const labelWidth = 330
const barWidth = 400
const barHeight = 18
const gap = 6
const headHeight = 34

const style = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .ours { fill: #0969da } .peer { fill: #8c959f } .limit { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .ours { fill: #4493f8 } .peer { fill: #6e7681 } .limit { stroke: #9198a1 }
  }`

export function picture(results: readonly Result[]): string {
  const parts: string[] = []
  let y = 8
  for (const { scenario, figures } of results.filter(({ figures }) => figures.size > 1)) {
    const { title, figure, unit, contenders } = scenario
    const less = ['ms', 'µs', 'KiB'].includes(unit) ? ', less is better' : ''
    parts.push(text(12, y + 20, `${title} (${unit}${less})`, 'title'))
    y += headHeight
    const values = contenders
      .filter(({ name }) => figures.has(name))
      .map(({ name, role }) => ({ name, role, value: figures.get(name)![figure]! }))
    const most = Math.max(...values.map(({ value }) => value))
    for (const { name, role, value } of values.sort((a, b) => b.value - a.value)) {
      const length = Math.max(1, (value / most) * barWidth)
      parts.push(text(labelWidth - 10, y + 14, role === 'limit' ? `${name} (limit)` : name, undefined, 'end'))
      parts.push(
        `<rect class="${role}" x="${labelWidth}" y="${y}" width="${length.toFixed(1)}" height="${barHeight}" rx="2"/>`,
      )
      parts.push(text(labelWidth + length + 8, y + 14, number(value)))
      y += barHeight + gap
    }
    y += 12
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" role="img">
<title>Spillway beside what people use instead</title>
<style>${style}
</style>
${parts.join('\n')}
</svg>
`
}

export function text(x: number, y: number, content: string, kind?: string, anchor?: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  const attributes = `${kind ? ` class="${kind}"` : ''}${anchor ? ` text-anchor="${anchor}"` : ''}`
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${attributes}>${escaped}</text>`
}
