/** Fastify and Mercurius with its JIT over a page that Redis caches: GET, and on a miss the database. Whoever saves deletes the page. */
import { fastify } from 'fastify'
import { mercurius } from 'mercurius'
import { cacheRedis, prismaClient, ready } from './peer.ts'

const redis = cacheRedis()
const prisma = prismaClient()
const app = fastify()

app.register(mercurius, {
  jit: 1,
  schema: `
    type Content { id: ID! content: String! createdAt: String! savedAt: String! }
    type Query { contents(first: Int!): [Content!]! }
  `,
  resolvers: {
    Query: {
      contents: async (_root: unknown, { first }: { first: number }) => {
        const cached = await redis.get(`contents:${first}`)
        if (cached) return JSON.parse(cached)
        const rows = await prisma.content.findMany({ orderBy: [{ createdAt: 'desc' }, { id: 'desc' }], take: first })
        const page = JSON.stringify(rows)
        await redis.set(`contents:${first}`, page, 'EX', 10)
        return JSON.parse(page)
      },
    },
  },
})

await prisma.$connect()
ready(await app.listen({ host: '127.0.0.1', port: 0 }))
