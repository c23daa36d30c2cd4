/** Limits of documents, as Yoga plugins: they are rules of parsing and validation, so that they apply to HTTP, SSE and WebSocket alike. */
import { costLimitPlugin } from '@escape.tech/graphql-armor-cost-limit'
import { maxAliasesPlugin } from '@escape.tech/graphql-armor-max-aliases'
import { maxDepthPlugin } from '@escape.tech/graphql-armor-max-depth'
import { maxDirectivesPlugin } from '@escape.tech/graphql-armor-max-directives'
import { maxTokensPlugin } from '@escape.tech/graphql-armor-max-tokens'
import {
  type ASTVisitor,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  NoSchemaIntrospectionCustomRule,
  print,
  type SelectionSetNode,
  type ValidationContext,
  type validate,
} from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { httpStatus, truncate, withoutSuggestion } from '../http/errors.ts'

export interface LimitOptions {
  /** Whether introspection is allowed, and errors may suggest names of the schema. */
  introspection: boolean
  /** The allowed documents; undefined: all. */
  operations: ReadonlySet<string> | undefined
}

/** Errors per document; the last one says that there may be more. */
const maxErrors = 5
/** In characters: errors repeat names, and every row of a response repeats aliases. */
const maxNameLength = 200
/** graphql-js searches for each location of an error from the first line on, and there may be hundreds of locations. */
const maxLines = 2_000
/** Locations per error. */
const maxLocations = 5

export function limits({ introspection, operations }: LimitOptions): Plugin[] {
  const plugins = [
    fewLines,
    // Applied while parsing: a million tokens take a second, and a few thousand nested ones overflow the stack.
    maxTokensPlugin({ n: 1_500 }),
    maxDepthPlugin({ n: 10 }),
    // Without this limit, one request could be fifty saves, or the same page fifty times.
    maxAliasesPlugin({ n: 15, allowList: [] }),
    maxDirectivesPlugin({ n: 25 }),
    costLimitPlugin({ maxCost: 50_000, objectCost: 2, scalarCost: 1, depthCostFactor: 1.5 }),
    shortNames,
    limitCopies,
    boundedErrors(introspection),
  ] as Plugin[]
  if (!introspection) plugins.push(noIntrospection)
  if (operations) plugins.push(onlyPersisted(operations))
  return plugins
}

/**
 * Turns a limit that throws, which ends the validation, into an error like that of any other rule. Bounds the number and the length of errors,
 * whatever they repeat of the document.
 */
function boundedErrors(introspection: boolean): Plugin {
  return {
    onValidate({ validateFn, setValidationFn }) {
      setValidationFn((...[schema, document, rules]: Parameters<typeof validate>) => {
        try {
          const options = { maxErrors: maxErrors - 1, hideSuggestions: !introspection }
          const errors = (validateFn as typeof validate)(schema, document, rules, options)
          return errors.map((error) => shortened(error, introspection))
        } catch (error) {
          if (error instanceof GraphQLError) return [shortened(error, introspection)]
          throw error
        }
      })
    },
  }
}

function shortened(error: GraphQLError, introspection: boolean): GraphQLError {
  error.message = truncate(introspection ? error.message : withoutSuggestion(error.message))
  if (error.locations && error.locations.length > maxLocations) {
    Object.defineProperty(error, 'locations', { value: error.locations.slice(0, maxLocations), enumerable: true })
  }
  return error
}

const fewLines: Plugin = {
  onParse({ params: { source } }) {
    const text = typeof source === 'string' ? source : source.body
    if (!exceeds(text, '\n') && !exceeds(text, '\r')) return
    throw new GraphQLError(`The document has more than ${maxLines} lines; send long texts as variables.`, {
      extensions: { code: 'GRAPHQL_PARSE_FAILED', http: { status: 400, spec: true } },
    })
  },
}

const limitCopies: Plugin = {
  onValidate({ addValidationRule }) {
    addValidationRule(copiesRule)
  },
}

