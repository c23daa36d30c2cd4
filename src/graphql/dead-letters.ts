/** The dead letters in GraphQL. */
import type { App } from '../app/app.ts'
import { pageDefault } from '../app/rows.ts'
import { checkPage } from '../http/input.ts'
import { badInput } from '../model/error.ts'
import { decode } from '../model/message.ts'
import { jsonOf, Undecodable } from '../model/model.ts'
import type { DeadLetter as DeadLetterShape } from '../queue/queue.ts'
import type { Builder } from './builder.ts'
import type { FailureRef } from './receipt.ts'

interface DeadLetterNode extends DeadLetterShape {
  model: string | undefined
  input: unknown
  acceptedAt: Date | undefined
}

export function addDeadLetters(builder: Builder, Failure: FailureRef): void {
  const DeadLetter = builder.objectRef<DeadLetterNode>('DeadLetter').implement({
    description: 'A message that could not become a row. It stays until an operator retries or discards it.',
    extensions: { scope: 'admin' },
    fields: (t) => ({
      saveId: t.exposeID('id', {
        description: 'The id of the save; for a message without one, the handle that the queue gave it.',
      }),
      model: t.exposeString('model', {
        nullable: true,
        description: 'The model of the save; null if the message cannot be decoded.',
      }),
      input: t.expose('input', {
        type: 'JSON',
        nullable: true,
        description: 'The columns of the save, by name; null if the message cannot be decoded.',
      }),
      failure: t.expose('failure', { type: Failure, description: 'Why the message could not become a row.' }),
      acceptedAt: t.expose('acceptedAt', {
        type: 'DateTime',
        nullable: true,
        description: 'When the API received the save; null if the message cannot be decoded.',
      }),
    }),
  })

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
      nullable: true,
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
        const edges = deadLetters.map(({ handle, deadLetter }) => ({
          cursor: handle,
          node: readDeadLetter(app, deadLetter),
        }))
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

  builder.mutationFields((t) => ({
    retryDeadLetters: t.int({
      extensions: { scope: 'admin' },
      nullable: true,
      description: 'Puts dead letters back into the queue, with their ids, and returns how many.',
      args: { ids: t.arg.idList({ required: true, description: 'The ids of the dead letters; at most 1,000.' }) },
      resolve: (_root, { ids }, { app }) => app.queue.retry(checkIds(ids)),
    }),
    discardDeadLetters: t.int({
      extensions: { scope: 'admin' },
      nullable: true,
      description: 'Deletes dead letters permanently and returns how many.',
      args: { ids: t.arg.idList({ required: true, description: 'The ids of the dead letters; at most 1,000.' }) },
      resolve: (_root, { ids }, { app }) => app.queue.discard(checkIds(ids)),
    }),
  }))
}

function readDeadLetter({ models }: App, deadLetter: DeadLetterShape): DeadLetterNode {
  const message = decode(deadLetter.body, models)
  if (message instanceof Undecodable)
    return { ...deadLetter, model: undefined, input: undefined, acceptedAt: undefined }
  const { model, values } = message
  const acceptedAt = new Date(message.at)
  return {
    ...deadLetter,
    model: model.name,
    input: jsonOf(model, values),
    // The time in a message may be any number.
    acceptedAt: Number.isNaN(+acceptedAt) ? undefined : acceptedAt,
  }
}

/** A dead letter has the id of its message; one without an id has the queue's handle instead. */
function checkIds(ids: readonly string[]): string[] {
  if (ids.length > 1_000) throw badInput(`at most 1,000 ids may be named at once, got ${ids.length}`)
  return ids.map((id) => id.toLowerCase())
}
