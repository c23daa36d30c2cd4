/** The schema builder: the only list of Pothos plugins, scalars and context. */
import SchemaBuilder from '@pothos/core'
import PrismaPlugin from '@pothos/plugin-prisma'
import RelayPlugin from '@pothos/plugin-relay'
import { GraphQLError } from 'graphql'
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type PrismaTypes from '../../prisma/mysql/generated/pothos.ts'
import { getDatamodel } from '../../prisma/mysql/generated/pothos.ts'
import type { App } from '../app/app.ts'
import type { Grant } from './access.ts'

export interface Context {
  app: App
  /** The reader's client; the two schemas have the same models, so that one type fits both. */
  prisma: PrismaClient
  /** What whoever asks may do. */
  grant: Grant
}

export const builder = new SchemaBuilder<{
  Context: Context
  PrismaTypes: PrismaTypes
  Scalars: { DateTime: { Input: Date; Output: Date }; ID: { Input: string; Output: string } }
  DefaultFieldNullability: false
  DefaultEdgesNullability: { list: false; items: false }
  DefaultNodeNullability: false
}>({
  plugins: [PrismaPlugin, RelayPlugin],
  defaultFieldNullability: false,
  prisma: { client: (context) => context.prisma, dmmf: getDatamodel() },
  relay: {
    cursorType: 'String',
    edgesFieldOptions: { nullable: { list: false, items: false } },
    nodeFieldOptions: { nullable: false },
  },
})

builder.scalarType('DateTime', {
  description: 'A point in time: ISO 8601, UTC, with milliseconds.',
  serialize: (value) => (value as Date).toISOString(),
  parseValue: (value) => {
    const date = typeof value === 'string' ? new Date(value) : undefined
    if (!date || Number.isNaN(+date)) throw new GraphQLError('a DateTime is an ISO 8601 text')
    return date
  },
})

builder.queryType({})
builder.mutationType({})
builder.subscriptionType({})
