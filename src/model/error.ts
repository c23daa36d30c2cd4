/**
 * Every error that a client can get, by code. One table (http/errors.ts) turns a code into GraphQL and HTTP. An error that is not a
 * SpillwayError is a defect: the client gets INTERNAL_SERVER_ERROR, without its message.
 */
export const codes = [
  /** The input breaks a rule that the message names, with its limit. Sending it again will not help. */
  'BAD_USER_INPUT',
  'UNAUTHENTICATED',
  'FORBIDDEN',
  /** Of HTTP: there is nothing at the path, or no save with the id; GraphQL answers null. Of an edit: there is no dead letter with the id. */
  'NOT_FOUND',
  /** One client sent too many requests at once. */
  'RATE_LIMITED',
  /** Certainly not enqueued: the requests of all clients together exceed what this process can serve. */
  'OVERLOADED',
  /** Certainly not enqueued: the queue is at its capacity. */
  'QUEUE_FULL',
  /** Certainly not enqueued: the queue cannot be reached, or refuses to write. */
  'QUEUE_UNAVAILABLE',
  /** May have been enqueued: the queue did not reply in time, or the connection broke. Retry with the id: it is saved once. */
  'OUTCOME_UNKNOWN',
  /** The database cannot be read at the moment. Saves go on. */
  'STORE_UNAVAILABLE',
  /** The id has other content. */
  'ID_CONFLICT',
  /** The cursor is too old, or from another log: events after it are missing. Read a page and subscribe with its savedCursor. */
  'CURSOR_EXPIRED',
  'INTERNAL_SERVER_ERROR',
] as const
export type Code = (typeof codes)[number]

export class SpillwayError extends Error {
  override readonly name = 'SpillwayError'
  readonly code: Code
  /** How long to wait before trying again, in milliseconds; undefined if trying again will not help. */
  readonly retryAfterMs: number | undefined
  /** The ids of the saves whose outcome is unknown, to retry with. */
  readonly ids: readonly string[] | undefined

  constructor(
    code: Code,
    message: string,
    details: { retryAfterMs?: number; ids?: readonly string[]; cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause })
    this.code = code
    this.retryAfterMs = details.retryAfterMs
    this.ids = details.ids
  }
}

/** The input breaks the rule that `message` names. */
export function badInput(message: string): SpillwayError {
  return new SpillwayError('BAD_USER_INPUT', message)
}

/** Why a message became a dead letter. */
export interface Failure {
  /** ID_CONFLICT, UNDECODABLE, REJECTED (the database rejected the row), CRASHED (workers crashed while processing it) or GAVE_UP. */
  code: FailureCode
  message: string
  /** How often the row was inserted alone. */
  attempts: number
  failedAt: Date
}

export const failureCodes = ['ID_CONFLICT', 'UNDECODABLE', 'REJECTED', 'CRASHED', 'GAVE_UP'] as const
export type FailureCode = (typeof failureCodes)[number]

/** A failure as it was stored; from a malformed one, its valid parts and the code UNDECODABLE. `at` replaces a missing time. */
export function readFailure(value: unknown, at: number): Failure {
  const { code, message, attempts, failedAt } = (value ?? {}) as Record<keyof Failure, unknown>
  const time = new Date(typeof failedAt === 'string' || typeof failedAt === 'number' ? failedAt : Number.NaN)
  const isWhole =
    typeof code === 'string' && typeof message === 'string' && isCount(attempts) && !Number.isNaN(time.getTime())
  return {
    // A newer release may have codes of its own.
    code: isWhole ? (code as FailureCode) : 'UNDECODABLE',
    message: typeof message === 'string' ? message : 'the dead letter is malformed: it does not say why it failed',
    attempts: isCount(attempts) ? attempts : 0,
    failedAt: Number.isNaN(time.getTime()) ? new Date(at) : time,
  }
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31
}
