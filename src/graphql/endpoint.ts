/** GraphQL over HTTP: Yoga, with our errors, our limits and no features that were not asked for. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { DocumentNode, GraphQLError } from 'graphql'
import { createYoga, type Plugin } from 'graphql-yoga'
import { LRUCache } from 'lru-cache'
import type { Client } from '../app/save.ts'
import { type Accepted, acceptedOf } from '../http/accept.ts'
import type { Auth, Grant } from '../http/auth.ts'
import { maskError, notPersisted } from '../http/errors.ts'
import { type Call, nameRequest, type Upgrade } from '../http/http.ts'
import { HttpError } from '../http/http-error.ts'
import type { RateLimit } from '../http/rate-limit.ts'
import type { Responses } from '../http/responses.ts'
import { checkSubscription, clientOf, type StreamLimit } from '../http/stream-limit.ts'
import type { Log } from '../model/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Context } from './builder.ts'
import { onlyAllowed } from './checks.ts'
import { type LimitOptions, limits } from './document-limits.ts'
import { Documents } from './documents.ts'
import { FastPath } from './fast-path.ts'
import { checkQuery, paramsOfBody, paramsOfQuery } from './params.ts'
import { schema } from './schema.ts'
import { SseServer } from './sse.ts'
import { SavedStreams } from './streams.ts'
import { Subscriptions } from './subscriptions.ts'
import { WsServer } from './ws.ts'
import { notAcceptable, relay } from './yoga.ts'

/**
 * An error of the whole operation sets the HTTP status (503 and Retry-After for a full queue); with an error beside data the answer is
 * a 200, as GraphQL over HTTP has it.
 */
const statusOnlyWithoutData: Plugin = {
  onExecutionResult({ result }) {
    if (!result || !('data' in result) || result.data == null) return
    for (const error of result.errors ?? []) delete (error.extensions as { http?: unknown }).http
  },
}

/** Requests as other servers take them: an empty operation name is none; a document that is named by its hash alone is not known here. */
const commonForm: Plugin = {
  onParams({ params, setParams }) {
    if (typeof params !== 'object' || params === null) return
    const { operationName, ...others } = params
    if (operationName === '') setParams(others)
    if (params.query == null && (params.extensions as Record<string, unknown> | undefined)?.persistedQuery) {
      throw notPersisted()
    }
  },
}

/** Of documents that Yoga keeps, and of the errors of others; and how many characters of them in all. */
const parsedCache = {
  max: 200,
  maxSize: 250_000,
  sizeCalculation: (_: unknown, document: string) => document.length || 1,
}

export interface GraphQLServer {
  handle(call: Call): Promise<void>
  upgrade: Upgrade
  /** Ends every stream, and sends WebSocket clients away. */
  close(): void
}

export interface GraphQLOptions extends LimitOptions {
  /** false: everything through Yoga, to compare with. */
  fast: boolean
  responses: Responses
  /** Of one WebSocket message. */
  maxMessageBytes: number
  auth: Auth
  rateLimit: RateLimit
  limit: StreamLimit
  metrics: Metrics
  log: Log
}

