/** Requests as the tracer is told of them: those that may save. Reads, probes and files of the console are no part of a save's way. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Tracer } from '../model/tracer.ts'

const routes = new Set(['/graphql', '/save'])

export function trace(
  tracer: Tracer,
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  act: () => void,
): void {
  const { method = 'GET', url = '/' } = request
  const route = url.split('?', 1)[0]!
  if (method !== 'POST' || !routes.has(route)) {
    act()
    return
  }
  // Two of them are joined by a comma: that is none.
  const traceparent = request.headers.traceparent as string | undefined
  tracer.request({ method, route, id, traceparent }, (done) => {
    response.once('close', () => done(response.writableFinished ? response.statusCode : undefined))
    act()
  })
}
