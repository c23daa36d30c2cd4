/**
 * GraphQL Yoga: it parses and validates every document, and responds to requests outside the fast path and the streams. Its plugins apply the
 * same limits, scopes and errors. Invariant: no error text of Yoga, or of the library below it, reaches a client unmasked.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { sendNodeResponse } from '@whatwg-node/server'
import { type DocumentNode, type ExecutionArgs, type GraphQLError, type GraphQLSchema, getOperationAST } from 'graphql'
import { createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga'
import { LRUCache } from 'lru-cache'
import type { Client } from '../app/save.ts'
import type { Accepted } from '../http/accept.ts'
import { HttpError, isFailure, type MaskError, notPersisted, requestError } from '../http/errors.ts'
import { setCommonHeaders } from '../http/respond.ts'
import type { Call } from '../http/route.ts'
import type { Grant } from '../model/grant.ts'
import type { Log } from '../model/log.ts'
import type { Context } from './builder.ts'
import { type LimitOptions, limits } from './document-limits.ts'
import { reachedFields } from './reach.ts'
import { checkScopes, scopesOf } from './scopes.ts'
import { variableErrors } from './variables.ts'

// biome-ignore lint/suspicious/noExplicitAny: any context that Yoga was made with.
export type Yoga = YogaServerInstance<any, any>

/** Bounds of what Yoga caches per document, in characters and what each has besides, since a thousand may be gigabytes. */
const cacheBounds = { maxSize: 250_000, sizeCalculation: (_: unknown, document: string) => document.length + 120 }
/** By number, too: the errors of a document have no bound in its characters. */
const errorsCached = 200

export interface YogaDeps {
  schema: GraphQLSchema
  contextOf: (grant: Grant, client?: Client) => Context
  maskError: MaskError
  log: Log
}

/** The Yoga instance, and a function that responds to a call with it. */
export function makeYoga(
  { schema, contextOf, maskError, log }: YogaDeps,
  options: LimitOptions,
): { yoga: Yoga; respondByYoga(call: Call, accepted: Accepted): Promise<void> } {
  const calls = new WeakMap<IncomingMessage, Call>()
  const yoga = createYoga<{ req: IncomingMessage; res: ServerResponse }>({
    schema,
    context: ({ req }) => {
      const { grant, connection } = calls.get(req)!
      return contextOf(grant, connection)
    },
    graphqlEndpoint: '/graphql',
    graphiql: false,
    landingPage: false,
    cors: false,
    multipart: false,
    // The HTTP server has read the body, up to its bound.
    maxRequestBodySize: false,
    parserAndValidationCache: {
      documentCache: new LRUCache<string, DocumentNode>(cacheBounds),
      errorCache: new LRUCache<string, Error>({ ...cacheBounds, max: errorsCached }),
    },
    maskedErrors: { maskError: (error) => maskError(error), isDev: false },
    // Yoga would log the full text of clients' mistakes. `maskError` logs unexpected errors.
    logging: false,
    plugins: [
      normalizeParams,
      ...limits(options),
      checkOperation(maskError),
      statusOnlyWithoutData,
      {
        onExecutionResult({ result, context }) {
          const id = calls.get((context as unknown as { req: IncomingMessage }).req)?.id
          if (result && 'errors' in result && !Array.isArray(result)) addRequestId(result.errors ?? [], id, log)
        },
      },
    ],
  })
  return {
    yoga,
    respondByYoga: async (call, { types }) => {
      const { request, response, body, connection } = call
      // Yoga ignores q, and uses the first type that it knows.
      request.headers.accept = types.join(', ')
      calls.set(request, call)
      setCommonHeaders(response)
      connection.counting(response)
      // Yoga reads a body that was read already from this property.
      if (request.method === 'POST') (request as unknown as { body: ReadBody }).body = new ReadBody(body)
      await relay(yoga, request, response)
    },
  }
}

