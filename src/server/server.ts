/** The API server: every route, and the parts that they share. */
import type { IncomingMessage } from 'node:http'
import type { App } from '../app/app.ts'
import type { Reader } from '../db/store.ts'
import type { EventLog } from '../events/events.ts'
import type { LimitOptions } from '../graphql/document-limits.ts'
import { makeGraphQL } from '../graphql/endpoint.ts'
import { makeSchema, type SchemaOptions } from '../graphql/schema.ts'
import type { AuthOptions } from '../http/auth.ts'
import { boundedLog } from '../http/bounded-log.ts'
import { type ClientCounts, RateLimit, StreamLimit } from '../http/client-limits.ts'
import type { OtherProcesses } from '../http/connection-limit.ts'
import { HttpError } from '../http/errors.ts'
import { type HttpServer, listen } from '../http/listen.ts'
import { openAuth } from '../http/open-auth.ts'
import { OriginCheck } from '../http/origin-check.ts'
import { Responses } from '../http/responses.ts'
import type { Route, Upgrade } from '../http/route.ts'
import type { Log } from '../model/log.ts'
import { type Model, maxSizeOf } from '../model/model.ts'
import type { Tracer } from '../model/tracer.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { Console } from './console.ts'
import { GraphiQL, wantsGraphiQL } from './graphiql.ts'
import { type HealthDeps, healthRoutes } from './health.ts'
import { modelsPath, modelsRoute } from './models.ts'
import { openApiPath, openApiRoute } from './openapi.ts'
import { getList, getReceipt, postSave } from './rest.ts'

export interface ServerOptions extends LimitOptions {
  host: string
  port: number
  graphiql: boolean
  /** The console offers its demonstration. */
  consoleSpike: boolean
  auth: AuthOptions
  /** Per client; undefined: no limit. */
  requestsPerSecond: number | undefined
  /** Per client; undefined: no limit. */
  streamsPerClient: number | undefined
  /** Where requests and streams of clients are counted; left out: in this process. */
  counts?: ClientCounts | undefined
  maxConnections: number
  /** Undefined: this is the only API process of the machine. */
  others?: OtherProcesses | undefined
  idleTimeoutMs?: number
  metrics: Metrics
  /** See HealthDeps. */
  metricsText?: HealthDeps['metricsText']
  store: Pick<Reader, 'find'>
  events: Pick<EventLog, 'probe'>
  prepared: HealthDeps['prepared']
  /** See OriginCheckOptions. */
  hosts: readonly string[]
  origins: readonly string[]
  /** false: no fast path; for tests that compare it with Yoga. */
  fast?: boolean
  tracer?: Tracer | undefined
  log: Log
}

/** `prisma`: the client that the schema's own reads use, and the datamodel of its schema. */
export async function serve(
  app: App,
  prisma: { client: object } & SchemaOptions,
  given: ServerOptions,
): Promise<HttpServer> {
  const options = { ...given, log: boundedLog(given.log) }
  // A character escaped as \\u0000 takes six bytes in JSON; many inputs get another 2 MiB.
  const models = [...app.models.values()]
  const maxBodyBytes = 2 * 1024 * 1024 + Math.max(...models.map(maxSizeOf)) * 6
  const auth = await openAuth(options.auth, options.log)
  options.metrics.watchBytes(app.bytes)
  const rateLimit = new RateLimit(options.requestsPerSecond, options.counts)
  const limit = new StreamLimit(options.streamsPerClient, options.counts)
  const graphql = makeGraphQL(
    {
      ...options,
      app,
      prisma: prisma.client,
      schema: makeSchema(app.models, prisma),
      auth,
      rateLimit,
      limit,
      responses: new Responses(app.cache),
    },
    { fast: true, ...options, maxMessageBytes: maxBodyBytes },
  )
  const routes = new Map<string, Route>([
    [
      '/graphql',
      {
        // The schema declares the scope of each field.
        scope: 'any',
        GET: (call) => graphql.handle(call),
        POST: async (call) => {
          const { headers } = call.request
          const type = headers['content-type'] ?? ''
          // A page of any site can send forms and plain text without a preflight request.
          if (type !== 'application/json' && !/^application\/(graphql\+)?json\s*(;|$)/i.test(type)) {
            const got = JSON.stringify(type.slice(0, 100))
            throw new HttpError(415, `Content-Type must be application/json, got ${got}.`)
          }
          // Yoga accepts it in lower case only.
          headers['content-type'] = 'application/json'
          await graphql.handle(call)
        },
      },
    ],
    [modelsPath, modelsRoute(models)],
    [openApiPath, openApiRoute(models, { withToken: auth.required, introspection: options.introspection })],
    ...models.flatMap((model) => modelRoutes(app, model)),
    ...healthRoutes('api', {
      ...options,
      queue: app.queue,
      probes: {
        queue: () => app.queue.probe(),
        events: () => options.events.probe(),
        cache: () => app.cache.probe(),
      },
      // No row has this id.
      database: () => options.store.find(models[0]!, ['00000000-0000-0000-0000-000000000000']),
    }),
  ])
  const receipts = '/receipts/'
  const web = new Console({ spike: options.consoleSpike })
  const graphiql = new GraphiQL(models[0]!, { withToken: auth.required })
  const route = (path: string, request: IncomingMessage): Route | undefined => {
    // Like the console, the page needs no token: the user types it there.
    if (path === '/graphql' && options.graphiql && wantsGraphiQL(request)) {
      return { scope: 'open', GET: (call) => graphiql.send(call) }
    }
    if (!path.startsWith(receipts)) return web.route(path, request) ?? routes.get(path)
    return {
      scope: 'read',
      GET: ({ response, grant }) => getReceipt(app, grant, response, path.slice(receipts.length)),
    }
  }
  const upgrade: Upgrade = (request, socket, head, connection) => {
    if (request.url?.split('?')[0] === '/graphql') graphql.upgrade(request, socket, head, connection)
    else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  }
  const saves = models.map(({ names }) => `POST ${names.savePath}, GET ${names.listPath}`)
  const paths = `/graphql, ${saves.join(', ')} or GET /receipts/:id`
  const router = { paths, route, upgrade, auth, originCheck: new OriginCheck(options), rateLimit }
  const server = await listen(router, { ...options, maxBodyBytes, bytes: app.bytes }).catch((error) => {
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

/** The routes of a model; a path may be that of the list and of the saves. */
function modelRoutes(app: App, model: Model): [path: string, route: Route][] {
  const pages = new Responses(app.cache)
  const save: Route = {
    scope: 'write',
    POST: ({ response, body, grant }) => postSave(app, { model, grant }, response, body),
  }
  const list: Route = {
    scope: 'read',
    GET: ({ response, query, grant }) => {
      // A browser gets the console at /.
      response.appendHeader('vary', 'Accept')
      return getList(app, pages, response, { model, grant, query })
    },
  }
  const { savePath, listPath } = model.names
  if (savePath !== listPath) {
    return [
      [savePath, save],
      [listPath, list],
    ]
  }
  return [[listPath, { ...list, ...save, scope: 'read', postScope: 'write' }]]
}
