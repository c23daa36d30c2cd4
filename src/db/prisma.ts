/**
 * The store over Prisma's clients. Invariant: an insert is one statement, outside any transaction of Prisma's, sorted by id (so that two
 * workers lock in one order), and never INSERT IGNORE: a row that the database rejects is an error.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type { Content } from '../model/content.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { CAUTIOUS, type Dialect } from './dialect.ts'
import { classifyMysql, classifySqlite, type Fault, isHangUp } from './faults.ts'
import { migrate } from './migrate.ts'
import { mysqlDialect } from './mysql.ts'
import { SESSION_FAULT } from './session.ts'
import { sqliteDialect } from './sqlite.ts'
import { type PageQuery, type Store, StoreFault } from './store.ts'
import { type Table, TableGuard } from './table.ts'

export interface PrismaStoreOptions {
  /** mysql://… or file:… */
  url: string
  /** A replica for `page` and for the GraphQL schema's own reads. MySQL only. */
  readUrl?: string | undefined
  /** The number of inserts that may run at once. */
  concurrency: number
  log: Log
}

/** The most ids of one look-up. */
const LOOK_UP_ROWS = 1_000
const RETRY_AFTER_MS = 1_000
const PREPARE_RETRY_MS = { first: 200, most: 5_000 }
/** A probe that takes longer than this fails. */
const PROBE_MS = 10_000
/** While a process waits for its database, it logs so at most this often. */
const LOG_AGAIN_MS = 30_000

export class PrismaStore implements Store {
  /** For reads of the GraphQL schema: the replica, if there is one. */
  readonly prisma: PrismaClient
  readonly #dialect: Dialect
  readonly #classify: (error: unknown) => Fault
  readonly #log: Log
  readonly #table: TableGuard
  /** The table when inserted rows were read back last. */
  #readBack: Table | undefined
  #limits = CAUTIOUS
  #closed: Promise<void> | undefined

  constructor({ url, readUrl, concurrency, log }: PrismaStoreOptions) {
    if (url.startsWith('mysql:')) {
      this.#dialect = mysqlDialect({ url, readUrl, concurrency, log })
      this.#classify = classifyMysql
    } else if (url.startsWith('file:')) {
      if (readUrl !== undefined)
        throw new Error('DATABASE_READ_URL is for mysql:// stores; a file has no replica: leave it out')
      this.#dialect = sqliteDialect(url, log)
      this.#classify = classifySqlite
    } else {
      throw new Error('DATABASE_URL must begin with mysql:// or file:')
    }
    this.prisma = this.#dialect.replica
    this.#table = new TableGuard(this.#dialect.table)
    this.#log = log
  }

  get maxRows(): number {
    return this.#limits.rows
  }

  get maxBytes(): number {
    return this.#limits.bytes
  }

