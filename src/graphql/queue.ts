/** The queue and its dead letters in GraphQL. */
import { pageDefault } from '../app/contents.ts'
import { checkPage } from '../http/input.ts'
import { badInput } from '../model/error.ts'
import { decode } from '../model/message.ts'
import { sleep } from '../model/sleep.ts'
import type { DeadLetter as DeadLetterShape, QueueStatus } from '../queue/queue.ts'
import { asyncIterator } from './async-iterator.ts'
import { builder } from './builder.ts'
import { Failure } from './receipt.ts'

const Durability = builder.enumType('Durability', {
  description: 'How durable a save is when the queue acknowledges it.',
  values: {
    FSYNC: { description: 'On disk: a power cut loses nothing.' },
    EVERYSEC: { description: 'A power cut may lose about a second.' },
    MEMORY: { description: 'A restart of the queue may lose all pending messages.' },
  } as const,
})

const Queue = builder.objectRef<QueueStatus>('Queue').implement({
  description: 'The state of the queue.',
  extensions: { scope: 'admin' },
  fields: (t) => ({
    depth: t.exposeInt('depth', { description: 'Messages enqueued and not yet saved, including those in flight.' }),
    inFlight: t.exposeInt('inFlight', { description: 'Messages leased to workers.' }),
    oldestAgeMs: t.exposeInt('oldestAgeMs', {
      description: 'The age of the oldest message, in milliseconds.',
    }),
    deadLetters: t.exposeInt('deadLetters', { description: 'The number of dead letters.' }),
    capacity: t.exposeInt('capacity', { description: 'The depth at which saves are refused.' }),
    durability: t.expose('durability', {
      type: Durability,
      description: 'How durable a save is when the queue acknowledges it.',
    }),
  }),
})

interface DeadLetterNode extends DeadLetterShape {
  content: string | undefined
  acceptedAt: Date | undefined
}

const DeadLetter = builder.objectRef<DeadLetterNode>('DeadLetter').implement({
  description: 'A message that could not become a row. It stays until an operator retries or discards it.',
  extensions: { scope: 'admin' },
  fields: (t) => ({
    id: t.exposeID('id', {
      description: 'The id of the save; for a message without one, the handle that the queue gave it.',
    }),
    content: t.exposeString('content', {
      nullable: true,
      description: 'The content of the save; null if the message cannot be decoded.',
    }),
    failure: t.expose('failure', { type: Failure, description: 'Why the message could not become a row.' }),
    acceptedAt: t.expose('acceptedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When the API received the save; null if the message cannot be decoded.',
    }),
  }),
})

builder.queryField('queue', (t) =>
  t.field({
    type: Queue,
    extensions: { scope: 'admin' },
    description: 'The state of the queue now.',
    resolve: (_root, _args, { app }) => app.queue.status(),
  }),
)

const DeadLetterConnection = builder.connectionObject(
  {
    type: DeadLetter,
    name: 'DeadLetterConnection',
    description: 'A page of dead letters.',
    extensions: { scope: 'admin' },
  },
  { name: 'DeadLetterEdge', description: 'A dead letter in a page.', extensions: { scope: 'admin' } },
)

builder.queryField('deadLetters', (t) =>
  t.field({
    type: DeadLetterConnection,
    extensions: { scope: 'admin' },
    description: 'Dead letters, oldest first. A page of large dead letters ends sooner.',
    args: {
      first: t.arg.int({ description: 'The number of dead letters to read: at most 100, default 20.' }),
      after: t.arg.string({ description: 'Read the dead letters after the edge with this cursor.' }),
    },
    resolve: async (_root, { first, after }, context) => {
      const { app } = context
      checkPage({ first })
      if (after != null && !/^\d{1,20}(-\d{1,20})?$/.test(after))
        throw badInput('after is not a cursor; use one that deadLetters gave')
      const size = first ?? pageDefault
      app.reads.ask(context, size)
      const { deadLetters, more } = await app.reads.page(size, () => app.queue.deadLetters(size, after ?? undefined))
      app.reads.got(
        context,
        deadLetters.reduce((sum, { deadLetter }) => sum + deadLetter.body.length, 0),
      )
      const edges = deadLetters.map(({ handle, deadLetter }) => ({ cursor: handle, node: readDeadLetter(deadLetter) }))
      return {
        edges,
        pageInfo: {
          hasNextPage: more,
          hasPreviousPage: after != null,
          startCursor: edges[0]?.cursor ?? null,
          endCursor: edges.at(-1)?.cursor ?? null,
        },
      }
    },
  }),
)

function readDeadLetter(deadLetter: DeadLetterShape): DeadLetterNode {
  const message = decode(deadLetter.body)
  if ('problem' in message) return { ...deadLetter, content: undefined, acceptedAt: undefined }
  const acceptedAt = new Date(message.at)
  // The time in a message may be any number.
  return { ...deadLetter, content: message.content, acceptedAt: Number.isNaN(+acceptedAt) ? undefined : acceptedAt }
}

builder.mutationFields((t) => ({
  retryDeadLetters: t.int({
    extensions: { scope: 'admin' },
    description: 'Puts dead letters back into the queue, with their ids, and returns how many.',
    args: { ids: t.arg.idList({ required: true, description: 'The ids of the dead letters; at most 1,000.' }) },
    resolve: (_root, { ids }, { app }) => app.queue.retry(checkIds(ids)),
  }),
  discardDeadLetters: t.int({
    extensions: { scope: 'admin' },
    description: 'Deletes dead letters permanently and returns how many.',
    args: { ids: t.arg.idList({ required: true, description: 'The ids of the dead letters; at most 1,000.' }) },
    resolve: (_root, { ids }, { app }) => app.queue.discard(checkIds(ids)),
  }),
}))

/** A dead letter has the id of its message; one without an id has the queue's handle instead. */
function checkIds(ids: readonly string[]): string[] {
  if (ids.length > 1_000) throw badInput(`at most 1,000 ids may be named at once, got ${ids.length}`)
  return ids.map((id) => id.toLowerCase())
}

const pollMs = 1_000

builder.subscriptionField('queue', (t) =>
  t.field({
    type: Queue,
    extensions: { scope: 'admin' },
    description: 'The state of the queue now, then at most once a second when it changes.',
    subscribe: (_root, _args, { app }) => {
      const stopped = new AbortController()
      let last: string | undefined
      return asyncIterator<QueueStatus>(
        async () => {
          while (!stopped.signal.aborted) {
            if (last !== undefined) await sleep(pollMs, stopped.signal)
            const status = await app.queue.status()
            const text = JSON.stringify(status)
            if (text !== last) {
              last = text
              return status
            }
          }
          return undefined
        },
        () => stopped.abort(),
      )
    },
    resolve: (status) => status,
  }),
)
