/**
 * A Spillway for faults: servers of its own that a fault may hit, two API processes, two workers, clients that save all the time, and a
 * verdict on every single id. Embedded, it is one process on two files.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Position } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { type BootOptions, Spillway } from './boot.ts'
import type { SaveAnswer } from './client.ts'
import { models } from './contents.ts'
import { holds } from './eventually.ts'
import { startMariadb, type TestMariadb } from './mariadb.ts'
import type { SpillwayProcess } from './process.ts'
import { quiet } from './quiet.ts'
import { startRedis, type TestRedis } from './redis.ts'
import { temporary } from './temporary.ts'

export interface Verdict {
  fault: string
  /** Ids that a client was told are accepted. */
  acknowledged: number
  /** Rows of acknowledged ids, content equal. */
  rows: number
  deadLetters: number
  /** Acknowledged, and neither a row nor a dead letter. */
  lost: number
  /** More than one of them. */
  doubled: number
  /** Rows whose content is not what was sent, or that nobody sent. */
  altered: number
  /** Rows that no event told of; undefined where the log is not read. */
  unannounced: number | undefined
}

/** Of one client that writes. */
const betweenSavesMs = 10

export interface StackOptions extends BootOptions {
  embedded?: boolean
  redisArgs?: string[]
  mariadbArgs?: string[]
  /** In place of a MariaDB: a cluster, say. */
  mariadb?: () => Promise<TestMariadb>
  /** For the servers themselves: LD_PRELOAD, say. */
  redisEnv?: NodeJS.ProcessEnv
  /** Embedded: where the files are to be, in place of a directory of its own. It is kept. */
  dir?: string
  /** In place of the servers' own addresses: through a proxy, say. */
  queueUrl?: (url: string) => Promise<string>
  databaseUrl?: (url: string) => Promise<string>
  /** Where the events log is, if not on the stack's own Redis. */
  eventsUrl?: string
}

interface Servers {
  redis: TestRedis
  cache: TestRedis
  mariadb: TestMariadb
}

export class Stack extends Spillway {
  declare readonly redis: TestRedis
  declare readonly cache: TestRedis
  declare readonly mariadb: TestMariadb
  /** The URL of the database; embedded, the path of the store's file. */
  database: string
  /** Everything that was ever sent: id -> content. */
  readonly sent = new Map<string, string>()
  readonly acknowledged = new Set<string>()
  /** The events logs that its processes used, one after the other; undefined: that of `redis`, which a test may replace. */
  eventsUrls: string[] | undefined
  #clients: Promise<void>[] = []
  #writing = new AbortController()

  private constructor(
    options: StackOptions,
    env: Record<string, string>,
    database: string,
    clean: () => Promise<unknown>,
    servers?: Servers,
  ) {
    super(options.embedded ? 'embedded' : 'redis + mariadb', { ...env, ...options.env }, { ...options, clean })
    this.database = database
    Object.assign(this, servers)
    this.eventsUrls = options.eventsUrl ? [options.eventsUrl] : undefined
  }

  static async start(options: StackOptions = {}): Promise<Stack> {
    const stack = options.embedded ? await Stack.#onFiles(options) : await Stack.#onServers(options)
    return await stack.start(options.embedded ? 1 : (options.apis ?? 2), options.workers ?? 2)
  }

