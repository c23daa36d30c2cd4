/**
 * MySQL 8, MariaDB, and other servers with their protocol. Invariants: session.ts sets up every session before a statement is sent; no
 * call waits for a frozen server longer than SILENCE_MS; no error from here holds the password.
 */
import type { Socket } from 'node:net'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { type ConnectionConfig, createConnection, createPool, type Pool, type QueryOptions } from 'mariadb'
import type { Log } from '../model/log.ts'
import type { Client, ClientClass, Dialect, ServerLimits } from './dialect.ts'
import type { Migratable } from './migrate.ts'
import { mysqlTable } from './mysql-table.ts'
import { beginSession, type Session, SessionFault } from './session.ts'
import type { Limits } from './store.ts'

/** A connection is closed if the server sends nothing for this long while a statement runs. */
const SILENCE_MS = 7_000
/** How long a call waits for a free connection, and so for a server that is unavailable. */
const ACQUIRE_MS = 2_000
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
  /** Of the store. */
  tables: readonly string[]
  log: Log
}

export function mysqlDialect({ url, readUrl, concurrency, client, tables, log }: MysqlOptions): Dialect {
  const config = mysqlConfig(url, 'DATABASE_URL')
  const pools = [
    makePool(config, { setting: 'DATABASE_URL', connectionLimit: concurrency + SPARE_CONNECTIONS, tables, log }),
  ]
  const primary = makeClient(client, pools[0]!)
  let replica = primary
  if (readUrl !== undefined) {
    const readConfig = mysqlConfig(readUrl, 'DATABASE_READ_URL')
    pools.push(
      makePool(readConfig, { setting: 'DATABASE_READ_URL', connectionLimit: 2 * SPARE_CONNECTIONS, tables, log }),
    )
    replica = makeClient(client, pools[1]!)
  }
  let replicaTried = readUrl === undefined
  return {
    primary,
    replica,
    readsOfOneModel: concurrency + SPARE_CONNECTIONS - CONNECTIONS_OF_OTHERS,
    timestamp: (date) => date.toISOString().slice(0, -1).replace('T', ' '),
    async limits() {
      const limits = await askLimits(primary)
      if (!replicaTried) await trySession(pools[1]!)
      replicaTried = true
      return limits
    },
    table: (name) => mysqlTable(name, (sql) => pools[0]!.query({ sql, rowsAsArray: true })),
    migratable: (signal) => connectMigratable(config, tables, signal),
    async close() {
      // The adapter does not own the pools: a client that was never used does not end its pool.
      await Promise.all([primary.$disconnect(), replica.$disconnect()])
      await Promise.all(pools.map((pool) => (pool.closed ? undefined : pool.end())))
    },
  }
}

/** Not the driver's own parser: its errors hold the whole URL, with the password. */
export function mysqlConfig(text: string, name: string): ConnectionConfig {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new Error(
      `${name} is not a URL; expected mysql://user:password@host:3306/database, special characters percent-encoded`,
    )
  }
  const database = decodeURIComponent(url.pathname.slice(1))
  if (!database) throw new Error(`${name} names no database; expected mysql://user:password@${url.host}/database`)
  const config: ConnectionConfig = {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 3306),
    user: decodeURIComponent(url.username) || 'root',
    database,
  }
  if (url.password) config.password = decodeURIComponent(url.password)
  for (const [key, value] of url.searchParams) {
    if (key === 'ssl' && (value === 'true' || value === 'false')) {
      if (value === 'true') config.ssl = true
    } else if (key === 'sslaccept' && (value === 'strict' || value === 'accept_invalid_certs')) {
      config.ssl = { rejectUnauthorized: value === 'strict' }
    } else if (key === 'socket' && value) config.socketPath = value
    else {
      throw new Error(
        `${name} has the parameter ${key}, which is not supported with this value; ` +
          'supported are ssl=true, sslaccept=strict or accept_invalid_certs, socket=/path/of/the.sock',
      )
    }
  }
  return config
}

/** The driver does not pass the host name to the TLS library, which then expects a certificate of localhost. */
function named({ host = '', ssl = false }: ConnectionConfig): ConnectionConfig {
  if (!ssl) return {}
  const name = { host, ...(isIP(host) ? {} : { servername: host }) }
  return { ssl: { rejectUnauthorized: true, ...(typeof ssl === 'object' && ssl), ...name } }
}

function connectionOptions(config: ConnectionConfig): ConnectionConfig {
  return {
    ...config,
    ...named(config),
    connectTimeout: ACQUIRE_MS,
    charset: 'utf8mb4',
    // Needed to log in to MySQL 8 without TLS.
    allowPublicKeyRetrieval: !config.ssl,
  }
}

interface PoolOptions {
  /** With the URL. */
  setting: string
  connectionLimit: number
  tables: readonly string[]
  log: Log
}

