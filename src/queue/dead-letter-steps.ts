/** Dead letters are written in bounded steps: other clients of the queue come between two steps. */
import { badInput, type SpillwayError } from '../model/error.ts'
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

export function noHandle(): SpillwayError {
  return badInput('this is not a cursor of a dead letter; use one that deadLetters returned')
}
