/**
 * The models of models.ts behind two GraphQL servers of this process, one with the fast path and one where Yoga answers everything, with a
 * real queue, worker, events log and cache. Their rows are in memory.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { GraphQLSchema } from 'graphql'
import { type App, makeApp } from '../../src/app/app.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { SqliteFile } from '../../src/embedded/file.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { makeGraphQL } from '../../src/graphql/endpoint.ts'
import { makeSchema } from '../../src/graphql/schema.ts'
import { RateLimit, StreamLimit } from '../../src/http/client-limits.ts'
import { listen } from '../../src/http/listen.ts'
import { openAuth } from '../../src/http/open-auth.ts'
import { OriginCheck } from '../../src/http/origin-check.ts'
import { Responses } from '../../src/http/responses.ts'
import type { Models } from '../../src/model/model.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { Worker } from '../../worker/worker.ts'
import { type Client, client } from './client.ts'
import { MemoryStore } from './memory-store.ts'
import { datamodelOf, models as ours } from './models.ts'
import { quiet } from './quiet.ts'
import { temporary } from './temporary.ts'
import { secret, tokenOf } from './tenants.ts'

export interface ModelServer {
  app: App
  schema: GraphQLSchema
  store: MemoryStore
  /** URLs. */
  fast: string
  plain: string
  /** A client with these claims; its scope is `read write` unless they say another. */
  as(claims: Record<string, unknown>, url?: string): Promise<Client>
  token(claims: Record<string, unknown>): Promise<string>
  close(): Promise<void>
}

/** `auth: false`: every client may do everything, and has no claims. */
export async function serveModels({
  models = ours,
  datamodel = datamodelOf(),
  auth: hasAuth = true,
}: {
  models?: Models
  datamodel?: ReturnType<typeof datamodelOf>
  auth?: boolean
} = {}): Promise<ModelServer> {
  await using stack = new AsyncDisposableStack()
  const dir = await temporary('spillway-models-')
  stack.defer(() => rm(dir, { recursive: true }))
  const log = quiet()
  const file = await SqliteFile.open(join(dir, 'queue.db'), { capacity: 1e6, retentionMs: 1e6, retentionBytes: 1e9 })
  stack.defer(() => file.close())
  const queue = stack.adopt(new SqliteQueue(file.connect()), (one) => one.close())
  const events = stack.adopt(new SqliteEventLog(file.connect(), { models }), (one) => one.close())
  const store = new MemoryStore()
  const cache = new MemoryCache({ ttlMs: 1e6, versions: new SharedVersions() })
  const app = makeApp({ models, queue, store, cache, events, log })
  stack.defer(() => app.follower.close())
  app.follower.start()
  const worker = new Worker(
    { consumer: queue.consumer('worker'), store, cache, events },
    { models, batch: 1_000, concurrency: 1, maxAttempts: 5, cacheTtlMs: 1e6, log },
  )
  stack.defer(() => worker.stop())
  worker.start()
  const schema = makeSchema(models, { datamodel })
  const urls: string[] = []
  for (const fast of [true, false]) {
    const auth = await openAuth(hasAuth ? { secret } : {}, log)
    const rateLimit = new RateLimit(undefined)
    const graphql = makeGraphQL(
      {
        app,
        prisma: {},
        schema,
        responses: new Responses(app.cache),
        auth,
        rateLimit,
        limit: new StreamLimit(undefined),
        metrics: new Metrics([...models.keys()]),
        log,
      },
      { fast, introspection: true, operations: undefined, maxMessageBytes: 4 * 1024 * 1024 },
    )
    stack.defer(() => graphql.close())
    const handle = graphql.handle.bind(graphql)
    const server = await listen(
      {
        paths: '/graphql',
        route: () => ({ scope: 'any', GET: handle, POST: handle }),
        upgrade: graphql.upgrade,
        auth,
        originCheck: new OriginCheck({ hosts: [], origins: [], log }),
        rateLimit,
      },
      { host: '127.0.0.1', port: 0, maxConnections: 1_000, maxBodyBytes: 4 * 1024 * 1024, bytes: app.bytes, log },
    )
    stack.defer(() => server.close())
    urls.push(server.url)
  }
  const token = (claims: Record<string, unknown>) => tokenOf({ scope: 'read write', sub: 'someone', ...claims })
  const opened = stack.move()
  const [fast, plain] = urls as [string, string]
  return {
    app,
    schema,
    store,
    fast,
    plain,
    token,
    as: async (claims, url = fast) => client(url, await token(claims)),
    close: () => opened.disposeAsync(),
  }
}
