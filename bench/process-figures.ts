/** What a process takes of the machine, from /proc. */
import { readFileSync } from 'node:fs'
import { childrenOf } from '../test/harness/machine.ts'

/** Of a second: what Linux counts CPU time in (USER_HZ). */
const ticksPerSecond = 100

export function residentKiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

/** The CPU time of all threads so far, in user and kernel mode. */
export function cpuMs(pid: number): number {
  return ticksMs(pid, 2)
}

/** As above, and of the processes that it has started, whether or not they still run: PostgreSQL has one for each connection. */
function familyCpuMs(pid: number): number {
  // Also user and kernel mode of the children that have ended.
  let ms = ticksMs(pid, 4)
  for (const child of childrenOf(pid)) {
    try {
      ms += familyCpuMs(child)
    } catch {
      // It has ended just now.
    }
  }
  return ms
}

/** The sum of the first so many of the times in /proc/PID/stat. */
function ticksMs(pid: number, times: number): number {
  // The name, in parentheses, may have blanks.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (fields.slice(11, 11 + times).reduce((sum, ticks) => sum + Number(ticks), 0) / ticksPerSecond) * 1_000
}

/** What parts of a system take in CPU between `begin` and `end`. A part is one process or several, with their children. */
export class CpuMeter {
  readonly #parts: Readonly<Record<string, readonly number[]>>
  #before = new Map<string, number>()
  readonly #taken = new Map<string, number>()

  constructor(parts: Readonly<Record<string, readonly number[]>>) {
    this.#parts = parts
  }

  #now(): Map<string, number> {
    return new Map(
      Object.entries(this.#parts).map(([name, pids]) => [name, pids.reduce((sum, pid) => sum + familyCpuMs(pid), 0)]),
    )
  }

  begin(): void {
    this.#before = this.#now()
  }

  end(): void {
    for (const [name, ms] of this.#now()) this.#taken.set(name, ms - this.#before.get(name)!)
  }

  /** Microseconds an operation: `CPU µs` is of all parts. */
  perOperation(operations: number): Record<string, number> {
    const each = [...this.#taken].map(([name, ms]) => [`${name} µs`, (ms * 1_000) / operations] as const)
    return { 'CPU µs': each.reduce((sum, [, us]) => sum + us, 0), ...Object.fromEntries(each) }
  }
}

/** The most files that a process may have open. Node raises its own limit to it. */
export function openFilesLimit(): number {
  const [, hard] = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
  return hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard)
}

export function availableMiB(): number {
  return Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) / 1_024
}
