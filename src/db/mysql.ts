/**
 * MySQL 8, MariaDB, and what else speaks their protocol. Invariants: every session is strict, whatever the server's default; no call
 * waits for a frozen server longer than SILENCE_MS; nothing that is thrown from here holds the password.
 */

import type { Socket } from 'node:net'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { type ConnectionConfig, createConnection, createPool, type Pool, type QueryOptions } from 'mariadb'
import { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type { Dialect, Limits } from './dialect.ts'
import type { Migratable } from './migrate.ts'

/** A server that says nothing for so long while it is being asked is given up, and the connection with it. */
const SILENCE_MS = 7_000
/** Below SILENCE_MS: a lock that is not to be had should come back as the server's own error, with the connection whole. */
const LOCK_WAIT_S = 5
/** How long a call waits for a free connection, and so what it costs while the server is away. */
const ACQUIRE_MS = 2_000
/** Beside the statements of the workers: reads, and the odd question about the server. */
const SPARE_CONNECTIONS = 4

/** Placeholders of one prepared statement, by four a row: 65,535. */
const MAX_ROWS = 16_383
/** Of a row that is not content: id, two dates, punctuation; 99 bytes, with room. */
const ROW_BYTES = 128
/** Where the server would take more: a statement that large is no faster, and holds its locks longer. */
const MAX_BYTES = 8 * 1024 * 1024

export function mysqlDialect(options: { url: string; readUrl?: string | undefined; concurrency: number }): Dialect {
  const config = mysqlConfig(options.url, 'DATABASE_URL')
  const pools = [makePool(config, options.concurrency + SPARE_CONNECTIONS)]
  const primary = makeClient(pools[0]!)
  let replica = primary
  if (options.readUrl !== undefined) {
    pools.push(makePool(mysqlConfig(options.readUrl, 'DATABASE_READ_URL'), 2 * SPARE_CONNECTIONS))
    replica = makeClient(pools[1]!)
  }
  return {
    primary,
    replica,
    timestamp: (date) => date.toISOString().slice(0, -1).replace('T', ' '),
    limits: () => askLimits(primary),
    migratable: (signal) => connectMigratable(config, signal),
    async close() {
      // The adapter does not own the pool: a client that was never used would not end it.
      await Promise.all([primary.$disconnect(), replica.$disconnect()])
      await Promise.all(pools.map((pool) => (pool.closed ? undefined : pool.end())))
    },
  }
}

/** The driver's own parser puts the whole URL, password included, into its error. */
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
        `${name} has the parameter ${key}, which is not understood as it stands; ` +
          'known are ssl=true, sslaccept=strict or accept_invalid_certs, socket=/path/of/the.sock',
      )
    }
  }
  return config
}

/** The driver does not tell the TLS library whom it connects to, so that a certificate would have to be one of localhost. */
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
    // MySQL 8 without TLS cannot be logged in to otherwise; with TLS it is not asked for.
    allowPublicKeyRetrieval: !config.ssl,
  }
}

/**
 * What each session begins with; the mode is set whole, not added to: NO_BACKSLASH_ESCAPES, ANSI_QUOTES or PAD_CHAR_TO_FULL_LENGTH would
 * change what is written or read. We send it ourselves: a connection that is lost over the driver's own `sessionVariables` ends the
 * process, by a rejection that nobody can handle.
 */
const SESSION = `SET NAMES utf8mb4, @@SESSION.sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
  @@SESSION.innodb_lock_wait_timeout = ${LOCK_WAIT_S}, @@SESSION.lock_wait_timeout = ${LOCK_WAIT_S}`

function makePool(config: ConnectionConfig, connectionLimit: number): Pool {
  const pool = createPool({
    ...connectionOptions(config),
    connectionLimit,
    // All connections, open: with a minimum of 0 the pool never opens the first.
    minimumIdle: connectionLimit,
    acquireTimeout: ACQUIRE_MS,
    initializationTimeout: ACQUIRE_MS,
  })
  const known = new WeakSet<object>()
  /** Thread id -> the answer to what its session begins with, until it is there. */
  const beginning = new Map<number | null, Promise<void>>()
  // The driver's socketTimeout also ends connections that merely rest in the pool, every few seconds. So: only while in use.
  pool.on('acquire', (pooled) => {
    const connection = pooled as unknown as PooledConnection
    const socket = connection.getSocket()
    socket.setTimeout(SILENCE_MS)
    if (known.has(connection)) return
    known.add(connection)
    socket.on('timeout', () => socket.destroy(noAnswer()))
    const { threadId } = connection
    const answer = new Promise<void>((resolve, reject) => connection.query({ sql: SESSION }, resolve, reject))
    beginning.set(threadId, answer)
    answer.catch((error) => socket.destroy(error)).finally(() => beginning.delete(threadId))
  })
  pool.on('release', (pooled) => void (pooled as unknown as PooledConnection).getSocket().setTimeout(0))
  // Nothing is written before that answer: the driver escapes by the mode that the server said last, so by the server's default till then.
  const acquire = pool.getConnection.bind(pool)
  pool.getConnection = async () => {
    const connection = await acquire()
    try {
      await beginning.get(connection.threadId)
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

/** What the pool's events really give. */
interface PooledConnection {
  threadId: number | null
  getSocket(): Socket
  query(command: { sql: string }, resolve: () => void, reject: (error: Error) => void): void
}

const noAnswer = () =>
  Object.assign(new Error(`the database server did not answer within ${SILENCE_MS} ms`), { code: 'ETIMEDOUT' })

/** The text protocol: one round trip where a prepared statement takes two, and a third more rows a second. */
function makeClient(pool: Pool): PrismaClient {
  return new PrismaClient({ adapter: new PrismaMariaDb(pool, { useTextProtocol: true }) })
}

async function askLimits(client: PrismaClient): Promise<Limits> {
  const [row] = await client.$queryRaw<{ packet: bigint; mode: string }[]>`
    SELECT @@GLOBAL.max_allowed_packet AS packet, @@SESSION.sql_mode AS mode`
  if (!row || !/STRICT_(ALL|TRANS)_TABLES/.test(row.mode)) {
    throw new Error(
      `The database server is not strict (sql_mode is "${row?.mode}"), and will not let a session be: it would cut what is too long ` +
        'instead of refusing it. Set sql_mode to include STRICT_TRANS_TABLES on the server.',
    )
  }
  return limitsOf(Number(row.packet))
}

/** What fits into a packet for certain: every byte of content may need a backslash. */
export function limitsOf(packet: number): Limits {
  const rows = Math.max(1, Math.min(MAX_ROWS, Math.floor(packet / 8 / ROW_BYTES)))
  return { rows, bytes: Math.min(MAX_BYTES, Math.max(0, Math.floor((packet - rows * ROW_BYTES - 4096) / 2))) }
}

async function connectMigratable(config: ConnectionConfig, signal: AbortSignal): Promise<Migratable> {
  const connection = await createConnection({ ...connectionOptions(config), multipleStatements: true })
  // Without a listener, a connection that is lost between two statements would end the process; the next statement tells.
  connection.on('error', () => {})
  await connection.query(SESSION)
  const query = (sql: string, ...args: (string | Date)[]) =>
    connection.query(
      sql,
      args.map((arg) => (arg instanceof Date ? arg.toISOString().slice(0, -1).replace('T', ' ') : arg)),
    )
  return {
    folder: new URL('../../prisma/mysql/migrations/', import.meta.url),
    accountTable: new URL('./migrations.mysql.sql', import.meta.url),
    transactional: false,
    // The name that Prisma's CLI locks, for the whole server. It goes with the connection, should that be lost.
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
