/**
 * The servers that a URL names, of one database. Invariant: all connections of this process go to one of them at a time. On Galera, two
 * servers that write the same table refuse each other's commits, and a read on another server than the write may come too early. The
 * process stays with a server until it fails, also when a preferred one is back: so it never moves between two that both work.
 *
 * A server fails when no connection to it can be had, or when it takes no writes: a replica, or a node of a cluster without a quorum. The
 * worker repeats an insert whose result is unknown, by its ids, on whichever server is in use then (worker/persist.ts).
 */
import type { ConnectionConfig, Pool, PoolConnection, QueryOptions } from 'mariadb'
import { addressOf } from '../model/hosts.ts'
import type { MysqlAddress } from './address.ts'
import { ACQUIRE_MS, connectSession, drop, openPool, type PoolOptions, type StorePool, sessionOn } from './pool.ts'
import type { Session } from './session.ts'

export interface ServersOptions extends PoolOptions {
  /** Whether a server must take writes. */
  writes: boolean
}

interface Server {
  /** For the log. */
  name: string
  config: ConnectionConfig
}

/** Of the driver. */
type Failure = Error & { code?: string; sqlMessage?: string }

/** The server in use. */
interface Use {
  server: Server
  pool: Pool
  /** performance.now(). */
  openedAt: number
  /** performance.now() of the last proof that it can be used. */
  provenAt: number
}

/** A server proves this often that it can be used, while connections to it are in use. */
const PROVE_MS = 1_000
/** After a choice, the next one waits this long: while all servers are unavailable, each call would try all of them. */
const CHOOSE_AGAIN_MS = 500

/** The codes of a server that is read-only, and of one that is not ready. */
const READ_ONLY = 1290
const NOT_READY = 1047
/** From here on they are those of the driver: no answer of the server. */
const DRIVER_ERRORS = 45_000

export class Servers implements StorePool {
  readonly #servers: readonly Server[]
  readonly #options: ServersOptions
  #use: Use | undefined
  #choosing: Promise<Use> | undefined
  #chosenAt = Number.NEGATIVE_INFINITY
  /** Why the last choice found no server. */
  #error: Error | undefined
  /** The codes that were logged last. */
  #logged = ''
  #closed = false

