/**
 * The root fields of an operation, as graphql-js collects them: through fragments, type conditions, directives, aliases and repetitions. The
 * `extensions` of a root field define its kind, never its name: `feed` for the events of a model, `list` for a page of its rows from the cache.
 */
import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLSchema,
  getArgumentValues,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
} from 'graphql'
import { collectFields } from 'graphql/execution/collectFields.js'
import type { Cursor } from '../events/events.ts'
import type { Model, Row } from '../model/model.ts'

/**
 * `extensions: { feed }` of a field of Subscription: it streams the saved rows of a model. It has the model's narrowing arguments, and an
 * argument `after`.
 */
export interface FeedField {
  model: Model
  /** The root value for a saved row; `cursor` is the position behind its event. */
  root(cursor: Cursor, row: Row): unknown
}

export interface Root {
  field: GraphQLField<unknown, unknown>
  /** More than one if the field is repeated. */
  nodes: readonly FieldNode[]
  args: Record<string, unknown>
}

/** The document and the variables must be valid. */
export function rootsOf(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
): Root[] {
  const type = schema.getRootType(operation.operation)!
  const { coerced = {} } = getVariableValues(schema, operation.variableDefinitions ?? [], variables)
  const fragments = Object.fromEntries(
    document.definitions
      .filter((node): node is FragmentDefinitionNode => node.kind === Kind.FRAGMENT_DEFINITION)
      .map((node) => [node.name.value, node]),
  )
  const collected = collectFields(schema, fragments, coerced, type, operation.selectionSet)
  return [...collected.values()].flatMap((nodes) => {
    const field = type.getFields()[nodes[0]!.name.value]
    return field ? [{ field, nodes, args: getArgumentValues(field, nodes[0]!, coerced) }] : []
  })
}

export function feedOf({ field }: Root): FeedField | undefined {
  return field.extensions.feed as FeedField | undefined
}

/** `extensions: { list }` of a field of Query: it returns a page of rows of this model, and has the model's narrowing arguments. */
export function listOf({ field }: Pick<Root, 'field'>): Model | undefined {
  return field.extensions.list as Model | undefined
}
