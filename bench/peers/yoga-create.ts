/** GraphQL Yoga, Pothos and Prisma as their documentation has them: `save` is a row before it is answered. */
import { randomUUID } from 'node:crypto'
import SchemaBuilder from '@pothos/core'
import PrismaPlugin from '@pothos/plugin-prisma'
import { createYoga } from 'graphql-yoga'
import type PrismaTypes from '../../prisma/mysql/generated/pothos.ts'
import { getDatamodel } from '../../prisma/mysql/generated/pothos.ts'
import { serve } from './peer.ts'
import { prismaClient } from './prisma.ts'

const prisma = prismaClient()
const builder = new SchemaBuilder<{ PrismaTypes: PrismaTypes }>({
  plugins: [PrismaPlugin],
  prisma: { client: prisma, dmmf: getDatamodel() },
  // Spillway's own plugins change the options' type for the whole program.
} as never)

builder.prismaObject('Content', {
  fields: (t) => ({
    saveId: t.exposeID('id'),
    content: t.exposeString('content'),
    status: t.string({ resolve: () => 'QUEUED' }),
  }),
})
builder.queryType({ fields: (t) => ({ ok: t.boolean({ resolve: () => true }) }) })
builder.mutationType({
  fields: (t) => ({
    save: t.prismaField({
      type: 'Content',
      args: { content: t.arg.string({ required: true }) },
      resolve: (query, _root, { content }) =>
        prisma.content.create({
          ...query,
          data: { id: randomUUID(), content, createdAt: new Date(), savedAt: new Date() },
        }),
    }),
  }),
})

await prisma.$connect()
serve(createYoga({ schema: builder.toSchema() }))
