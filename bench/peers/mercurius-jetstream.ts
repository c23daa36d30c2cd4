/** Fastify and Mercurius with its JIT, straight to a stream of NATS JetStream: the publishes of one tick go in one write, each is acknowledged. */
import { randomUUID } from 'node:crypto'
import { jetstream } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { fastify } from 'fastify'
import { mercurius } from 'mercurius'
import { need, ready } from './peer.ts'

const stream = jetstream(await connect({ port: Number(need('NATS_PORT')) }))
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
        await stream.publish('save', JSON.stringify({ id, content, at: Date.now() }))
        return { saveId: id, status: 'QUEUED' }
      },
    },
  },
})

ready(await app.listen({ host: '127.0.0.1', port: 0 }))
