/** What every contender runs on: the same Redis for queues (fsync before every answer), the same cache, the same MariaDB. */

import { PrismaClient } from '../prisma/mysql/generated/client.ts'
import { migrate } from '../src/db/migrate.ts'
import { mysqlDialect } from '../src/db/mysql.ts'
import { eventually } from '../test/harness/eventually.ts'
import { connect, startMariadb, type TestMariadb } from '../test/harness/mariadb.ts'
import { startRedis, type TestRedis } from '../test/harness/redis.ts'
import type { Table } from './contender.ts'

export const redisArgs = ['--auto-aof-rewrite-percentage', '0']
export const cacheArgs = ['--appendonly', 'no', '--maxmemory', '256mb', '--maxmemory-policy', 'allkeys-lru']
export const mariadbArgs = ['--innodb-buffer-pool-size=1G', '--innodb-log-file-size=512M', '--max-connections=500']

export interface Pace {
  /** Of all contenders, one after the other, again and again. */
  rounds: number
  /** Measured per contender and round, and before that for warming up. */
  seconds: number
  warmUpSeconds: number
  quick: boolean
}

export class Parts implements Table {
  readonly redis: TestRedis
  readonly cache: TestRedis
  readonly mariadb: TestMariadb
  readonly databaseUrl: string
  readonly pace: Pace

  private constructor(servers: [TestRedis, TestRedis, TestMariadb], databaseUrl: string, pace: Pace) {
    ;[this.redis, this.cache, this.mariadb] = servers
    this.databaseUrl = databaseUrl
    this.pace = pace
  }

  static async start(pace: Pace): Promise<Parts> {
    const servers = await Promise.all([
      startRedis({ args: redisArgs }),
      startRedis({ args: cacheArgs }),
      startMariadb({ args: mariadbArgs }),
    ])
    const databaseUrl = await servers[2].createDatabase()
    const log = { info() {}, warn() {}, error() {} }
    const dialect = mysqlDialect({
      url: databaseUrl,
      concurrency: 1,
      client: PrismaClient,
      folder: new URL('../prisma/', import.meta.url),
      tables: ['Content'],
      log,
    })
    const database = await dialect.migratable(AbortSignal.timeout(30_000))
    await migrate(database, log)
    await database.close()
    await dialect.close()
    return new Parts(servers, databaseUrl, pace)
  }

  /** For Spillway and for every peer. */
  get env(): Record<string, string> {
    return {
      NODE_ENV: 'production',
      QUEUE_URL: this.redis.url,
      CACHE_URL: this.cache.url,
      DATABASE_URL: this.databaseUrl,
    }
  }

  /** Everything empty, and nothing going on in the background. */
  async reset(): Promise<void> {
    await Promise.all([this.redis.cli('FLUSHALL'), this.cache.cli('FLUSHALL'), this.truncate()])
    await this.redis.cli('BGREWRITEAOF')
    await eventually(
      async () => /aof_rewrite_in_progress:0/.test(String(await this.redis.cli('INFO', 'persistence'))),
      { timeoutMs: 60_000 },
    )
  }

  // biome-ignore lint/suspicious/noExplicitAny: whoever asks knows what the columns are.
  sql(statement: string): Promise<any[]> {
    return this.mariadb.sql(statement, this.#database)
  }

  /** Resolves when nobody has asked the database for anything for a while. */
  async databaseIdle(): Promise<void> {
    const statement = `SELECT COUNT(*) AS n FROM information_schema.processlist WHERE db = '${this.#database}' AND command <> 'Sleep'`
    let idle = 0
    const look = async () => {
      idle = Number((await this.mariadb.sql(statement))[0]!.n) === 0 ? idle + 1 : 0
      return idle >= 20
    }
    await eventually(look, { timeoutMs: 60_000 })
  }

  get #database(): string {
    return new URL(this.databaseUrl).pathname.slice(1)
  }

  async truncate(): Promise<void> {
    await this.sql('TRUNCATE Content')
  }

  async rows(): Promise<number> {
    const [row] = await this.sql('SELECT COUNT(*) AS n FROM Content')
    return Number(row.n)
  }

  /** What the queue's Redis has in memory. */
  async queueBytes(): Promise<number> {
    return Number(/used_memory:(\d+)/.exec(String(await this.redis.cli('INFO', 'memory')))?.[1])
  }

  /** How many statements are under way in the database at once, at the most, until the returned function is called. */
  async watchStatements(): Promise<() => Promise<number>> {
    const connection = await connect(this.databaseUrl)
    let most = 0
    let watching = true
    const look = async () => {
      while (watching) {
        // Of a statement that fires a trigger the list shows the trigger's: so all that is not asleep counts.
        const [row] = await connection.query(
          "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE db = ? AND command <> 'Sleep' AND id <> CONNECTION_ID()",
          [this.#database],
        )
        most = Math.max(most, Number(row.n))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    const looked = look()
    return async () => {
      watching = false
      await looked
      await connection.end()
      return most
    }
  }

  async stop(): Promise<void> {
    await Promise.all([this.redis.cleanup(), this.cache.cleanup(), this.mariadb.cleanup()])
  }
}
