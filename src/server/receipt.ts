/** Saving in GraphQL, and where a save stands. */
import type { Receipt as ReceiptShape } from '../app/receipts.ts'
import type { Failure as FailureShape } from '../model/error.ts'
import { builder } from './builder.ts'
import { Content } from './content.ts'
import { checkId } from './input.ts'
import { iterate } from './iterate.ts'

export const Failure = builder.objectRef<FailureShape>('Failure').implement({
  description: 'Why a save failed.',
  fields: (t) => ({
    code: t.exposeString('code'),
    message: t.exposeString('message'),
    attempts: t.exposeInt('attempts'),
    failedAt: t.expose('failedAt', { type: 'DateTime' }),
  }),
})

const ReceiptStatus = builder.enumType('ReceiptStatus', {
  values: {
    QUEUED: { description: 'Durable in the queue.' },
    SAVED: { description: 'A row in the database.' },
    FAILED: { description: 'A dead letter, which can be retried.' },
  } as const,
})

export const Receipt = builder.objectRef<ReceiptShape>('Receipt').implement({
  description: 'Where a save stands.',
  fields: (t) => ({
    id: t.exposeID('id'),
    status: t.expose('status', { type: ReceiptStatus }),
    duplicate: t.exposeBoolean('duplicate', { description: 'Whether this save repeats one that was accepted before.' }),
    acceptedAt: t.expose('acceptedAt', { type: 'DateTime' }),
    content: t.field({
      type: Content,
      nullable: true,
      description: 'The row, once there is one.',
      resolve: async (receipt, _args, { app }) => {
        if (receipt.content || receipt.status === 'QUEUED') return receipt.content ?? null
        return (await app.contents.find(receipt.id)) ?? null
      },
    }),
    failure: t.field({ type: Failure, nullable: true, resolve: (receipt) => receipt.failure ?? null }),
  }),
})

const SaveInput = builder.inputType('SaveInput', {
  fields: (t) => ({ content: t.string({ required: true }), id: t.id() }),
})

builder.mutationFields((t) => ({
  save: t.field({
    type: Receipt,
    extensions: { scope: 'write' },
    description:
      'id: a UUID of your own (v7 recommended) makes a retry safe. waitMs: wait up to this long for SAVED or FAILED.',
    args: { content: t.arg.string({ required: true }), id: t.arg.id(), waitMs: t.arg.int() },
    resolve: (_root, input, { app }) =>
      input.waitMs == null ? app.saves.save(input) : app.saves.saveAndWait(input, input.waitMs),
  }),
  saveMany: t.field({
    type: [Receipt],
    extensions: { scope: 'write' },
    description: 'All accepted or none; at most 1,000.',
    args: { inputs: t.arg({ type: [SaveInput], required: true }) },
    resolve: (_root, { inputs }, { app }) => app.saves.saveMany(inputs),
  }),
}))

builder.queryField('receipt', (t) =>
  t.field({
    type: Receipt,
    extensions: { scope: 'read' },
    nullable: true,
    description: 'Where a save stands; null for an id that was never accepted (or is long gone).',
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { app }) => (await app.receipts.find(checkId(id))) ?? null,
  }),
)

builder.subscriptionField('receipt', (t) =>
  t.field({
    type: Receipt,
    extensions: { scope: 'read' },
    description: 'The state now, then each change; completes at SAVED or FAILED.',
    args: { id: t.arg.id({ required: true }) },
    subscribe: (_root, { id }, { app }) => {
      const leaving = new AbortController()
      const changes = app.receipts.changes(checkId(id), leaving.signal)
      return iterate(
        async () => (await changes.next()).value as ReceiptShape | undefined,
        () => leaving.abort(),
      )
    },
    resolve: (receipt) => receipt,
  }),
)
