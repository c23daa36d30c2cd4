/** The receipt of a save, whatever its model. Its fields do not depend on the model; a type of each model adds the row (model.ts). */
import type { Receipt as ReceiptShape } from '../app/receipts.ts'
import { checkId } from '../http/input.ts'
import type { Failure as FailureShape } from '../model/error.ts'
import { asyncIterator } from './async-iterator.ts'
import type { Builder } from './builder.ts'

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

/** The interface, its query and its subscription. */
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

function addReceiptFields(builder: Builder, Receipt: ReceiptRef): void {
  builder.queryField('receipt', (t) =>
    t.field({
      type: Receipt,
      extensions: { scope: 'read' },
      nullable: true,
      description: 'The receipt of a save of any model; null if neither the queue nor the database knows the id.',
      args: { id: t.arg.id({ required: true, description: 'The id of the save.' }) },
      resolve: async (_root, { id }, { app }) => (await app.receipts.find(checkId(id))) ?? null,
    }),
  )
  builder.subscriptionField('receipt', (t) =>
    t.field({
      type: Receipt,
      extensions: { scope: 'read' },
      description: 'The receipt now, then after each change. Completes at SAVED or FAILED.',
      args: { id: t.arg.id({ required: true, description: 'The id of the save.' }) },
      subscribe: (_root, { id }, { app }) => {
        const stopped = new AbortController()
        const changes = app.receipts.changes(checkId(id), stopped.signal)
        return asyncIterator(
          async () => (await changes.next()).value as ReceiptShape | undefined,
          () => stopped.abort(),
        )
      },
      resolve: (receipt) => receipt,
    }),
  )
}
