import { defineModel } from './prisma.ts'

export const Comment = defineModel('Comment', {
  columns: {
    author: { fromToken: 'sub' },
    body: { maxBytes: 10_000 },
    rating: { min: 1, max: 5 },
  },
  by: [['postId'], ['author']],
  check: ({ body }) => (body.trim() === '' ? 'body is blank' : undefined),
  fields: (t) => ({
    post: t.relation('post', { description: 'The post that the comment is on.' }),
  }),
})
