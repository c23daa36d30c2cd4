/** Dead letters are made and taken out in steps, so that however many they are, nobody waits long for the one that is at it. */
import { SpillwayError } from '../model/error.ts'
import type { DeadLetterInput } from './queue.ts'

const buriedAtOnce = 200
const buriedLength = 4 * 1024 * 1024

/** What one script, or transaction, may bury: the body of each letter is copied. */
export function stepsOf(deadLetters: readonly DeadLetterInput[]): DeadLetterInput[][] {
  const steps: DeadLetterInput[][] = []
  let length = 0
  for (const deadLetter of deadLetters) {
    length += deadLetter.entry.body.length
    const last = steps.at(-1)
    if (last && last.length < buriedAtOnce && length <= buriedLength) last.push(deadLetter)
    else {
      steps.push([deadLetter])
      length = deadLetter.entry.body.length
    }
  }
  return steps
}

/** Does all ids, some at once; `step` tells how many letters that were, and with how many of the ids it is done. */
export async function inSteps(
  ids: readonly string[],
  atOnce: number,
  step: (some: string[]) => Promise<[count: number, done: number]>,
): Promise<number> {
  let left = [...new Set(ids)]
  let total = 0
  while (left.length > 0) {
    try {
      const [count, done] = await step(left.slice(0, atOnce))
      total += count
      left = left.slice(done)
    } catch (error) {
      throw total > 0 && error instanceof SpillwayError ? partly(error, total) : error
    }
  }
  return total
}

function partly(cause: SpillwayError, count: number): SpillwayError {
  return new SpillwayError(
    'OUTCOME_UNKNOWN',
    `${count} dead letters are done, of the rest it is unknown: the queue failed with ${cause.code}. Ask again for the rest.`,
    { retryAfterMs: cause.retryAfterMs ?? 1_000, cause },
  )
}
