import { defineModel } from './prisma.ts'

export const Comment = defineModel('Comment', {
  columns: {
    body: { maxBytes: 10_000 },
    rating: { min: 1, max: 5 },
  },
  by: [['postId']], // what lists and subscriptions can be narrowed to
  check: ({ body }) => (body.trim() === '' ? 'body is blank' : undefined),
})
