/**
 * Errors on their way to a client: one table from code to HTTP, used by GraphQL and REST alike. What is no SpillwayError of ours, and
 * not the client's own mistake, is masked: no stack, SQL or host name reaches a client.
 */
import { PothosValidationError } from '@pothos/core'
import { type ExecutionResult, type FormattedExecutionResult, GraphQLError, type GraphQLFormattedError } from 'graphql'
import { type Code, SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { cut } from './cut.ts'

export const httpStatus: Record<Code, number> = {
  BAD_USER_INPUT: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  RATE_LIMITED: 429,
  OVERLOADED: 503,
  ID_CONFLICT: 409,
  CURSOR_EXPIRED: 410,
  QUEUE_FULL: 503,
  QUEUE_UNAVAILABLE: 503,
  OUTCOME_UNKNOWN: 503,
  STORE_UNAVAILABLE: 503,
  INTERNAL_SERVER_ERROR: 500,
}

/** How long to wait, give or take half of it, so that those who were refused together do not come back together. */
const jitter = (ms: number) => Math.round(ms * (0.5 + Math.random()))

/** What a client is told. */
export interface PublicError {
  message: string
  status: number
  code: Code
  retryAfterMs?: number
  id?: string
  ids?: readonly string[]
  /** Of an unexpected error: what the log has it under. */
  requestId?: string
}

/** Turns anything thrown into what a client may know, and logs what it may not. */
export function publicError(error: unknown, log: Log, requestId?: string): PublicError {
  if (error instanceof SpillwayError) {
    const { message, code, retryAfterMs, ids } = error
    return {
      message: cut(message),
      code,
      status: httpStatus[code],
      ...(retryAfterMs === undefined ? {} : { retryAfterMs: jitter(retryAfterMs) }),
      ...(ids === undefined ? {} : ids.length === 1 ? { id: ids[0]! } : { ids }),
    }
  }
  // Pothos' own checks of connection arguments.
  if (error instanceof PothosValidationError)
    return { message: cut(error.message), code: 'BAD_USER_INPUT', status: 400 }
  log.error({ err: error, requestId }, 'unexpected error')
  const shown = { message: 'Unexpected error.', code: 'INTERNAL_SERVER_ERROR', status: 500 } as const
  return requestId === undefined ? shown : { ...shown, requestId }
}

/** The headers that go with an error. */
export function errorHeaders(error: PublicError): Record<string, string> {
  return error.retryAfterMs === undefined ? {} : { 'retry-after': String(Math.ceil(error.retryAfterMs / 1_000)) }
}

export type MaskError = (error: unknown, requestId?: string) => Error

/**
 * For Yoga's `maskedErrors`: GraphQL's own errors (parse, validation, variables) pass, cut to a length; thrown ones become public ones. Those are
 * of an execution that has begun, which answers `application/json` with 200 (`spec`) and other media types with the error's status.
 */
export function maskError(log: Log, introspection: boolean): MaskError {
  return (error, requestId) => {
    const original = error instanceof GraphQLError ? error.originalError : error
    const thrown = error instanceof PothosValidationError ? error : original
    const byGraphQL =
      thrown === undefined ||
      thrown === null ||
      (thrown instanceof GraphQLError && !(thrown instanceof PothosValidationError))
    if (error instanceof GraphQLError && byGraphQL) {
      // Of a body that is no JSON: the words of a library. Yoga still has to find them there, to know the status.
      if (error.extensions.originalError !== undefined)
        Object.defineProperty(error.extensions, 'originalError', { enumerable: false })
      error.message = cut(introspection ? error.message : withoutSuggestion(error.message))
      return error
    }
    const { message, status, ...extensions } = publicError(thrown, log, requestId)
    const known = error instanceof GraphQLError ? error : undefined
    return new GraphQLError(message, {
      ...(known?.nodes ? { nodes: known.nodes } : {}),
      ...(known?.path ? { path: known.path } : {}),
      extensions: {
        ...extensions,
        http: { status, headers: errorHeaders({ message, status, ...extensions }), spec: true },
      },
    })
  }
}

/** A refusal before anything was executed: its status is the answer's, whatever the media type. */
export function refusal(maskError: MaskError, error: unknown): GraphQLError {
  const shown = maskError(error) as GraphQLError
  delete (shown.extensions.http as { spec?: boolean } | undefined)?.spec
  return shown
}

/** Of a document that is named by its hash alone. With this code, and 200, a client sends the whole document. */
export function notPersisted(): GraphQLError {
  return new GraphQLError('PersistedQueryNotSupported', {
    extensions: { code: 'PERSISTED_QUERY_NOT_SUPPORTED', http: { status: 200 } },
  })
}

/** Names of the schema are suggested in errors only where the schema may be asked for. */
export function withoutSuggestion(message: string): string {
  return message.replace(/ ?Did you mean [\s\S]*$/, '')
}

/** Errors as a client is shown them, and what HTTP says of them, where nothing came beside them. */
export interface Shown {
  errors: GraphQLFormattedError[]
  status: number
  headers: Record<string, string>
}

/** Errors of GraphQL in the form in which every client gets them: by the fast path, over Server-Sent Events and over WebSocket; Yoga's are alike. */
export function shownErrors(errors: readonly unknown[], maskError: MaskError, requestId?: string): Shown {
  const shown: Shown = { errors: [], status: 200, headers: {} }
  for (const error of errors) {
    const masked = maskError(error, requestId) as GraphQLError
    const { http, ...extensions } = masked.extensions as { http?: { status?: number; headers?: object } }
    shown.status = Math.max(shown.status, http?.status ?? 200)
    Object.assign(shown.headers, http?.headers)
    // Compiled errors know their locations, not their nodes.
    const { locations, path } = error as Partial<GraphQLError>
    shown.errors.push({
      message: masked.message,
      ...(locations ? { locations } : {}),
      ...(path ? { path } : {}),
      ...(Object.keys(extensions).length > 0 ? { extensions } : {}),
    })
  }
  return shown
}

/** A result of an execution, with its errors as above. */
export function shownResult(result: ExecutionResult, maskError: MaskError): FormattedExecutionResult {
  const { errors, ...rest } = result
  return errors ? { errors: shownErrors(errors, maskError).errors, ...rest } : rest
}

/** What was thrown, one by one: several errors of one request are thrown together. */
export function thrownErrors(error: unknown): readonly unknown[] {
  return error instanceof AggregateError ? error.errors : [error]
}

/** The body of a refusal that GraphQL and REST share: a GraphQL error, so that a client reads both alike. */
export function errorBody(error: PublicError): { errors: GraphQLFormattedError[] } {
  const { message, status: _, ...extensions } = error
  return { errors: [{ message, extensions }] }
}
