/** All routes of the API, in one place. */
import type { App } from '../app/app.ts'
import type { Log } from '../model/log.ts'
import type { Context } from './builder.ts'
import { makeGraphQL } from './graphql.ts'
import { HttpError, type HttpServer, listen, type Routes, type Upgrade } from './http.ts'
import { Responses } from './responses.ts'
import { getContents, getLive, getReady, getReceipt, postSave } from './rest.ts'

export interface ServerOptions {
  host: string
  port: number
  contentMaxBytes: number
  graphiql: boolean
  /** false: no fast path, to compare with. */
  fast?: boolean
  log: Log
}

export async function serve(app: App, prisma: Context['prisma'], options: ServerOptions): Promise<HttpServer> {
  // A content whose every character is escaped as \\u0000 takes six bytes for one; and saveMany wants some room.
  const maxBodyBytes = 2 * 1024 * 1024 + options.contentMaxBytes * 6
  const responses = new Responses(app.cache)
  const graphql = makeGraphQL({ app, prisma }, { fast: true, responses, maxMessageBytes: maxBodyBytes, ...options })
  const routes = new Map<string, ReturnType<Routes>>([
    [
      '/graphql',
      {
        GET: (request, response, body, query) => graphql.handle(request, response, body, query),
        POST: async (request, response, body, query) => {
          const type = request.headers['content-type'] ?? ''
          // Forms and plain text can be sent by any page of any site.
          if (type !== 'application/json' && !/^application\/(graphql\+)?json\s*(;|$)/i.test(type)) {
            const got = JSON.stringify(type.slice(0, 100))
            throw new HttpError(415, `Content-Type must be application/json, got ${got}.`)
          }
          // Yoga takes it in lower case only.
          request.headers['content-type'] = 'application/json'
          await graphql.handle(request, response, body, query)
        },
      },
    ],
    ['/save', { POST: (_request, response, body) => postSave(app, response, body) }],
    ['/', { GET: (_request, response, _body, query) => getContents(app, responses, response, query) }],
    ['/livez', { GET: getLive }],
    ['/readyz', { GET: (_request, response) => getReady(app, response) }],
  ])
  const receipts = '/receipts/'
  const route: Routes = (path) => {
    if (!path.startsWith(receipts)) return routes.get(path)
    return { GET: (_request, response) => getReceipt(app, response, path.slice(receipts.length)) }
  }
  const upgrade: Upgrade = (request, socket, head) => {
    const refuse = (status: string) =>
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    if (request.url?.split('?')[0] !== '/graphql') return refuse('404 Not Found')
    // A page of another site can open a WebSocket here, and its browser always says which site that is.
    const { origin, host } = request.headers
    if (origin && (!URL.canParse(origin) || new URL(origin).host !== host)) return refuse('403 Forbidden')
    graphql.upgrade(request, socket, head)
  }
  const server = await listen({ route, upgrade }, { ...options, maxBodyBytes })
  return {
    url: server.url,
    close: async () => {
      graphql.close()
      await server.close()
    },
  }
}
