/** GraphQL over HTTP: Yoga, with our errors, our limits and no features that were not asked for. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { renderGraphiQL } from '@graphql-yoga/render-graphiql'
import { createYoga, type Plugin } from 'graphql-yoga'
import type { Log } from '../model/log.ts'
import type { Context } from './builder.ts'
import { maskError } from './errors.ts'
import { FastPath } from './fast.ts'
import { schema } from './schema.ts'

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

export interface GraphQLServer {
  handle(request: IncomingMessage, response: ServerResponse, body: string): Promise<void>
}

export interface GraphQLOptions {
  graphiql: boolean
  /** false: everything through Yoga, to compare with. */
  fast: boolean
  log: Log
}

export function makeGraphQL(context: Context, options: GraphQLOptions): GraphQLServer {
  const { log } = options
  const mask = maskError(log)
  const yoga = createYoga<{ req: IncomingMessage; res: ServerResponse }>({
    schema,
    context: () => context,
    graphqlEndpoint: '/graphql',
    // The bundled one: the default one is loaded from a server on the internet.
    renderGraphiQL,
    graphiql: options.graphiql && { title: 'Spillway', defaultQuery: welcome, subscriptionsProtocol: 'SSE' },
    landingPage: false,
    cors: false,
    multipart: false,
    // The body is read, bounded, in front of Yoga.
    maxRequestBodySize: false,
    maskedErrors: { maskError: mask, isDev: false },
    logging: {
      debug() {},
      info() {},
      warn: (...args) => log.warn({ args }, 'yoga'),
      error: (...args) => log.error({ args }, 'yoga'),
    },
    plugins: [
      statusOnlyWithoutData,
      {
        onResponse: ({ request, response }) => {
          if (request.method === 'POST')
            fast.learn(request.headers.get('accept') ?? '', response.status, response.headers.get('content-type'))
        },
      },
    ],
  })
  const fast: FastPath = new FastPath({ yoga, context, maskError: mask })
  return {
    handle: async (request, response, body) => {
      const post = request.method === 'POST'
      if (post && options.fast && (await fast.handle(request, response, body))) return
      // Yoga takes a body that was read already from here.
      if (post) (request as unknown as { body: string }).body = body
      await yoga(request, response)
    },
  }
}

const welcome = `# Save something, and see it arrive.
mutation Save {
  save(content: "something", waitMs: 5000) { id status acceptedAt content { savedAt } }
}

query Contents {
  contents(first: 10) { edges { node { id content createdAt } } pageInfo { endCursor hasNextPage } }
}

subscription Saved {
  saved { cursor content { id content } }
}
`