function exceeds(text: string, lineEnd: string): boolean {
  let lines = 0
  for (let at = text.indexOf(lineEnd); at >= 0 && lines < maxLines; at = text.indexOf(lineEnd, at + 1)) lines += 1
  return lines >= maxLines
}

const shortNames: Plugin = {
  onValidate({ addValidationRule }) {
    addValidationRule(
      (context: ValidationContext): ASTVisitor => ({
        [Kind.NAME](node) {
          if (node.value.length <= maxNameLength) return
          const message = `The name ${JSON.stringify(truncate(node.value, 50))} has ${node.value.length} characters; at most ${maxNameLength} are allowed.`
          context.reportError(new GraphQLError(message, { nodes: [node] }))
        },
      }),
    )
  },
}

const noIntrospection: Plugin = {
  onValidate({ addValidationRule }) {
    addValidationRule(NoSchemaIntrospectionCustomRule)
  },
}

function onlyPersisted(operations: ReadonlySet<string>): Plugin {
  return {
    onParse({ params: { source } }) {
      if (operations.has(String(typeof source === 'string' ? source : source.body).trim())) return
      throw new GraphQLError('Only known documents may be sent here (PERSISTED_OPERATIONS).', {
        extensions: { code: 'FORBIDDEN', http: { status: httpStatus.FORBIDDEN } },
      })
    },
  }
}

const maxCopies = 2
/** Fields visited per operation, repeated fragments included; it also ends a cycle of fragments. */
const maxFields = 5_000

/**
 * A validation rule: a document selects each value at most twice. Aliases on several levels multiply: with five on each of three levels, the
 * response holds every content of a page 125 times, whatever the number of rows.
 */
function copiesRule(context: ValidationContext): ASTVisitor {
  return {
    OperationDefinition({ selectionSet }) {
      let left = maxFields
      const spend = () => {
        left -= 1
        return left > 0
      }
      // Each root field is counted by itself; the cost limit bounds their number.
      for (const { sets } of fieldsOf([selectionSet], context).values()) {
        const copies = copiesOf(sets, context, spend)
        if (left > 0 && [...copies.values()].every((count) => count <= maxCopies)) continue
        const message = `A document may ask for the same value ${maxCopies} times at most; leave out aliases and repeated fragments.`
        context.reportError(new GraphQLError(message))
        return
      }
    },
  }
}

interface Field {
  /** The name and arguments, which identify the value. */
  value: string
  sets: SelectionSetNode[]
}

/** The fields by response name; fields that merge are one. */
function fieldsOf(sets: readonly SelectionSetNode[], context: ValidationContext): Map<string, Field> {
  const fields = new Map<string, Field>()
  const spread = new Set<FragmentDefinitionNode>()
  const collect = ({ selections }: SelectionSetNode) => {
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) {
        const { name, alias, selectionSet } = selection
        const key = (alias ?? name).value
        const known = fields.get(key)
        const field = known ?? { value: `${name.value}(${(selection.arguments ?? []).map(print)})`, sets: [] }
        if (!known) fields.set(key, field)
        if (selectionSet) field.sets.push(selectionSet)
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        collect(selection.selectionSet)
      } else {
        const fragment = context.getFragment(selection.name.value)
        if (!fragment || spread.has(fragment)) continue
        spread.add(fragment)
        collect(fragment.selectionSet)
      }
    }
  }
  for (const set of sets) collect(set)
  return fields
}

/** How often each value is selected, by the path to it. */
function copiesOf(
  sets: readonly SelectionSetNode[],
  context: ValidationContext,
  spend: () => boolean,
): Map<string, number> {
  const copies = new Map<string, number>()
  const add = (path: string, count: number) => copies.set(path, (copies.get(path) ?? 0) + count)
  for (const { value, sets: below } of fieldsOf(sets, context).values()) {
    if (!spend()) break
    if (below.length === 0) add(value, 1)
    else for (const [path, count] of copiesOf(below, context, spend)) add(`${value} ${path}`, count)
  }
  return copies
}
