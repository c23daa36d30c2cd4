/** GraphQL Yoga and Pothos in front of a BullMQ queue: `save` is a job before it is answered. */
import { randomUUID } from 'node:crypto'
import SchemaBuilder from '@pothos/core'
import { Queue } from 'bullmq'
import { createYoga } from 'graphql-yoga'
import { queueAddress, queueName, serve } from './peer.ts'

const queue = new Queue(queueName(), { connection: queueAddress(), defaultJobOptions: { removeOnComplete: true } })
// never: Spillway's own plugins change the options' type for the whole program.
const builder = new SchemaBuilder({} as never)

const Receipt = builder.objectRef<{ saveId: string; status: string }>('Receipt').implement({
  fields: (t) => ({ saveId: t.exposeID('saveId'), status: t.exposeString('status') }),
})
builder.queryType({ fields: (t) => ({ ok: t.boolean({ resolve: () => true }) }) })
builder.mutationType({
  fields: (t) => ({
    save: t.field({
      type: Receipt,
      args: { content: t.arg.string({ required: true }) },
      resolve: async (_root, { content }) => {
        const id = randomUUID()
        await queue.add('save', { id, content, at: Date.now() })
        return { saveId: id, status: 'QUEUED' }
      },
    }),
  }),
})

await queue.waitUntilReady()
serve(createYoga({ schema: builder.toSchema() }))
