/** What a document may cost, as plugins of Yoga's: they are rules of parsing and validation, so that they hold on every way in. */
import { costLimitPlugin } from '@escape.tech/graphql-armor-cost-limit'
import { maxAliasesPlugin } from '@escape.tech/graphql-armor-max-aliases'
import { maxDepthPlugin } from '@escape.tech/graphql-armor-max-depth'
import { maxDirectivesPlugin } from '@escape.tech/graphql-armor-max-directives'
import { maxTokensPlugin } from '@escape.tech/graphql-armor-max-tokens'
import {
  type ASTVisitor,
  GraphQLError,
  Kind,
  NoSchemaIntrospectionCustomRule,
  type ValidationContext,
  type validate,
} from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { cut } from '../http/cut.ts'
import { withoutSuggestion } from '../http/errors.ts'
import { fewCopies } from './copies.ts'

export interface LimitOptions {
  /** Whether the schema may be asked for, and errors may suggest names from it. */
  introspection: boolean
  /** Documents that may be sent; undefined: any. */
  operations: ReadonlySet<string> | undefined
}

/** Errors of one document; the last one says that there may be more. */
const mostErrors = 5
/** Of a name: it comes again in errors, and an alias in each row of the answer. */
const nameLength = 200
/** Each place that an error names is looked for from the document's first line on, and there may be hundreds of them. */
const mostLines = 2_000
/** Places of one error. */
const mostLocations = 5

export function limits({ introspection, operations }: LimitOptions): Plugin[] {
  const plugins = [
    fewLines,
    // While it is parsed: a million tokens cost a second, and some thousands nested in each other the whole stack.
    maxTokensPlugin({ n: 1_500 }),
    maxDepthPlugin({ n: 10 }),
    // Else one request is fifty saves, or the same page fifty times.
    maxAliasesPlugin({ n: 15, allowList: [] }),
    maxDirectivesPlugin({ n: 25 }),
    costLimitPlugin({ maxCost: 50_000, objectCost: 2, scalarCost: 1, depthCostFactor: 1.5 }),
    shortNames,
    noCopies,
    refusals(introspection),
  ] as Plugin[]
  if (!introspection) plugins.push(noIntrospection)
  if (operations) plugins.push(onlyKnown(operations))
  return plugins
}

/**
 * The limits are rules that throw, so that nothing more is looked at: an error like any other rule's, with its code and status. And errors are
 * few and short, whatever of the document they repeat.
 */
function refusals(introspection: boolean): Plugin {
  return {
    onValidate({ validateFn, setValidationFn }) {
      setValidationFn((...[schema, document, rules]: Parameters<typeof validate>) => {
        try {
          const options = { maxErrors: mostErrors - 1, hideSuggestions: !introspection }
          const errors = (validateFn as typeof validate)(schema, document, rules, options)
          return errors.map((error) => bounded(error, introspection))
        } catch (error) {
          if (error instanceof GraphQLError) return [bounded(error, introspection)]
          throw error
        }
      })
    },
  }
}

function bounded(error: GraphQLError, introspection: boolean): GraphQLError {
  error.message = cut(introspection ? error.message : withoutSuggestion(error.message))
  if (error.locations && error.locations.length > mostLocations) {
    Object.defineProperty(error, 'locations', { value: error.locations.slice(0, mostLocations), enumerable: true })
  }
  return error
}

const fewLines: Plugin = {
  onParse({ params: { source } }) {
    const text = typeof source === 'string' ? source : source.body
    if (!exceeds(text, '\n') && !exceeds(text, '\r')) return
    throw new GraphQLError(`The document has more than ${mostLines} lines; send long texts as variables.`, {
      extensions: { code: 'GRAPHQL_PARSE_FAILED', http: { status: 400, spec: true } },
    })
  },
}

const noCopies: Plugin = {
  onValidate({ addValidationRule }) {
    addValidationRule(fewCopies)
  },
}

function exceeds(text: string, lineEnd: string): boolean {
  let lines = 0
  for (let at = text.indexOf(lineEnd); at >= 0 && lines < mostLines; at = text.indexOf(lineEnd, at + 1)) lines += 1
  return lines >= mostLines
}

const shortNames: Plugin = {
  onValidate({ addValidationRule }) {
    addValidationRule(
      (context: ValidationContext): ASTVisitor => ({
        [Kind.NAME](node) {
          if (node.value.length <= nameLength) return
          const message = `The name ${JSON.stringify(cut(node.value, 50))} has ${node.value.length} characters; at most ${nameLength} are allowed.`
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

function onlyKnown(operations: ReadonlySet<string>): Plugin {
  return {
    onParse({ params: { source } }) {
      if (operations.has(String(typeof source === 'string' ? source : source.body).trim())) return
      throw new GraphQLError('Only known documents may be sent here (PERSISTED_OPERATIONS).', {
        extensions: { code: 'FORBIDDEN', http: { status: 403 } },
      })
    },
  }
}
