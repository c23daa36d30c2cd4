/** Dead letters are written, retried and discarded in bounded steps: other clients of the queue come between two steps. */
import { SpillwayError } from '../model/error.ts'
import type { DeadLetterInput } from './queue.ts'

const maxPerStep = 200
const maxLengthPerStep = 4 * 1024 * 1024

/** Splits dead letters into what one script, or one transaction, may write: it copies the body of each. */
export function stepsOf(deadLetters: readonly DeadLetterInput[]): DeadLetterInput[][] {
  const steps: DeadLetterInput[][] = []
  let length = 0
  for (const deadLetter of deadLetters) {
    length += deadLetter.entry.body.length
    const last = steps.at(-1)
    if (last && last.length < maxPerStep && length <= maxLengthPerStep) last.push(deadLetter)
    else {
      steps.push([deadLetter])
      length = deadLetter.entry.body.length
    }
  }
  return steps
}

/**
 * Calls `step` until all ids are done, with at most `idsPerStep` of them, and returns how many dead letters changed. `step` returns how
 * many it changed, and with how many of its ids it is done.
 */
export async function inSteps(
  ids: readonly string[],
  idsPerStep: number,
  step: (some: string[]) => Promise<[count: number, done: number]>,
): Promise<number> {
  let left = [...new Set(ids)]
  let total = 0
  while (left.length > 0) {
    try {
      const [count, done] = await step(left.slice(0, idsPerStep))
      total += count
      left = left.slice(done)
    } catch (error) {
      throw total > 0 && error instanceof SpillwayError ? partlyDone(error, total) : error
    }
  }
  return total
}

function partlyDone(cause: SpillwayError, count: number): SpillwayError {
  return new SpillwayError(
    'OUTCOME_UNKNOWN',
    `${count} dead letters are done; of the others it is unknown, because the queue failed with ${cause.code}. Repeat the call for the others.`,
    { retryAfterMs: cause.retryAfterMs ?? 1_000, cause },
  )
}
