/**
 * The root fields of an operation, as graphql-js collects them: through fragments, type conditions, directives, aliases and repetitions. The
 * `extensions` of a root field define its kind, never its name: `feed` for the events log, `list` for a page of rows from the cache.
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
import type { FeedEvent } from '../events/follower.ts'

/** `extensions: { feed }` of a field of Subscription, which has an argument `after`. */
export interface FeedField {
  /** The root value for an event of the log; undefined if the event does not belong to this feed. */
  read(event: FeedEvent): unknown
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
