/**
 * A whole Spillway under fire: servers of its own that a fault may hit, two API processes, two workers, clients that save without pause,
 * and a verdict on every single id. Embedded, it is one process on two files.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect } from 'vitest'
import type { Position } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import type { Exit } from './child.ts'
import { holds } from './eventually.ts'
import { type Intervals, withIntervals } from './intervals.ts'
import { startMariadb, type TestMariadb } from './mariadb.ts'
import { type SpillwayProcess, spawnSpillway } from './process.ts'
import { quiet } from './quiet.ts'
import { startRedis, type TestRedis } from './redis.ts'

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

export interface StackOptions {
  embedded?: boolean
  env?: Record<string, string>
  apis?: number
  workers?: number
  redisArgs?: string[]
  mariadbArgs?: string[]
  /** For the servers themselves: LD_PRELOAD, say. */
  redisEnv?: NodeJS.ProcessEnv
  /** Embedded: where the files are to be, in place of a directory of its own. It is kept. */
  dir?: string
  /** Of its processes, where a test would only wait. */
  intervals?: Intervals
  /** In place of the servers' own addresses: through a proxy, say. */
  queueUrl?: (url: string) => Promise<string>
  databaseUrl?: (url: string) => Promise<string>
}

interface Refusal {
  code: string
  retryAfterMs?: number
  id?: string
}

/** To a save: what it came to, and where it was refused, why. */
export interface Answer extends Partial<Refusal> {
  id: string
  status: number
  tookMs: number
  /** The header. */
  retryAfter: string | null
  message: string | undefined
}

export class Stack {
  redis!: TestRedis
  cache!: TestRedis
  mariadb!: TestMariadb
  database!: string
  env!: Record<string, string>
  apis: SpillwayProcess[] = []
  workers: SpillwayProcess[] = []
  readonly #options: StackOptions
  /** Everything that was ever sent: id -> content. */
  readonly sent = new Map<string, string>()
  readonly acknowledged = new Set<string>()
  #clients: Promise<void>[] = []
  #writing = new AbortController()
  #dir = ''

  private constructor(options: StackOptions) {
    this.#options = options
  }

  static async start(options: StackOptions = {}): Promise<Stack> {
    const stack = new Stack(options)
    try {
      await (options.embedded ? stack.#startEmbedded() : stack.#startServers())
      const { apis = 2, workers = 2 } = options.embedded ? { apis: 1, workers: 0 } : options
      await Promise.all([
        ...Array.from({ length: apis }, () => stack.startApi()),
        ...Array.from({ length: workers }, () => stack.startWorker()),
      ])
    } catch (error) {
      await stack.stop()
      throw error
    }
    return stack
  }

  async #startServers(): Promise<void> {
    const { redisArgs = [], redisEnv = {}, mariadbArgs = [], env = {} } = this.#options
    ;[this.redis, this.cache, this.mariadb] = await Promise.all([
      startRedis({ args: redisArgs, env: redisEnv }),
      startRedis({ args: ['--appendonly', 'no', '--maxmemory', '64mb', '--maxmemory-policy', 'allkeys-lru'] }),
      startMariadb({ args: mariadbArgs }),
    ])
    this.database = await this.mariadb.createDatabase()
    this.env = {
      DATABASE_URL: (await this.#options.databaseUrl?.(this.database)) ?? this.database,
      QUEUE_URL: (await this.#options.queueUrl?.(this.redis.url)) ?? this.redis.url,
      CACHE_URL: this.cache.url,
      ...env,
    }
  }

  async #startEmbedded(): Promise<void> {
    this.#dir = this.#options.dir ?? (await mkdtemp(join(tmpdir(), 'spillway-stack-')))
    this.database = `${this.#dir}/spillway.db`
    this.env = {
      DATABASE_URL: `file:${this.database}`,
      QUEUE_URL: `file:${this.#dir}/queue.db`,
      ...this.#options.env,
    }
  }

  /** Where the embedded files are. */
  get dir(): string {
    return this.#dir
  }

  async startApi(env: Record<string, string> = {}): Promise<SpillwayProcess> {
    const api = await this.#spawn('api', env)
    this.apis.push(api)
    return api
  }

  async startWorker(env: Record<string, string> = {}): Promise<SpillwayProcess> {
    const worker = await this.#spawn('worker', env)
    this.workers.push(worker)
    return worker
  }

  #spawn(role: 'api' | 'worker', env: Record<string, string>): Promise<SpillwayProcess> {
    const execArgv = withIntervals(this.#options.intervals ?? {})
    return spawnSpillway(role, { ...this.env, ...env }, { execArgv })
  }

  /** Ends one, waits until it is gone, and tells how it went. Start another one yourself. */
  async kill(process: SpillwayProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> {
    process.kill(signal)
    const exit = await process.exited
    this.apis = this.apis.filter((other) => other !== process)
    this.workers = this.workers.filter((other) => other !== process)
    return exit
  }

  /** Begins to save without pause, each id until it is acknowledged, refused for good, or the writing is stopped. */
  write(clients = 8, content: (i: number) => string = (i) => `content ${i} ${'🙂'.repeat(i % 20)}`): void {
    const { signal } = this.#writing
    let count = 0
    const client = async (n: number) => {
      while (!signal.aborted) {
        count += 1
        await this.save(randomUUID(), content(count), n + count, signal)
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
        const response = await fetch(`${api!.url}/save`, {
          method: 'POST',
          body: JSON.stringify({ id, content }),
          signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)]),
        })
        const body = (await response.json()) as { errors?: { extensions: { code: string } }[] }
        if (response.status === 202) {
          this.acknowledged.add(id)
          return true
        }
        if (response.status !== 503)
          throw new Error(`a save was refused for good: ${JSON.stringify(body)}\n${api!.logs().slice(-1500)}`)
      } catch (error) {
        if ((error as Error).message.startsWith('a save was refused')) throw error
      }
      // Nothing depends on this pause but the load.
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return false
  }

