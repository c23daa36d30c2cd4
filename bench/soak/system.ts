/** The Spillway of the soak: two API processes and two workers on a Redis, a cache and a MariaDB of its own, with a model that has rooms. */
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../test/harness/daemon.ts'
import { eventually } from '../../test/harness/eventually.ts'
import { connect, type Row, startMariadb, type TestMariadb } from '../../test/harness/mariadb.ts'
import { startRedis, type TestRedis } from '../../test/harness/redis.ts'
import { treeWithRooms } from '../../test/harness/rooms.ts'
import { requestOf, run } from '../client.ts'
import { cacheArgs } from '../parts.ts'
import { bodyLength, newPrefix, numberOf, saveOf } from './messages.ts'
import { NumberSet } from './number-set.ts'
import { Supervised } from './supervised.ts'

const queueKey = '{spillway:0}:queue'
const deadKey = '{spillway:0}:dead'
/** A log that is read again within seconds after MariaDB was killed. */
const mariadbArgs = ['--innodb-buffer-pool-size=1G', '--innodb-log-file-size=128M']
const rowsOfPage = 20_000
/** Of a look at Redis. */
const answerWithinMs = 900
const emptyWithinMs = 120_000

export interface Rows {
  /** The numbers of the messages that have a row. */
  numbers: NumberSet
  /** Those that are rows and dead letters. */
  doubled: number
  deadLetters: number
  /** Rows whose body is not the one of their id. */
  altered: number
}

interface Servers {
  redis: TestRedis
  cache: TestRedis
  mariadb: TestMariadb
  databaseUrl: string
  tree: string
}

export class System {
  readonly redis: TestRedis
  readonly cache: TestRedis
  readonly mariadb: TestMariadb
  apis: readonly Supervised[] = []
  workers: readonly Supervised[] = []
  urls: readonly string[] = []
  readonly #databaseUrl: string
  readonly #tree: string

  private constructor({ redis, cache, mariadb, databaseUrl, tree }: Servers) {
    this.redis = redis
    this.cache = cache
    this.mariadb = mariadb
    this.#databaseUrl = databaseUrl
    this.#tree = tree
  }

  /** The servers, without a process of Spillway. What is started is stopped with the stack. */
  static async prepare(stack: AsyncDisposableStack): Promise<System> {
    const tree = stack.use(await treeWithRooms())
    // As npm ci does.
    await tree.node(['src/commands/bundle.ts'])
    const redis = stack.adopt(await startRedis(), (one) => one.cleanup())
    const cache = stack.adopt(await startRedis({ args: cacheArgs }), (one) => one.cleanup())
    const mariadb = stack.adopt(await startMariadb({ args: mariadbArgs }), (one) => one.cleanup())
    const system = new System({ redis, cache, mariadb, databaseUrl: await mariadb.createDatabase(), tree: tree.path })
    await tree.node(['src/commands/migrate.ts'], system.#env)
    return system
  }

  get #env(): Record<string, string> {
    return {
      NODE_ENV: 'production',
      QUEUE_URL: this.redis.url,
      CACHE_URL: this.cache.url,
      DATABASE_URL: this.#databaseUrl,
    }
  }

