/** Which process something belongs to, in a form that tells it from a later one with the same pid (in a container, all are pid 1). */
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

export interface Owner {
  host: string
  /** Opaque: pid, and where the system tells it, the boot and the time it was started at. */
  process: string
}

export const thisProcess: Owner = { host: hostname(), process: `${process.pid} ${startOf(process.pid)}` }

/** False only where it certainly is gone; of another host's, nothing can be told. */
export function mayLive(owner: Owner): boolean {
  if (owner.host !== thisProcess.host || owner.process === thisProcess.process) return true
  const pid = Number.parseInt(owner.process, 10)
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return owner.process === `${pid} ${startOf(pid)}`
}

function startOf(pid: number): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    // The program's name comes in parentheses and may hold anything; the start is the 20th field after it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
    return `${boot} ${fields[19]}`
  } catch {
    return ''
  }
}
