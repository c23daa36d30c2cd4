/** An OpenAPI document while it is made: operations, the errors that they share, and schemas. */
import { createHash } from 'node:crypto'
import { httpStatus } from '../http/errors.ts'
import { type Code, codes } from '../model/error.ts'
import type { Scope } from '../model/grant.ts'
import { idSchema, type Schema } from './json-schema.ts'

type Method = 'get' | 'post'

export class Document {
  readonly #withToken: boolean
  readonly #paths: Record<string, Partial<Record<Method, Schema>>> = {}
  readonly #responses: Record<string, Schema> = {}

  constructor(withToken: boolean) {
    this.#withToken = withToken
  }

  add(path: string, method: Method, operation: Schema): void {
    this.#paths[path] = { ...this.#paths[path], [method]: operation }
  }

  /** The scope that the operation needs. */
  security(scope: Scope): Schema {
    return this.#withToken ? { security: [{ bearer: [scope] }] } : {}
  }

  /** The errors of an operation: `own`, those of every request, and statuses without a code of their own. */
  errors(own: readonly Code[], statuses: Readonly<Record<number, string>> = {}): Record<string, Schema> {
    const all = new Set<Code>([...own, ...ofEveryRequest, ...(this.#withToken ? (['UNAUTHENTICATED'] as const) : [])])
    const byStatus = Map.groupBy(
      codes.filter((code) => all.has(code)),
      (code) => httpStatus[code],
    )
    const ofCodes = [...byStatus].map(([status, some]) => [status, this.#response(some.join('.'), some)] as const)
    const ofStatuses = Object.entries(statuses).map(
      ([status, description]) => [status, { ...errorResponse(['BAD_USER_INPUT']), description }] as const,
    )
    const others = { default: this.#response('error', codes, 'Any other error of HTTP.') }
    return { ...Object.fromEntries([...ofCodes, ...ofStatuses]), ...others }
  }

  #response(name: string, some: readonly Code[], description = meaningsOf(some)): Schema {
    this.#responses[name] ??= { ...errorResponse(some), description }
    return { $ref: `#/components/responses/${name}` }
  }

  whole(schemas: Readonly<Record<string, Schema>>): Schema {
    const rest = {
      paths: this.#paths,
      components: {
        schemas,
        responses: this.#responses,
        ...(this.#withToken
          ? { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } }
          : {}),
      },
    }
    // It changes with the models.
    const version = createHash('sha256').update(JSON.stringify(rest)).digest('hex').slice(0, 12)
    return {
      openapi: '3.1.1',
      info: {
        title: 'Spillway',
        version,
        description:
          'Saves through a queue, lists of what was saved, and receipts. GraphQL, with subscriptions, is at /graphql.',
      },
      servers: [{ url: '/' }],
      ...rest,
    }
  }
}

const ofEveryRequest: readonly Code[] = [
  'BAD_USER_INPUT',
  'FORBIDDEN',
  'RATE_LIMITED',
  'OVERLOADED',
  'INTERNAL_SERVER_ERROR',
]

const meanings: Record<Code, string> = {
  BAD_USER_INPUT: 'the request breaks a rule; the message names it, with its limit',
  UNAUTHENTICATED: 'no valid token',
  FORBIDDEN: 'the token lacks a scope or a claim, or the host or the origin is not listed',
  NOT_FOUND: 'no save with this id was accepted, or it is long gone',
  RATE_LIMITED: 'too many requests of one client',
  OVERLOADED: 'too many requests of all clients',
  QUEUE_FULL: 'certainly not accepted: the queue is at its capacity',
  QUEUE_UNAVAILABLE: 'certainly not accepted: the queue cannot be reached',
  OUTCOME_UNKNOWN: 'may have been accepted: send it again with the id of the error, and it is saved once',
  STORE_UNAVAILABLE: 'the database cannot be read now',
  ID_CONFLICT: 'the id has other content',
  CURSOR_EXPIRED: 'events after the cursor are no longer kept',
  INTERNAL_SERVER_ERROR: 'a defect; the log has it under the requestId of the error',
}

const meaningsOf = (some: readonly Code[]) => some.map((code) => `${code}: ${meanings[code]}.`).join(' ')

function errorResponse(some: readonly Code[]): Schema {
  const retries = some.some((code) => [429, 503].includes(httpStatus[code]))
  const error = {
    type: 'object',
    properties: {
      message: { type: 'string' },
      extensions: {
        type: 'object',
        properties: {
          code: { type: 'string', enum: some },
          retryAfterMs: { type: 'integer', description: 'Try again after so many milliseconds.' },
          id: { ...idSchema, description: 'Of a save whose outcome is unknown.' },
          requestId: { type: 'string' },
        },
        required: ['code'],
      },
    },
    required: ['message', 'extensions'],
  }
  return {
    headers: {
      'X-Request-Id': { schema: { type: 'string' } },
      ...(retries ? { 'Retry-After': { schema: { type: 'integer' }, description: 'Seconds.' } } : {}),
      ...(some.includes('UNAUTHENTICATED') ? { 'WWW-Authenticate': { schema: { type: 'string' } } } : {}),
    },
    content: json({
      type: 'object',
      properties: { errors: { type: 'array', items: error, minItems: 1 } },
      required: ['errors'],
    }),
  }
}

export const json = (schema: Schema) => ({ 'application/json': { schema } })
