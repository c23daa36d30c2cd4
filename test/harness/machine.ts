/** The processes that a process has started, as the system sees them: the API processes of a primary. */
import { readdirSync, readFileSync } from 'node:fs'

/** Their process ids, whether or not they listen yet. */
export function apiProcesses(primary: number): number[] {
  return childrenOf(primary).filter((pid) => isApiProcess(pid))
}

/** Of these, the ones that run: an id may have been given to another program. */
export function stillRunning(pids: readonly number[]): number[] {
  return pids.filter((pid) => isApiProcess(pid))
}

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

function isApiProcess(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('api-process=')
  } catch {
    return false
  }
}

/** The processes that a process has started and that run. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
