/** Whether the machine has the memory that its API processes may take together. */
import { totalmem } from 'node:os'
import { getHeapStatistics } from 'node:v8'

const mebibyte = 1024 * 1024
/** What an API process may take besides its heap: see "Memory" in docs/operations.md. */
const besideHeap = 384
/** Less is not enough for a large request. */
const leastHeap = 128

/** In MiB. */
export interface Memory {
  /** The heap limit of a process. */
  heap: number
  /** Of the container, or else of the machine. */
  all: number
}

/** Says what to do if it has not; undefined if it has. */
export function memoryAdvice(processes: number, { heap, all }: Memory = ownMemory()): string | undefined {
  const needed = processes * (heap + besideHeap)
  if (needed <= all) return undefined
  const fits = Math.floor(all / processes) - besideHeap
  const advice =
    fits >= leastHeap
      ? `set NODE_OPTIONS=--max-old-space-size=${fits}`
      : `set API_PROCESSES to at most ${Math.max(1, Math.floor(all / (leastHeap + besideHeap)))}`
  return `${processes} API processes may take ${needed} MiB, and there are ${all}: ${advice}, or give them more memory`
}

function ownMemory(): Memory {
  const machine = totalmem()
  const container = process.constrainedMemory()
  const all = container > 0 ? Math.min(container, machine) : machine
  return { heap: Math.round(getHeapStatistics().heap_size_limit / mebibyte), all: Math.floor(all / mebibyte) }
}
