/** The steps that every operation goes through, however it came: parse, validate, scopes, compile, run (see endpoint.ts). */
import type { GraphQLSchema } from 'graphql'
import type { Client } from '../app/save.ts'
import { maskError } from '../http/errors.ts'
import type { Grant } from '../model/grant.ts'
import type { Log } from '../model/log.ts'
import type { Context } from './builder.ts'
import type { LimitOptions } from './document-limits.ts'
import { Documents } from './documents.ts'
import { FeedStreams } from './streams.ts'
import { Subscriptions } from './subscriptions.ts'
import { makeYoga } from './yoga.ts'

export interface PipelineDeps extends Pick<Context, 'app' | 'prisma'> {
  /** Of the models of the App. */
  schema: GraphQLSchema
  log: Log
}

export function makePipeline({ app, prisma, schema, log }: PipelineDeps, options: LimitOptions) {
  const mask = maskError(log, options.introspection)
  const contextOf = (grant: Grant, client?: Client): Context => ({
    app,
    prisma,
    grant,
    client,
    readAt: performance.now(),
    savedCursor: app.savedCursor.now,
  })
  const shared = { contextOf, maskError: mask }
  const { yoga, respondByYoga } = makeYoga({ ...shared, schema, log }, options)
  const documents = new Documents(yoga)
  const feeds = new FeedStreams({ ...shared, follower: app.follower, bytes: app.bytes })
  const subscriptions = new Subscriptions({ ...shared, documents, feeds, bytes: app.bytes })
  return { ...shared, yoga, respondByYoga, documents, subscriptions }
}
