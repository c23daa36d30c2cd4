/**
 * /graphql. HTTP, Server-Sent Events and WebSocket run a document through the same steps:
 *
 * 1. parse and validate: documents.ts, by Yoga with the limits of document-limits.ts; cached
 * 2. root fields, and every other field that the operation reaches: roots.ts, reach.ts
 * 3. scopes and variables: scopes.ts, variables.ts
 * 4. compile: documents.ts, by graphql-jit
 * 5. run: fast-path.ts a query or mutation; subscriptions.ts a subscription, for http-streams.ts and ws.ts; yoga.ts everything else
 * 6. share: ../http/responses.ts the pages of a list; streams.ts the events of a feed; narrowing.ts says with whom
 *
 * schema.ts makes the schema of the models.
 */

import { acceptedOf } from '../http/accept.ts'
import type { Auth } from '../http/auth.ts'
import type { RateLimit, StreamLimit } from '../http/client-limits.ts'
import { HttpError } from '../http/errors.ts'
import type { Responses } from '../http/responses.ts'
import type { Call, Upgrade } from '../http/route.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { LimitOptions } from './document-limits.ts'
import { FastPath } from './fast-path.ts'
import { HttpStreams } from './http-streams.ts'
import { Sights } from './narrowing.ts'
import { checkQuery, paramsOfBody, paramsOfQuery } from './params.ts'
import { makePipeline, type PipelineDeps } from './pipeline.ts'
import { WsServer } from './ws.ts'
import { notAcceptable } from './yoga.ts'

export interface GraphQLServer {
  handle(call: Call): Promise<void>
  upgrade: Upgrade
  /** Ends every stream and closes every WebSocket, so that clients reconnect elsewhere. */
  close(): void
}

export interface GraphQLDeps extends PipelineDeps {
  responses: Responses
  auth: Auth
  rateLimit: RateLimit
  limit: StreamLimit
  metrics: Metrics
}

export interface GraphQLOptions extends LimitOptions {
  /** false: Yoga responds to every query and mutation; for tests that compare the two. */
  fast: boolean
  /** Of one WebSocket message. */
  maxMessageBytes: number
}

export function makeGraphQL(deps: GraphQLDeps, options: GraphQLOptions): GraphQLServer {
  const { app, responses, auth, rateLimit, limit, metrics, log } = deps
  const { bytes } = app
  const { respondByYoga, ...pipeline } = makePipeline(deps, options)
  const { subscriptions } = pipeline
  const fast = new FastPath({ ...pipeline, responses, savedCursor: app.savedCursor, sights: new Sights(app.models) })
  const httpStreams = new HttpStreams({ ...pipeline, auth, limit, meter: metrics })
  const ws = new WsServer({ ...pipeline, auth, rateLimit, limit, bytes, meter: metrics, log }, options)
  metrics.watchSubscribers(() => ({ ...httpStreams.open, websocket: ws.open }))
  return {
    handle: async (call) => {
      const { request, body, query } = call
      const isPost = request.method === 'POST'
      const accepted = acceptedOf(request.headers.accept)
      if (accepted.types.length === 0) throw new HttpError(406, notAcceptable)
      const type = isPost && options.fast ? accepted.json : undefined
      const cached = type !== undefined && fast.sendCached(call, type)
      if (cached && (await cached)) return
      if (!isPost) checkQuery(query)
      const params = isPost ? paramsOfBody(body) : paramsOfQuery(query)
      const subscription = params && subscriptions.find(params, call.connection.share)
      if (subscription) {
        if (!accepted.stream) throw new HttpError(406, notAcceptable)
        return await httpStreams.handle(call, subscription, params, accepted.stream)
      }
      if (type && params && (await fast.handle(call, params, type))) return
      await respondByYoga(call, accepted)
    },
    upgrade: (request, socket, head, connection) => ws.upgrade(request, socket, head, connection),
    close: () => {
      httpStreams.close()
      ws.close()
    },
  }
}
