/** What Spillway saves out of the box: a text. */
import { defineModel } from './prisma.ts'

export const Content = defineModel('Content', {
  description: 'A saved content: one row of the database.',
  columns: { content: { description: 'The text that was saved, code unit for code unit.' } },
  names: { save: 'save', saveMany: 'saveMany', saved: 'saved', savePath: '/save', listPath: '/', flat: true },
})
