/** MySQL 8, MariaDB, and other servers with their protocol. Invariant: no error from here holds the password. */
import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import type { SqlDriverAdapter } from '@prisma/driver-adapter-utils'
import type { ConnectionConfig, Pool } from 'mariadb'
import type { Log } from '../model/log.ts'
import { parseMysqlUrl } from './address.ts'
import type { Client, ClientClass, Dialect, ServerLimits } from './dialect.ts'
import type { Migratable } from './migrate.ts'
import { mysqlTable } from './mysql-table.ts'
import { connectSession, type StorePool } from './pool.ts'
import { Servers } from './servers.ts'
import { SessionFault } from './session.ts'
import type { Limits } from './store.ts'

/** Beside the connections of the workers' inserts: for reads, and for questions about the server. */
const SPARE_CONNECTIONS = 4

/** Which the reads of one model leave to the others. */
const CONNECTIONS_OF_OTHERS = 2

/** Of a prepared statement. */
const MAX_PLACEHOLDERS = 65_535
/** The bytes of a row besides its values: id, two dates, punctuation; 99, rounded up. */
const ROW_BYTES = 128
/** The bytes of a value besides its own: quotes, comma, `_binary`. */
const VALUE_BYTES = 12
/** Even if the server allows more: a larger statement is no faster, and keeps its locks longer. */
const MAX_BYTES = 8 * 1024 * 1024

export interface MysqlOptions {
  url: string
  readUrl?: string | undefined
  concurrency: number
  client: ClientClass
  /** Of the Prisma schema. */
  folder: URL
  /** Of the store. */
  tables: readonly string[]
  log: Log
}

export function mysqlDialect({ url, readUrl, concurrency, client, folder, tables, log }: MysqlOptions): Dialect {
  const servers = new Servers(parseMysqlUrl(url, 'DATABASE_URL'), {
    setting: 'DATABASE_URL',
    connectionLimit: concurrency + SPARE_CONNECTIONS,
    tables,
    log,
    writes: true,
  })
  const pools = [servers]
  const adapter = adapterOf(servers)
  const primary = makeClient(client, adapter)
  let connected: Promise<SqlDriverAdapter> | undefined
  let replica = primary
  if (readUrl !== undefined) {
    const replicas = new Servers(parseMysqlUrl(readUrl, 'DATABASE_READ_URL'), {
      setting: 'DATABASE_READ_URL',
      connectionLimit: 2 * SPARE_CONNECTIONS,
      tables,
      log,
      writes: false,
    })
    pools.push(replicas)
    replica = makeClient(client, adapterOf(replicas))
  }
  let replicaTried = readUrl === undefined
  return {
    primary,
    replica,
    async execute(sql, args) {
      // It opens no connection, and does not reject.
      connected ??= adapter.connect()
      return await (await connected).executeRaw({ sql, args: [...args], argTypes: args.map(() => asItIs) })
    },
    readsOfOneModel: concurrency + SPARE_CONNECTIONS - CONNECTIONS_OF_OTHERS,
    timestamp: (date) => date.toISOString().slice(0, -1).replace('T', ' '),
    async limits() {
      const limits = await askLimits(primary)
      if (!replicaTried) await trySession(pools[1]!)
      replicaTried = true
      return limits
    },
    table: (name) => mysqlTable(name, (sql) => servers.query({ sql, rowsAsArray: true })),
    migratable: (signal) => connectMigratable(servers.config, { folder, tables }, signal),
    async close() {
      // The adapter does not own the pools: a client that was never used does not end its pool.
      await Promise.all([primary.$disconnect(), replica.$disconnect()])
      await Promise.all(pools.map((pool) => pool.end()))
    },
  }
}

/** Throws if the sessions of the server cannot be set up. Resolves if the server is unavailable. */
async function trySession(pool: StorePool): Promise<void> {
  try {
    await (await pool.getConnection()).release()
  } catch (error) {
    if (error instanceof SessionFault) throw error
  }
}

/** With the text protocol: one round trip, where a prepared statement takes two, and a third more rows a second. */
const adapterOf = (pool: StorePool) => new PrismaMariaDb(pool as Pool, { useTextProtocol: true })

const makeClient = (PrismaClient: ClientClass, adapter: PrismaMariaDb) => new PrismaClient({ adapter }) as Client

/** The type of an argument that the adapter hands on unchanged. */
const asItIs = { scalarType: 'unknown', arity: 'scalar' } as const

async function askLimits(client: Client): Promise<ServerLimits> {
  const [row] = await client.$queryRawUnsafe<{ packet: bigint }[]>('SELECT @@GLOBAL.max_allowed_packet AS packet')
  return (columns) => limitsOf(Number(row!.packet), columns)
}

/** The rows and bytes that certainly fit into a packet: every byte of a value may need a backslash. `columns`: of the table. */
export function limitsOf(packet: number, columns: number): Limits {
  const rowBytes = ROW_BYTES + (columns - 4) * VALUE_BYTES
  const rows = Math.max(1, Math.min(Math.floor(MAX_PLACEHOLDERS / columns), Math.floor(packet / 8 / rowBytes)))
  return { rows, bytes: Math.min(MAX_BYTES, Math.max(0, Math.floor((packet - rows * rowBytes - 4096) / 2))) }
}

async function connectMigratable(
  config: ConnectionConfig,
  { folder, tables }: Pick<MysqlOptions, 'folder' | 'tables'>,
  signal: AbortSignal,
): Promise<Migratable> {
  const { connection } = await connectSession(config, { setting: 'DATABASE_URL', tables }, { multipleStatements: true })
  const query = (sql: string, ...args: (string | Date)[]) =>
    connection.query(
      sql,
      args.map((arg) => (arg instanceof Date ? arg.toISOString().slice(0, -1).replace('T', ' ') : arg)),
    )
  return {
    folder: new URL('mysql/migrations/', folder),
    accountTable: new URL('./migrations.mysql.sql', import.meta.url),
    transactional: false,
    // The lock of Prisma's CLI, for the whole server. The server releases it if the connection is lost.
    async lock() {
      for (;;) {
        const [row] = await query("SELECT GET_LOCK('prisma_migrate', 1) AS locked")
        if (Number(row?.locked) === 1) return
        signal.throwIfAborted()
        await sleep(100, undefined, { signal })
      }
    },
    async unlock() {
      // Not DO, which Vitess does not have.
      await query("SELECT RELEASE_LOCK('prisma_migrate')")
    },
    async hasTable(name) {
      const rows = await query(
        'SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?',
        name,
      )
      return rows.length > 0
    },
    async run(script) {
      await query(script)
    },
    query,
    close: () => connection.end(),
  }
}
