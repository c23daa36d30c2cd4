/** The GraphQL schema: each import adds its types and fields to the builder. */
import './content.ts'
import './receipt.ts'
import './saved.ts'
import './queue.ts'
import './dead-letters.ts'
import { builder } from './builder.ts'

export const schema = builder.toSchema()
