/**
 * Subscriptions, whichever wire they are for and however they are written: a feed is a place in the events log and can be resumed; every
 * other one runs in Yoga's pipeline. Both are checked in the same way and become the same stream.
 */
import type { ExecutionResult } from 'graphql'
import { isAsyncIterable } from 'graphql-yoga'
import { type MaskError, shownResult } from '../http/errors.ts'
import type { Context } from './builder.ts'
import type { Document, Documents, Yoga } from './documents.ts'
import type { Params } from './params.ts'
import { feedOf } from './roots.ts'
import { checkScopes } from './scopes.ts'
import { frameOf, type Stream } from './stream.ts'
import type { SavedStreams } from './streams.ts'

export interface SubscriptionsDeps {
  yoga: Yoga
  documents: Documents
  feeds: SavedStreams
  maskError: MaskError
}

export class Subscriptions {
  readonly #deps: SubscriptionsDeps

  constructor(deps: SubscriptionsDeps) {
    this.#deps = deps
  }

  /** The document, where it is one of a subscription; an invalid one is for Yoga to refuse. */
  find(params: Params): Document | undefined {
    return this.#deps.documents.subscription(params)
  }

  /** Throws what is wrong with the request: a SpillwayError, or an AggregateError of GraphQL's. */
  async open(document: Document, params: Params, context: Context, lastEventId?: string): Promise<Stream> {
    checkScopes(context.grant, document.needs)
    const errors = document.errorsOf(params.variables)
    if (errors.length > 0) throw new AggregateError(errors)
    const [root] = document.roots(params.variables)
    const feed = root && feedOf(root)
    if (!feed) return await this.#follow(document, params, context)
    return await this.#deps.feeds.open({ document, params, root, feed }, context.grant, lastEventId)
  }

  async #follow(document: Document, params: Params, contextValue: Context): Promise<Stream> {
    const { yoga, maskError } = this.#deps
    const source: AsyncIterable<ExecutionResult> | ExecutionResult = await yoga.getEnveloped({ params }).subscribe({
      schema: document.schema,
      document: document.node,
      variableValues: params.variables,
      operationName: params.operationName,
      contextValue,
    })
    if (!isAsyncIterable(source)) throw new AggregateError(source.errors ?? [])
    const iterator = source[Symbol.asyncIterator]()
    return {
      cursor: undefined,
      completes: true,
      next: async () => {
        const { done, value } = await iterator.next()
        if (done) return undefined
        const result = shownResult(value, maskError)
        return { results: [result], frames: Buffer.from(frameOf(result)) }
      },
      close: () => void iterator.return?.(),
    }
  }
}
