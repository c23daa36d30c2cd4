/** Mutations that save, and the receipts of saves, in GraphQL. */
import type { Receipt as ReceiptShape } from '../app/receipts.ts'
import { checkId } from '../http/input.ts'
import type { Failure as FailureShape } from '../model/error.ts'
import { asyncIterator } from './async-iterator.ts'
import { builder } from './builder.ts'
import { Content } from './content.ts'

export const Failure = builder.objectRef<FailureShape>('Failure').implement({
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

const ReceiptStatus = builder.enumType('ReceiptStatus', {
  description: 'How far a save has come.',
  values: {
    QUEUED: { description: 'Durable in the queue.' },
    SAVED: { description: 'A row in the database.' },
    FAILED: { description: 'A dead letter; it can be retried.' },
  } as const,
})

export const Receipt = builder.objectRef<ReceiptShape>('Receipt').implement({
  description: 'How far a save has come, and its row.',
  extensions: { scope: 'any' },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'The id of the save, and of its content.' }),
    status: t.expose('status', { type: ReceiptStatus, description: 'How far the save has come.' }),
    duplicate: t.exposeBoolean('duplicate', {
      description: 'Whether this save repeats an earlier one with the same id and content.',
    }),
    acceptedAt: t.expose('acceptedAt', { type: 'DateTime', description: 'When the API received the save.' }),
    content: t.field({
      type: Content,
      nullable: true,
      description:
        'The row, once it is committed. It needs the scope `read`, because a client may name the id of another save.',
      resolve: async (receipt, _args, { app }) => {
        if (receipt.content || receipt.status === 'QUEUED') return receipt.content ?? null
        return (await app.contents.find(receipt.id)) ?? null
      },
    }),
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

const SaveInput = builder.inputType('SaveInput', {
  description: 'One of the saves of `saveMany`.',
  fields: (t) => ({
    content: t.string({ required: true, description: 'The text to save.' }),
    id: t.id({
      description: 'A UUID (v7 recommended) that makes a retry safe. Without it the server makes one.',
    }),
  }),
})

builder.mutationFields((t) => ({
  save: t.field({
    type: Receipt,
    extensions: { scope: 'write' },
    description:
      'Enqueues a content. QUEUED means that the queue has it on disk. A retry with the same id and content is saved once.',
    args: {
      content: t.arg.string({ required: true, description: 'The text to save.' }),
      id: t.arg.id({
        description: 'A UUID (v7 recommended) that makes a retry safe. Without it the server makes one.',
      }),
      waitMs: t.arg.int({ description: 'How many milliseconds to wait for SAVED or FAILED: at most 60,000.' }),
    },
    resolve: (_root, input, { app, client }) =>
      input.waitMs == null ? app.saves.save(input) : app.saves.saveAndWait(input, input.waitMs, client),
  }),
  saveMany: t.field({
    type: [Receipt],
    extensions: { scope: 'write' },
    description: 'Enqueues all inputs, or none; at most 1,000.',
    args: { inputs: t.arg({ type: [SaveInput], required: true, description: 'The saves; at most 1,000.' }) },
    resolve: (_root, { inputs }, { app }) => app.saves.saveMany(inputs),
  }),
}))

builder.queryField('receipt', (t) =>
  t.field({
    type: Receipt,
    extensions: { scope: 'read' },
    nullable: true,
    description: 'The receipt of a save; null if neither the queue nor the database knows the id.',
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
