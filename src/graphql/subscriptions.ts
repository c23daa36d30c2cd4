/**
 * Opens subscriptions as streams, for SSE and WebSocket. A feed is a position in the events log and can be resumed; every other subscription
 * runs in Yoga's pipeline. Both pass the same checks.
 */
import type { ExecutionResult } from 'graphql'
import { isAsyncIterable } from 'graphql-yoga'
import { type MaskError, shownResult } from '../http/errors.ts'
import type { Context } from './builder.ts'
import type { Document, Documents } from './documents.ts'
import type { GraphQLParams } from './params.ts'
import { feedOf } from './roots.ts'
import { checkScopes } from './scopes.ts'
import { type FeedStreams, frameOf, type Stream } from './streams.ts'
import type { Yoga } from './yoga.ts'

export interface SubscriptionsDeps {
  yoga: Yoga
  documents: Documents
  feeds: FeedStreams
  maskError: MaskError
}

export class Subscriptions {
  readonly #deps: SubscriptionsDeps

  constructor(deps: SubscriptionsDeps) {
    this.#deps = deps
  }

  /** The document if its operation is a subscription; undefined otherwise, and for an invalid document, which Yoga refuses. */
  find(params: GraphQLParams): Document | undefined {
    return this.#deps.documents.subscription(params)
  }

  /** Throws a SpillwayError, or an AggregateError of GraphQLErrors. */
  async open(document: Document, params: GraphQLParams, context: Context, lastEventId?: string): Promise<Stream> {
    checkScopes(context.grant, document.needs)
    const errors = document.errorsOf(params.variables)
    if (errors.length > 0) throw new AggregateError(errors)
    const [root] = document.roots(params.variables)
    const feed = root && feedOf(root)
    if (!feed) return await this.#openByYoga(document, params, context)
    return await this.#deps.feeds.open({ document, params, root, feed }, context.grant, lastEventId)
  }

  async #openByYoga(document: Document, params: GraphQLParams, contextValue: Context): Promise<Stream> {
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
