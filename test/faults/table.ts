/**
 * The results of the fault suite, one line a fault as it finishes. Invariant: a fault has a line only when it was injected and judged, or
 * when it says `not run` and why; none is ever shown as passed because nothing was looked at.
 */
import { appendFileSync } from 'node:fs'
import type { Verdict } from '../harness/stack.ts'
import { faultNumbers } from './catalogue.ts'

export type FaultSetUp = 'redis + mariadb' | 'redis + galera' | 'embedded'

/**
 * `id` is the number in docs/faults.md: B1, C3 …, and with F in front where the fault was seen on a running release (FA6). Call it
 * before the verdict is asserted: a loss is a result, too.
 */
export function record(id: string, setUp: FaultSetUp, verdict: Verdict): void {
  const { fault, acknowledged, rows, deadLetters, lost, doubled, altered, unannounced } = verdict
  write({ id, setUp, fault, acknowledged, rows, deadLetters, lost, doubled, altered, unannounced })
}

/** A fault that cannot be injected on this machine. */
export function notRun(id: string, setUp: FaultSetUp, fault: string, reason: string): void {
  write({ id, setUp, fault, notRun: reason })
}

export interface Line extends Partial<Omit<Verdict, 'fault'>> {
  id: string
  setUp: FaultSetUp
  fault: string
  notRun?: string
}

/** SPILLWAY_FAULT_TABLE: a file that each line is appended to as JSON; `node test/faults/write-table.ts FILE` makes the table of it. */
function write(line: Line): void {
  if (!faultNumbers().has(line.id)) {
    throw new Error(
      `docs/faults.md does not define the fault "${line.id}": add a row for it, or use a number that it defines`,
    )
  }
  const file = process.env.SPILLWAY_FAULT_TABLE
  if (file) appendFileSync(file, `${JSON.stringify(line)}\n`)
  console.log(formatLine(line))
}

export function formatLine(line: Line): string {
  const name = `${line.id.padEnd(5)} ${line.setUp.padEnd(15)} ${line.fault.padEnd(64)}`
  if (line.notRun !== undefined) return `${name} not run: ${line.notRun}`
  const number = (word: string, value: number | undefined) => `${word} ${String(value ?? '-').padStart(6)}`
  return [
    name,
    number('acknowledged', line.acknowledged),
    number('rows', line.rows),
    number('dead letters', line.deadLetters),
    number('lost', line.lost),
    number('doubled', line.doubled),
  ].join('  ')
}
