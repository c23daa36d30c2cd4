/** All checks, and the outcome of one. */
import type { Check } from './check.ts'
import { checks as ofSaves } from './saves.ts'
import { checks as ofStreams } from './streams.ts'
import type { Subject } from './subject.ts'

export const checks: readonly Check[] = [...ofSaves, ...ofStreams]

export interface Result {
  check: Check
  outcome: 'passed' | 'failed' | 'not run'
  reason?: string
}

export async function runCheck(check: Check, subject: Subject): Promise<Result> {
  const reason = check.unless?.(subject)
  if (reason !== undefined) return { check, outcome: 'not run', reason }
  try {
    await check.run(subject)
    return { check, outcome: 'passed' }
  } catch (error) {
    return { check, outcome: 'failed', reason: (error as Error).message.slice(0, 2_000) }
  }
}
