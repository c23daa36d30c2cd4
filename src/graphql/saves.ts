/** The mutations of a model, its input type, and its receipt with the row. */

import type { Receipt as ReceiptShape } from '../app/receipts.ts'
import { type SaveInput, saveManyLimit, waitLimitMs } from '../app/save.ts'
import { badInput } from '../model/error.ts'
import { parseId } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import { isVisible } from '../model/narrow.ts'
import type { Builder, Context } from './builder.ts'
import { type ColumnTypes, inputFields } from './columns.ts'
import type { RowRef } from './model.ts'
import { type ReceiptRef, receiptTypeOf } from './receipt.ts'

type Values = Record<string, unknown>

const idDescription = 'A UUID (v7 recommended) that makes a retry safe. Without it the server makes one.'
const count = saveManyLimit.toLocaleString('en')

export function addSaves(
  builder: Builder,
  model: Model,
  { types, Row, Receipt }: { types: ColumnTypes; Row: RowRef; Receipt: ReceiptRef },
): void {
  const { name, names } = model
  const ModelReceipt = addModelReceipt(builder, model, { Row, Receipt })
  const Input = builder.inputType(`${name}Input`, {
    description: `A save of ${name}: the columns that a client sends.`,
    fields: (t) => ({
      ...inputFields(model, types, (options) => t.field(options as never)),
      id: t.id({ description: idDescription }),
    }),
  })
  builder.mutationField(names.save, (t) =>
    t.field({
      type: ModelReceipt,
      extensions: { scope: 'write' },
      nullable: true,
      description: `Enqueues a row of ${name}. QUEUED means that the queue has it on disk. A retry with the same id and content is saved once.`,
      args: {
        ...(names.flat
          ? inputFields(model, types, (options) => t.arg(options as never))
          : { input: t.arg({ type: Input, required: true, description: 'The columns of the row.' }) }),
        id: t.arg.id({ description: idDescription }),
        waitMs: t.arg.int({
          description: `How many milliseconds to wait for SAVED or FAILED: at most ${waitLimitMs.toLocaleString('en')}.`,
        }),
      },
      resolve: (_root, { waitMs, ...given }, { app, grant, client }) => {
        const saving = { model, grant }
        const input = names.flat ? inputOf(given as Values) : nestedInput(given as unknown as Nested)
        return waitMs == null
          ? app.saves.save(saving, input)
          : app.saves.saveAndWait(saving, input, waitMs as number, client)
      },
    }),
  )
  builder.mutationField(names.saveMany, (t) =>
    t.field({
      type: [ModelReceipt],
      extensions: { scope: 'write' },
      nullable: true,
      description: `Enqueues all inputs, or none; at most ${count}.`,
      args: { inputs: t.arg({ type: [Input], required: true, description: `The saves; at most ${count}.` }) },
      resolve: (_root, { inputs }, { app, grant }) =>
        app.saves.saveMany({ model, grant }, (inputs as readonly Values[]).map(inputOf)),
    }),
  )
}

/** The receipt with the row. */
function addModelReceipt(builder: Builder, model: Model, { Row, Receipt }: { Row: RowRef; Receipt: ReceiptRef }) {
  const { name, names } = model
  return builder.objectRef<ReceiptShape>(receiptTypeOf(model)).implement({
    description: `The receipt of a save of ${name}, with its row.`,
    extensions: { scope: 'any' },
    interfaces: [Receipt],
    fields: (t) => ({
      [names.one]: t.field({
        type: Row,
        nullable: true,
        description:
          'The row, once it is committed; null if this client may not see it. It needs the scope `read`, because a client may name the id of another save.',
        resolve: async ({ id, row, status }, _args, context: Context) => {
          if (status === 'QUEUED') return null
          const found = await context.app.rows.select(context, { model, id, row })
          return found && isVisible(model, found, context.grant) ? found : null
        },
      }),
    }),
  })
}

function inputOf({ id, ...values }: Values): SaveInput {
  return { values, id }
}

interface Nested {
  input: Values
  id?: unknown
}

/** An id may be given as the argument, in the input, or as both. */
function nestedInput({ input, id }: Nested): SaveInput {
  const nested = inputOf(input)
  if (id == null) return nested
  if (nested.id != null && parseId(nested.id) !== parseId(id))
    throw badInput('id and input.id differ; give one of them')
  return { values: nested.values, id }
}
