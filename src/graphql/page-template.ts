/**
 * The template of a query of pages that selects nothing but plain fields of the rows: the pages are read, and the text of each row is made once for
 * all documents that select the same of it. Invariant: a template makes a text of the same value as the executed document, or none.
 */
import {
  type FieldNode,
  type GraphQLField,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLResolveInfo,
  getArgumentValues,
  getVariableValues,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  visit,
} from 'graphql'
import { collectFields, collectSubfields } from 'graphql/execution/collectFields.js'
import { LRUCache } from 'lru-cache'
import { isPlain } from './reach.ts'
import { fragmentsOf, listOf, type Parsed } from './roots.ts'

/** The result of the query, as JSON; undefined where the document must be executed, which returns the error. */
export type PageTemplate = (context: object, variables: Record<string, unknown>) => Promise<string | undefined>

type Fields = ReadonlyMap<string, readonly FieldNode[]>

/** The JSON of a value. Throws where the executor has to say what is wrong with it. */
type Render = (value: unknown, context: object) => string

/** Longer texts of rows are not kept for other documents, in characters. */
const longestKept = 4_000
/** Of each type: so many selections have the texts of their rows kept, for as long as the rows are. */
const selectionsKept = 100
const keptTexts = new WeakMap<GraphQLObjectType, LRUCache<string, WeakMap<object, string>>>()

/** Undefined if a field has a resolver of a model's own, arguments below the root, a directive, or a type that only the executor knows. */
export function pageTemplateOf({ schema, node, operation }: Parsed): PageTemplate | undefined {
  const query = schema.getQueryType()!
  const fragments = fragmentsOf(node)

  function renderOf(type: GraphQLOutputType, nodes: readonly FieldNode[]): Render | undefined {
    if (isNonNullType(type)) {
      const render = renderOf(type.ofType, nodes)
      return render && ((value, context) => render(present(value), context))
    }
    if (isListType(type)) {
      const render = renderOf(type.ofType, nodes)
      return render && nullable((value, context) => listText(value, (item) => render(item, context)))
    }
    if (isLeafType(type)) return nullable((value) => present(JSON.stringify(type.serialize(value))))
    // Without directives, no variable decides which fields are selected.
    if (isObjectType(type)) return objectOf(type, collectSubfields(schema, fragments, {}, type, nodes))
    return undefined
  }

  function objectOf(type: GraphQLObjectType, fields: Fields): Render | undefined {
    const parts: { before: string; render: Render }[] = []
    let isRow = true
    for (const [key, nodes] of fields) {
      const field = fieldOf(type, nodes)
      if (!field) return undefined
      isRow &&= field.isPlain
      parts.push({ before: `${parts.length === 0 ? '{' : ','}${JSON.stringify(key)}:`, render: field.render })
    }
    const whole = nullable((value, context) => {
      let text = ''
      for (const { before, render } of parts) text += before + render(value, context)
      return `${text}}`
    })
    const selection = [...fields].map(([key, [node]]) => `${key}:${node!.name.value}`).join()
    return isRow ? nullable(kept(type, selection, whole)) : whole
  }

  function fieldOf(parent: GraphQLObjectType, nodes: readonly FieldNode[]) {
    const name = nodes[0]!.name.value
    if (name === '__typename') return { render: () => JSON.stringify(parent.name), isPlain: true }
    const field = parent.getFields()[name]
    const read = field && readerOf(field)
    const render = read && renderOf(field!.type, nodes)
    return (
      render && {
        render: (value: unknown, context: object) => render(read(value, context), context),
        isPlain: isPlain(field!),
      }
    )
  }

  let isPlainQuery = true
  visit(node, {
    [Kind.DIRECTIVE]: () => {
      isPlainQuery = false
    },
  })
  if (!isPlainQuery) return undefined
  const roots = [...collectFields(schema, fragments, {}, query, operation.selectionSet)].map(([key, nodes]) => {
    const field = query.getFields()[nodes[0]!.name.value]
    const render = field && listOf({ field }) && renderOf(field.type, nodes)
    return render && { key, field, nodes, render }
  })
  if (!roots.every((root) => root !== undefined)) return undefined

  return async (context, variables) => {
    const { coerced = {} } = getVariableValues(schema, operation.variableDefinitions ?? [], variables)
    try {
      const texts = await Promise.all(
        roots.map(async ({ key, field, nodes, render }) => {
          const info = {
            fieldName: field.name,
            fieldNodes: nodes,
            returnType: field.type,
            parentType: query,
            path: { prev: undefined, key, typename: query.name },
            schema,
            fragments,
            rootValue: undefined,
            operation,
            variableValues: coerced,
          }
          const args = getArgumentValues(field, nodes[0]!, coerced)
          const page = await field.resolve!(undefined, args, context, info as unknown as GraphQLResolveInfo)
          return `${JSON.stringify(key)}:${render(page, context)}`
        }),
      )
      return `{"data":{${texts.join(',')}}}`
    } catch {
      return undefined
    }
  }
}

function readerOf(field: GraphQLField<unknown, unknown>): ((value: unknown, context: object) => unknown) | undefined {
  if (field.args.length > 0) return undefined
  const { pothosExposedField, connection } = field.extensions
  if (pothosExposedField !== undefined) return (value) => (value as Record<string, unknown>)[String(pothosExposedField)]
  const { resolve } = field
  return connection === true && resolve
    ? (value, context) => resolve(value, {}, context, undefined as unknown as GraphQLResolveInfo)
    : undefined
}

function nullable(render: Render): Render {
  return (value, context) => (value === null || value === undefined ? 'null' : render(value, context))
}

function present<Value>(value: Value): NonNullable<Value> {
  if (value === null || value === undefined) throw new TypeError('null, where a value must be')
  return value
}

function listText(value: unknown, textOf: (item: unknown) => string): string {
  if (!Array.isArray(value)) throw new TypeError('no list')
  return `[${value.map(textOf).join()}]`
}

/** Renders each object once for all documents with the same selection. */
function kept(type: GraphQLObjectType, selection: string, render: Render): Render {
  const ofType = keptTexts.get(type) ?? new LRUCache({ max: selectionsKept })
  keptTexts.set(type, ofType)
  const texts = ofType.get(selection) ?? new WeakMap()
  ofType.set(selection, texts)
  return (value, context) => {
    const known = texts.get(value as object)
    if (known !== undefined) return known
    const text = render(value, context)
    if (text.length <= longestKept) texts.set(value as object, text)
    return text
  }
}
