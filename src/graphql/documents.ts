/**
 * Documents that were parsed and validated once, through Yoga's own pipeline, so that every rule of every plugin holds, and compiled
 * (graphql-jit). Invariant: what is kept is bounded, whatever documents are sent.
 */
import {
  type DocumentNode,
  type FieldNode,
  getOperationAST,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
  visit,
} from 'graphql'
import { type CompiledQuery, compileQuery, isCompiledQuery } from 'graphql-jit'
import type { YogaServerInstance } from 'graphql-yoga'
import { Kept } from '../http/kept.ts'
import type { Params } from './params.ts'
import { isShared, reachedFields } from './reach.ts'
import { type Needs, scopesOf } from './scopes.ts'
import { variableErrors } from './variables.ts'

export interface Document {
  /** Executes it; for a subscription, on one event. */
  execute: CompiledQuery['query']
  operation: OperationDefinitionNode
  /** Of the variables that it declares. */
  variables: ReadonlySet<string>
  /** Whether these variables are what it declares; Yoga says what is wrong with others. */
  fits(variables: Record<string, unknown>): boolean
  /** What a grant has to have. */
  needs: Needs
  /** Whether its answer is the same for everybody who may have it: nothing that it selects looks at who asks. */
  shared: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: whatever contexts Yoga was made with.
export type Yoga = YogaServerInstance<any, any>

/** Of one kept document, in characters; a longer one is Yoga's each time. */
const documentLength = 10_000
const documentsKept = 500
/** Of all kept ones, in characters: one of two thousand takes half a megabyte. */
const documentsLength = 250_000
/** Documents seen once. Only one that comes again is worth compiling: a stream of new ones costs no more than Yoga's own work. */
const seenKept = 2_000
const seenLength = 2_000_000

export class Documents {
  readonly #yoga: Yoga
  /** null: not one that can be compiled. */
  readonly #documents = new Kept<Document | null>(documentsKept, documentsLength)
  readonly #seen = new Kept<true>(seenKept, seenLength)

  constructor(yoga: Yoga) {
    this.#yoga = yoga
  }

  /** The document; null where it is invalid, too long, about the schema, or was never seen before: then it is Yoga's. */
  get(params: Params): Document | null {
    if (params.query.length > documentLength) return null
    const key = keyOf(params)
    const kept = this.#documents.get(key)
    if (kept !== undefined) return kept
    if (this.#seen.get(key)) return this.#keep(key, params)
    this.#seen.set(key, true)
    return null
  }

  /** As get, but compiled even if it was never seen before: for a subscription, which lasts. */
  getNow(params: Params): Document | null {
    if (params.query.length > documentLength) return null
    const key = keyOf(params)
    const kept = this.#documents.get(key)
    return kept !== undefined ? kept : this.#keep(key, params)
  }

  #keep(key: string, params: Params): Document | null {
    const document = this.#compile(params)
    this.#documents.set(key, document)
    return document
  }

  #compile({ query, operationName }: Params): Document | null {
    try {
      const { schema, parse, validate } = this.#yoga.getEnveloped({ params: { query, operationName } })
      const document: DocumentNode = parse(query)
      if (validate(schema, document).length > 0) return null
      const operation = getOperationAST(document, operationName)
      if (!operation || isOdd(document)) return null
      const compiled = compileQuery(schema, document, operationName)
      if (!isCompiledQuery(compiled)) return null
      const declared = operation.variableDefinitions ?? []
      const variables = new Set(declared.map(({ variable }) => variable.name.value))
      const fits = (given: Record<string, unknown>) => variableErrors(schema, operation, given).length === 0
      const reached = reachedFields(schema, document, operation)
      const shared = reached.every(({ field }) => isShared(field))
      return { execute: compiled.query, operation, variables, fits, needs: scopesOf(schema, reached), shared }
    } catch {
      // Yoga says what is wrong with it.
      return null
    }
  }
}

/** Mostly the query itself, which need not be copied then; no valid one begins with a digit. */
function keyOf({ query, operationName }: Params): string {
  return operationName === undefined ? query : `${operationName.length} ${operationName} ${query}`
}

/** The root fields, where they are plain ones: no fragments and no directives. */
export function rootFields({ selections }: SelectionSetNode): FieldNode[] | undefined {
  const fields = selections.filter((selection) => selection.kind === Kind.FIELD)
  return fields.length === selections.length && fields.every(({ directives }) => !directives?.length)
    ? fields
    : undefined
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
