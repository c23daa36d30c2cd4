/** Fastify and Mercurius with its JIT, and one mutation, whose saves go where the peer sends them. */
import { randomUUID } from 'node:crypto'
import { fastify } from 'fastify'
import { mercurius } from 'mercurius'
import { ready } from './peer.ts'

/** `enqueue` resolves when the queue has the save on disk. */
export async function serveSaves(enqueue: (id: string, content: string) => Promise<unknown>): Promise<void> {
  const app = fastify()
  app.register(mercurius, {
    jit: 1,
    schema: `
      type Receipt { saveId: ID! status: String! }
      type Query { ok: Boolean! }
      type Mutation { save(content: String!): Receipt! }
    `,
    resolvers: {
      Mutation: {
        save: async (_root: unknown, { content }: { content: string }) => {
          const id = randomUUID()
          await enqueue(id, content)
          return { saveId: id, status: 'QUEUED' }
        },
      },
    },
  })
  ready(await app.listen({ host: '127.0.0.1', port: 0 }))
}
