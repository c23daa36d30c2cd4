/** The receipt of a save, whatever its model. Its fields do not depend on the model; a type of each model adds the row (model.ts). */
import { receiptsOfOperation } from '../app/reads.ts'
import type { Receipt as ReceiptShape } from '../app/receipts.ts'
import { checkId, checkIds } from '../http/input.ts'
import type { Failure as FailureShape } from '../model/error.ts'
import { asyncIterator } from './async-iterator.ts'
import type { Builder, Context } from './builder.ts'

export type FailureRef = ReturnType<typeof addFailure>
export type ReceiptRef = ReturnType<typeof addReceipt>

export function addFailure(builder: Builder) {
  return builder.objectRef<FailureShape>('Failure').implement({
    description: 'Why a save failed.',
    extensions: { scope: 'any' },
    fields: (t) => ({
      code: t.exposeString('code', {
        description:
          'ID_CONFLICT, UNDECODABLE, REJECTED (by the database), CRASHED (the worker, at each attempt) or GAVE_UP.',
      }),
      message: t.exposeString('message', { description: 'The reason, as a sentence.' }),
      attempts: t.exposeInt('attempts', { description: 'How many attempts with this message alone failed.' }),
      failedAt: t.expose('failedAt', { type: 'DateTime', description: 'When the message became a dead letter.' }),
    }),
  })
}

const count = receiptsOfOperation.toLocaleString('en')

/** The interface, its queries and its subscriptions. */
export function addReceipt(builder: Builder, Failure: FailureRef) {
  const ReceiptStatus = builder.enumType('ReceiptStatus', {
    description: 'How far a save has come.',
    values: {
      QUEUED: { description: 'Durable in the queue.' },
      SAVED: { description: 'A row in the database.' },
      FAILED: { description: 'A dead letter; it can be retried.' },
    } as const,
  })
  const Receipt = builder.interfaceRef<ReceiptShape>('Receipt').implement({
    description:
      'How far a save has come. It has no field `id`, because the id names the row, which may not exist yet. The type of each model adds the row.',
    resolveType: ({ model }) => receiptTypeOf(model),
    fields: (t) => ({
      saveId: t.exposeID('id', { description: 'The id of the save, and of its row.' }),
      model: t.string({
        extensions: { scope: 'any' },
        description: 'The name of the model.',
        resolve: ({ model }) => model.name,
      }),
      status: t.expose('status', { type: ReceiptStatus, description: 'How far the save has come.' }),
      duplicate: t.exposeBoolean('duplicate', {
        description: 'Whether this save repeats an earlier one with the same id, model and content.',
      }),
      acceptedAt: t.expose('acceptedAt', { type: 'DateTime', description: 'When the API received the save.' }),
      conflicts: t.exposeInt('conflicts', {
        description:
          'How many later saves with this id and other content became dead letters with the code ID_CONFLICT. They change neither the row nor the status.',
      }),
      failure: t.expose('failure', {
        type: Failure,
        nullable: true,
        description: 'Why the save failed, if its status is FAILED.',
      }),
    }),
  })
  addReceiptFields(builder, Receipt)
  return Receipt
}

export function receiptTypeOf({ name }: { name: string }): string {
  return `${name}Receipt`
}

const idsArg = {
  required: true,
  description: `The ids of the saves; at most ${count}, repeated ones included.`,
} as const

function addReceiptFields(builder: Builder, Receipt: ReceiptRef): void {
  const read = { extensions: { scope: 'read' } }
  builder.queryFields((t) => ({
    receipt: t.field({
      ...read,
      type: Receipt,
      nullable: true,
      description: 'The receipt of a save of any model; null if neither the queue nor the database knows the id.',
      args: { id: t.arg.id({ required: true, description: 'The id of the save.' }) },
      resolve: async (_root, { id }, { app }) => (await app.receipts.find(checkId(id))) ?? null,
    }),
    receipts: t.field({
      ...read,
      type: [Receipt],
      nullable: { list: true, items: true },
      description: `The receipts of saves of any models, in the order of the ids; null for an id that neither the queue nor the database knows. One operation may ask for ${count}.`,
      args: { ids: t.arg.idList(idsArg) },
      resolve: async (_root, args, context) => {
        const ids = checkIds(args.ids, receiptsOfOperation)
        context.app.reads.askReceipts(context, ids.length)
        const distinct = [...new Set(ids)]
        // Settled, because graphql-jit adds a null to the list for an item that rejects.
        const found = await Promise.allSettled(await context.app.receipts.findAll(distinct))
        const receipts = new Map(distinct.map((id, i) => [id, found[i]!]))
        return ids.map((id) => {
          const result = receipts.get(id)!
          return result.status === 'fulfilled' ? result.value : result.reason
        })
      },
    }),
  }))
  builder.subscriptionFields((t) => ({
    receipt: t.field({
      ...read,
      type: Receipt,
      description:
        'The receipt now, then after each change. Completes at SAVED or FAILED, and at once for an id that was never enqueued.',
      args: { id: t.arg.id({ required: true, description: 'The id of the save.' }) },
      subscribe: (_root, { id }, context) => changesOf([checkId(id)], context),
      resolve: ([receipt]: readonly ReceiptShape[]) => receipt!,
    }),
    receipts: t.field({
      ...read,
      type: [Receipt],
      description:
        'The receipts of the saves that are known now, in the order of the ids and each once; then those that changed, together where they changed together. Completes when all of them are SAVED or FAILED. An id that was never enqueued is left out, also if it is enqueued later; if all ids are, it completes without a message.',
      args: { ids: t.arg.idList(idsArg) },
      subscribe: (_root, { ids }, context) => changesOf(checkIds(ids, receiptsOfOperation), context),
      resolve: (receipts: readonly ReceiptShape[]) => receipts,
    }),
  }))
}

function changesOf(ids: readonly string[], { app }: Context): AsyncIterableIterator<readonly ReceiptShape[]> {
  const stopped = new AbortController()
  const changes = app.receipts.changes(ids, stopped.signal)
  return asyncIterator(
    async () => (await changes.next()).value as readonly ReceiptShape[] | undefined,
    () => {
      stopped.abort()
      // Between two messages nothing else ends it.
      void changes.return(undefined)
    },
  )
}
