/**
 * The one presenter of errors: a table from code to HTTP status, used by GraphQL and REST alike. Any error other than a SpillwayError or a
 * mistake of the client is masked: no stack, SQL or host name reaches a client.
 */
import { PothosValidationError } from '@pothos/core'
import { type ExecutionResult, type FormattedExecutionResult, GraphQLError, type GraphQLFormattedError } from 'graphql'
import { type Code, SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'

export const httpStatus: Record<Code, number> = {
  BAD_USER_INPUT: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
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

/** Spreads retries by half of the time, so that clients that were refused together do not retry together. */
const jitter = (ms: number) => Math.round(ms * (0.5 + Math.random()))

/** An error as a client may see it. */
export interface PublicError {
  message: string
  status: number
  code: Code
  retryAfterMs?: number
  id?: string
  ids?: readonly string[]
  /** Of an unexpected error: the id that its log line has. */
  requestId?: string
}

/** An error that only HTTP has: a status of its own, and the headers that go with it. */
export class HttpError extends Error {
  readonly error: PublicError
  readonly headers: Record<string, string>
  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message)
    this.error = { message, status, code: status === 404 ? 'NOT_FOUND' : 'BAD_USER_INPUT' }
    this.headers = headers
  }
}

/** Turns anything thrown into an error that a client may see, and logs an unexpected one. */
export function publicError(error: unknown, log: Log, requestId?: string): PublicError {
  if (error instanceof SpillwayError) {
    const { message, code, retryAfterMs, ids } = error
    return {
      message: truncate(message),
      code,
      status: httpStatus[code],
      ...(retryAfterMs === undefined ? {} : { retryAfterMs: jitter(retryAfterMs) }),
      ...(ids === undefined ? {} : ids.length === 1 ? { id: ids[0]! } : { ids }),
    }
  }
  // Pothos' own checks of connection arguments.
  if (error instanceof PothosValidationError)
    return { message: truncate(error.message), code: 'BAD_USER_INPUT', status: 400 }
  log.error({ err: error, requestId }, 'unexpected error')
  const shown = { message: 'Unexpected error.', code: 'INTERNAL_SERVER_ERROR', status: 500 } as const
  return requestId === undefined ? shown : { ...shown, requestId }
}

/** The HTTP headers of an error. */
export function errorHeaders(error: PublicError): Record<string, string> {
  return error.retryAfterMs === undefined ? {} : { 'retry-after': String(Math.ceil(error.retryAfterMs / 1_000)) }
}

export type MaskError = (error: unknown, requestId?: string) => Error

/**
 * For Yoga's `maskedErrors`. GraphQL's own errors (parse, validation, variables) pass, truncated; thrown errors become public ones. A thrown
 * error belongs to an execution that has begun: the response is 200 for `application/json` (`spec`) and the error's status otherwise.
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
      // For a body that is no JSON, this is the message of a library. Yoga needs it to find the status; clients must not see it.
      if (error.extensions.originalError !== undefined)
        Object.defineProperty(error.extensions, 'originalError', { enumerable: false })
      error.message = truncate(introspection ? error.message : withoutSuggestion(error.message))
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

/** An error from before the execution: the response has its status, whatever the media type. */
export function requestError(maskError: MaskError, error: unknown): GraphQLError {
  const shown = maskError(error) as GraphQLError
  delete (shown.extensions.http as { spec?: boolean } | undefined)?.spec
  return shown
}

/** For a document that is named by its hash alone. With this code, and 200, a client sends the full document. */
export function notPersisted(): GraphQLError {
  return new GraphQLError('PersistedQueryNotSupported', {
    extensions: { code: 'PERSISTED_QUERY_NOT_SUPPORTED', http: { status: 200 } },
  })
}

/** Errors suggest names of the schema only if introspection is on. */
export function withoutSuggestion(message: string): string {
  return message.replace(/ ?Did you mean [\s\S]*$/, '')
}

/** Errors as a client sees them, with the status and headers of a response that holds no data. */
export interface Shown {
  errors: GraphQLFormattedError[]
  status: number
  headers: Record<string, string>
}

/** GraphQL errors in their public form: for the fast path, Server-Sent Events and WebSocket. Yoga's have the same form. */
export function shownErrors(errors: readonly unknown[], maskError: MaskError, requestId?: string): Shown {
  const shown: Shown = { errors: [], status: 200, headers: {} }
  for (const error of errors) {
    const masked = maskError(error, requestId) as GraphQLError
    const { http, ...extensions } = masked.extensions as { http?: { status?: number; headers?: object } }
    shown.status = Math.max(shown.status, http?.status ?? 200)
    Object.assign(shown.headers, http?.headers)
    // Errors of compiled documents have locations, and no nodes.
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

/**
 * Whether a result with errors has nothing else: every root field failed. Root fields are nullable, so that one that fails does not take its
 * neighbours along; a response in which all failed has the status and the headers of its errors, as for a full queue (P6).
 */
export function isFailure(data: Readonly<Record<string, unknown>> | null | undefined): boolean {
  return data == null || Object.values(data).every((value) => value === null)
}

/** A result of an execution, with its errors in their public form. */
export function shownResult(result: ExecutionResult, maskError: MaskError): FormattedExecutionResult {
  const { errors, ...rest } = result
  return errors ? { errors: shownErrors(errors, maskError).errors, ...rest } : rest
}

/** The errors in what was thrown: several errors of one request are thrown as one AggregateError. */
export function thrownErrors(error: unknown): readonly unknown[] {
  return error instanceof AggregateError ? error.errors : [error]
}

/** The body of an error response, for GraphQL and REST: a GraphQL error, so that a client reads both in the same way. */
export function errorBody(error: PublicError): { errors: GraphQLFormattedError[] } {
  const { message, status: _, ...extensions } = error
  return { errors: [{ message, extensions }] }
}

/** Of an error's message, in bytes of JSON. */
const messageBytes = 800

/**
 * The text, or its beginning if it takes more than `maxBytes` as JSON. Every error and log line that repeats input truncates it, so that
 * neither grows with the input.
 */
export function truncate(text: string, maxBytes = messageBytes): string {
  // A code unit takes at most six bytes, as \u0000.
  if (text.length * 6 <= maxBytes) return text
  let shown = text.slice(0, maxBytes)
  for (;;) {
    const bytes = Buffer.byteLength(JSON.stringify(shown)) - 2
    if (bytes <= maxBytes) break
    shown = shown.slice(0, Math.min(shown.length - 1, Math.floor((shown.length * maxBytes) / bytes)))
  }
  return shown === text ? text : `${shown.toWellFormed()}…`
}
