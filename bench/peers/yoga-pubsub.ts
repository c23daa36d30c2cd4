/** GraphQL Yoga with graphql-redis-subscriptions, as its documentation has it: each subscriber an iterator of its own. */
import { RedisPubSub } from 'graphql-redis-subscriptions'
import { createSchema, createYoga } from 'graphql-yoga'
import { queueRedis, serve } from './peer.ts'

const pubsub = new RedisPubSub({ publisher: queueRedis(), subscriber: queueRedis() })

const yoga = createYoga({
  schema: createSchema({
    typeDefs: `
      type Content { id: ID! content: String! }
      type SavedEvent { cursor: String! content: Content! }
      type Query { ok: Boolean! }
      type Subscription { saved: SavedEvent! }
    `,
    resolvers: { Subscription: { saved: { subscribe: () => pubsub.asyncIterator('saved') } } },
  }),
})
serve(yoga)
