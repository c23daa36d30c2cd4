/** The GraphQL schema, made of the models of a release. */
import type { PothosPrismaDatamodel } from '@pothos/plugin-prisma'
import type { GraphQLSchema } from 'graphql'
import type { Models } from '../model/model.ts'
import { makeBuilder } from './builder.ts'
import { ColumnTypes } from './columns.ts'
import { addDeadLetters } from './dead-letters.ts'
import { addHistory } from './history.ts'
import { addLookup } from './lookup.ts'
import { addQueries, addRow, addSubscription } from './model.ts'
import { addNode } from './node.ts'
import { addQueue } from './queue.ts'
import { addFailure, addReceipt } from './receipt.ts'
import { addSaves } from './saves.ts'
import { addScalars } from './scalars.ts'
import { checkVisibility } from './visible.ts'

export interface SchemaOptions {
  /** Of the Prisma schema that has the models: `getDatamodel()` of the file that prisma-pothos-types generates. */
  datamodel: PothosPrismaDatamodel
}

/** `models` are those of the App whose use cases the schema calls. */
export function makeSchema(models: Models, { datamodel }: SchemaOptions): GraphQLSchema {
  const builder = makeBuilder(datamodel)
  builder.queryType({ description: 'Reads. Reads of rows never wait for the queue.' })
  builder.mutationType({ description: 'Writes. A save returns when the queue has it on disk.' })
  builder.subscriptionType({
    description: 'Events, over Server-Sent Events, WebSocket (graphql-transport-ws) or multipart responses.',
  })
  addScalars(builder)
  const Node = addNode(builder)
  const Failure = addFailure(builder)
  const Receipt = addReceipt(builder, Failure)
  const types = new ColumnTypes(builder)
  for (const model of models.values()) {
    const Row = addRow(builder, model, { types, Node })
    addQueries(builder, model, { types, Row })
    addSaves(builder, model, { types, Row, Receipt })
    addSubscription(builder, model, { types, Row })
  }
  addQueue(builder)
  addHistory(builder)
  const DeadLetter = addDeadLetters(builder, { Failure, Receipt })
  addLookup(builder, { Receipt, DeadLetter })
  return checkVisibility(builder.toSchema(), models)
}
