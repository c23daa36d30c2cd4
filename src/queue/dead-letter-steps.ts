/** Dead letters are written in bounded steps: other clients of the queue come between two steps. */
import { badInput, SpillwayError } from '../model/error.ts'
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

/** Why `replace` leaves a dead letter where it is. */
export function keptInPlace(id: string): SpillwayError {
  return new SpillwayError(
    'ID_CONFLICT',
    `The id ${id} belongs to another message, which is in the queue or a dead letter. Nothing was changed; wait until that message is saved.`,
  )
}