/** As other servers do: an empty operation name is none, and a document that is named by its hash alone gets PERSISTED_QUERY_NOT_SUPPORTED. */
const normalizeParams: Plugin = {
  onParams({ params, setParams }) {
    if (typeof params !== 'object' || params === null) return
    const { operationName, ...others } = params
    if (operationName === '') setParams(others)
    if (params.query == null && (params.extensions as Record<string, unknown> | undefined)?.persistedQuery) {
      throw notPersisted()
    }
  },
}

/** Checks scopes and variables before the execution: Yoga's executor would ignore scopes, and repeat the values of variables in errors. */
function checkOperation(maskError: MaskError): Plugin {
  return {
    onExecute({ args, setResultAndStopExecution }) {
      const errors = operationErrors(args as ExecutionArgs, maskError)
      if (errors.length > 0) setResultAndStopExecution({ errors })
    },
  }
}

function operationErrors(args: ExecutionArgs, maskError: MaskError): GraphQLError[] {
  const { schema, document, operationName, contextValue, variableValues } = args
  // The execution reports an operation name that is missing or unknown.
  const operation = getOperationAST(document, operationName)
  if (!operation) return []
  try {
    checkScopes((contextValue as Context).grant, scopesOf(schema, reachedFields(schema, document, operation)))
  } catch (error) {
    return [requestError(maskError, error)]
  }
  return variableErrors(schema, operation, variableValues ?? {})
}

/**
 * An error without data sets the HTTP status (503 and Retry-After for a full queue); so do errors of all root fields. With data beside the
 * errors the status is 200, as GraphQL over HTTP specifies.
 */
const statusOnlyWithoutData: Plugin = {
  onExecutionResult({ result }) {
    if (!result || !('data' in result) || isFailure(result.data as Record<string, unknown> | null)) return
    for (const error of result.errors ?? []) delete (error.extensions as { http?: unknown }).http
  },
}

/** Adds to each unexpected error the request id under which it is logged. */
function addRequestId(errors: readonly GraphQLError[], requestId: string | undefined, log: Log): void {
  const unexpected = errors.filter(({ extensions }) => extensions.code === 'INTERNAL_SERVER_ERROR')
  for (const { extensions } of unexpected) extensions.requestId = requestId
  if (unexpected.length > 0) log.error({ requestId, errors: unexpected.length }, 'a request met unexpected errors')
}

/** A body for Yoga. Given a string, Yoga would list its characters first: most of a second for two megabytes. */
class ReadBody {
  readonly #bytes: Buffer
  /** Yoga ignores a body without enumerable properties. */
  readonly isRead = true

  constructor(body: string) {
    this.#bytes = Buffer.from(body)
  }

  async *[Symbol.asyncIterator]() {
    yield this.#bytes
  }
}

/**
 * Rejects where Yoga throws, and with an HttpError where Yoga responds with an error that has no body. http-streams.ts streams all subscriptions;
 * Yoga sends the one result of a query, a mutation or an invalid document as an event stream if Accept permits no JSON.
 */
async function relay(yoga: Yoga, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const result = await yoga.handleNodeRequestAndResponse(request, response, { req: request, res: response })
  const type = result.headers.get('content-type')
  if (result.status >= 400 && type === null) {
    const allow = result.headers.get('allow')
    const message = messages[result.status] ?? 'The request cannot be served.'
    throw new HttpError(result.status, message, allow ? { allow } : {})
  }
  if (result.status >= 500 && !type?.includes('json')) throw new Error(`Yoga responded ${result.status}`)
  const streams = type?.startsWith('text/event-stream')
  result.headers.set('cache-control', streams ? 'no-cache, no-store, no-transform' : 'no-store')
  if (streams) result.headers.set('x-accel-buffering', 'no')
  // Yoga sets `none`, which is no content coding.
  result.headers.delete('content-encoding')
  await sendNodeResponse(result, response, request, true)
}

export const notAcceptable =
  'None of the media types in Accept can be given: use application/json or application/graphql-response+json, and text/event-stream, or multipart/mixed;subscriptionSpec=1.0, for a subscription.'

const messages: Record<number, string> = {
  405: '/graphql takes mutations by POST only, and queries by GET and POST.',
  406: notAcceptable,
  415: 'Content-Type must be application/json.',
}
