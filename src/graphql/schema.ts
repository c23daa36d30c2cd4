/** The whole schema: each import adds one subject to it. */
import './content.ts'
import './receipt.ts'
import './saved.ts'
import './queue.ts'
import { builder } from './builder.ts'

export const schema = builder.toSchema()
