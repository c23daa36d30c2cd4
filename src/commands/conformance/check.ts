/** A check proves one sentence of docs/protocol.md. */
import { isDeepStrictEqual } from 'node:util'
import type { Subject } from './subject.ts'

export interface Check {
  /** Of docs/protocol.md. */
  heading: string
  /** What holds, with the server as the subject. */
  title: string
  /** Rejects where it does not hold. */
  run(subject: Subject): Promise<void>
  /** Why it cannot be run here; undefined: it can. */
  unless?(subject: Subject): string | undefined
}

export function equal(actual: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(actual, expected))
    throw new Error(`${what} is ${JSON.stringify(actual)}; expected ${JSON.stringify(expected)}`)
}

export function holds(condition: unknown, problem: string): asserts condition {
  if (!condition) throw new Error(problem)
}