  /** Saves one, once; tells what the client was told, and after how long. An answer that never comes is an error. */
  async once(
    content: string,
    options: { id?: string; api?: SpillwayProcess; timeoutMs?: number } = {},
  ): Promise<Answer> {
    const { id = randomUUID(), api = this.apis[0]!, timeoutMs = 10_000 } = options
    this.sent.set(id, content)
    const since = performance.now()
    const response = await fetch(`${api.url}/save`, {
      method: 'POST',
      body: JSON.stringify({ id, content }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    const body = (await response.json()) as { errors?: [{ message: string; extensions: Refusal }] }
    if (response.status === 202) this.acknowledged.add(id)
    const refusal = body.errors?.[0]
    return {
      id,
      status: response.status,
      tookMs: performance.now() - since,
      retryAfter: response.headers.get('retry-after'),
      message: refusal?.message,
      ...refusal?.extensions,
    }
  }

  /** Waits until so many more saves were acknowledged: the load goes on around whatever is being done. */
  async more(saves: number, timeoutMs = 20_000): Promise<void> {
    const goal = this.acknowledged.size + saves
    await holds(() => expect(this.acknowledged.size).toBeGreaterThanOrEqual(goal), { timeoutMs })
  }

  async stopWriting(): Promise<void> {
    this.#writing.abort()
    await Promise.all(this.#clients)
    this.#clients = []
    this.#writing = new AbortController()
  }

  // biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
  async graphql(query: string, variables: Record<string, unknown> = {}, api = this.apis[0]!): Promise<any> {
    const response = await fetch(`${api.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    })
    return await response.json()
  }

  async drained(timeoutMs = 60_000): Promise<void> {
    await holds(
      async () =>
        expect((await this.graphql('{ queue { depth inFlight } }')).data.queue).toEqual({ depth: 0, inFlight: 0 }),
      // Often a wait of seconds: asking is not to cost what the processes need to drain it.
      { timeoutMs, intervalMs: 100 },
    )
  }

  async rows(): Promise<Map<string, string>> {
    if (this.#options.embedded) {
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

  async deadLetters(): Promise<
    { id: string; content: string | null; failure: { code: string; message: string; attempts: number } }[]
  > {
    const deadLetters = []
    let after: string | null = null
    do {
      // biome-ignore lint/suspicious/noExplicitAny: as above.
      const answer: any = await this.graphql(
        'query ($after: String) { deadLetters(first: 100, after: $after) { edges { node { id content failure { code message attempts } } } pageInfo { endCursor hasNextPage } } }',
        { after },
      )
      const { edges, pageInfo } = answer.data.deadLetters
      deadLetters.push(...edges.map((edge: { node: never }) => edge.node))
      after = pageInfo.hasNextPage ? pageInfo.endCursor : null
    } while (after !== null)
    return deadLetters
  }

  /** Every id that the events log tells was saved. */
  async published(): Promise<Set<string>> {
    const log = new RedisEventLog(parseRedisUrl(this.redis.url), { retentionMs: 1, retentionBytes: 1, log: quiet() })
    try {
      const { epoch } = await holds(() => log.tail())
      const ids = new Set<string>()
      let position: Position = { epoch, major: 0, minor: 0 }
      for (;;) {
        const entries = await log.read(position, 16)
        if (entries.length === 0) return ids
        for (const { events } of entries)
          for (const event of events) if (event.type === 'saved') ids.add(event.content.id)
        position = entries.at(-1)!.position
      }
    } finally {
      await log.close()
    }
  }

  /** Stops the writing, lets the queue drain, and looks at every id. `events: false` where the events log was lost on purpose. */
  async verdict(fault: string, options: { events?: boolean; timeoutMs?: number } = {}): Promise<Verdict> {
    await this.stopWriting()
    await this.drained(options.timeoutMs)
    const [rows, deadLetters] = await Promise.all([this.rows(), this.deadLetters()])
    const deadLettered = new Map<string, number>()
    for (const { id } of deadLetters) deadLettered.set(id, (deadLettered.get(id) ?? 0) + 1)
    const ids = [...this.acknowledged]
    const published = this.#options.embedded || options.events === false ? undefined : await this.published()
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

  async stop(): Promise<void> {
    this.#writing.abort()
    const processes = [...this.apis, ...this.workers]
    for (const process of processes) process.kill('SIGKILL')
    await Promise.all(processes.map(({ exited }) => exited))
    await Promise.all(this.#clients)
    await Promise.all([this.redis?.cleanup(), this.cache?.cleanup(), this.mariadb?.cleanup()])
    if (this.#dir && !this.#options.dir) await rm(this.#dir, { recursive: true, force: true })
  }
}

/** What every fault must come to: all that was acknowledged is there once, as it was sent, and told. */
export function expectSound(verdict: Verdict): void {
  expect(verdict).toMatchObject({ lost: 0, doubled: 0, altered: 0 })
  expect(verdict.unannounced ?? 0, 'rows without an event').toBe(0)
  expect(verdict.acknowledged, 'a fault that hits nothing proves nothing').toBeGreaterThan(20)
  expect(verdict.rows + verdict.deadLetters).toBeGreaterThanOrEqual(verdict.acknowledged)
}
