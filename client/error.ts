/** The one error that this package throws. `code` says what to do; the message is for people. */

/** Of the server: docs/errors.md has the table. Of dead letters: why a save failed. Of the client: why it could not ask. */
export type Code =
  | 'BAD_USER_INPUT'
  | 'UNAUTHENTICATED'
  | 'FORBIDDEN'
  | 'RATE_LIMITED'
  | 'OVERLOADED'
  | 'QUEUE_FULL'
  | 'QUEUE_UNAVAILABLE'
  | 'OUTCOME_UNKNOWN'
  | 'STORE_UNAVAILABLE'
  | 'ID_CONFLICT'
  | 'CURSOR_EXPIRED'
  | 'INTERNAL_SERVER_ERROR'
  | 'NOT_FOUND'
  | 'GRAPHQL_PARSE_FAILED'
  | 'GRAPHQL_VALIDATION_FAILED'
  | 'OPERATION_RESOLUTION_FAILURE'
  | 'BAD_REQUEST'
  | 'UNDECODABLE'
  | 'REJECTED'
  | 'CRASHED'
  | 'GAVE_UP'
  /** No answer in time: the network or the server is down, or the server does not list this page's origin. */
  | 'UNREACHABLE'
  /** An answer that is not a Spillway server's, such as a proxy's HTML. */
  | 'NOT_SPILLWAY'
  /** The outbox has as many saves as it may. */
  | 'OUTBOX_FULL'
  /** The client was closed. */
  | 'CLOSED'
  /** The save was discarded. */
  | 'ABORTED'

export interface Details {
  /** How long the server asks to wait before the next try. */
  retryAfterMs?: number | undefined
  /** The id that the server's log line has. */
  requestId?: string | undefined
  /** Of the field that failed; undefined: the whole request did. */
  path?: readonly (string | number)[] | undefined
}

export class SpillwayError extends Error implements Details {
  override readonly name = 'SpillwayError'
  readonly code: Code
  declare readonly retryAfterMs?: number | undefined
  declare readonly requestId?: string | undefined
  declare readonly path?: Details['path']

  constructor(code: Code, message: string, details?: Details) {
    super(message)
    Object.assign(this, details)
    this.code = code
  }
}

/** The same request would fail again. A code that is not listed, of another release or of a proxy, is worth another try. */
const final = /^(BAD_|UNAUTH|FORB|ID_|CURSOR|CLOSED)/

export const isFinal = ({ code, retryAfterMs }: SpillwayError): boolean =>
  retryAfterMs === undefined && final.test(code)

/** Whatever else is thrown is of `fetch`, or of a token function: it is shown, and tried again. */
export const errorOf = (thrown: unknown): SpillwayError =>
  thrown instanceof SpillwayError
    ? thrown
    : new SpillwayError('UNREACHABLE', `${thrown}: no network, no server, or CORS_ORIGINS lacks this page.`)

export const closedError = () => new SpillwayError('CLOSED', 'Closed.')
