/**
 * Fastify and Mercurius with its JIT over a page that Redis caches: GET, and on a miss the database, once for all who ask meanwhile. Whoever
 * saves deletes the page.
 */
import { fastify } from 'fastify'
import { mercurius } from 'mercurius'
import { ready } from './peer.ts'
import { prismaClient } from './prisma.ts'
import { cacheRedis } from './redis.ts'

const redis = cacheRedis({ enableAutoPipelining: true })
const prisma = prismaClient()
const app = fastify()
/** By the size of the page: what is read of the database just now. */
const reading = new Map<number, Promise<string>>()

async function read(first: number): Promise<string> {
  const rows = await prisma.content.findMany({ orderBy: [{ createdAt: 'desc' }, { id: 'desc' }], take: first })
  const page = JSON.stringify(rows)
  await redis.set(`contents:${first}`, page, 'EX', 10)
  return page
}

function readOnce(first: number): Promise<string> {
  const known = reading.get(first)
  if (known) return known
  const page = read(first).finally(() => reading.delete(first))
  reading.set(first, page)
  return page
}

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
        return JSON.parse(await readOnce(first))
      },
    },
  },
})

await prisma.$connect()
ready(await app.listen({ host: '127.0.0.1', port: 0 }))
