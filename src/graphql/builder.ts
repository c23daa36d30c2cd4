/** The schema builder: Pothos plugins, scalars and the context. */
import SchemaBuilder from '@pothos/core'
import PrismaPlugin from '@pothos/plugin-prisma'
import RelayPlugin from '@pothos/plugin-relay'
import { GraphQLError } from 'graphql'
import * as z from 'zod'
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type PrismaTypes from '../../prisma/mysql/generated/pothos.ts'
import { getDatamodel } from '../../prisma/mysql/generated/pothos.ts'
import type { App } from '../app/app.ts'
import type { Client } from '../app/save.ts'
import type { Grant } from '../model/grant.ts'

export interface Context {
  app: App
  /** The reader's client; the two schemas have the same models, so that one type fits both. */
  prisma: PrismaClient
  /** The client's scopes. */
  grant: Grant
  /** When the oldest part of the response was read (performance.now()); a context is created before anything is read for it. */
  readAt: number
  /** The client that waits for the response; undefined if a disconnect does not matter. */
  client?: Client | undefined
}

export const builder = new SchemaBuilder<{
  Context: Context
  PrismaTypes: PrismaTypes
  Scalars: {
    DateTime: { Input: Date; Output: Date }
    ID: { Input: string; Output: string }
    JSON: { Input: never; Output: unknown }
  }
  DefaultFieldNullability: false
  DefaultEdgesNullability: { list: false; items: false }
  DefaultNodeNullability: false
}>({
  plugins: [PrismaPlugin, RelayPlugin],
  defaultFieldNullability: false,
  prisma: { client: (context) => context.prisma, dmmf: getDatamodel() },
  relay: {
    cursorType: 'String',
    pageInfoTypeOptions: {
      description: 'Where a page stands in its list.',
      extensions: { scope: 'any' },
    },
    hasNextPageFieldOptions: {
      description: 'Whether rows follow this page. Known when the page was read with `first`.',
    },
    hasPreviousPageFieldOptions: {
      description: 'Whether rows precede this page. Known when the page was read with `last`.',
    },
    startCursorFieldOptions: { description: 'The cursor of the first edge; null for an empty page.' },
    endCursorFieldOptions: { description: 'The cursor of the last edge; null for an empty page.' },
    pageInfoFieldOptions: { description: 'The position of this page in the list.', extensions: { shared: true } },
    edgesFieldOptions: {
      description: 'The rows of this page.',
      nullable: { list: false, items: false },
      extensions: { shared: true },
    },
    nodeFieldOptions: { description: 'The row.', nullable: false, extensions: { shared: true } },
    cursorFieldOptions: { description: 'The position of this edge in the list, for `after` and `before`.' },
    firstArgOptions: {
      description: 'The number of rows to read from the beginning: at most 100; 20 without first and last.',
    },
    lastArgOptions: { description: 'The number of rows to read from the end: at most 100. Not together with first.' },
    afterArgOptions: { description: 'Read the rows after the edge with this cursor.' },
    beforeArgOptions: { description: 'Read the rows before the edge with this cursor.' },
  },
})

const isoTime = z.iso.datetime({ offset: true })

builder.scalarType('DateTime', {
  description: 'A point in time: ISO 8601 (RFC 3339), UTC, with milliseconds.',
  specifiedByURL: 'https://scalars.graphql.org/andimarek/date-time.html',
  serialize: (value) => (value as Date).toISOString(),
  parseValue: (value) => {
    // `Date` guesses: it makes 3 March of 31 February, and a year of "5".
    if (isoTime.safeParse(value).success) return new Date(value as string)
    throw new GraphQLError('a DateTime is an ISO 8601 text with its zone, such as 2026-11-27T12:00:00Z')
  },
})

builder.queryType({ description: 'Reads. Reads of contents never wait for the queue.' })
builder.mutationType({ description: 'Writes. A save returns when the queue has it on disk.' })
builder.subscriptionType({
  description: 'Events, over Server-Sent Events or WebSocket (graphql-transport-ws).',
})