  constructor({ hosts, config }: MysqlAddress, options: ServersOptions) {
    this.#servers = hosts.map((host) => ({ name: addressOf(host), config: { ...config, ...host } }))
    this.#options = options
    // One server is used whatever it answers: its errors say the same, and reads go on while it takes no writes.
    if (hosts.length === 1) this.#use = this.#open(this.#servers[0]!)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Of the server in use. */
  get config(): ConnectionConfig {
    return (this.#use?.server ?? this.#servers[0]!).config
  }

  async getConnection(): Promise<PoolConnection> {
    if (this.#servers.length === 1) return await this.#use!.pool.getConnection()
    let use = this.#use
    // A server that ends takes all connections along.
    if (!use || use.pool.totalConnections() === 0) use = await this.#choose(use)
    try {
      return await this.#connectionTo(use)
    } catch (error) {
      const next = await this.#choose(use)
      if (next === use) throw error
      return await this.#connectionTo(next)
    }
  }

  async query<T>(sql: string | QueryOptions, values?: unknown): Promise<T> {
    const connection = await this.getConnection()
    try {
      return await connection.query<T>(sql, values)
    } finally {
      await connection.release()
    }
  }

  /** May be called twice. */
  async end(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#use?.pool.end()
  }

  async #connectionTo(use: Use): Promise<PoolConnection> {
    const connection = await use.pool.getConnection()
    if (performance.now() - use.provenAt < PROVE_MS) return connection
    try {
      await assertUsable(sessionOn(connection), this.#options)
      use.provenAt = performance.now()
      return connection
    } catch (error) {
      await connection.release()
      throw error
    }
  }

  /** Returns the server to use after `failed`, which may be the same. Throws if none can be used. */
  async #choose(failed: Use | undefined): Promise<Use> {
    if (this.#use && this.#use !== failed) return this.#use
    if (!this.#choosing && performance.now() - this.#chosenAt < CHOOSE_AGAIN_MS) {
      if (this.#error) throw this.#error
      return this.#use!
    }
    this.#choosing ??= this.#chooseNow().finally(() => {
      this.#choosing = undefined
      this.#chosenAt = performance.now()
    })
    return await this.#choosing
  }

  /** Tries all servers at once, so that one that does not answer holds up no other. The one in use comes first, then the order of the list. */
  async #chooseNow(): Promise<Use> {
    const present = this.#use?.server
    const servers = [...this.#servers].sort((a, b) => Number(b === present) - Number(a === present))
    const tries = servers.map((server) => this.#try(server))
    const errors: Failure[] = []
    for (const [i, server] of servers.entries()) {
      const error = await tries[i]
      if (!error) {
        this.#error = undefined
        return this.#useServer(server, errors[0])
      }
      errors.push(error)
    }
    this.#error = errors[0]!
    const codes = errors.map(({ code }) => code).join()
    if (this.#logged !== codes) {
      const reasons = servers.map(({ name }, i) => `${name}: ${reasonOf(errors[i]!)}`).join('; ')
      this.#options.log.warn({}, `no server of ${this.#options.setting} can be used: ${reasons}`)
    }
    this.#logged = codes
    throw this.#error
  }

  /** Returns why the server cannot be used. */
  async #try({ config }: Server): Promise<Failure | undefined> {
    try {
      const { connection, session } = await connectSession(config, this.#options, { socketTimeout: ACQUIRE_MS })
      try {
        await assertUsable(session, this.#options)
      } finally {
        drop(connection)
      }
      return undefined
    } catch (error) {
      return error as Failure
    }
  }

  #useServer(server: Server, error: Failure | undefined): Use {
    this.#logged = ''
    const before = this.#use
    // A pool whose server was unavailable waits longer and longer before it tries again; a new one does not.
    const waits = before?.pool.totalConnections() === 0 && performance.now() - before.openedAt > ACQUIRE_MS
    if (before?.server === server && !waits) return before
    if (this.#closed) throw new Error('the pool is closed')
    this.#use = this.#open(server)
    if (before?.server !== server) {
      const { setting, log } = this.#options
      if (error) log.warn({ server: server.name }, `${setting}: using ${server.name} from now on: ${reasonOf(error)}`)
      else log.info({ server: server.name }, `${setting}: using ${server.name}`)
    }
    // Its statements under way end by themselves.
    void before?.pool.end().catch(() => {})
    return this.#use
  }

  #open(server: Server): Use {
    const pool = openPool(server.config, this.#options)
    return { server, pool, openedAt: performance.now(), provenAt: Number.NEGATIVE_INFINITY }
  }
}

/** Asked of the server, because a user who may write to a read-only server would write to a replica. */
async function assertUsable(session: Session, { writes }: ServersOptions): Promise<void> {
  const variable = (name: string) =>
    answerTo(session.read(`SELECT @@GLOBAL.${name}`).then((row) => row && String(row[0])))
  const [readOnly, engineReadOnly, cluster, ready] = await Promise.all([
    variable('read_only'),
    variable('innodb_read_only'),
    variable('wsrep_on'),
    answerTo(session.read("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")),
    // A node with wsrep_reject_queries says that it is ready, and refuses this. It needs no table, which may be locked.
    answerTo(session.run('DO 1')),
  ])
  for (const found of [readOnly, engineReadOnly])
    if (writes && found !== undefined && !isOff(found)) throw refusal(READ_ONLY, 'the server is read-only: a replica')
  if (ready && isOff(String(ready[1])) && (cluster === undefined || !isOff(cluster)))
    throw refusal(NOT_READY, 'the server is a node of a Galera cluster without a quorum, or is not ready')
}

/** Resolves with undefined if the server does not know the question: Vitess has no DO, MySQL no wsrep_on. */
async function answerTo<T>(question: Promise<T>): Promise<T | undefined> {
  try {
    return await question
  } catch (error) {
    const { errno = 0 } = error as { errno?: number }
    if (errno > 0 && errno < DRIVER_ERRORS && errno !== NOT_READY) return undefined
    throw error
  }
}

const isOff = (value: string) => /^(0|off)$/i.test(value)

/** As the server's own error. */
const refusal = (errno: number, message: string) =>
  Object.assign(new Error(message), { errno, code: String(errno), sqlMessage: message, sqlState: 'HY000' })

const reasonOf = (error: Failure) => (error.sqlMessage ?? error.message).split('\n', 1)[0]!
