/** Where an id stands, for operators: its receipt, its row and its dead letters, of whichever model. */
import { type DecodedDeadLetter, ofIdLimit } from '../app/dead-letters.ts'
import { parseId } from '../model/input.ts'
import { jsonOf } from '../model/model.ts'
import type { Builder, Context } from './builder.ts'
import type { addDeadLetters } from './dead-letters.ts'
import type { ReceiptRef } from './receipt.ts'

interface LookupShape {
  id: string
  found?: ReturnType<Context['app']['deadLetters']['of']>
}

const scope = { extensions: { scope: 'admin' } }
/** What a look-up is worth in the limit of rows of an operation: its dead letters and its row. */
const rowsOfLookup = ofIdLimit

interface Types {
  Receipt: ReceiptRef
  DeadLetter: ReturnType<typeof addDeadLetters>
}

export function addLookup(builder: Builder, { Receipt, DeadLetter }: Types): void {
  const Lookup = builder.objectRef<LookupShape>('SaveLookup').implement({
    ...scope,
    description:
      'Where an id stands. A part that cannot be read is null, with an error of its own, and the others are answered.',
    fields: (t) => ({
      saveId: t.exposeID('id', { description: 'The id: of a UUID in lower case.' }),
      receipt: t.field({
        type: Receipt,
        nullable: true,
        description: 'The receipt; null if neither the queue nor the database knows the id.',
        resolve: async ({ id }, _args, { app }) => (isUuid(id) ? await app.receipts.find(id) : null),
      }),
      row: t.field({
        type: 'JSON',
        nullable: true,
        description: 'The row, of whichever model: its columns by name; null if the database has none.',
        resolve: async ({ id }, _args, context) => (isUuid(id) ? await rowOf(id, context) : null),
      }),
      deadLetters: t.field({
        type: [DeadLetter],
        nullable: true,
        description: `The dead letters that have the id: the first ${ofIdLimit}, those with the code ID_CONFLICT last.`,
        resolve: async (lookup, _args, context) => (await deadLettersOf(lookup, context)).deadLetters,
      }),
      deadLetterCount: t.int({
        nullable: true,
        description: 'How many dead letters have the id.',
        resolve: async (lookup, _args, context) => (await deadLettersOf(lookup, context)).count,
      }),
    }),
  })
  builder.queryField('saveLookup', (t) =>
    t.field({
      ...scope,
      type: Lookup,
      nullable: true,
      description: 'Where an id stands: its receipt, its row and its dead letters, of whichever model.',
      args: {
        id: t.arg.id({
          required: true,
          description: 'The id of a save: a UUID; or the `saveId` of a dead letter whose message has no id.',
        }),
      },
      resolve: (_root, { id }, context): LookupShape => {
        context.app.reads.ask(context, rowsOfLookup)
        return { id: parseId(id) ?? id }
      },
    }),
  )
}

const isUuid = (id: string) => parseId(id) === id

async function rowOf(id: string, context: Context): Promise<Record<string, unknown> | null> {
  const { rows } = context.app
  const found = await rows.findAny(id)
  const row = found && (await rows.select(context, { model: found.model, id, row: found.row }))
  if (!found || !row) return null
  return { id, ...jsonOf(found.model, row), createdAt: row.createdAt, savedAt: row.savedAt }
}

async function deadLettersOf(
  lookup: LookupShape,
  context: Context,
): Promise<{ count: number; deadLetters: DecodedDeadLetter[] }> {
  lookup.found ??= context.app.deadLetters.of(lookup.id).then((found) => {
    context.app.reads.got(
      context,
      found.deadLetters.reduce((sum, { body }) => sum + body.length, 0),
    )
    return found
  })
  return await lookup.found
}
