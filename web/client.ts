/**
 * The client of the API that all of the console uses. Invariant: whatever is asked with a token shows in access.ts what the token allows.
 */
import { createClient, SpillwayError } from '../client/index.ts'
import { access, granted, type Right, refused } from './access.ts'
import type { Operation } from './operations.ts'

export const client = createClient('', { token: () => access.get().token })

export const clientOf = (model: string) => client[model[0]!.toLowerCase() + model.slice(1)]!

/** `right`: what it takes where authentication is on. */
export function ask<Data, Variables extends Readonly<Record<string, unknown>>>(
  operation: Operation<Data, Variables>,
  right: Right,
  variables: Variables,
): Promise<Data> {
  return noting(right, client.$query<Data>(operation, variables))
}

/** The end of a call tells whether the token has the right. */
export async function noting<Data>(right: Right, call: PromiseLike<Data>): Promise<Data> {
  try {
    const data = await call
    granted(right)
    return data
  } catch (error) {
    refused(right, problemOf(error))
    throw error
  }
}

/** Whatever else is thrown is a fault of the console. */
export function problemOf(error: unknown): SpillwayError {
  if (error instanceof SpillwayError) return error
  throw error
}

export const unreachable = ({ code }: SpillwayError): boolean => code === 'UNREACHABLE' || code === 'NOT_SPILLWAY'

export const textOf = (problem: SpillwayError): string =>
  unreachable(problem) ? 'The server cannot be reached.' : problem.message
