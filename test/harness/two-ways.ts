/** One application behind two servers of this process: one with the fast path, one where Yoga answers everything. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type App, makeApp } from '../../src/app/app.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { PrismaStore } from '../../src/db/prisma.ts'
import { SqliteFile } from '../../src/embedded/file.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import type { AuthOptions } from '../../src/http/auth.ts'
import { limitColumns } from '../../src/model/define.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { serve } from '../../src/server/server.ts'
import { Metrics } from '../../src/telemetry/metrics.ts'
import { given as content, models } from './contents.ts'
import { quiet } from './quiet.ts'
import { temporary } from './temporary.ts'

export interface TwoWays {
  app: App
  store: PrismaStore
  events: SqliteEventLog
  /** URLs. */
  fast: string
  plain: string
  close(): Promise<void>
}

/** `follows: false`: the test starts the follower. */
export async function serveTwoWays(
  given: { contentMaxBytes?: number; idleTimeoutMs?: number; auth?: AuthOptions; follows?: boolean } = {},
): Promise<TwoWays> {
  const limited = limitColumns(models, given.contentMaxBytes ?? 1_000)
  const dir = await temporary('spillway-two-ways-')
  const log = quiet()
  const file = await SqliteFile.open(join(dir, 'queue.db'), { capacity: 1e6, retentionMs: 1e6, retentionBytes: 1e9 })
  const queue = new SqliteQueue(file.connect())
  const events = new SqliteEventLog(file.connect(), { models: limited })
  const store = await PrismaStore.open({
    url: `file:${dir}/store.db`,
    concurrency: 1,
    models: limited,
    clients: content.prisma,
    log,
  })
  await store.prepare(new AbortController().signal)
  const cache = new MemoryCache({ ttlMs: 1e6, versions: new SharedVersions() })
  const app = makeApp({ models: limited, queue, store, cache, events, log })
  if (given.follows !== false) app.follower.start()
  const options = {
    host: '127.0.0.1',
    port: 0,
    graphiql: false,
    introspection: true,
    consoleSpike: false,
    operations: undefined,
    requestsPerSecond: undefined,
    streamsPerClient: undefined,
    maxConnections: 1_000,
    auth: {},
    ...given,
    hosts: [],
    origins: [],
    store,
    events,
    prepared: () => true,
    log,
  }
  const prisma = { client: store.prisma, datamodel: content.prisma.datamodel }
  const metrics = () => new Metrics([...limited.keys()])
  const servers = [
    await serve(app, prisma, { ...options, metrics: metrics() }),
    await serve(app, prisma, { ...options, metrics: metrics(), fast: false }),
  ] as const
  return {
    app,
    store,
    events,
    fast: servers[0].url,
    plain: servers[1].url,
    close: async () => {
      // As start.ts does it.
      const closed = Promise.all(servers.map((server) => server.close()))
      await app.follower.close()
      await closed
      await Promise.all([queue.close(), events.close(), store.close()])
      await file.close()
      await rm(dir, { recursive: true })
    },
  }
}
