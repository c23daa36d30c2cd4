/**
 * Opens subscriptions as streams, for SSE and WebSocket. A feed is a position in the events log and can be resumed; every other subscription
 * has a source of its own. Both pass the same checks.
 */
import { createSourceEventStream } from 'graphql'
import { isAsyncIterable } from 'graphql-yoga'
import type { Bytes } from '../app/bytes.ts'
import type { Client } from '../app/save.ts'
import { type MaskError, shownResult } from '../http/errors.ts'
import type { Share } from '../http/share.ts'
import { badInput } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import { Batch } from './batch.ts'
import type { Context } from './builder.ts'
import type { Document, Documents } from './documents.ts'
import { OpenDocuments } from './open-documents.ts'
import type { GraphQLParams } from './params.ts'
import { feedOf } from './roots.ts'
import { checkScopes } from './scopes.ts'
import { declaredVariables, type FeedStreams, type Stream } from './streams.ts'

export interface SubscriptionsDeps {
  documents: Documents
  feeds: FeedStreams
  bytes: Bytes
  contextOf: (grant: Grant, client?: Client) => Context
  maskError: MaskError
}

export class Subscriptions {
  readonly #deps: SubscriptionsDeps
  readonly #open: OpenDocuments

  constructor(deps: SubscriptionsDeps) {
    this.#deps = deps
    this.#open = new OpenDocuments(deps.bytes.subscriptions)
  }

  /** The document if its operation is a subscription; undefined otherwise, and for an invalid document, which Yoga refuses. */
  find(params: GraphQLParams, share: Pick<Share, 'use'>): Document | undefined {
    return this.#deps.documents.subscription(params, share)
  }

  /** Throws a SpillwayError, or an AggregateError of GraphQLErrors. */
  async open(document: Document, params: GraphQLParams, context: Context, lastEventId?: string): Promise<Stream> {
    checkScopes(context.grant, document.needs)
    const errors = document.errorsOf(params.variables)
    if (errors.length > 0) throw new AggregateError(errors)
    const [root] = document.roots(params.variables)
    if (!root) throw badInput('the subscription selects no field: @skip or @include leaves out all of them')
    const feed = feedOf(root)
    const leave = this.#open.enter(document)
    try {
      if (!feed) return await this.#openSource(document, params, context, leave)
      return await this.#deps.feeds.open({ document, params, root, feed, leave }, context.grant, lastEventId)
    } catch (error) {
      leave()
      throw error
    }
  }

  /** Executes the document on each value of the field's own source. */
  async #openSource(
    document: Document,
    params: GraphQLParams,
    contextValue: Context,
    leave: () => void,
  ): Promise<Stream> {
    const { contextOf, maskError } = this.#deps
    const { grant, client } = contextValue
    const variables = declaredVariables(document, params)
    const source = await createSourceEventStream({
      schema: document.schema,
      document: document.node,
      variableValues: variables,
      operationName: params.operationName,
      contextValue,
    })
    if (!isAsyncIterable(source)) throw new AggregateError(source.errors ?? [])
    const iterator = source[Symbol.asyncIterator]()
    const next = async () => {
      const { done, value } = await iterator.next()
      if (done) return undefined
      // Each message has a context of its own, and so the bounds of one operation (Reads).
      const result = shownResult(await document.execute(value, contextOf(grant, client), variables), maskError)
      return new Batch([result])
    }
    return {
      cursor: undefined,
      end: undefined,
      completes: true,
      next,
      poll: next,
      onMore: () => {},
      close: () => {
        leave()
        void iterator.return?.()
      },
    }
  }
}
