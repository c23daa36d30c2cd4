/** `Node`: any row by its id, as Relay refetches it. */
import { checkId } from '../http/input.ts'
import { isVisible } from '../model/narrow.ts'
import type { Builder } from './builder.ts'

/** A row, and the GraphQL type that it has. */
interface NodeShape {
  id: string
  __typename?: string
}

export type NodeRef = ReturnType<typeof addNode>

export function addNode(builder: Builder) {
  const Node = builder.interfaceRef<NodeShape>('Node').implement({
    description: 'A row of any model. An id names one row of one model.',
    resolveType: ({ __typename }) => __typename,
    fields: (t) => ({ id: t.exposeID('id', { description: 'The id of the row: a UUID in lower case.' }) }),
  })
  builder.queryField('node', (t) =>
    t.field({
      type: Node,
      extensions: { scope: 'read' },
      nullable: true,
      description: 'One row of any model; null if no row that this client may see has the id.',
      args: { id: t.arg.id({ required: true, description: 'The id of the row.' }) },
      resolve: async (_root, { id }, { app, grant }) => {
        const found = await app.rows.findAny(checkId(id))
        if (!found || !isVisible(found.model, found.row, grant)) return null
        return { ...found.row, __typename: found.model.name }
      },
    }),
  )
  return Node
}
