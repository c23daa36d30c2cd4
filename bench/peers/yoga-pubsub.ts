/** GraphQL Yoga with graphql-redis-subscriptions, as its documentation has it: each subscriber an iterator of its own. */
import { once } from 'node:events'
import { RedisPubSub } from 'graphql-redis-subscriptions'
import { createSchema, createYoga } from 'graphql-yoga'
import { serve } from './peer.ts'
import { queueRedis } from './redis.ts'

const [publisher, subscriber] = [queueRedis(), queueRedis()]
const pubsub = new RedisPubSub({ publisher, subscriber })

const yoga = createYoga({
  schema: createSchema({
    typeDefs: `
      type Content { id: ID! content: String! }
      type SavedEvent { cursor: String! content: Content! }
      type Comment { id: ID! postId: String! body: String! }
      type CommentSavedEvent { cursor: String! comment: Comment! }
      type Query { ok: Boolean! }
      type Subscription { saved: SavedEvent! savedMany: [SavedEvent!]! commentSaved(postId: String!): CommentSavedEvent! }
    `,
    resolvers: {
      Subscription: {
        saved: { subscribe: () => pubsub.asyncIterator('saved') },
        savedMany: { subscribe: () => pubsub.asyncIterator('savedMany') },
        commentSaved: { subscribe: (_root, { postId }) => pubsub.asyncIterator(`comments:${postId}`) },
      },
    },
  }),
})
// A SUBSCRIBE that ioredis is asked for before that may never be sent.
await Promise.all([once(publisher, 'ready'), once(subscriber, 'ready')])
serve(yoga)
