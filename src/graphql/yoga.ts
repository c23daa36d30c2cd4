/** Yoga as a handler of Node's requests. Invariant: nothing that it, or the library below it, says of a failure reaches a client in its own words. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { sendNodeResponse } from '@whatwg-node/server'
import { HttpError } from '../http/http-error.ts'
import type { Yoga } from './documents.ts'

/** Rejects where Yoga throws, and for its refusals that have no body, as an error of the table. */
export async function relay(yoga: Yoga, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const answer = await yoga.handleNodeRequestAndResponse(request, response, { req: request, res: response })
  const type = answer.headers.get('content-type')
  if (answer.status >= 400 && type === null) {
    const allow = answer.headers.get('allow')
    throw new HttpError(
      answer.status,
      refusals[answer.status] ?? 'The request cannot be served.',
      allow ? { allow } : {},
    )
  }
  if (answer.status >= 500 && !type?.includes('json')) throw new Error(`Yoga answered ${answer.status}`)
  const streams = type?.startsWith('text/event-stream')
  answer.headers.set('cache-control', streams ? 'no-cache, no-store, no-transform' : 'no-store')
  if (streams) answer.headers.set('x-accel-buffering', 'no')
  // Yoga says `none`, which is no coding.
  answer.headers.delete('content-encoding')
  await sendNodeResponse(answer, response, request, true)
}

export const notAcceptable =
  'None of the media types in Accept can be given: use application/json or application/graphql-response+json, and text/event-stream for a subscription.'

const refusals: Record<number, string> = {
  405: '/graphql takes mutations by POST only, and queries by GET and POST.',
  406: notAcceptable,
  415: 'Content-Type must be application/json.',
}
