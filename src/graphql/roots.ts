/**
 * The root fields of an operation, as graphql-js collects them: through fragments, type conditions, directives, aliases and repetitions. The
 * `extensions` of a root field define its kind, never its name: `feed` for events of the log, `list` for a page of its rows from the cache.
 */
import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLResolveInfo,
  type GraphQLSchema,
  getArgumentValues,
  getNamedType,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
} from 'graphql'
import { collectFields, collectSubfields } from 'graphql/execution/collectFields.js'
import type { KnownEvent } from '../events/events.ts'
import type { Topic } from '../events/topics.ts'
import type { Grant } from '../model/grant.ts'
import type { Model } from '../model/model.ts'

/**
 * `extensions: { feed }` of a field of Subscription: it streams the events of a topic, and has an argument `after`. The topic follows from
 * the other arguments and the grant.
 */
export interface FeedField {
  /** The events that the feed takes. Throws BAD_USER_INPUT, FORBIDDEN. */
  topic(args: Readonly<Record<string, unknown>>, grant: Grant): Topic
  /** The root value for an event; `cursor` is the position behind it. */
  root(cursor: string, event: KnownEvent): unknown
}

/** An operation of a valid document. */
export interface Parsed {
  schema: GraphQLSchema
  node: DocumentNode
  operation: OperationDefinitionNode
}

export interface Root {
  field: GraphQLField<unknown, unknown>
  /** More than one if the field is repeated. */
  nodes: readonly FieldNode[]
  args: Record<string, unknown>
}

/** The variables must be valid. */
export function rootsOf({ schema, node, operation }: Parsed, variables: Record<string, unknown>): Root[] {
  const type = schema.getRootType(operation.operation)!
  const { coerced = {} } = getVariableValues(schema, operation.variableDefinitions ?? [], variables)
  const collected = collectFields(schema, fragmentsOf(node), coerced, type, operation.selectionSet)
  return [...collected.values()].flatMap((nodes) => {
    const field = type.getFields()[nodes[0]!.name.value]
    return field ? [{ field, nodes, args: getArgumentValues(field, nodes[0]!, coerced) }] : []
  })
}

/** The fragments of a document, by name. */
export function fragmentsOf({ definitions }: DocumentNode): Record<string, FragmentDefinitionNode> {
  const fragments = definitions.filter((node) => node.kind === Kind.FRAGMENT_DEFINITION)
  return Object.fromEntries(fragments.map((node) => [node.name.value, node]))
}

/** The resolver of a field with a feed: the root value is the event. */
export const eventItself = <Event>(event: unknown): Event => event as Event

export function feedOf({ field }: Root): FeedField | undefined {
  return field.extensions.feed as FeedField | undefined
}

/** `extensions: { list }` of a field of Query: it returns a page of rows of this model, and has the model's narrowing arguments. */
export function listOf({ field }: Pick<Root, 'field'>): Model | undefined {
  return field.extensions.list as Model | undefined
}

/** Whether the operation selects this field of the object that the resolver returns. */
export function selects(info: GraphQLResolveInfo, name: string): boolean {
  const { schema, fragments, variableValues, returnType, fieldNodes } = info
  const type = getNamedType(returnType) as GraphQLObjectType
  const fields = collectSubfields(schema, fragments, variableValues, type, fieldNodes)
  return [...fields.values()].some(([node]) => node!.name.value === name)
}