export function makeGraphQL({ app, prisma }: Pick<Context, 'app' | 'prisma'>, options: GraphQLOptions): GraphQLServer {
  const { log } = options
  const mask = maskError(log, options.introspection)
  const contextOf = (grant: Grant, client?: Client): Context => ({
    app,
    prisma,
    grant,
    client,
    readAt: performance.now(),
  })
  const calls = new WeakMap<IncomingMessage, Call>()
  const yoga = createYoga<{ req: IncomingMessage; res: ServerResponse }>({
    schema,
    // Every request comes through `handle`.
    context: ({ req }) => {
      const { grant, connection } = calls.get(req)!
      return contextOf(grant, connection)
    },
    graphqlEndpoint: '/graphql',
    graphiql: false,
    landingPage: false,
    cors: false,
    multipart: false,
    // The body is read, bounded, in front of Yoga.
    maxRequestBodySize: false,
    // By length, too: a thousand documents may be gigabytes.
    parserAndValidationCache: {
      documentCache: new LRUCache<string, DocumentNode>(parsedCache),
      errorCache: new LRUCache<string, Error>(parsedCache),
    },
    maskedErrors: { maskError: (error) => mask(error), isDev: false },
    // It logs the mistakes of clients, whole; what is unexpected comes through `mask`.
    logging: false,
    plugins: [
      commonForm,
      ...limits(options),
      onlyAllowed(mask),
      statusOnlyWithoutData,
      {
        onExecutionResult({ result, context }) {
          const id = calls.get((context as unknown as { req: IncomingMessage }).req)?.id
          if (result && 'errors' in result && !Array.isArray(result)) nameUnexpected(result.errors ?? [], id, log)
        },
      },
    ],
  })
  /** Counts the stream that this call becomes. Throws RATE_LIMITED, BAD_USER_INPUT. */
  const enter = ({ request, response, grant, body, connection, held }: Call) => {
    checkSubscription(body.length)
    if (response.destroyed) return
    connection.stream = true
    held?.subscribe()
    response.once('close', options.limit.enter(clientOf(grant, request)))
    // A stream ends with the grant that opened it.
    response.once(
      'close',
      options.auth.watch(grant, () => response.destroy()),
    )
  }
  const documents = new Documents(yoga)
  const fast = new FastPath({ documents, contextOf, responses: options.responses, maskError: mask })
  const feeds = new SavedStreams(app.follower, contextOf, mask, () => app.bytes.turn())
  const subscriptions = new Subscriptions({ yoga, documents, feeds, maskError: mask })
  const sse = new SseServer({ subscriptions, contextOf, enter, maskError: mask, meter: options.metrics })
  const ws = new WsServer({
    yoga,
    documents,
    subscriptions,
    contextOf,
    maskError: mask,
    meter: options.metrics,
    bytes: app.bytes,
    ...options,
  })
  options.metrics.watchSubscribers(() => ({ sse: sse.open, websocket: ws.open }))
  /** What is not worth a way of its own. */
  const handleByYoga = async (call: Call, { types }: Accepted) => {
    const { request, response, body } = call
    // Yoga reads no q, and takes the first that it knows.
    request.headers.accept = types.join(', ')
    calls.set(request, call)
    nameRequest(response)
    call.connection.counting(response)
    // Yoga takes a body that was read already from here.
    if (request.method === 'POST') (request as unknown as { body: Given }).body = new Given(body)
    await relay(yoga, request, response)
  }
  return {
    handle: async (call) => {
      const { request, body, query } = call
      const post = request.method === 'POST'
      const accepted = acceptedOf(request.headers.accept)
      if (accepted.types.length === 0) throw new HttpError(406, notAcceptable)
      const type = post && options.fast ? accepted.json : undefined
      const kept = type !== undefined && fast.handleKept(call, type)
      if (kept && (await kept)) return
      if (!post) checkQuery(query)
      const params = post ? paramsOfBody(body) : paramsOfQuery(query)
      const subscription = params && subscriptions.find(params)
      if (subscription) {
        if (!accepted.stream) throw new HttpError(406, notAcceptable)
        return await sse.handle(call, subscription, params)
      }
      if (type && params && (await fast.handle(call, params, type))) return
      await handleByYoga(call, accepted)
    },
    upgrade: (request, socket, head, connection) => ws.upgrade(request, socket, head, connection),
    close: () => {
      sse.close()
      ws.close()
    },
  }
}

/** A body for Yoga, which would take a text, too, and list its characters first: most of a second for one of two megabytes. */
class Given {
  readonly #bytes: Buffer
  /** Yoga asks whether there is anything. */
  readonly given = true

  constructor(body: string) {
    this.#bytes = Buffer.from(body)
  }

  async *[Symbol.asyncIterator]() {
    yield this.#bytes
  }
}

/** An unexpected error tells its client under which id the log has it. */
function nameUnexpected(errors: readonly GraphQLError[], requestId: string | undefined, log: Log): void {
  const unexpected = errors.filter(({ extensions }) => extensions.code === 'INTERNAL_SERVER_ERROR')
  for (const { extensions } of unexpected) extensions.requestId = requestId
  if (unexpected.length > 0) log.error({ requestId, errors: unexpected.length }, 'a request met unexpected errors')
}
