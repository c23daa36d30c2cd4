/**
 * Fastify and Mercurius with its JIT in front of graphile-worker on PostgreSQL. A job is a batch of saves ("batch jobs" in its
 * documentation): those that came while the last jobs were being added.
 */
import { randomUUID } from 'node:crypto'
import { fastify } from 'fastify'
import { makeWorkerUtils } from 'graphile-worker'
import { mercurius } from 'mercurius'
import { need, ready } from './peer.ts'

interface Save {
  id: string
  content: string
  at: number
}

const lanes = 2
const utils = await makeWorkerUtils({ connectionString: need('POSTGRES_URL') })
const app = fastify()
let next: { saves: Save[]; added: PromiseWithResolvers<void> } | undefined
let busy = 0

function enqueue(save: Save): Promise<void> {
  if (!next) {
    next = { saves: [], added: Promise.withResolvers() }
    // When all saves of this tick are here.
    setImmediate(add)
  }
  next.saves.push(save)
  return next.added.promise
}

function add(): void {
  if (!next || busy === lanes) return
  const { saves, added } = next
  next = undefined
  busy += 1
  utils
    .addJob('save', saves)
    .then(() => added.resolve(), added.reject)
    .finally(() => {
      busy -= 1
      add()
    })
}

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
        await enqueue({ id, content, at: Date.now() })
        return { saveId: id, status: 'QUEUED' }
      },
    },
  },
})

ready(await app.listen({ host: '127.0.0.1', port: 0 }))
