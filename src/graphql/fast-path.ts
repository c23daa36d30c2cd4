/**
 * The fast path: POST, JSON in, JSON out, one query or mutation. A request is body -> variables -> compiled function -> one `res.end`;
 * a page of contents is not even that, but bytes kept while the cache version stands. Everything else, and everything that turns out odd,
 * goes to Yoga. Invariant: what comes out is what Yoga would have sent; test/server/differential.test.ts sends the same requests down
 * both ways.
 */
import type { ServerResponse } from 'node:http'
import type { ExecutionResult, GraphQLError } from 'graphql'
import type { Client } from '../app/save.ts'
import type { Grant } from '../http/auth.ts'
import { type Call, sendText } from '../http/http.ts'
import { Kept } from '../http/kept.ts'
import type { Responses } from '../http/responses.ts'
import type { Context } from './builder.ts'
import type { Document, Documents } from './documents.ts'
import { type Params, paramsOfBody } from './params.ts'
import { covers } from './scopes.ts'

const acceptsKept = 50
/** Of a request for a page, in characters, up to which its response is kept under the whole of it. */
const pageRequestLength = 20_000

export interface FastPathDeps {
  documents: Documents
  contextOf: (grant: Grant, client?: Client) => Context
  responses: Responses
  maskError: (error: unknown, requestId?: string) => Error
}

export class FastPath {
  readonly #deps: FastPathDeps
  /** Accept header -> the Content-Type that Yoga answered it with. */
  readonly #types = new Kept<string>(acceptsKept)

  constructor(deps: FastPathDeps) {
    this.#deps = deps
  }

  /** Takes note of what Yoga answered, to answer alike. */
  learn(accept: string, status: number, type: string | null): void {
    if (status === 200 && type?.includes('json') && accept.length < 200) this.#types.set(accept, type)
  }

  /** Answers the request; false where Yoga has to. */
  async handle({ request, response, body, grant, connection, id }: Call): Promise<boolean> {
    const type = this.#types.get(request.headers.accept ?? '')
    if (type === undefined) return false
    // Known to be for a page of contents: its JSON need not even be read.
    const mayRead = grant.scopes.has('read')
    if (mayRead && this.#deps.responses.has(body) && (await this.#sendPage(response, type, body, grant))) return true
    const params = paramsOfBody(body)
    const document = params && this.#deps.documents.get(params)
    if (!document || document.operation.operation === 'subscription' || !covers(grant, document.needs)) return false
    // Yoga says what is wrong with them.
    if (!document.fits(params.variables)) return false
    const keepable = mayRead && body.length <= pageRequestLength && isPage(document)
    if (keepable && (await this.#sendPage(response, type, body, grant))) return true
    const result = await this.#execute(document, params, this.#deps.contextOf(grant, connection))
    // Nothing was executed.
    if (!('data' in result) || result.data === undefined) return false
    if (result.errors) this.#sendErrors(response, type, result, id)
    else sendText(response, 200, type, JSON.stringify(result))
    return true
  }

  async #execute(document: Document, { variables }: Params, context: Context): Promise<ExecutionResult> {
    return (await document.execute(undefined, context, variables)) as ExecutionResult
  }

  async #sendPage(response: ServerResponse, type: string, body: string, grant: Grant): Promise<boolean> {
    const page = await this.#deps.responses.get(body, async () => {
      const params = paramsOfBody(body)
      const document = params && this.#deps.documents.get(params)
      if (!document) return undefined
      const context = this.#deps.contextOf(grant)
      const result = await this.#execute(document, params, context)
      if (result.errors || result.data === undefined) return undefined
      return { text: JSON.stringify(result), readAt: context.readAt }
    })
    if (page) sendText(response, 200, type, page)
    return page !== undefined
  }

  #sendErrors(response: ServerResponse, type: string, { data, errors }: ExecutionResult, id: string): void {
    let status = 200
    const headers: Record<string, string> = {}
    const shown = errors!.map((error) => {
      const masked = this.#deps.maskError(error, id) as GraphQLError
      const { http, ...extensions } = masked.extensions as {
        http?: { status: number; headers: Record<string, string> }
      }
      if (http && data == null) {
        // Execution has begun: of this media type, a status of its own would be taken for one of HTTP's, and the message be lost.
        if (!type.startsWith('application/json')) status = Math.max(status, http.status)
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

/** It asks for nothing but plain columns of pages, and for no more than the scope `read`: its answer is anybody's while the cache version stands. */
function isPage({ operation, shared, needs }: Document): boolean {
  return operation.operation === 'query' && shared && [...needs.keys()].every((scope) => scope === 'read')
}
