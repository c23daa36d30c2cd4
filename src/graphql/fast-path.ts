/**
 * The fast path: POST, JSON in, JSON out, one query or mutation. A request is body -> variables -> compiled function -> one `res.end`;
 * a page of contents is not even that, but bytes kept while the cache version stands. Everything else, and everything that turns out odd,
 * goes to Yoga. Invariant: what comes out is what Yoga would have sent; test/server/differential.test.ts sends the same requests down
 * both ways.
 */
import type { ServerResponse } from 'node:http'
import type { Client } from '../app/save.ts'
import type { Grant } from '../http/auth.ts'
import { type MaskError, shownErrors } from '../http/errors.ts'
import { type Call, sendText } from '../http/http.ts'
import type { Responses } from '../http/responses.ts'
import type { Context } from './builder.ts'
import type { Documents } from './documents.ts'
import { type Params, paramsOfBody } from './params.ts'
import { covers } from './scopes.ts'

/** Of a request for a page, in characters, up to which its response is kept under the whole of it. */
const pageRequestLength = 20_000

export interface FastPathDeps {
  documents: Documents
  contextOf: (grant: Grant, client?: Client) => Context
  responses: Responses
  maskError: MaskError
}

export class FastPath {
  readonly #deps: FastPathDeps

  constructor(deps: FastPathDeps) {
    this.#deps = deps
  }

  /** Answers a request that is known to be for a page: its JSON need not even be read. False where it is not known, mostly at once. */
  handleKept({ response, body, grant }: Call, type: string): Promise<boolean> | false {
    return mayRead(grant) && this.#deps.responses.has(body) && this.#sendPage(response, type, body, grant)
  }

  /** Answers the request; false where Yoga has to. */
  async handle(call: Call, params: Params, type: string): Promise<boolean> {
    const { response, body, grant, connection, id } = call
    const document = this.#deps.documents.get(params)
    if (!document || document.operation.operation === 'subscription' || !covers(grant, document.needs)) return false
    // Yoga says what is wrong with them.
    if (document.errorsOf(params.variables).length > 0) return false
    const keepable = mayRead(grant) && body.length <= pageRequestLength && document.page
    if (keepable && (await this.#sendPage(response, type, body, grant))) return true
    const context = this.#deps.contextOf(grant, connection)
    const { data, errors } = await document.execute(undefined, context, params.variables)
    // Nothing was executed.
    if (data === undefined) return false
    if (!errors) {
      sendText(response, 200, type, JSON.stringify({ data }))
      return true
    }
    const shown = shownErrors(errors, this.#deps.maskError, id)
    // Execution has begun: of this media type, a status of its own would be taken for one of HTTP's, and the message be lost.
    const status = data === null && !type.startsWith('application/json') ? shown.status : 200
    const headers = data === null ? shown.headers : {}
    sendText(response, status, type, JSON.stringify({ errors: shown.errors, data }), headers)
    return true
  }

  async #sendPage(response: ServerResponse, type: string, body: string, grant: Grant): Promise<boolean> {
    const page = await this.#deps.responses.get(body, async () => {
      const params = paramsOfBody(body)
      const document = params && this.#deps.documents.get(params)
      if (!document) return undefined
      const context = this.#deps.contextOf(grant)
      const result = await document.execute(undefined, context, params.variables)
      if (result.errors || result.data === undefined) return undefined
      return { text: JSON.stringify(result), readAt: context.readAt }
    })
    if (page) sendText(response, 200, type, page)
    return page !== undefined
  }
}

function mayRead({ scopes }: Grant): boolean {
  return scopes.has('read')
}
