/** GraphQL Yoga with its response cache in memory over Prisma; GET /invalidate tells it that a content was saved. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInMemoryCache, useResponseCache } from '@graphql-yoga/plugin-response-cache'
import { createSchema, createYoga } from 'graphql-yoga'
import { ready } from './peer.ts'
import { prismaClient } from './prisma.ts'

const prisma = prismaClient()
const cache = createInMemoryCache()

const yoga = createYoga({
  schema: createSchema({
    typeDefs: `
      type Content { id: ID! content: String! createdAt: String! savedAt: String! }
      type Query { contents(first: Int!): [Content!]! }
    `,
    resolvers: {
      Query: {
        contents: async (_root: unknown, { first }: { first: number }) => {
          const rows = await prisma.content.findMany({ orderBy: [{ createdAt: 'desc' }, { id: 'desc' }], take: first })
          return JSON.parse(JSON.stringify(rows))
        },
      },
    },
  }),
  plugins: [useResponseCache({ session: () => null, cache, ttl: 10_000 })],
})

await prisma.$connect()
const server = createServer(async (request, response) => {
  if (request.url !== '/invalidate') return yoga(request, response)
  await cache.invalidate([{ typename: 'Content' }])
  response.end('{}')
})
server.listen(0, '127.0.0.1', () => ready(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
