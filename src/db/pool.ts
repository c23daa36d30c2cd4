/**
 * A pool of connections to one server. Invariants: session.ts sets up every session before a statement is sent; no call waits for a frozen
 * server longer than SILENCE_MS.
 */
import type { Socket } from 'node:net'
import { isIP } from 'node:net'
import {
  type Connection,
  type ConnectionConfig,
  createConnection,
  createPool,
  type Pool,
  type PoolConnection,
  type QueryOptions,
} from 'mariadb'
import type { Log } from '../model/log.ts'
import { beginSession, type Session, SessionFault } from './session.ts'

/** A connection is closed if the server sends nothing for this long while a statement runs. */
const SILENCE_MS = 7_000
/** How long a call waits for a free connection, and so for a server that is unavailable. */
export const ACQUIRE_MS = 2_000

/** The part of the driver's pool that is in use. */
export interface StorePool {
  readonly closed: boolean
  getConnection(): Promise<PoolConnection>
  query<T>(sql: string | QueryOptions, values?: unknown): Promise<T>
  end(): Promise<void>
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

export interface PoolOptions {
  /** With the URL. */
  setting: string
  connectionLimit: number
  tables: readonly string[]
  log: Log
}

export function openPool(config: ConnectionConfig, { setting, connectionLimit, tables, log }: PoolOptions): Pool {
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
    connection.destroy = () => socket.destroy(ended())
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
  /** The pool calls it when it ends, for a connection that is still in use. The driver's own sends a KILL over another connection, and ends
   *  the process if the server refuses that (Galera without a quorum does), by a rejection that nothing can handle. */
  destroy: () => void
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

/** A connection outside a pool, with its session. `options`: of the driver. */
export async function connectSession(
  config: ConnectionConfig,
  { setting, tables }: Pick<PoolOptions, 'setting' | 'tables'>,
  options: ConnectionConfig = {},
): Promise<{ connection: Connection; session: Session }> {
  const connection = await createConnection({ ...connectionOptions(config), ...options })
  // Without a listener, a connection that is lost between two statements ends the process. The next statement fails anyway.
  connection.on('error', () => {})
  const session = sessionOn(connection)
  try {
    await beginSession(session, { database: config.database!, setting, tables })
    return { connection, session }
  } catch (error) {
    drop(connection)
    throw error
  }
}

/** Closes a connection whose statements may be under way; not by the driver's `destroy` (see PooledConnection). */
export const drop = (connection: Connection): void => void connection.end().catch(() => {})

export const sessionOn = (connection: Connection): Session => ({
  run: (sql) => connection.query(sql),
  read: async (sql) => (await connection.query<unknown[][]>({ sql, rowsAsArray: true }))[0],
})

const noAnswer = () =>
  Object.assign(new Error(`the database server did not answer within ${SILENCE_MS} ms`), { code: 'ETIMEDOUT' })

const ended = () => Object.assign(new Error('the connection was closed'), { code: 'ECONNABORTED' })
