/** The state of the queue in GraphQL. */
import { sleep } from '../model/sleep.ts'
import type { QueueStatus } from '../queue/queue.ts'
import { asyncIterator } from './async-iterator.ts'
import type { Builder } from './builder.ts'
import { addOperators, addPause } from './operators.ts'

const pollMs = 1_000

export function addQueue(builder: Builder): void {
  const Durability = builder.enumType('Durability', {
    description: 'How durable a save is when the queue acknowledges it.',
    values: {
      REPLICATED: { description: 'On disk, and at replicas: the loss of the primary with its disk loses nothing.' },
      FSYNC: { description: 'On disk: a power cut loses nothing.' },
      EVERYSEC: { description: 'A power cut may lose about a second.' },
      MEMORY: { description: 'A restart of the queue may lose all pending messages.' },
    } as const,
  })

  const Pause = addPause(builder)
  const Queue = builder.objectRef<QueueStatus>('Queue')
  Queue.implement({
    description: 'The state of the queue.',
    extensions: { scope: 'admin' },
    fields: (t) => ({
      depth: t.exposeInt('depth', { description: 'Messages enqueued and not yet saved, including those in flight.' }),
      inFlight: t.exposeInt('inFlight', { description: 'Messages leased to workers.' }),
      oldestAgeMs: t.int({
        description: 'The age of the oldest message, in milliseconds; of one older than 24 days 2147483647.',
        // A dead letter that is retried has the age of its save.
        resolve: ({ oldestAgeMs }) => Math.min(oldestAgeMs, 2 ** 31 - 1),
      }),
      deadLetters: t.exposeInt('deadLetters', { description: 'The number of dead letters.' }),
      capacity: t.exposeInt('capacity', { description: 'The depth at which saves are refused.' }),
      durability: t.expose('durability', {
        type: Durability,
        description: 'How durable a save is when the queue acknowledges it.',
      }),
      paused: t.field({
        type: Pause,
        nullable: true,
        description: 'Who paused persisting, and when; null while it is not paused.',
        resolve: ({ paused }) => paused,
      }),
    }),
  })

  addOperators(builder, Queue)

  builder.queryField('queue', (t) =>
    t.field({
      type: Queue,
      extensions: { scope: 'admin' },
      nullable: true,
      description: 'The state of the queue now.',
      resolve: (_root, _args, { app }) => app.queue.status(),
    }),
  )

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
}
