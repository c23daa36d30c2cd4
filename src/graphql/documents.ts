/**
 * Documents that were parsed and validated once, through Yoga's own pipeline, so that every rule of every plugin holds, and compiled
 * (graphql-jit). Invariant: what is kept is bounded, whatever documents are sent.
 */
import {
  type DocumentNode,
  type ExecutionResult,
  execute,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  Kind,
  type OperationDefinitionNode,
  visit,
} from 'graphql'
import { compileQuery, isCompiledQuery } from 'graphql-jit'
import type { YogaServerInstance } from 'graphql-yoga'
import { LRUCache } from 'lru-cache'
import type { Params } from './params.ts'
import { isShared, reachedFields } from './reach.ts'
import { type Root, rootsOf } from './roots.ts'
import { type Needs, scopesOf } from './scopes.ts'
import { variableErrors } from './variables.ts'

type Variables = Record<string, unknown>

export interface Document {
  /** Executes it; for a subscription, on one event. */
  execute: (root: unknown, context: unknown, variables: Variables) => ExecutionResult | Promise<ExecutionResult>
  schema: GraphQLSchema
  node: DocumentNode
  operation: OperationDefinitionNode
  /** What of these variables is not what it declares. */
  errorsOf(variables: Variables): GraphQLError[]
  /** Of variables that fit. */
  roots(variables: Variables): Root[]
  /** What a grant has to have. */
  needs: Needs
  /** Whether its answer is the same for everybody who may have it: nothing that it selects looks at who asks. */
  shared: boolean
  /** Whether it is shared, and of nothing but pages of lists. */
  page: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: whatever contexts Yoga was made with.
export type Yoga = YogaServerInstance<any, any>

type Parsed = Pick<Document, 'schema' | 'node' | 'operation'>

/** Of one kept document, in characters; a longer one is parsed each time. */
const documentLength = 10_000
const documentsCached = 500
/** Of all kept ones, in characters: one of two thousand takes half a megabyte. */
const documentsLength = 250_000
/** Documents seen once. Only one that comes again is worth compiling: a stream of new ones costs no more than Yoga's own work. */
const seenCached = 2_000
const seenLength = 2_000_000
const lengthOfKey = (_: unknown, key: string) => key.length || 1

export class Documents {
  readonly #yoga: Yoga
  /** false: not one that can be compiled. */
  readonly #documents = new LRUCache<string, Document | false>({
    max: documentsCached,
    maxSize: documentsLength,
    sizeCalculation: lengthOfKey,
  })
  readonly #seen = new LRUCache<string, true>({ max: seenCached, maxSize: seenLength, sizeCalculation: lengthOfKey })

  constructor(yoga: Yoga) {
    this.#yoga = yoga
  }

  /** The document; null where it is invalid, too long, about the schema, or was never seen before: then it is Yoga's. */
  get(params: Params): Document | null {
    if (params.query.length > documentLength) return null
    const key = keyOf(params)
    const cached = this.#documents.get(key)
    if (cached !== undefined) return cached || null
    if (this.#seen.get(key)) {
      const parsed = this.#parse(params)
      return this.#keep(key, parsed ? compiled(parsed) : null)
    }
    this.#seen.set(key, true)
    return null
  }

  /**
   * The document where its operation is a subscription, whatever it looks like: it is compiled even if it was never seen before, since it
   * lasts, and interpreted where it cannot be. Undefined where it is invalid, or anything else.
   */
  subscription(params: Params): Document | undefined {
    // Such an operation has the word in it, as it stands here.
    if (!params.query.includes('subscription')) return undefined
    const key = keyOf(params)
    const cached = this.#documents.get(key)
    if (cached) return cached.operation.operation === 'subscription' ? cached : undefined
    const parsed = this.#parse(params)
    if (parsed?.operation.operation !== 'subscription') return undefined
    if (params.query.length > documentLength) return interpreted(parsed)
    return this.#keep(key, compiled(parsed)) ?? interpreted(parsed)
  }

  #keep(key: string, document: Document | null): Document | null {
    this.#documents.set(key, document ?? false)
    return document
  }

  /** A valid document, whatever its operation. Throws what is wrong with it: a GraphQLError, or several as an AggregateError. */
  parse({ query, operationName }: Params): Omit<Parsed, 'operation'> {
    const { schema, parse, validate } = this.#yoga.getEnveloped({ params: { query, operationName } })
    let node: DocumentNode
    try {
      node = parse(query)
    } catch (error) {
      // As Yoga has it over HTTP.
      if (error instanceof GraphQLError) error.extensions.code ??= 'GRAPHQL_PARSE_FAILED'
      throw error
    }
    const errors = validate(schema, node)
    if (errors.length > 0) throw new AggregateError(errors)
    return { schema, node }
  }

  /** Undefined where it is invalid: Yoga says what is wrong with it. */
  #parse(params: Params): Parsed | undefined {
    try {
      const parsed = this.parse(params)
      const operation = getOperationAST(parsed.node, params.operationName)
      return operation ? { ...parsed, operation } : undefined
    } catch {
      return undefined
    }
  }
}

/** Mostly the query itself, which need not be copied then; no valid one begins with a digit. */
function keyOf({ query, operationName }: Params): string {
  return operationName === undefined ? query : `${operationName.length} ${operationName} ${query}`
}

function compiled(parsed: Parsed): Document | null {
  if (isOdd(parsed.node)) return null
  try {
    const query = compileQuery(parsed.schema, parsed.node, parsed.operation.name?.value)
    return isCompiledQuery(query) ? described(parsed, query.query as Document['execute']) : null
  } catch {
    return null
  }
}

function interpreted(parsed: Parsed): Document {
  const { schema, node: document, operation } = parsed
  const operationName = operation.name?.value
  return described(parsed, (rootValue, contextValue, variableValues) =>
    execute({ schema, document, operationName, rootValue, contextValue, variableValues }),
  )
}

function described(parsed: Parsed, execute: Document['execute']): Document {
  const { schema, node, operation } = parsed
  const reached = reachedFields(schema, node, operation)
  const needs = scopesOf(schema, reached)
  const shared = reached.every(({ field }) => isShared(field))
  const query = schema.getQueryType()
  const lists = reached.every(({ type, field }) => type !== query || field.extensions.list !== undefined)
  return {
    ...parsed,
    execute,
    errorsOf: (variables) => variableErrors(schema, operation, variables),
    roots: (variables) => rootsOf(schema, node, operation, variables),
    needs,
    shared,
    page: operation.operation === 'query' && shared && lists && [...needs.keys()].every((scope) => scope === 'read'),
  }
}

/** Whether it asks about the schema, or under the name `__proto__`, which compiled code would give to the object it makes as its prototype. */
function isOdd(document: DocumentNode): boolean {
  let odd = false
  visit(document, {
    [Kind.FIELD]: ({ name, alias }) => {
      if (name.value === '__schema' || name.value === '__type' || alias?.value === '__proto__') odd = true
    },
  })
  return odd
}