  async start(stack: AsyncDisposableStack): Promise<void> {
    const startOne = async (name: string, role: 'api' | 'worker', env: Record<string, string>) => {
      const one = await Supervised.start(name, role, { ...this.#env, ...env }, this.#tree)
      return stack.adopt(one, (process) => process.stop())
    }
    const ports = [await freePort(), await freePort()]
    this.urls = ports.map((port) => `http://127.0.0.1:${port}`)
    this.apis = await Promise.all(ports.map((port, i) => startOne(`API ${i + 1}`, 'api', { PORT: `${port}` })))
    this.workers = await Promise.all([1, 2].map((i) => startOne(`worker ${i}`, 'worker', {})))
  }

  /** Saves a second that one API process acknowledges over 64 connections while the workers drain. Resolves when the queue is empty again. */
  async acceptLimit(): Promise<number> {
    const url = this.urls[0]!
    // Without ids: each request is a save of its own, however often it is sent.
    const requests = Array.from({ length: 200 }, (_, n) => {
      const body = JSON.parse(saveOf(n, newPrefix(), 1_000))
      delete body.variables.id
      return requestOf(url, '/graphql', JSON.stringify(body))
    })
    const check = (body: string) => {
      if (JSON.parse(body).data?.saveMessage?.status !== 'QUEUED')
        throw new Error(`a save was answered with ${body.slice(0, 500)}`)
    }
    const { rate } = await run({ url, connections: 64, requests, check, warmUpSeconds: 3, seconds: 5 })
    await this.empty()
    return rate
  }

  /** Resolves when the queue is empty. Rejects when it does not get shorter. */
  async empty(): Promise<void> {
    let depth: number | undefined
    const look = async () => {
      depth = await this.depth()
      return depth === 0
    }
    await eventually(look, { timeoutMs: emptyWithinMs, intervalMs: 200, progress: () => depth })
  }

  get processes(): readonly Supervised[] {
    return [...this.apis, ...this.workers]
  }

  /** Entries of the queue, waiting or being persisted; undefined while Redis does not answer. */
  async depth(): Promise<number | undefined> {
    const length = await this.#look('XLEN', queueKey)
    return length === undefined ? undefined : Number(length)
  }

  /** What Redis says that it has in memory, in MiB; undefined while it does not answer. */
  async redisMiB(): Promise<number | undefined> {
    const [, bytes] = /used_memory:(\d+)/.exec(String(await this.#look('INFO', 'memory'))) ?? []
    return bytes === undefined ? undefined : Number(bytes) / 2 ** 20
  }

  async #look(...command: string[]): Promise<unknown> {
    const late = sleep(answerWithinMs, undefined, { ref: false })
    return await Promise.race([this.redis.cli(...command).catch(() => undefined), late])
  }

  async cutRedisConnections(): Promise<void> {
    await this.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await this.redis.cli('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  }

  async cutDatabaseConnections(): Promise<void> {
    const connections = await this.mariadb.sql(
      'SELECT id FROM information_schema.processlist WHERE db IS NOT NULL AND id <> CONNECTION_ID()',
    )
    // One may have ended meanwhile.
    for (const { id } of connections) await this.mariadb.sql(`KILL ${Number(id)}`).catch(() => {})
  }

  async freeze(server: TestRedis | TestMariadb, ms: number): Promise<void> {
    server.pause()
    try {
      await sleep(ms)
    } finally {
      server.resume()
    }
  }

  async kill(server: TestRedis | TestMariadb): Promise<void> {
    await server.stop('SIGKILL')
    await server.restart()
  }

  /** The rows of the run, whose ids begin with the prefix, and its dead letters. */
  async rows(prefix: string): Promise<Rows> {
    const connection = await connect(this.#databaseUrl)
    try {
      const numbers = new NumberSet()
      let altered = 0
      const select = (after: string): Promise<Row[]> =>
        connection.query(
          `SELECT id, RIGHT(id, 12) = LEFT(body, 12) AND CHAR_LENGTH(body) = ? AS same FROM Message WHERE id > ? AND id < ? ORDER BY id LIMIT ${rowsOfPage}`,
          [bodyLength, after, `${prefix}g`],
        )
      for (let page = await select(prefix); page.length > 0; page = await select(page.at(-1)!.id)) {
        for (const { id, same } of page) {
          numbers.add(numberOf(id, prefix)!)
          if (Number(same) !== 1) altered += 1
        }
      }
      const letters = (await this.redis.cli('XRANGE', deadKey, '-', '+')) as [string, string[]][]
      const dead = letters.map(([, fields]) => fields[fields.indexOf('id') + 1]!).filter((id) => id.startsWith(prefix))
      const doubled = dead.filter((id) => numbers.has(numberOf(id, prefix)!)).length
      return { numbers, doubled, deadLetters: dead.length, altered }
    } finally {
      await connection.end()
    }
  }
}
