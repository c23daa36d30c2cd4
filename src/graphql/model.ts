/** A model in GraphQL: its type, and the queries and the subscription of its rows. saves.ts adds its mutations. */
import type { FieldMap } from '@pothos/core'
import { pageDefault, pageLimit } from '../app/rows.ts'
import type { SavedEvent } from '../events/events.ts'
import { savedRows } from '../events/topics.ts'
import { checkId, checkPage } from '../http/input.ts'
import { ModelError } from '../model/define.ts'
import type { Model, Row } from '../model/model.ts'
import { isVisible, visibleValue } from '../model/narrow.ts'
import { type Builder, ofConnection } from './builder.ts'
import { type ColumnTypes, narrowingArgs, rowFields } from './columns.ts'
import { narrowingOfArgs } from './narrowing.ts'
import type { NodeRef } from './node.ts'
import { eventItself, type FeedField, selects } from './roots.ts'

export type RowRef = ReturnType<typeof addRow>

/** The type of the rows: columns, and the model's own fields. */
export function addRow(builder: Builder, model: Model, { types, Node }: { types: ColumnTypes; Node: NodeRef }) {
  return builder.prismaObject(model.name, {
    description: model.description,
    extensions: { scope: 'read' },
    interfaces: [Node],
    fields: (t) => {
      const columns = rowFields(t, model, types)
      const own = (model.fields as OwnFields | undefined)?.(t, builder) ?? {}
      // In REST and in saves it would still be the column.
      const replaced = Object.keys(own).find((name) => Object.hasOwn(columns, name))
      if (replaced !== undefined) {
        throw new ModelError(
          `The model ${model.name}: fields has ${replaced}, which is a column; give the field another name`,
        )
      }
      return { ...columns, ...own }
    },
  })
}

/** FieldsOf of any Prisma schema (builder.ts). */
type OwnFields = (t: unknown, builder: Builder) => FieldMap

/** One row by its id, and the list. */
export function addQueries(builder: Builder, model: Model, { types, Row }: { types: ColumnTypes; Row: RowRef }): void {
  const { name, names } = model
  const narrowed = model.by.length > 0 ? ' It can be narrowed to the rows with certain values.' : ''
  builder.queryField(names.one, (t) =>
    t.field({
      type: Row,
      extensions: { scope: 'read' },
      nullable: true,
      description: `One row of ${name}; null if no row that this client may see has the id.`,
      args: { id: t.arg.id({ required: true, description: 'The id of the row: a UUID.' }) },
      resolve: async (_root, { id }, { app, grant }) => {
        const of = checkId(id)
        // Before the row is read: whoever may see no row must not learn which ids there are.
        visibleValue(model, grant)
        const row = await app.rows.find(model, of)
        return row && isVisible(model, row, grant) ? row : null
      },
    }),
  )
  builder.queryField(names.many, (t) =>
    t.prismaConnection(
      {
        type: Row,
        extensions: { scope: 'read', shared: true, list: model },
        nullable: true,
        cursor: 'id' as never,
        description: `Rows of ${name}, newest first (by createdAt, then id), from the cache. first: at most ${pageLimit}, default ${pageDefault}.${narrowed}`,
        args: narrowingArgs(model, types, (options) => t.arg(options as never)),
        defaultSize: pageDefault,
        // Without this check, Pothos would return 100 rows to a request for 1,000.
        maxSize: (args) => {
          checkPage(args)
          return pageLimit
        },
        resolve: async ({ take, skip, cursor }, _root, args, context, info) => {
          const where = narrowingOfArgs(model, args, context.grant)
          const primary = selects(info, 'savedCursor')
          if (primary && context.savedCursor === undefined) {
            const known = await context.app.savedCursor.known()
            // That of the page which is read first.
            context.savedCursor ??= known
          }
          return await context.app.rows.page(
            model,
            { take, skip, ...(cursor ? { cursor: String((cursor as { id: unknown }).id) } : {}), where, primary },
            (readAt) => {
              context.readAt = Math.min(context.readAt, readAt)
            },
            context,
          )
        },
      },
      {
        name: `${name}Connection`,
        description: `A page of rows of ${name}.`,
        extensions: { scope: 'read' },
        fields: (t) => ({
          savedCursor: t.string({
            extensions: ofConnection,
            description: `Where the events stood before this page was read: \`${names.saved}(after: savedCursor)\` misses no row that the page lacks, and may repeat rows that it has. A page that selects it is read from the primary database, never from a read replica.`,
            resolve: (_page, _args, { savedCursor }) => {
              if (savedCursor === undefined) throw new Error('savedCursor was not taken before the page was read')
              return savedCursor
            },
          }),
        }),
      },
      { name: `${name}Edge`, description: `A row of ${name} in a page.`, extensions: { scope: 'read' } },
    ),
  )
}

interface SavedShape {
  cursor: string
  row: Row
}

/** Every saved row, in the order of the events log, from the client's cursor on. */
export function addSubscription(
  builder: Builder,
  model: Model,
  { types, Row }: { types: ColumnTypes; Row: RowRef },
): void {
  const { name, names } = model
  const Saved = builder.objectRef<SavedShape>(`${name}Saved`).implement({
    description: `A row of ${name} was saved. \`${names.many}\` of every process returns it.`,
    extensions: { scope: 'read' },
    fields: (t) => ({
      cursor: t.exposeString('cursor', {
        description: `The position after this event, for \`${names.saved}(after:)\`.`,
      }),
      [names.one]: t.expose('row' as never, { type: Row as never, description: 'The row that was saved.' }),
    }),
  })
  const feed: FeedField = {
    topic: (args, grant) => savedRows(model, narrowingOfArgs(model, args, grant)),
    root: (cursor, event): SavedShape => ({ cursor, row: (event as SavedEvent).row }),
  }
  builder.subscriptionField(names.saved, (t) =>
    t.field({
      type: Saved,
      extensions: { scope: 'read', shared: true, feed },
      description: `Every saved row of ${name}, in the order of the events log.`,
      args: {
        ...narrowingArgs(model, types, (options) => t.arg(options as never)),
        after: t.arg.string({
          description: `The cursor of the last event received; at first, the \`savedCursor\` of a page of \`${names.many}\`. Without it the stream begins now.`,
        }),
      },
      subscribe: () => {
        throw new Error('FeedStreams serves this field')
      },
      resolve: eventItself<SavedShape>,
    }),
  )
}
