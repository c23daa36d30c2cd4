/**
 * The fast path: POST, JSON in, JSON out, one query or mutation. A document is parsed and validated once, through Yoga's own pipeline, so
 * that every rule of every plugin holds; then it is compiled (graphql-jit) and kept. A request is then: body -> variables -> compiled
 * function -> one `res.end`. Everything else, and everything that turns out odd, goes to Yoga. Invariant: what comes out is what Yoga
 * would have sent; test/server/differential.test.ts sends the same requests down both ways.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type DocumentNode, type ExecutionResult, type GraphQLError, getOperationAST, Kind, visit } from 'graphql'
import { type CompiledQuery, compileQuery, isCompiledQuery } from 'graphql-jit'
import type { YogaServerInstance } from 'graphql-yoga'
import type { Context } from './builder.ts'
import { sendText } from './http.ts'

/** Of one kept document, in characters; a longer one is Yoga's each time. */
const documentLength = 10_000
const documentsKept = 500
/** Documents seen once. Only one that comes again is worth compiling: a stream of new ones costs no more than Yoga's own work. */
const seenKept = 2_000
const acceptsKept = 50

interface Params {
  query: string
  variables: Record<string, unknown> | undefined
  operationName: string | undefined
}

export interface FastPathParts {
  // biome-ignore lint/suspicious/noExplicitAny: whatever contexts Yoga was made with.
  yoga: YogaServerInstance<any, any>
  context: Context
  maskError: (error: unknown) => Error
}

export class FastPath {
  readonly #parts: FastPathParts
  /** null: not for the fast path. */
  readonly #documents = new Kept<CompiledQuery | null>(documentsKept)
  readonly #seen = new Kept<true>(seenKept)
  /** Accept header -> the Content-Type that Yoga answered it with. */
  readonly #types = new Kept<string>(acceptsKept)

  constructor(parts: FastPathParts) {
    this.#parts = parts
  }

  /** Answers the request; false where Yoga has to. */
  async handle(request: IncomingMessage, response: ServerResponse, body: string): Promise<boolean> {
    const type = this.#types.get(request.headers.accept ?? '')
    if (type === undefined) return false
    const params = readParams(body)
    if (!params) return false
    const compiled = this.#compiled(params)
    if (!compiled) return false
    const result = (await compiled.query(undefined, this.#parts.context, params.variables ?? {})) as ExecutionResult
    // Variables that do not fit. Nothing was executed, and Yoga says it in its own words.
    if (!('data' in result) || result.data === undefined) return false
    if (!result.errors) {
      sendText(response, 200, type, JSON.stringify(result))
      return true
    }
    this.#sendErrors(response, type, result)
    return true
  }

  /** Takes note of what Yoga answered, to answer alike. */
  learn(accept: string, status: number, type: string | null): void {
    if (status === 200 && type?.includes('json') && accept.length < 200) this.#types.set(accept, type)
  }

  #compiled({ query, operationName }: Params): CompiledQuery | null {
    if (query.length > documentLength) return null
    const key = `${operationName ?? ''}\n${query}`
    const kept = this.#documents.get(key)
    if (kept !== undefined) return kept
    if (!this.#seen.get(key)) {
      this.#seen.set(key, true)
      return null
    }
    const compiled = this.#compile(query, operationName)
    this.#documents.set(key, compiled)
    return compiled
  }

  #compile(query: string, operationName: string | undefined): CompiledQuery | null {
    try {
      const { schema, parse, validate } = this.#parts.yoga.getEnveloped({
        ...this.#parts.context,
        params: { query, operationName },
      })
      const document: DocumentNode = parse(query)
      if (validate(schema, document).length > 0) return null
      const operation = getOperationAST(document, operationName)
      if (!operation || operation.operation === 'subscription' || asksAboutSchema(document)) return null
      const compiled = compileQuery(schema, document, operationName)
      return isCompiledQuery(compiled) ? compiled : null
    } catch {
      return null
    }
  }

  #sendErrors(response: ServerResponse, type: string, { data, errors }: ExecutionResult): void {
    let status = 200
    const headers: Record<string, string> = {}
    const shown = errors!.map((error) => {
      const masked = this.#parts.maskError(error) as GraphQLError
      const { http, ...extensions } = masked.extensions as {
        http?: { status: number; headers: Record<string, string> }
      }
      if (http && data == null) {
        status = Math.max(status, http.status)
        Object.assign(headers, http.headers)
      }
      const { locations, path } = error
      // As GraphQLError.toJSON has it; compiled errors know their locations, not their nodes.
      return {
        message: masked.message,
        ...(locations ? { locations } : {}),
        ...(path ? { path } : {}),
        ...(Object.keys(extensions).length > 0 ? { extensions } : {}),
      }
    })
    sendText(response, status, type, JSON.stringify({ errors: shown, data }), headers)
  }
}

function readParams(body: string): Params | undefined {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  for (const name in value) if (name !== 'query' && name !== 'variables' && name !== 'operationName') return undefined
  const { query, variables, operationName } = value as Record<string, unknown>
  if (typeof query !== 'string') return undefined
  if (variables != null && (typeof variables !== 'object' || Array.isArray(variables))) return undefined
  if (operationName != null && typeof operationName !== 'string') return undefined
  return {
    query,
    variables: (variables ?? undefined) as Record<string, unknown> | undefined,
    operationName: operationName ?? undefined,
  }
}

function asksAboutSchema(document: DocumentNode): boolean {
  let asks = false
  visit(document, {
    [Kind.FIELD]: ({ name }) => {
      if (name.value === '__schema' || name.value === '__type') asks = true
    },
  })
  return asks
}

/** The values used last, up to a number of them. */
class Kept<T> {
  readonly #values = new Map<string, T>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get(key: string): T | undefined {
    const value = this.#values.get(key)
    if (value === undefined) return undefined
    // Order of use is only worth keeping when something may have to go.
    if (this.#values.size > this.#most / 2) {
      this.#values.delete(key)
      this.#values.set(key, value)
    }
    return value
  }

  set(key: string, value: T): void {
    this.#values.delete(key)
    this.#values.set(key, value)
    if (this.#values.size > this.#most) this.#values.delete(this.#values.keys().next().value!)
  }
}
