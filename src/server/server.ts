/** All routes of the API, in one place. */
import type { IncomingMessage } from 'node:http'
import type { App } from '../app/app.ts'
import type { Reader } from '../db/store.ts'
import type { EventLog } from '../events/events.ts'
import type { Context } from '../graphql/builder.ts'
import type { LimitOptions } from '../graphql/document-limits.ts'
import { makeGraphQL } from '../graphql/endpoint.ts'
import { Auth, type AuthOptions } from '../http/auth.ts'
import { boundedLog } from '../http/bounded-log.ts'
import { type HttpServer, listen, type Route, type Upgrade } from '../http/http.ts'
import { HttpError } from '../http/http-error.ts'
import { OriginCheck } from '../http/origin-check.ts'
import { RateLimit } from '../http/rate-limit.ts'
import { Responses } from '../http/responses.ts'
import { StreamLimit } from '../http/stream-limit.ts'
import type { Log } from '../model/log.ts'
import type { Tracer } from '../model/tracer.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { Console } from './console.ts'
import { sendGraphiQL, wantsGraphiQL } from './graphiql.ts'
import { type HealthDeps, healthRoutes } from './health.ts'
import { getContents, getReceipt, postSave } from './rest.ts'

export interface ServerOptions extends LimitOptions {
  host: string
  port: number
  contentMaxBytes: number
  graphiql: boolean
  auth: AuthOptions
  /** Per client; undefined: no limit. */
  requestsPerSecond: number | undefined
  /** Per client; undefined: no limit. */
  streamsPerClient: number | undefined
  maxConnections: number
  idleTimeoutMs?: number
  metrics: Metrics
  store: Pick<Reader, 'find'>
  events: Pick<EventLog, 'probe'>
  prepared: HealthDeps['prepared']
  /** See GuardOptions. */
  hosts: readonly string[]
  origins: readonly string[]
  /** false: no fast path, to compare with. */
  fast?: boolean
  tracer?: Tracer | undefined
  log: Log
}

export async function serve(app: App, prisma: Context['prisma'], given: ServerOptions): Promise<HttpServer> {
  const options = { ...given, log: boundedLog(given.log) }
  // A content whose every character is escaped as \\u0000 takes six bytes for one; and saveMany wants some room.
  const maxBodyBytes = 2 * 1024 * 1024 + options.contentMaxBytes * 6
  const auth = new Auth(options.auth, options.log)
  options.metrics.watchBytes(app.bytes)
  const rateLimit = new RateLimit(options.requestsPerSecond)
  const limit = new StreamLimit(options.streamsPerClient)
  const graphql = makeGraphQL(
    { app, prisma },
    {
      fast: true,
      responses: new Responses(app.cache),
      maxMessageBytes: maxBodyBytes,
      ...options,
      auth,
      rateLimit,
      limit,
    },
  )
  const pages = new Responses(app.cache)
  const routes = new Map<string, Route>([
    [
      '/graphql',
      {
        // What it takes depends on what is asked for: the schema knows.
        scope: 'any',
        GET: (call) => graphql.handle(call),
        POST: async (call) => {
          const { headers } = call.request
          const type = headers['content-type'] ?? ''
          // Forms and plain text can be sent by any page of any site.
          if (type !== 'application/json' && !/^application\/(graphql\+)?json\s*(;|$)/i.test(type)) {
            const got = JSON.stringify(type.slice(0, 100))
            throw new HttpError(415, `Content-Type must be application/json, got ${got}.`)
          }
          // Yoga takes it in lower case only.
          headers['content-type'] = 'application/json'
          await graphql.handle(call)
        },
      },
    ],
    ['/save', { scope: 'write', POST: ({ response, body }) => postSave(app, response, body) }],
    [
      '/',
      {
        scope: 'read',
        GET: ({ response, query }) => {
          // A browser gets the console here.
          response.appendHeader('vary', 'Accept')
          return getContents(app, pages, response, query)
        },
      },
    ],
    ...healthRoutes('api', {
      ...options,
      queue: app.queue,
      probes: {
        queue: () => app.queue.probe(),
        events: () => options.events.probe(),
        cache: () => app.cache.probe(),
      },
      // An id that no content has.
      database: () => options.store.find(['00000000-0000-0000-0000-000000000000']),
    }),
  ])
  const receipts = '/receipts/'
  const page = new Console()
  const route = (path: string, request: IncomingMessage): Route | undefined => {
    // The page itself is open, as the console is: the token is typed there.
    if (path === '/graphql' && options.graphiql && wantsGraphiQL(request)) {
      return { scope: 'open', GET: (call) => sendGraphiQL(call, auth.required) }
    }
    if (!path.startsWith(receipts)) return page.route(path, request) ?? routes.get(path)
    return { scope: 'read', GET: ({ response }) => getReceipt(app, response, path.slice(receipts.length)) }
  }
  const upgrade: Upgrade = (request, socket, head, connection) => {
    if (request.url?.split('?')[0] === '/graphql') graphql.upgrade(request, socket, head, connection)
    else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  }
  const front = { route, upgrade, auth, originCheck: new OriginCheck(options), rateLimit }
  const server = await listen(front, { ...options, maxBodyBytes, bytes: app.bytes }).catch((error) => {
    graphql.close()
    throw error
  })
  return {
    url: server.url,
    close: async () => {
      graphql.close()
      await server.close()
    },
  }
}
