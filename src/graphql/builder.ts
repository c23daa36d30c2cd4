/** The schema builder: Pothos with its plugins, the context of resolvers, and the types that a model's own fields are checked by. */
import SchemaBuilder, { type FieldMap } from '@pothos/core'
import PrismaPlugin, { type PothosPrismaDatamodel, type PrismaModelTypes } from '@pothos/plugin-prisma'
import RelayPlugin from '@pothos/plugin-relay'
import type { Decimal } from 'decimal.js'
import type { App } from '../app/app.ts'
import type { Client } from '../app/save.ts'
import type { Grant } from '../model/grant.ts'
import type { Row } from '../model/model.ts'

// biome-ignore lint/suspicious/noExplicitAny: src/models/ binds the type of the Prisma client; nothing here uses the client.
export interface Context<PrismaClient = any> {
  app: App
  /** The Prisma client of the store that is read. */
  prisma: PrismaClient
  /** What the client may do and see. */
  grant: Grant
  /** When the oldest part of the response was read (performance.now()); a context is created before anything is read for it. */
  readAt: number
  /** Of all pages of the operation (app/saved-cursor.ts): taken before anything is read for it; undefined if it was unknown then. */
  savedCursor: string | undefined
  /** The client that waits for the response; undefined if a disconnect does not matter. */
  client?: Client | undefined
}

export interface Scalar<Input, Output = Input> {
  Input: Input
  Output: Output
}

/** `PrismaTypes` and `PrismaClient` are generated from a Prisma schema. */
export interface TypesOf<PrismaTypes, PrismaClient> {
  Context: Context<PrismaClient>
  PrismaTypes: PrismaTypes
  Scalars: {
    ID: Scalar<string>
    DateTime: Scalar<Date>
    BigInt: Scalar<bigint | string, bigint>
    Decimal: Scalar<string | number, Decimal>
    JSON: Scalar<unknown>
    Bytes: Scalar<string, Uint8Array>
  }
  DefaultFieldNullability: false
  DefaultEdgesNullability: { list: false; items: false }
  DefaultNodeNullability: false
}

type SchemaTypesOf<PrismaTypes extends object, PrismaClient> = PothosSchemaTypes.ExtendDefaultTypes<
  TypesOf<PrismaTypes, PrismaClient>
>

/** `fields` of the model `Name`: makes its own fields with Pothos' field builder, and types of their own with the schema builder. */
export type FieldsOf<PrismaTypes extends object, PrismaClient, Name extends keyof PrismaTypes> = (
  t: PothosSchemaTypes.PrismaObjectFieldBuilder<
    SchemaTypesOf<PrismaTypes, PrismaClient>,
    PrismaTypes[Name] & PrismaModelTypes
  >,
  builder: PothosSchemaTypes.SchemaBuilder<SchemaTypesOf<PrismaTypes, PrismaClient>>,
) => FieldMap

/** Of whichever Prisma schema. */
export interface AnyModelTypes extends PrismaModelTypes {
  Shape: Row
}

/** Of fields whose resolvers look at nothing but the connection and the context (page-template.ts). */
export const ofConnection = { shared: true, connection: true }

export type Builder = ReturnType<typeof makeBuilder>

export function makeBuilder(datamodel: PothosPrismaDatamodel) {
  // biome-ignore lint/suspicious/noExplicitAny: as in Context.
  return new SchemaBuilder<TypesOf<Record<string, AnyModelTypes>, any>>({
    plugins: [PrismaPlugin, RelayPlugin],
    defaultFieldNullability: false,
    prisma: { client: (context) => context.prisma, dmmf: datamodel },
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
      pageInfoFieldOptions: { description: 'The position of this page in the list.', extensions: ofConnection },
      edgesFieldOptions: {
        description: 'The rows of this page.',
        nullable: { list: false, items: false },
        extensions: ofConnection,
      },
      nodeFieldOptions: { description: 'The row.', nullable: false, extensions: ofConnection },
      cursorFieldOptions: { description: 'The position of this edge in the list, for `after` and `before`.' },
      firstArgOptions: {
        description: 'The number of rows to read from the beginning: at most 100; 20 without first and last.',
      },
      lastArgOptions: { description: 'The number of rows to read from the end: at most 100. Not together with first.' },
      afterArgOptions: { description: 'Read the rows after the edge with this cursor.' },
      beforeArgOptions: { description: 'Read the rows before the edge with this cursor.' },
    },
  })
}
