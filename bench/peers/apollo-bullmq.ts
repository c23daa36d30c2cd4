/** Apollo Server, stand-alone, in front of a BullMQ queue. */
import { randomUUID } from 'node:crypto'
import { ApolloServer } from '@apollo/server'
import { startStandaloneServer } from '@apollo/server/standalone'
import { Queue } from 'bullmq'
import { queueAddress, queueName, ready } from './peer.ts'

const queue = new Queue(queueName(), { connection: queueAddress(), defaultJobOptions: { removeOnComplete: true } })

const server = new ApolloServer({
  typeDefs: `#graphql
    type Receipt { saveId: ID! status: String! }
    type Query { ok: Boolean! }
    type Mutation { save(content: String!): Receipt! }
  `,
  resolvers: {
    Query: { ok: () => true },
    Mutation: {
      save: async (_root: unknown, { content }: { content: string }) => {
        const id = randomUUID()
        await queue.add('save', { id, content, at: Date.now() })
        return { saveId: id, status: 'QUEUED' }
      },
    },
  },
})

await queue.waitUntilReady()
const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } })
ready(url.replace(/\/$/, ''))
