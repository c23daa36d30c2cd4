/** The fields that an operation reaches, on each object type: through fragments, interfaces, aliases and directives. */
import {
  type DocumentNode,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLSchema,
  getNamedType,
  isAbstractType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql'
import { fragmentsOf } from './roots.ts'

export interface Reached {
  type: GraphQLObjectType
  field: GraphQLField<unknown, unknown>
}

/**
 * Returns each field once; the document must be valid. A field with @skip or @include counts as reached. `__typename`, `__schema` and
 * `__type` are left out.
 */
export function reachedFields(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
): Reached[] {
  const fragments = fragmentsOf(document)
  const reached = new Map<GraphQLField<unknown, unknown>, Reached>()
  // Visits each selection once per type: fragments that spread each other twice would take exponential time.
  const seen = new Map<SelectionSetNode, Set<GraphQLObjectType>>()
  const collect = (set: SelectionSetNode, types: readonly GraphQLObjectType[]): void => {
    const known = seen.get(set) ?? new Set()
    seen.set(set, known)
    const fresh = types.filter((type) => !known.has(type))
    if (fresh.length === 0) return
    for (const type of fresh) known.add(type)
    for (const selection of set.selections) {
      if (selection.kind === Kind.FIELD) {
        for (const type of fresh) {
          const field = type.getFields()[selection.name.value]
          if (!field) continue
          reached.set(field, { type, field })
          if (selection.selectionSet) collect(selection.selectionSet, objectTypes(schema, getNamedType(field.type)))
        }
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        collect(selection.selectionSet, narrowed(schema, fresh, selection.typeCondition?.name.value))
      } else {
        const fragment = fragments[selection.name.value]
        if (fragment) collect(fragment.selectionSet, narrowed(schema, fresh, fragment.typeCondition.name.value))
      }
    }
  }
  collect(operation.selectionSet, [schema.getRootType(operation.operation)!])
  return [...reached.values()]
}

/** The object types that a value of this type may be; none for a leaf. */
export function objectTypes(schema: GraphQLSchema, type: GraphQLNamedType | undefined): readonly GraphQLObjectType[] {
  if (isAbstractType(type)) return schema.getPossibleTypes(type)
  return isObjectType(type) ? [type] : []
}

function narrowed(
  schema: GraphQLSchema,
  types: readonly GraphQLObjectType[],
  condition: string | undefined,
): readonly GraphQLObjectType[] {
  if (condition === undefined) return types
  const possible = objectTypes(schema, schema.getType(condition))
  return types.filter((type) => possible.includes(type))
}

/** Whether the field exposes a property of its object and has no resolver of its own, which could use the context. */
export function isPlain({ extensions }: GraphQLField<unknown, unknown>): boolean {
  return extensions.pothosExposedField !== undefined
}

/** Whether the value is the same for every client that may read it: a plain field, or one with `extensions: { shared: true }`. */
export function isShared(field: GraphQLField<unknown, unknown>): boolean {
  const { shared } = field.extensions
  return shared === undefined ? isPlain(field) : shared === true
}
