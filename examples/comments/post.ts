import { defineModel } from './prisma.ts'

export const Post = defineModel('Post', {
  columns: { author: { fromToken: 'sub' }, title: { maxLength: 100 } },
})
