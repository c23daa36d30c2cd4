/** How many files the process may have open: each connection takes one. */
import { readFileSync } from 'node:fs'

/** For the data files, the connections to Redis and to the database, modules, and connections that are refused. */
const others = 600

/** What to do where the limit is too low for so many connections; undefined: it is not, or the system does not tell it. */
export function openFilesAdvice(maxConnections: number, limits: string = ownLimits()): string | undefined {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1])
  const needed = maxConnections + others
  if (Number.isNaN(limit) || limit >= needed) return undefined
  const fewer = limit > others ? `, or set MAX_CONNECTIONS to ${limit - others}` : ''
  return `the limit of open files is ${limit}, and MAX_CONNECTIONS=${maxConnections} needs ${needed}: raise it (ulimit -n ${needed})${fewer}`
}

function ownLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return ''
  }
}
