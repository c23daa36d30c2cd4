/** All routes of the API, in one place. */
import type { App } from '../app/app.ts'
import type { Log } from '../model/log.ts'
import type { Context } from './builder.ts'
import { makeGraphQL } from './graphql.ts'
import { HttpError, type HttpServer, listen, type Routes } from './http.ts'
import { getContents, getLive, getReady, getReceipt, postSave } from './rest.ts'

export interface ServerOptions {
  host: string
  port: number
  contentMaxBytes: number
  graphiql: boolean
  log: Log
}

export function serve(app: App, prisma: Context['prisma'], options: ServerOptions): Promise<HttpServer> {
  const graphql = makeGraphQL({ app, prisma }, options)
  const routes: Routes = (path) => {
    if (path === '/graphql') {
      return {
        GET: (request, response) => graphql.handle(request, response),
        POST: async (request, response, body) => {
          const type = request.headers['content-type'] ?? ''
          // Forms and plain text can be sent by any page of any site.
          if (!/^application\/(graphql\+)?json\s*(;|$)/i.test(type)) {
            throw new HttpError(415, `Content-Type must be application/json, got ${JSON.stringify(type.slice(0, 100))}.`)
          }
          // Yoga takes a body that was read already from here.
          ;(request as unknown as { body: string }).body = body
          await graphql.handle(request, response)
        },
      }
    }
    if (path === '/save') return { POST: (_request, response, body) => postSave(app, response, body) }
    if (path === '/') return { GET: (_request, response, _body, url) => getContents(app, response, url) }
    if (path.startsWith('/receipts/')) {
      const id = path.slice('/receipts/'.length)
      return { GET: (_request, response) => getReceipt(app, response, id) }
    }
    if (path === '/livez') return { GET: getLive }
    if (path === '/readyz') return { GET: (_request, response) => getReady(app, response) }
    return undefined
  }
  // A content whose every character is escaped as \\u0000 takes six bytes for one; and saveMany wants some room.
  const maxBodyBytes = 2 * 1024 * 1024 + options.contentMaxBytes * 6
  return listen(routes, { ...options, maxBodyBytes })
}