  async prepare(signal: AbortSignal): Promise<void> {
    let delay = PREPARE_RETRY_MS.first
    let lastLogged = Number.NEGATIVE_INFINITY
    for (;;) {
      signal.throwIfAborted()
      try {
        this.#limits = await orAborted(this.#dialect.limits(), signal)
        const applied = await this.#migrate(signal)
        this.#log.info(
          { applied },
          applied.length > 0 ? `applied migrations: ${applied.join(', ')}` : 'the schema is up to date',
        )
        await this.#warnOfTable()
        return
      } catch (error) {
        const fault = this.#classify(error)
        if (fault.vendorCode === SESSION_FAULT) throw new Error(fault.message, { cause: error })
        if (fault.kind !== 'unavailable') throw error
        if (performance.now() - lastLogged > LOG_AGAIN_MS) {
          lastLogged = performance.now()
          this.#log.warn({ code: fault.vendorCode }, `waiting for the database: ${fault.message}`)
        }
      }
      await sleep(delay, undefined, { signal })
      delay = Math.min(delay * 2, PREPARE_RETRY_MS.most)
    }
  }

  /** The worker waits until the table is fit, also while it is renamed; saves are enqueued meanwhile. */
  async #warnOfTable(): Promise<void> {
    try {
      await this.#table.assertFit()
    } catch (error) {
      const { kind, vendorCode: code, message } = this.#classify(error)
      if (kind !== 'unavailable') throw error
      this.#log.error({ code }, `the database accepts no rows until this is fixed: ${message}`)
    }
  }

  async #migrate(signal: AbortSignal): Promise<string[]> {
    const database = await this.#dialect.migratable(signal)
    try {
      return await migrate(database, this.#log)
    } finally {
      await database.close().catch(() => {})
    }
  }

  /** A page comes from one server. A replica may lag: its page is used only if it has rows and, after a cursor, the cursor's own row; else
   *  the primary is read. */
  page(query: PageQuery): Promise<Content[] | undefined> {
    return this.#read(async () => {
      const { primary, replica } = this.#dialect
      if (replica !== primary) {
        const rows = await pageOf(replica, query)
        if (rows !== undefined && rows.length > 0) return rows
      }
      return await pageOf(primary, query)
    })
  }

  find(ids: readonly string[]): Promise<Content[]> {
    return this.#read(() => this.#rowsOf(ids))
  }

  async existing(ids: readonly string[]): Promise<Content[]> {
    try {
      return await this.#rowsOf(ids)
    } catch (error) {
      throw faultOf(this.#classify(error), error)
    }
  }

  #rowsOf(ids: readonly string[]): Promise<Content[]> {
    return this.#dialect.primary.content.findMany({ where: { id: { in: [...ids] } } })
  }

  async insert(rows: readonly Content[]): Promise<void> {
    if (rows.length === 0) return
    const bytes = rows.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
    const fits = rows.length <= this.maxRows && bytes <= this.maxBytes
    if (!fits && (await this.#outgrew(rows.length, bytes))) throw tooLarge(rows.length, bytes, this.#limits)
    let inserted: number
    try {
      await this.#table.assertFitLately()
      inserted = await this.#insert(this.#dialect.primary, rows)
    } catch (error) {
      const fault = this.#classify(error)
      if (fault.kind !== 'unavailable') await this.#assertFit()
      if (fault.kind === 'too-large' || isHangUp(fault)) {
        if (await this.#outgrew(rows.length, bytes)) throw tooLarge(rows.length, bytes, this.#limits)
      }
      throw faultOf(fault, error)
    }
    const table = await this.#assertFit()
    // A trigger may drop rows without an error (RAISE(IGNORE) in SQLite), and so may a proxy.
    if (inserted !== rows.length) throw dropped(inserted, rows.length)
    if (table.hasTriggers || table !== this.#readBack) {
      // A trigger may delete or change a row after it was counted. Without triggers, one row is compared once.
      await this.#compare(table.hasTriggers ? rows : rows.slice(0, 1))
      this.#readBack = table
    }
  }

  async #assertFit(): Promise<Table> {
    try {
      return await this.#table.assertFit()
    } catch (error) {
      throw faultOf(this.#classify(error), error)
    }
  }

  /** Throws StoreFault unless these rows are in the table. */
  async #compare(rows: readonly Content[]): Promise<void> {
    let same = 0
    for (let i = 0; i < rows.length; i += LOOK_UP_ROWS) {
      const some = rows.slice(i, i + LOOK_UP_ROWS)
      const found = new Map((await this.existing(some.map(({ id }) => id))).map((row) => [row.id, row.content]))
      same += some.filter(({ id, content }) => found.get(id) === content).length
    }
    if (same !== rows.length) throw dropped(same, rows.length)
  }

  /** Resolves with the number of inserted rows that the database reports. */
  async #insert(client: Pick<PrismaClient, '$executeRawUnsafe'>, rows: readonly Content[]): Promise<number> {
    // Building the text takes microseconds; caching one for each number of rows is not worth the memory.
    const sql = `INSERT INTO Content (id, content, createdAt, savedAt) VALUES ${'(?,?,?,?),'.repeat(rows.length - 1)}(?,?,?,?)`
    const args: string[] = []
    // Formatting dates is an eighth of the work here, and a batch has far fewer dates than rows.
    const timestamps = new Map<number, string>()
    const timestamp = (date: Date) => {
      const known = timestamps.get(date.getTime())
      if (known !== undefined) return known
      const text = this.#dialect.timestamp(date)
      timestamps.set(date.getTime(), text)
      return text
    }
    for (const row of rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
      args.push(row.id, row.content, timestamp(row.createdAt), timestamp(row.savedAt))
    }
    return await client.$executeRawUnsafe(sql, ...args)
  }

  /**
   * Inserts the newest row's content under a new id, twice in one statement: the duplicate makes the statement fail and leaves no row, and
   * so does the transaction around it. A table that rejects even these rows accepts none. An empty table has no content to copy, so the
   * probe inserts 'probe': if the table rejects that, it may still take other rows, and they wait.
   */
  async probe(): Promise<void> {
    const { primary } = this.#dialect
    try {
      await this.#table.assertFit()
      const newest = await primary.content.findFirst({ orderBy: [{ createdAt: 'desc' }, { id: 'desc' }] })
      const now = new Date()
      const row = { id: randomUUID(), content: newest?.content ?? 'probe', createdAt: now, savedAt: now }
      await primary.$transaction(
        async (transaction) => {
          const inserted = await this.#insert(transaction, [row, row])
          if (inserted < 2) throw dropped(inserted, 2)
          throw new Error('the table accepts one id twice: its primary key is missing')
        },
        { maxWait: PROBE_MS, timeout: PROBE_MS },
      )
    } catch (error) {
      if (error instanceof StoreFault) throw error
      const fault = this.#classify(error)
      if (fault.kind !== 'duplicate') throw faultOf(fault, error)
    }
  }

  /** A server may close the connection when a packet is too large, as when it crashes. Its limit tells the two apart; the limit may have
   *  been changed since it was read. */
  async #outgrew(rows: number, bytes: number): Promise<boolean> {
    try {
      this.#limits = await this.#dialect.limits()
    } catch {
      return false
    }
    return rows > this.maxRows || bytes > this.maxBytes
  }

  async #read<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      // An error without a code is not the database's: it is a defect.
      if (this.#classify(error).vendorCode === undefined) throw error
      throw new SpillwayError('STORE_UNAVAILABLE', 'the database cannot be read at the moment; saves go on', {
        retryAfterMs: RETRY_AFTER_MS,
        cause: error,
      })
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#dialect.close()
    return this.#closed
  }
}

