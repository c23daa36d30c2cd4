/**
 * Cached documents: parsed and validated by Yoga, so that the rules of its plugins apply, and compiled by graphql-jit. Invariant: the cache is
 * bounded, whatever documents are sent.
 */
import { type DocumentNode, type ExecutionResult, execute, GraphQLError, getOperationAST, Kind, visit } from 'graphql'
import { compileQuery, isCompiledQuery } from 'graphql-jit'
import { LRUCache } from 'lru-cache'
import type { Share } from '../http/share.ts'
import { type PageTemplate, pageTemplateOf } from './page-template.ts'
import type { GraphQLParams } from './params.ts'
import { isShared, reachedFields } from './reach.ts'
import { listOf, type Parsed, type Root, rootsOf } from './roots.ts'
import { type Needs, scopesOf } from './scopes.ts'
import { variableErrors } from './variables.ts'
import type { Yoga } from './yoga.ts'

type Variables = Record<string, unknown>

export interface Document extends Parsed {
  /** Executes the operation; a subscription, on one event. */
  execute: (root: unknown, context: unknown, variables: Variables) => ExecutionResult | Promise<ExecutionResult>
  /** The errors of variables that do not match their declarations. */
  errorsOf(variables: Variables): GraphQLError[]
  /** The root fields; the variables must be valid. */
  roots(variables: Variables): Root[]
  /** The scopes that a grant must have. */
  needs: Needs
  /** Whether the result is the same for every client that may read it: no selected field depends on the grant. */
  shared: boolean
  /** The memory that it takes, about. */
  bytes: number
  /** Whether the operation is a shared query of pages of lists, and of nothing else: its response can be cached. */
  page: boolean
  /** Makes its response without executing it; undefined where it must be executed. */
  template?: PageTemplate | undefined
}

/** The longest cached document, in characters; a longer one is parsed each time. */
const maxDocumentLength = 10_000
/** Of all cached documents, in characters and what each has besides: 40 MB. A compiled document takes 15 KB and 135 bytes a character (measured). */
const documentsLength = 300_000
const besidesLength = 120
/** A full cache takes one of so many new documents. Else more documents than it has room for, sent in turns, would all be compiled each time. */
const admitted = 16
/** Documents that were sent once. A document is compiled the second time, so that ever new documents cost no compilation. */
const seenCached = 2_000
const seenLength = 2_000_000
/** The part of a connection's share of a turn that a new document uses; to that comes a half for each character. */
const newDocumentCost = 200
/** What a compiled document takes, and what each node of it takes more, its tokens included: measured with documents of 14 to 1,150 nodes. */
const documentBytes = 10_240
const nodeBytes = 320
const lengthOfKey = (_: unknown, key: string) => key.length || 1
const sizeInCache = (_: unknown, key: string) => key.length + besidesLength

