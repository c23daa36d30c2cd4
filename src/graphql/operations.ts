/** What is read from a WebSocket's messages, and written into them. */
import { type DocumentNode, type ExecutionResult, type FormattedExecutionResult, GraphQLError } from 'graphql'
import { withoutHttp } from '../http/errors.ts'
import type { Yoga } from './documents.ts'

/** As over HTTP: there Yoga gives the code. */
export function parseAs({ parse }: ReturnType<Yoga['getEnveloped']>, query: string): DocumentNode {
  try {
    return parse(query)
  } catch (error) {
    if (error instanceof GraphQLError) error.extensions.code ??= 'GRAPHQL_PARSE_FAILED'
    throw error
  }
}

export function publicResult(result: ExecutionResult): FormattedExecutionResult {
  const { errors, ...rest } = result
  return errors ? { errors: errors.map((error) => withoutHttp(error).toJSON()), ...rest } : rest
}