/**
 * Two queries if there is a cursor: Prisma's own `cursor` makes subqueries under an OR, for which SQLite walks the index from its end
 * (115 ms in the middle of a million rows; this takes 1). The second query reads the cursor's row again: one address may stand for several
 * replicas, and the page comes from the one that answers last.
 */
async function pageOf(client: PrismaClient, { take, skip, cursor }: PageQuery): Promise<Content[] | undefined> {
  const order = take < 0 ? 'asc' : 'desc'
  const orderBy = [{ createdAt: order }, { id: order }] as const
  const most = Math.abs(take)
  let rows: Content[]
  if (cursor === undefined) {
    rows = await client.content.findMany({ orderBy: [...orderBy], take: most })
  } else {
    const row = await client.content.findUnique({ where: { id: cursor }, select: { createdAt: true } })
    if (!row) return undefined
    const where = from({ id: cursor, createdAt: row.createdAt }, order)
    rows = await client.content.findMany({ where, orderBy: [...orderBy], take: most + 1 })
    if (rows[0]?.id !== cursor) return undefined
    rows = rows.slice(skip, skip + most)
  }
  return take < 0 ? rows.reverse() : rows
}

/** This row and those after it, as a range of the index (createdAt, id): the first condition bounds it, the second trims its one end. */
function from({ id, createdAt }: { id: string; createdAt: Date }, order: 'asc' | 'desc') {
  return order === 'desc'
    ? { createdAt: { lte: createdAt }, OR: [{ createdAt: { lt: createdAt } }, { id: { lte: id } }] }
    : { createdAt: { gte: createdAt }, OR: [{ createdAt: { gt: createdAt } }, { id: { gte: id } }] }
}

function faultOf({ kind, vendorCode, message, index }: Fault, cause: unknown): StoreFault {
  return new StoreFault(kind, message, { vendorCode, index, cause })
}

function dropped(inserted: number, rows: number): StoreFault {
  const message = `the table has ${inserted} of ${rows} inserted rows unchanged, although the database reported no error; a trigger deletes or changes rows`
  return new StoreFault('unknown', message, { vendorCode: 'ROW_COUNT' })
}

function tooLarge(rows: number, bytes: number, limits: { rows: number; bytes: number }): StoreFault {
  return new StoreFault(
    'too-large',
    `${rows} rows with ${bytes} bytes of content; one statement may have at most ${limits.rows} and ${limits.bytes}`,
  )
}

/** Ends the wait for a connection, which may take seconds to fail, when the process stops. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = Promise.withResolvers<never>()
  const abort = () => over.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, over.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