export class Documents {
  readonly #yoga: Yoga
  /** false: the document cannot be compiled. */
  readonly #documents = new LRUCache<string, Document | false>({
    maxSize: documentsLength,
    sizeCalculation: sizeInCache,
  })
  readonly #seen = new LRUCache<string, true>({ max: seenCached, maxSize: seenLength, sizeCalculation: lengthOfKey })
  /** Documents that came while the cache was full. */
  #late = 0

  constructor(yoga: Yoga) {
    this.#yoga = yoga
  }

  /** The compiled document; null if it is invalid, too long, an introspection, not seen before, or one too many: then Yoga responds. */
  get(params: GraphQLParams): Document | null {
    if (params.query.length > maxDocumentLength) return null
    const key = keyOf(params)
    const cached = this.#documents.get(key)
    if (cached !== undefined) return cached || null
    if (this.#seen.get(key)) {
      if (!this.#admits(key)) return null
      const parsed = this.#parse(params)
      return this.#keep(key, parsed ? compiled(parsed) : null)
    }
    this.#seen.set(key, true)
    return null
  }

  /** The document, interpreted where it is not compiled. Throws a GraphQLError, or several as an AggregateError. */
  find(params: GraphQLParams): Document {
    const known = this.get(params)
    if (known) return known
    const parsed = this.parse(params)
    const operation = getOperationAST(parsed.node, params.operationName)
    if (!operation) throw new GraphQLError('The document has no such operation.')
    return interpreted({ ...parsed, operation })
  }

  /**
   * The document if its operation is a subscription; undefined otherwise, and if it is invalid. It is compiled the first time, since a stream
   * executes it many times, and interpreted if it cannot be compiled. `share`: of the connection that sent it.
   */
  subscription(params: GraphQLParams, share: Pick<Share, 'use'>): Document | undefined {
    // A cheap test before the document is parsed: without this word it has no subscription, also where it has fragments.
    if (!params.query.includes('subscription')) return undefined
    const key = keyOf(params)
    const cached = this.#documents.get(key)
    if (cached) return cached.operation.operation === 'subscription' ? cached : undefined
    share.use(newDocumentCost + params.query.length / 2)
    const parsed = this.#parse(params)
    if (parsed?.operation.operation !== 'subscription') return undefined
    if (params.query.length > maxDocumentLength) return interpreted(parsed)
    return this.#keep(key, compiled(parsed)) ?? interpreted(parsed)
  }

  #admits(key: string): boolean {
    if (this.#documents.calculatedSize + sizeInCache(undefined, key) <= documentsLength) return true
    this.#late += 1
    return this.#late % admitted === 0
  }

  #keep(key: string, document: Document | null): Document | null {
    this.#documents.set(key, document ?? false)
    return document
  }

  /** Parses and validates a document of any operation. Throws a GraphQLError, or several as an AggregateError. */
  parse({ query, operationName }: GraphQLParams): Omit<Parsed, 'operation'> {
    const { schema, parse, validate } = this.#yoga.getEnveloped({ params: { query, operationName } })
    let node: DocumentNode
    try {
      node = parse(query)
    } catch (error) {
      // The code that Yoga sets over HTTP.
      if (error instanceof GraphQLError) error.extensions.code ??= 'GRAPHQL_PARSE_FAILED'
      throw error
    }
    const errors = validate(schema, node)
    if (errors.length > 0) throw new AggregateError(errors)
    return { schema, node }
  }

  /** Undefined for an invalid document: Yoga responds with its errors. */
  #parse(params: GraphQLParams): Parsed | undefined {
    try {
      const parsed = this.parse(params)
      const operation = getOperationAST(parsed.node, params.operationName)
      return operation ? { ...parsed, operation } : undefined
    } catch {
      return undefined
    }
  }
}

/** The query itself if there is no operation name, which avoids a copy; no valid query begins with a digit. */
function keyOf({ query, operationName }: GraphQLParams): string {
  return operationName === undefined ? query : `${operationName.length} ${operationName} ${query}`
}

function compiled(parsed: Parsed): Document | null {
  if (isUncompilable(parsed.node)) return null
  let run: Document['execute'] | undefined
  // A document with a template hardly ever executes.
  const document = described(parsed, (...args) => {
    run ??= compile(parsed) ?? interpret(parsed)
    return run(...args)
  })
  if (document.template) return document
  run = compile(parsed)
  return run ? { ...document, execute: run } : null
}

/** Undefined: it cannot be compiled. */
function compile({ schema, node, operation }: Parsed): Document['execute'] | undefined {
  try {
    const query = compileQuery(schema, node, operation.name?.value)
    return isCompiledQuery(query) ? (query.query as Document['execute']) : undefined
  } catch {
    return undefined
  }
}

function interpret({ schema, node: document, operation }: Parsed): Document['execute'] {
  const operationName = operation.name?.value
  return (rootValue, contextValue, variableValues) =>
    execute({ schema, document, operationName, rootValue, contextValue, variableValues })
}

const interpreted = (parsed: Parsed): Document => described(parsed, interpret(parsed))

function described(parsed: Parsed, execute: Document['execute']): Document {
  const { schema, node, operation } = parsed
  const reached = reachedFields(schema, node, operation)
  const needs = scopesOf(schema, reached)
  const shared = reached.every(({ field }) => isShared(field))
  const query = schema.getQueryType()
  const lists = reached.every(({ type, field }) => type !== query || listOf({ field }) !== undefined)
  const isQuery = operation.operation === 'query'
  const page = isQuery && shared && lists && [...needs.keys()].every((scope) => scope === 'read')
  return {
    ...parsed,
    execute,
    errorsOf: (variables) => variableErrors(schema, operation, variables),
    roots: (variables) => rootsOf(parsed, variables),
    needs,
    shared,
    bytes: bytesOf(node),
    page,
    template: page ? pageTemplateOf(parsed) : undefined,
  }
}

function bytesOf(document: DocumentNode): number {
  let bytes = documentBytes
  visit(document, {
    enter() {
      bytes += nodeBytes
    },
  })
  return bytes
}

/** Whether the document is an introspection, or has the alias `__proto__`, which compiled code would set as an object's prototype. */
function isUncompilable(document: DocumentNode): boolean {
  let uncompilable = false
  visit(document, {
    [Kind.FIELD]: ({ name, alias }) => {
      if (name.value === '__schema' || name.value === '__type' || alias?.value === '__proto__') uncompilable = true
    },
  })
  return uncompilable
}
