/**
 * The edit of a dead letter: its input as text, checked before it is sent. Invariant: what the server gets is what the text says, digit for
 * digit.
 */
import { ask, problemOf, textOf, unreachable } from './client.ts'
import { jsonOf, Problem } from './form.ts'
import { EditDeadLetter } from './operations.ts'
import { done } from './run.ts'

type Input = { value: Record<string, unknown> } | { problem: string }

export function readInput(text: string): Input {
  const value = jsonOf(text)
  if (value === undefined) return { problem: `This is not JSON. ${syntaxProblem(text)}` }
  if (value instanceof Problem) return { problem: `The input ${value.text}.` }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { problem: 'The input must be an object with the columns by name, such as {"column": "value"}.' }
  return { value: value as Record<string, unknown> }
}

/** What the browser says is wrong, and where. */
function syntaxProblem(text: string): string {
  try {
    JSON.parse(text)
    return ''
  } catch (error) {
    return (error as SyntaxError).message
  }
}

/** Resolves to what is wrong; undefined: it is in the queue again. */
export async function edit(id: string, input: Record<string, unknown>): Promise<string | undefined> {
  try {
    await ask(EditDeadLetter, 'admin', { id, input })
  } catch (error) {
    const problem = problemOf(error)
    if (!unreachable(problem)) return textOf(problem)
    return 'The server did not answer. Send it again: an edit that was done is not done twice.'
  }
  done('The edited save is back in the queue, under its id.')
  return undefined
}