  static async #onServers(options: StackOptions): Promise<Stack> {
    const { redisArgs = [], redisEnv = {}, mariadbArgs = [] } = options
    const starting = [
      startRedis({ args: redisArgs, env: redisEnv }),
      startRedis({ args: ['--appendonly', 'no', '--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru'] }),
      options.mariadb?.() ?? startMariadb({ args: mariadbArgs }),
    ] as const
    const clean = () => Promise.all(starting.map(async (server) => (await server).cleanup()))
    try {
      const [redis, cache, mariadb] = await Promise.all(starting)
      const database = await mariadb.createDatabase()
      const env = {
        DATABASE_URL: (await options.databaseUrl?.(database)) ?? database,
        QUEUE_URL: (await options.queueUrl?.(redis.url)) ?? redis.url,
        CACHE_URL: cache.url,
      }
      return new Stack(options, env, database, clean, { redis, cache, mariadb })
    } catch (error) {
      await Promise.allSettled(starting.map(async (server) => (await server).cleanup()))
      throw error
    }
  }

  static async #onFiles(options: StackOptions): Promise<Stack> {
    const dir = options.dir ?? (await temporary('spillway-stack-'))
    const database = `${dir}/spillway.db`
    const env = { DATABASE_URL: `file:${database}`, QUEUE_URL: `file:${dir}/queue.db` }
    const clean = async () => options.dir ?? (await rm(dir, { recursive: true, force: true }))
    return new Stack(options, env, database, clean)
  }

  /** Where the embedded files are. */
  get dir(): string {
    return dirname(this.database)
  }

  /** Begins to save, each id until it is acknowledged, refused for good, or the writing is stopped. Each client pauses between two saves,
   *  so that its load leaves the processors to what the fault is about. */
  write(clients = 8, content: (i: number) => string = (i) => `content ${i} ${'🙂'.repeat(i % 20)}`): void {
    const { signal } = this.#writing
    let count = 0
    const client = async (n: number) => {
      while (!signal.aborted) {
        count += 1
        await this.save(randomUUID(), content(count), n + count, signal)
        await sleep(betweenSavesMs)
      }
    }
    this.#clients = Array.from({ length: clients }, (_, n) => client(n))
    // What goes wrong is thrown when the writing is stopped, not before.
    for (const client of this.#clients) client.catch(() => {})
  }

  /** Saves one, again and again with the same id until it is acknowledged; false when `signal` came first. */
  async save(id: string, content: string, via = 0, signal = this.#writing.signal): Promise<boolean> {
    this.sent.set(id, content)
    for (let attempt = 0; !signal.aborted; attempt++) {
      const api = this.apis[(via + attempt) % Math.max(1, this.apis.length)]
      try {
        const timely = AbortSignal.any([signal, AbortSignal.timeout(5_000)])
        const answer = await api!.client.save(content, { id, signal: timely })
        if (answer.status === 202) {
          this.acknowledged.add(id)
          return true
        }
        if (answer.status !== 503)
          throw new Error(`a save was refused for good: ${JSON.stringify(answer)}\n${api!.logs().slice(-1500)}`)
      } catch (error) {
        if ((error as Error).message.startsWith('a save was refused')) throw error
      }
      // Nothing depends on this pause but the load.
      await sleep(20)
    }
    return false
  }

  /** Saves one, once. A missing answer is an error. */
  async once(
    content: string,
    options: { id?: string; api?: SpillwayProcess; timeoutMs?: number } = {},
  ): Promise<SaveAnswer> {
    const { id = randomUUID(), api = this.api, timeoutMs = 10_000 } = options
    this.sent.set(id, content)
    const answer = await api.client.save(content, { id, signal: AbortSignal.timeout(timeoutMs) })
    if (answer.status === 202) this.acknowledged.add(id)
    return answer
  }

  /** Waits until so many more saves were acknowledged: the load goes on around whatever is being done. */
  async more(saves: number): Promise<void> {
    const goal = this.acknowledged.size + saves
    const progress = () => this.acknowledged.size
    await holds(() => expect(progress()).toBeGreaterThanOrEqual(goal), { timeoutMs: 30_000, progress })
  }

  async stopWriting(): Promise<void> {
    this.#writing.abort()
    await Promise.all(this.#clients)
    this.#clients = []
    this.#writing = new AbortController()
  }

  async drained(timeoutMs = 60_000): Promise<void> {
    let queue: unknown
    await holds(
      async () => {
        queue = JSON.stringify(await this.client.queue())
        expect(queue).toBe('{"depth":0,"inFlight":0}')
      },
      // Often a wait of seconds: asking is not to cost what the processes need to drain it.
      { timeoutMs, intervalMs: 100, progress: () => queue },
    )
  }

  async rows(): Promise<Map<string, string>> {
    if (this.embedded) {
      const db = new DatabaseSync(this.database, { readOnly: true })
      try {
        return new Map(
          db
            .prepare('SELECT id, content FROM Content')
            .all()
            .map(({ id, content }) => [id as string, content as string]),
        )
      } finally {
        db.close()
      }
    }
    const rows = await this.mariadb.sql('SELECT id, content FROM Content', new URL(this.database).pathname.slice(1))
    return new Map(rows.map(({ id, content }) => [id, content]))
  }

  /** Every id that the events logs tell was saved. */
  async published(): Promise<Set<string>> {
    const each = await Promise.all((this.eventsUrls ?? [this.redis.url]).map((url) => publishedIn(url)))
    return new Set(each.flatMap((ids) => [...ids]))
  }

  /** Stops the writing, lets the queue drain, and looks at every id. `events: false` where the events log was lost on purpose. */
  async verdict(fault: string, options: { events?: boolean; timeoutMs?: number } = {}): Promise<Verdict> {
    await this.stopWriting()
    await this.drained(options.timeoutMs)
    const [rows, deadLetters] = await Promise.all([this.rows(), this.client.deadLetters()])
    const deadLettered = new Map<string, number>()
    for (const { id } of deadLetters) deadLettered.set(id, (deadLettered.get(id) ?? 0) + 1)
    const ids = [...this.acknowledged]
    const published = this.embedded || options.events === false ? undefined : await this.published()
    return {
      fault,
      acknowledged: ids.length,
      rows: ids.filter((id) => rows.get(id) === this.sent.get(id)).length,
      deadLetters: deadLetters.length,
      lost: ids.filter((id) => !rows.has(id) && !deadLettered.has(id)).length,
      doubled: ids.filter((id) => (rows.has(id) ? 1 : 0) + (deadLettered.get(id) ?? 0) > 1).length,
      altered: [...rows].filter(([id, content]) => this.sent.get(id) !== content).length,
      unannounced: published && [...rows.keys()].filter((id) => !published.has(id)).length,
    }
  }

  override async stop(): Promise<void> {
    this.#writing.abort()
    await super.stop()
    await Promise.all(this.#clients)
  }
}

async function publishedIn(url: string): Promise<Set<string>> {
  const log = new RedisEventLog(parseRedisUrl(url), { retentionMs: 1, retentionBytes: 1, models, log: quiet() })
  try {
    const { epoch } = await holds(() => log.tail())
    const ids = new Set<string>()
    let position: Position = { epoch, major: 0, minor: 0 }
    for (;;) {
      const entries = await log.read(position, 16)
      if (entries.length === 0) return ids
      for (const { events } of entries) for (const event of events) if (event.type === 'saved') ids.add(event.row.id)
      position = entries.at(-1)!.position
    }
  } finally {
    await log.close()
  }
}

/** What every fault must come to: all that was acknowledged is there once, as it was sent, and told. */
export function expectSound(verdict: Verdict): void {
  expect(verdict).toMatchObject({ lost: 0, doubled: 0, altered: 0 })
  expect(verdict.unannounced ?? 0, 'rows without an event').toBe(0)
  expect(verdict.acknowledged, 'a fault that hits nothing proves nothing').toBeGreaterThan(20)
  expect(verdict.rows + verdict.deadLetters).toBeGreaterThanOrEqual(verdict.acknowledged)
}
