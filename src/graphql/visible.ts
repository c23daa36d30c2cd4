/**
 * Fields that a model's own `fields` add, such as relations, may read rows of a model with `visibleTo` from the database directly.
 * Invariant: no field returns a row that the client may not see. The fields that Spillway makes check by themselves.
 */
import {
  defaultFieldResolver,
  type GraphQLField,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  isInterfaceType,
  isNonNullType,
  isObjectType,
} from 'graphql'
import { SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import type { Model, Models, Row } from '../model/model.ts'
import { isVisible } from '../model/narrow.ts'
import type { Context } from './builder.ts'
import { receiptTypeOf } from './receipt.ts'

type Field = GraphQLField<unknown, Context>

/** Makes the other fields check what their resolvers return. */
export function checkVisibility(schema: GraphQLSchema, models: Models): GraphQLSchema {
  const hidden = new Map([...models].filter(([, model]) => model.visibleTo))
  if (hidden.size === 0) return schema
  const ours = oursOf(schema, models)
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || type.name.startsWith('__')) continue
    for (const field of Object.values(type.getFields())) {
      const named = getNamedType(field.type)
      const mayHide = hidden.has(named.name) || (isInterfaceType(named) && named.name === 'Node')
      if (mayHide && !ours.has(field)) check(field, named.name, hidden)
    }
  }
  return schema
}

function oursOf(schema: GraphQLSchema, models: Models): Set<Field> {
  const roots = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()]
  const made = [...models.values()].flatMap((model) =>
    [`${model.name}Edge`, `${model.name}Saved`, receiptTypeOf(model)].map((name) => schema.getType(name)),
  )
  return new Set([...roots, ...made].flatMap((type) => (isObjectType(type) ? Object.values(type.getFields()) : [])))
}

function check(field: Field, typeName: string, hidden: Models): void {
  const resolve = field.resolve ?? defaultFieldResolver
  const modelOf = (row: Row) => hidden.get(typeName === 'Node' ? String(row.__typename) : typeName)
  // Whatever the field says of itself: it depends on the client.
  field.extensions = { ...field.extensions, shared: false }
  field.resolve = async (...args) => visible(await resolve(...args), field.type, args[2].grant, modelOf)
}

/** A row that the client may not see is left out of a list, else null; where null may not be, FORBIDDEN. */
async function visible(
  value: unknown,
  type: GraphQLOutputType,
  grant: Grant,
  modelOf: (row: Row) => Model | undefined,
): Promise<unknown> {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    const rows = await Promise.all(value)
    return rows.filter((row) => row === null || isSeen(row, grant, modelOf))
  }
  if (isSeen(value as Row, grant, modelOf)) return value
  if (!isNonNullType(type)) return null
  throw new SpillwayError('FORBIDDEN', 'This row is not visible to this token.')
}

function isSeen(row: Row, grant: Grant, modelOf: (row: Row) => Model | undefined): boolean {
  const model = modelOf(row)
  return !model || isVisible(model, row, grant)
}
