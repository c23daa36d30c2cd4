/** What was measured, as text for a terminal and as bench/RESULTS.md. */
import { machine, settings } from './machine.ts'
import type { Pace } from './parts.ts'
import type { Profile } from './profile.ts'
import { type Line, number, type Result } from './scenario.ts'

const columns = ['scenario', 'ours', 'beside', 'theirs', 'ratio', 'least – most', 'target', 'reached']

export function terminalTable(results: readonly Result[]): string {
  const rows = [columns, ...rowsOf(results)]
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function markdown(
  results: readonly Result[],
  profiles: ReadonlyMap<string, Profile>,
  pace: Pace,
  fsync: string,
): string {
  const unmeasured = results.filter(({ unable }) => unable !== undefined).length
  const missed = results.flatMap(({ lines }) => lines).filter(({ reached }) => reached === false)
  return [
    '# What it measures',
    '',
    `\`npm run bench\` made this file, on ${new Date().toISOString().slice(0, 10)}. ${missed.length === 0 ? 'Every target was reached.' : `${missed.length} target${missed.length === 1 ? ' was' : 's were'} missed.`}${unmeasured === 0 ? '' : ` Not measured: ${unmeasured} of ${results.length} scenarios.`}`,
    '',
    '![The rates, ours and theirs](results.svg)',
    '',
    table(columns, rowsOf(results)),
    '',
    'A ratio is that of the two medians beside it; the least and the most are of single rounds. A ratio to a limit has no ×: it is a share of what the machine can do. [docs/speed.md](../docs/speed.md) says where the differences come from.',
    '',
    '## How',
    '',
    ...[...machine(), fsync, ...settings(pace)].map((line) => `- ${line}`),
    '',
    '## All contenders',
    '',
    'The contenders are in `bench/peers/`, each as its users would write it.',
    '',
    ...results.flatMap(detailsOf),
    ...(profiles.size === 0 ? [] : ['## Where the time goes', '', profileNote, '']),
    ...[...profiles].flatMap(([title, profile]) => profileOf(title, profile)),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n')
}

const profileNote =
  "CPU profiles of Spillway's process (of the busiest thread) under the same load, taken apart from the rounds above; shares of the time in which the process was not idle."

function rowsOf(results: readonly Result[]): string[][] {
  return results.flatMap(({ scenario, lines, unable }) =>
    unable === undefined
      ? lines.map((line, i) => cellsOf(line, i === 0))
      : [columns.map((_, i) => [scenario.title, 'not measured'][i] ?? '')],
  )
}

function cellsOf(
  { scenario, what, ours, unit, beside, ratio, range, target, reached }: Line,
  first: boolean,
): string[] {
  const figure = what === 'rate' ? '' : `${what} `
  const limit = beside?.role === 'limit'
  return [
    first ? scenario : '',
    `${figure}${withUnit(ours, unit)}`,
    beside ? `${beside.name}${limit ? ' (limit)' : ''}` : '',
    beside?.notRun !== undefined ? `not run: ${beside.notRun}` : beside ? withUnit(beside.value, unit) : '',
    ratio === undefined ? '' : `${number(ratio)}${limit ? '' : ' ×'}`,
    range === undefined
      ? ''
      : `${number(range[0])} – ${number(range[1])}${range[0] < 1 && range[1] > 1 ? ', within noise' : ''}`,
    target,
    reached === undefined ? '' : reached ? 'yes' : 'NO',
  ]
}

function withUnit(value: number, unit: string): string {
  return unit.startsWith('/') ? `${number(value)}${unit}` : `${number(value)} ${unit}`.trim()
}

function detailsOf({ scenario, figures, notRun, unable }: Result): string[] {
  if (unable !== undefined) return [`### ${scenario.title}`, '', `Not measured: ${unable}.`, '']
  const names = [...new Set([...figures.values()].flatMap((measured) => Object.keys(measured)))]
  const rows = [...figures].map(([name, measured]) => [
    name,
    ...names.map((figure) => (measured[figure] === undefined ? '' : number(measured[figure]))),
  ])
  for (const [name, reason] of notRun) rows.push([name, `not run: ${reason}`, ...names.slice(1).map(() => '')])
  const head = names.map((name) =>
    /^p\d+$/.test(name) ? `${name} ms` : name === 'rate' ? scenarioRate(scenario) : name,
  )
  return [`### ${scenario.title}`, '', scenario.note, '', table(['', ...head], rows), '']
}

const scenarioRate = ({ figure, unit }: Result['scenario']) => (figure === 'rate' ? unit : '/s')

function profileOf(title: string, { busy, owners, functions }: Profile): string[] {
  const percent = (share: number) => `${Math.round(share * 100)} %`
  const list = (shares: Profile['owners']) => shares.map(({ name, share }) => `${name} ${percent(share)}`).join(' · ')
  return [
    `### ${title}`,
    '',
    `Busy ${percent(busy)} of the time. By owner: ${list(owners)}.`,
    '',
    `By function: ${list(functions)}.`,
    '',
  ]
}

/** As `npm run format` would have it. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i]!.length)))
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}
