/** Content in GraphQL: the type and its queries. A model of your own gets a file like this one. */
import { pageDefault, pageLimit } from '../app/contents.ts'
import { checkId, checkPage } from '../http/input.ts'
import { builder } from './builder.ts'

export const Content = builder.prismaObject('Content', {
  description: 'A saved content: one row of the database.',
  extensions: { scope: 'read' },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'The id of the save: a UUID in lower case.' }),
    content: t.exposeString('content', { description: 'The text that was saved, code unit for code unit.' }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When the API received the save.' }),
    savedAt: t.expose('savedAt', { type: 'DateTime', description: 'When the worker wrote the row.' }),
  }),
})

builder.queryField('contents', (t) =>
  t.prismaConnection(
    {
      type: Content,
      extensions: { scope: 'read', shared: true, list: 'Content' },
      cursor: 'id',
      description: 'Contents, newest first (by createdAt, then id), from the cache. first: at most 100, default 20.',
      defaultSize: pageDefault,
      // Without this check, Pothos would return 100 rows to a request for 1,000.
      maxSize: (args) => {
        checkPage(args)
        return pageLimit
      },
      resolve: ({ take, skip, cursor }, _root, _args, context) =>
        context.app.contents.page(
          { take, skip, ...(cursor ? { cursor: String(cursor.id) } : {}) },
          (readAt) => {
            context.readAt = Math.min(context.readAt, readAt)
          },
          context,
        ),
    },
    { name: 'ContentConnection', description: 'A page of contents.', extensions: { scope: 'read' } },
    { name: 'ContentEdge', description: 'A content in a page.', extensions: { scope: 'read' } },
  ),
)

builder.queryField('content', (t) =>
  t.field({
    type: Content,
    extensions: { scope: 'read' },
    nullable: true,
    description: 'One content; null if no row has this id.',
    args: { id: t.arg.id({ required: true, description: 'The UUID of the content.' }) },
    resolve: async (_root, { id }, { app }) => (await app.contents.find(checkId(id))) ?? null,
  }),
)
