/** The numbers that docs/faults.md defines, and its table of results. */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Line } from './table.ts'

const page = new URL('../../docs/faults.md', import.meta.url)
const resultsBegin = '<!-- results: begin -->'
const resultsEnd = '<!-- results: end -->'

/** Number → description, in the order of the page. */
export function faultNumbers(): Map<string, string> {
  const [catalogue] = readFileSync(page, 'utf8').split(resultsBegin)
  return new Map([...catalogue!.matchAll(/^\| ([A-Z][A-Z0-9-]*) +\| (.+?) +\|$/gm)].map(([, id, text]) => [id!, text!]))
}

/** The table in Markdown. The last line of a fault counts where it has several. */
export function resultsTable(lines: readonly Line[]): string {
  const order = [...faultNumbers().keys()]
  const last = new Map(lines.map((line) => [`${line.setUp} ${line.id} ${line.fault}`, line]))
  const row = ({ id, fault, notRun, ...verdict }: Line) => {
    const counts = [verdict.acknowledged, verdict.rows, verdict.deadLetters, verdict.lost, verdict.doubled]
    const cells =
      notRun === undefined ? counts.map((n) => (n ?? 0).toLocaleString('en')) : [`not run: ${notRun}`, '', '', '', '']
    return `| ${[id, fault, ...cells].join(' | ')} |`
  }
  const rows = (['redis + mariadb', 'redis + galera', 'embedded'] as const).flatMap((setUp) => {
    const found = [...last.values()].filter((line) => line.setUp === setUp)
    found.sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id))
    return found.length === 0 ? [] : [`| **${setUp}** | | | | | | |`, ...found.map(row)]
  })
  return [
    '| # | fault | acknowledged | rows | dead letters | lost | doubled |',
    '| --- | --- | ---: | ---: | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}

export function writeResults(table: string): void {
  const text = readFileSync(page, 'utf8')
  const begin = text.indexOf(resultsBegin) + resultsBegin.length
  writeFileSync(page, `${text.slice(0, begin)}\n${table}\n${text.slice(text.indexOf(resultsEnd))}`)
}
