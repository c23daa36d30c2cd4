/** Content in GraphQL: the type, and how it is read. A model of your own gets a file like this one. */
import { pageDefault, pageLimit } from '../app/contents.ts'
import { builder } from './builder.ts'
import { checkId, checkPage } from './input.ts'

export const Content = builder.prismaObject('Content', {
  description: 'What somebody saved.',
  fields: (t) => ({
    id: t.exposeID('id'),
    content: t.exposeString('content'),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was accepted.' }),
    savedAt: t.expose('savedAt', { type: 'DateTime', description: 'When the row was written.' }),
  }),
})

builder.queryField('contents', (t) =>
  t.prismaConnection({
    type: Content,
    extensions: { scope: 'read' },
    cursor: 'id',
    description: 'Newest first (createdAt, then id). Cached. first: at most 100, default 20.',
    defaultSize: pageDefault,
    // Pothos would quietly give 100 where 1,000 were asked for.
    maxSize: (args) => {
      checkPage(args)
      return pageLimit
    },
    resolve: ({ take, skip, cursor }, _root, _args, { app }) =>
      app.contents.page({ take, skip, ...(cursor ? { cursor: String(cursor.id) } : {}) }),
  }),
)

builder.queryField('content', (t) =>
  t.field({
    type: Content,
    extensions: { scope: 'read' },
    nullable: true,
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, { id }, { app }) => (await app.contents.find(checkId(id))) ?? null,
  }),
)
