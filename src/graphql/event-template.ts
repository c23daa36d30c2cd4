/**
 * The template of a subscription that selects nothing but plain fields: its results are constant JSON with the values of an event between, and
 * the document need not be executed. Invariant: a template makes a text of the same value as the executed document, or none.
 */
import {
  type FieldNode,
  type GraphQLLeafType,
  type GraphQLObjectType,
  getNullableType,
  getVariableValues,
  isLeafType,
  isNullableType,
  isObjectType,
} from 'graphql'
import { collectFields, collectSubfields } from 'graphql/execution/collectFields.js'
import { isPlain } from './reach.ts'
import { eventItself, fragmentsOf, type Parsed } from './roots.ts'

/** The result for the root value of an event, as JSON; undefined where the document must be executed, which returns the error. */
export type Template = (root: unknown) => string | undefined

type Fields = ReadonlyMap<string, readonly FieldNode[]>

interface Leaf {
  /** The properties that lead to the value. */
  path: readonly string[]
  type: GraphQLLeafType
  nullable: boolean
}

/** Undefined if a selected field has a resolver, or a type that only the executor knows. The variables must be valid. */
export function templateOf(
  { schema, node, operation }: Parsed,
  variables: Record<string, unknown>,
): Template | undefined {
  const { coerced = {} } = getVariableValues(schema, operation.variableDefinitions ?? [], variables)
  const fragments = fragmentsOf(node)
  const constants = ['{"data":']
  const leaves: Leaf[] = []
  const add = (text: string) => constants.push(constants.pop()! + text)

  function addObject(type: GraphQLObjectType, fields: Fields, path: readonly string[]): boolean {
    const all = [...fields].every(([key, nodes], i) => {
      add(`${i === 0 ? '{' : ','}${JSON.stringify(key)}:`)
      return addField(type, nodes, path)
    })
    add('}')
    return all
  }

  function addField(parent: GraphQLObjectType, nodes: readonly FieldNode[], path: readonly string[]): boolean {
    const name = nodes[0]!.name.value
    if (name === '__typename') {
      add(JSON.stringify(parent.name))
      return true
    }
    const field = parent.getFields()[name]
    if (!field) return false
    const isEvent = field.resolve === eventItself
    if (!isEvent && !isPlain(field)) return false
    const to = isEvent ? path : [...path, String(field.extensions.pothosExposedField)]
    const type = getNullableType(field.type)
    if (isObjectType(type)) return addObject(type, collectSubfields(schema, fragments, coerced, type, nodes), to)
    if (!isLeafType(type)) return false
    leaves.push({ path: to, type, nullable: isNullableType(field.type) })
    constants.push('')
    return true
  }

  const type = schema.getSubscriptionType()!
  const isPlainEvent = addObject(type, collectFields(schema, fragments, coerced, type, operation.selectionSet), [])
  add('}')
  return isPlainEvent ? template(constants, leaves) : undefined
}

function template(constants: readonly string[], leaves: readonly Leaf[]): Template {
  return (root) => {
    let text = constants[0]!
    for (const [i, leaf] of leaves.entries()) {
      const value = textOf(root, leaf)
      if (value === undefined) return undefined
      text += value + constants[i + 1]!
    }
    return text
  }
}

function textOf(root: unknown, { path, type, nullable }: Leaf): string | undefined {
  let value = root
  for (const property of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = (value as Record<string, unknown>)[property]
  }
  if (value === null || value === undefined) return nullable ? 'null' : undefined
  try {
    return JSON.stringify(type.serialize(value))
  } catch {
    return undefined
  }
}
