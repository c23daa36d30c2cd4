/** What a document may cost, as plugins of Yoga's: they are rules of parsing and validation, so that they hold on every way in. */
import { blockFieldSuggestionsPlugin } from '@escape.tech/graphql-armor-block-field-suggestions'
import { costLimitPlugin } from '@escape.tech/graphql-armor-cost-limit'
import { maxAliasesPlugin } from '@escape.tech/graphql-armor-max-aliases'
import { maxDepthPlugin } from '@escape.tech/graphql-armor-max-depth'
import { maxDirectivesPlugin } from '@escape.tech/graphql-armor-max-directives'
import { maxTokensPlugin } from '@escape.tech/graphql-armor-max-tokens'
import { GraphQLError, NoSchemaIntrospectionCustomRule, type validate } from 'graphql'
import type { Plugin } from 'graphql-yoga'

export interface LimitOptions {
  /** Whether the schema may be asked for, and errors may suggest names from it. */
  introspection: boolean
  /** Documents that may be sent; undefined: any. */
  operations: ReadonlySet<string> | undefined
}

export function limits({ introspection, operations }: LimitOptions): Plugin[] {
  const plugins = [
    // While it is parsed: a million tokens cost a second, and some thousands nested in each other the whole stack.
    maxTokensPlugin({ n: 1_500 }),
    maxDepthPlugin({ n: 10 }),
    // Else one request is fifty saves, or the same page fifty times.
    maxAliasesPlugin({ n: 15, allowList: [] }),
    maxDirectivesPlugin({ n: 25 }),
    costLimitPlugin({ maxCost: 50_000, objectCost: 2, scalarCost: 1, depthCostFactor: 1.5 }),
    refusals,
  ] as Plugin[]
  if (!introspection) plugins.push(noIntrospection, blockFieldSuggestionsPlugin() as Plugin)
  if (operations) plugins.push(onlyKnown(operations))
  return plugins
}

/** The limits are rules that throw, so that nothing more is looked at: an error like any other rule's, with its code and status. */
const refusals: Plugin = {
  onValidate({ validateFn, setValidationFn }) {
    setValidationFn((...args: Parameters<typeof validate>) => {
      try {
        return validateFn(...args)
      } catch (error) {
        if (error instanceof GraphQLError) return [error]
        throw error
      }
    })
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