function makePool(config: ConnectionConfig, { setting, connectionLimit, tables, log }: PoolOptions): Pool {
  const pool = createPool({
    ...connectionOptions(config),
    connectionLimit,
    // All connections stay open: with a minimum of 0 the pool never opens the first one.
    minimumIdle: connectionLimit,
    acquireTimeout: ACQUIRE_MS,
    initializationTimeout: ACQUIRE_MS,
  })
  /** The setup of each session, by the object that a connection and its wrapper share. Kept as long as the connection, so that one without
   *  a valid session is refused at every acquire. (Not by thread id: two servers behind one address may use the same ids.) */
  const begun = new WeakMap<object, Promise<void>>()
  let logged: string | undefined
  // The driver's socketTimeout also closes idle connections of the pool. So the timeout is set only while a connection is in use.
  pool.on('acquire', (pooled) => {
    const connection = pooled as unknown as PooledConnection
    const socket = connection.getSocket()
    socket.setTimeout(SILENCE_MS)
    if (begun.has(connection.info)) return
    socket.on('timeout', () => socket.destroy(noAnswer()))
    // Not the driver's own `sessionVariables`: a connection that is lost meanwhile ends the process, by a rejection that nothing can handle.
    const beginning = beginSession(sessionOf(connection), { database: config.database!, setting, tables })
    begun.set(connection.info, beginning)
    beginning.then(
      () => {
        logged = undefined
      },
      (error) => {
        if (error instanceof SessionFault && error.message !== logged) {
          logged = error.message
          log.error({}, `a database connection cannot be used: ${error.message}`)
        }
        socket.destroy(error)
      },
    )
  })
  pool.on('release', (pooled) => void (pooled as unknown as PooledConnection).getSocket().setTimeout(0))
  // No statement is sent before the session is set up: until then the driver escapes by the server's default mode.
  const acquire = pool.getConnection.bind(pool)
  pool.getConnection = async () => {
    const connection = await acquire()
    try {
      await begun.get((connection as unknown as PooledConnection).info)
      return connection
    } catch (error) {
      await connection.release()
      throw error
    }
  }
  pool.query = async <T>(sql: string | QueryOptions, values?: unknown): Promise<T> => {
    const connection = await pool.getConnection()
    try {
      return await connection.query<T>(sql, values)
    } finally {
      await connection.release()
    }
  }
  return pool
}

/** The argument of the pool's events, which the driver's types lack. */
interface PooledConnection {
  info: object
  getSocket(): Socket
  query(
    command: { sql: string; opts?: Partial<QueryOptions> },
    resolve: (result: unknown) => void,
    reject: (error: Error) => void,
  ): void
}

function sessionOf(connection: PooledConnection): Session {
  const query = (sql: string) =>
    new Promise<unknown>((resolve, reject) => connection.query({ sql, opts: { rowsAsArray: true } }, resolve, reject))
  return { run: query, read: async (sql) => ((await query(sql)) as unknown[][])[0] }
}

/** Throws if the sessions of the server cannot be set up. Resolves if the server is unavailable. */
async function trySession(pool: Pool): Promise<void> {
  try {
    await (await pool.getConnection()).release()
  } catch (error) {
    if (error instanceof SessionFault) throw error
  }
}

const noAnswer = () =>
  Object.assign(new Error(`the database server did not answer within ${SILENCE_MS} ms`), { code: 'ETIMEDOUT' })

/** With the text protocol: one round trip, where a prepared statement takes two, and a third more rows a second. */
function makeClient(PrismaClient: ClientClass, pool: Pool): Client {
  return new PrismaClient({ adapter: new PrismaMariaDb(pool, { useTextProtocol: true }) }) as Client
}

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
  tables: readonly string[],
  signal: AbortSignal,
): Promise<Migratable> {
  const connection = await createConnection({ ...connectionOptions(config), multipleStatements: true })
  // Without a listener, a connection that is lost between two statements ends the process. The next statement fails anyway.
  connection.on('error', () => {})
  const session: Session = {
    run: (sql) => connection.query(sql),
    read: async (sql) => (await connection.query<unknown[][]>({ sql, rowsAsArray: true }))[0],
  }
  try {
    await beginSession(session, { database: config.database!, setting: 'DATABASE_URL', tables })
  } catch (error) {
    connection.destroy()
    throw error
  }
  const query = (sql: string, ...args: (string | Date)[]) =>
    connection.query(
      sql,
      args.map((arg) => (arg instanceof Date ? arg.toISOString().slice(0, -1).replace('T', ' ') : arg)),
    )
  return {
    folder: new URL('../../prisma/mysql/migrations/', import.meta.url),
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
      await query("DO RELEASE_LOCK('prisma_migrate')")
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
