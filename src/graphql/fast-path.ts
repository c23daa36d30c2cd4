/**
 * The fast path, for a query or mutation that is sent by POST as JSON and whose document is compiled: body -> variables -> compiled function ->
 * one `response.end`. Pages of rows are sent from cached bytes while the cache versions of their keys are unchanged. Yoga responds to all other
 * requests. Invariant: the fast path and Yoga send the same responses; test/server/differential.test.ts compares them.
 */
import type { ServerResponse } from 'node:http'
import type { Client } from '../app/save.ts'
import type { SavedCursor } from '../app/saved-cursor.ts'
import { isFailure, type MaskError, shownErrors } from '../http/errors.ts'
import { sendText } from '../http/respond.ts'
import { cursorMark, type Responses } from '../http/responses.ts'
import type { Call } from '../http/route.ts'
import type { Grant } from '../model/grant.ts'
import type { Context } from './builder.ts'
import type { Document, Documents } from './documents.ts'
import { cacheKeysOf, type Sights } from './narrowing.ts'
import { type GraphQLParams, paramsOfBody } from './params.ts'
import { covers } from './scopes.ts'

/** The longest request for a page, in characters, whose response is cached under the body as its key. */
const maxKeyLength = 20_000

export interface FastPathDeps {
  documents: Documents
  contextOf: (grant: Grant, client?: Client) => Context
  responses: Responses
  savedCursor: SavedCursor
  sights: Sights
  maskError: MaskError
}

export class FastPath {
  readonly #deps: FastPathDeps

  constructor(deps: FastPathDeps) {
    this.#deps = deps
  }

  /** Sends a cached page, found by the body and by what the grant sees, without parsing the body. Returns false, mostly synchronously, if none
   *  is cached. */
  sendCached({ response, body, grant }: Call, type: string): Promise<boolean> | false {
    if (!mayRead(grant)) return false
    const key = this.#deps.sights.of(grant) + body
    return this.#deps.responses.has(key) && this.#sendPage(response, type, { key, body, grant })
  }

  /** Runs the operation and sends its result. Returns false if Yoga must respond instead. */
  async handle(call: Call, params: GraphQLParams, type: string): Promise<boolean> {
    const { response, body, grant, connection, id } = call
    const document = this.#deps.documents.get(params)
    if (!document || document.operation.operation === 'subscription' || !covers(grant, document.needs)) return false
    // Yoga responds with the errors.
    if (document.errorsOf(params.variables).length > 0) return false
    if (mayRead(grant) && body.length <= maxKeyLength && document.page) {
      const key = this.#deps.sights.of(grant) + body
      if (await this.#sendPage(response, type, { key, body, grant })) return true
    }
    const context = this.#deps.contextOf(grant, connection)
    const { data, errors } = await document.execute(undefined, context, params.variables)
    // Nothing was executed.
    if (data === undefined) return false
    if (!errors) {
      sendText(response, 200, type, JSON.stringify({ data }))
      return true
    }
    const shown = shownErrors(errors, this.#deps.maskError, id)
    // Execution has begun: clients of `application/json` would take another status for a failure of HTTP, and drop the message.
    const failed = isFailure(data)
    const status = failed && !type.startsWith('application/json') ? shown.status : 200
    const headers = failed ? shown.headers : {}
    sendText(response, status, type, JSON.stringify({ errors: shown.errors, data }), headers)
    return true
  }

  async #sendPage(
    response: ServerResponse,
    type: string,
    { key, body, grant }: { key: string; body: string; grant: Grant },
  ): Promise<boolean> {
    const asked = once(() => this.#parse(body))
    const keysOf = () => {
      const page = asked()
      return (page && cacheKeysOf(page.document, page.params.variables, grant)) ?? []
    }
    const render = async () => {
      const { document, params } = asked() ?? {}
      if (!document || !params) return undefined
      const context = { ...this.#deps.contextOf(grant), savedCursor: cursorMark }
      if (document.template) {
        const text = await document.template(context, params.variables)
        // What was wrong is said by the execution that follows, once: a database that is in trouble is not read a third time.
        return text === undefined ? undefined : { text, readAt: context.readAt }
      }
      const result = await document.execute(undefined, context, params.variables)
      if (result.errors || result.data === undefined) return undefined
      return { text: JSON.stringify(result), readAt: context.readAt }
    }
    const page = await this.#deps.responses.get(key, keysOf, render, this.#deps.savedCursor.now)
    if (page) sendText(response, 200, type, page)
    return page !== undefined
  }

  #parse(body: string): { params: GraphQLParams; document: Document } | undefined {
    const params = paramsOfBody(body)
    const document = params && this.#deps.documents.get(params)
    return document ? { params, document } : undefined
  }
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

function mayRead({ scopes }: Grant): boolean {
  return scopes.has('read')
}
