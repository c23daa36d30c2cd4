/**
 * The store over Prisma's clients. Invariant: an insert is one statement, outside any transaction of Prisma's, sorted by id (so that two
 * workers lock in one order), and never INSERT IGNORE: a row that the database rejects is an error.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Column, codecs } from '../model/columns.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { digestOf, type Model, type Models, type Row, sizeOf } from '../model/model.ts'
import { type Clients, cautious, type Dialect } from './dialect.ts'
import { classifyMysql, classifySqlite, type Fault, isHangUp } from './faults.ts'
import { migrate } from './migrate.ts'
import { pageOf, rowsIn } from './page.ts'
import { ReadTurns } from './read-turns.ts'
import { SESSION_FAULT } from './session.ts'
import { type Limits, type PageQuery, type Store, StoreFault } from './store.ts'
import { type Table, TableGuard } from './table.ts'

export interface PrismaStoreOptions {
  /** mysql://… or file:… */
  url: string
  /** A replica for `page` and for the GraphQL schema's own reads. MySQL only. */
  readUrl?: string | undefined
  /** The number of inserts that may run at once. */
  concurrency: number
  models: Models
  clients: Clients
  log: Log
}

/** The most ids of one look-up. */
const LOOK_UP_ROWS = 1_000
const RETRY_AFTER_MS = 1_000
const PREPARE_RETRY_MS = { first: 200, most: 5_000 }
/** A probe that takes longer than this fails. */
const PROBE_MS = 10_000
/** Prisma's codes for a value that a column of the schema cannot have, such as one that an enum no longer has. Waiting does not help. */
const unreadable: ReadonlySet<string> = new Set(['P2023', 'P2032'])
/** While a process waits for its database, it logs so at most this often. */
const LOG_AGAIN_MS = 30_000

/** The table of a model. */
interface Known {
  guard: TableGuard
  /** The table when inserted rows were read back last. */
  readBack: Table | undefined
}

export class PrismaStore implements Store {
  /** For reads of the GraphQL schema: the replica, if there is one. */
  readonly prisma: object
  readonly #dialect: Dialect
  readonly #classify: (error: unknown) => Fault
  readonly #log: Log
  readonly #tables: ReadonlyMap<Model, Known>
  readonly #turns: ReadTurns
  #limits = cautious
  #closed: Promise<void> | undefined

  /** Imports the driver of the URL's database and no other. */
  static async open(options: PrismaStoreOptions): Promise<PrismaStore> {
    return new PrismaStore(await openDialect(options), options)
  }

  private constructor({ dialect, classify }: OpenDialect, { models, log }: PrismaStoreOptions) {
    this.#dialect = dialect
    this.#classify = classify
    this.prisma = this.#dialect.replica
    this.#turns = new ReadTurns(this.#dialect.readsOfOneModel)
    this.#tables = new Map(
      [...models.values()].map((model) => {
        const guard = new TableGuard(model.table, this.#dialect.table(model.table))
        return [model, { guard, readBack: undefined }]
      }),
    )
    this.#log = log
  }

  get hasReplica(): boolean {
    return this.#dialect.replica !== this.#dialect.primary
  }

  limits({ columns }: Model): Limits {
    return this.#limits(columns.length + 3)
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
        for (const model of this.#tables.keys()) await this.#warnOfTable(model)
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
  async #warnOfTable(model: Model): Promise<void> {
    try {
      await this.#tables.get(model)!.guard.assertFit()
    } catch (error) {
      const { kind, vendorCode: code, message } = this.#classify(error)
      if (kind !== 'unavailable') throw error
      const advice = /no such table|doesn't exist|no column/.test(message)
        ? '; write its migration (npm run migration -- NAME)'
        : ''
      this.#log.error(
        { code },
        `the database accepts no rows of ${model.name} until this is fixed: ${message}${advice}`,
      )
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
  page(model: Model, query: PageQuery): Promise<Row[] | undefined> {
    return this.#read(model, async () => {
      const { primary, replica } = this.#dialect
      if (this.hasReplica && !query.primary) {
        const rows = await pageOf(rowsIn(replica, model), query)
        if (rows !== undefined && rows.length > 0) return rows
      }
      return await pageOf(rowsIn(primary, model), query)
    })
  }

  find(model: Model, ids: readonly string[]): Promise<Row[]> {
    return this.#read(model, () => this.#rowsOf(model, ids))
  }

  async existing(model: Model, ids: readonly string[]): Promise<Row[]> {
    try {
      return await this.#rowsOf(model, ids)
    } catch (error) {
      throw faultOf(this.#classify(error), error)
    }
  }

  #rowsOf(model: Model, ids: readonly string[]): Promise<Row[]> {
    return rowsIn(this.#dialect.primary, model).findMany({ where: { id: { in: [...ids] } } })
  }

  async insert(model: Model, rows: readonly Row[]): Promise<void> {
    if (rows.length === 0) return
    const { guard } = this.#tables.get(model)!
    const bytes = rows.reduce((sum, row) => sum + sizeOf(model, row), 0)
    const limits = this.limits(model)
    const fits = rows.length <= limits.rows && bytes <= limits.bytes
    if (!fits && (await this.#outgrew(model, rows.length, bytes)))
      throw tooLarge(rows.length, bytes, this.limits(model))
    let inserted: number
    try {
      await guard.assertFitLately()
      inserted = await this.#insert(model, this.#dialect.execute, rows)
    } catch (error) {
      const fault = this.#classify(error)
      if (fault.kind !== 'unavailable') await this.#assertFit(guard)
      if (fault.kind === 'too-large' || isHangUp(fault)) {
        if (await this.#outgrew(model, rows.length, bytes)) throw tooLarge(rows.length, bytes, this.limits(model))
      }
      throw faultOf(fault, error)
    }
    await this.#verify(model, rows, inserted)
  }

  /** Throws StoreFault unless the table has all rows. */
  async #verify(model: Model, rows: readonly Row[], inserted: number): Promise<void> {
    const known = this.#tables.get(model)!
    const table = await this.#assertFit(known.guard)
    // A trigger may drop rows without an error (RAISE(IGNORE) in SQLite), and so may a proxy.
    if (inserted !== rows.length) throw dropped(inserted, rows.length)
    if (table.hasTriggers || table !== known.readBack) {
      // A trigger may delete or change a row after it was counted. Without triggers, one row is compared once.
      await this.#compare(model, table.hasTriggers ? rows : rows.slice(0, 1))
      known.readBack = table
    }
  }

  async #assertFit(guard: TableGuard): Promise<Table> {
    try {
      return await guard.assertFit()
    } catch (error) {
      throw faultOf(this.#classify(error), error)
    }
  }

  /** Throws StoreFault unless these rows are in the table. */
  async #compare(model: Model, rows: readonly Row[]): Promise<void> {
    let same = 0
    for (let i = 0; i < rows.length; i += LOOK_UP_ROWS) {
      const some = rows.slice(i, i + LOOK_UP_ROWS)
      const ids = some.map(({ id }) => id)
      const found = new Map((await this.existing(model, ids)).map((row) => [row.id, digestOf(model, row)]))
      same += some.filter((row) => found.get(row.id) === digestOf(model, row)).length
    }
    if (same !== rows.length) throw dropped(same, rows.length)
  }

  /** Resolves with the number of inserted rows that the database reports. */
  async #insert(model: Model, execute: Dialect['execute'], rows: readonly Row[]): Promise<number> {
    const { columns } = model
    // Building the text takes microseconds; caching one for each number of rows is not worth the memory.
    const values = `(${'?,'.repeat(columns.length + 2)}?)`
    const names = ['id', ...columns.map(({ dbName }) => dbName), 'createdAt', 'savedAt']
    const into = `INSERT INTO \`${model.table}\` (${names.map((name) => `\`${name}\``).join(', ')})`
    const sql = `${into} VALUES ${`${values},`.repeat(rows.length - 1)}${values}`
    const args: unknown[] = []
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
      args.push(row.id)
      for (const column of columns) {
        const value = row[column.name]
        args.push(value === null ? null : codecs[column.type].parameter(value, column, timestamp))
      }
      args.push(timestamp(row.createdAt), timestamp(row.savedAt))
    }
    return await execute(sql, args)
  }

  /**
   * Inserts some row under a new id, twice in one statement: the duplicate makes the statement fail and leaves no row, and so does the
   * transaction around it. A table that rejects even these rows accepts none. An empty table has no row to copy, so the probe makes one: if
   * the table rejects that, it may still take other rows, and they wait. A parent that is missing is a fault of the row that was made.
   */
  async probe(model: Model): Promise<void> {
    const { primary } = this.#dialect
    try {
      await this.#tables.get(model)!.guard.assertFit()
      const [some] = await rowsIn(primary, model).findMany({ orderBy: [{ id: 'desc' }], take: 1 })
      const now = new Date()
      const row = { ...(some ?? sampleOf(model)), id: randomUUID(), createdAt: now, savedAt: now }
      await primary.$transaction(
        async (transaction) => {
          const execute: Dialect['execute'] = (sql, args) => transaction.$executeRawUnsafe(sql, ...args)
          const inserted = await this.#insert(model, execute, [row, row])
          if (inserted < 2) throw dropped(inserted, 2)
          throw new Error('the table accepts one id twice: its primary key is missing')
        },
        { maxWait: PROBE_MS, timeout: PROBE_MS },
      )
    } catch (error) {
      if (error instanceof StoreFault) throw error
      const fault = this.#classify(error)
      if (fault.kind !== 'duplicate' && fault.kind !== 'reference') throw faultOf(fault, error)
    }
  }

  /** A server may close the connection when a packet is too large, as when it crashes. Its limit tells the two apart; the limit may have
   *  been changed since it was read. */
  async #outgrew(model: Model, rows: number, bytes: number): Promise<boolean> {
    try {
      this.#limits = await this.#dialect.limits()
    } catch {
      return false
    }
    const limits = this.limits(model)
    return rows > limits.rows || bytes > limits.bytes
  }

  async #read<T>(model: Model, work: () => Promise<T>): Promise<T> {
    try {
      return await this.#turns.run(model, work)
    } catch (error) {
      if (error instanceof SpillwayError) throw error
      const { vendorCode, message } = this.#classify(error)
      // An error without a code is not the database's: it is a defect.
      if (vendorCode === undefined) throw error
      if (unreadable.has(vendorCode)) {
        const advice = 'add it to prisma/schema.prisma again, or change the rows'
        throw new Error(`a row has a value that the Prisma schema does not allow (${message}); ${advice}`, {
          cause: error,
        })
      }
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

interface OpenDialect {
  dialect: Dialect
  classify: (error: unknown) => Fault
}

async function openDialect(options: PrismaStoreOptions): Promise<OpenDialect> {
  const { url, readUrl, concurrency, models, clients, log } = options
  const { folder } = clients
  if (url.startsWith('mysql:')) {
    const { mysqlDialect } = await import('./mysql.ts')
    const tables = [...models.values()].map(({ table }) => table)
    const dialect = mysqlDialect({ url, readUrl, concurrency, client: clients.mysql, folder, tables, log })
    return { dialect, classify: classifyMysql }
  }
  if (!url.startsWith('file:')) throw new Error('DATABASE_URL must begin with mysql:// or file:')
  if (readUrl !== undefined)
    throw new Error('DATABASE_READ_URL is for mysql:// stores; a file has no replica: leave it out')
  const { sqliteDialect } = await import('./sqlite.ts')
  return { dialect: sqliteDialect(url, { client: clients.sqlite, folder, log }), classify: classifySqlite }
}

/** Values that the columns take, as far as their types tell. */
function sampleOf({ columns }: Model): Record<string, unknown> {
  return Object.fromEntries(columns.map((column) => [column.name, column.nullable ? null : sampleValue(column)]))
}

function sampleValue({ type, min, maxLength, maxBytes, exactBytes, values, default: given }: Column): unknown {
  if (given !== undefined) return given
  if (type === 'String') return 'probe'.slice(0, Math.min(maxLength ?? 5, maxBytes))
  if (type === 'Bytes') return new Uint8Array(exactBytes ?? 1)
  if (type === 'Enum') return values?.[0]?.name
  if (type === 'Boolean') return false
  if (type === 'DateTime') return new Date(0)
  if (type === 'Json') return {}
  if (type === 'Decimal') return codecs.Decimal.read('0', {} as Column)
  const least = (min ?? 0) as number | bigint
  return least > 0 ? least : type === 'BigInt' ? 0n : 0
}

function faultOf({ kind, vendorCode, message, index, rule }: Fault, cause: unknown): StoreFault {
  return new StoreFault(kind, message, { vendorCode, index, rule, cause })
}

function dropped(inserted: number, rows: number): StoreFault {
  const message = `the table has ${inserted} of ${rows} inserted rows unchanged, although the database reported no error; a trigger deletes or changes rows`
  return new StoreFault('unknown', message, { vendorCode: 'ROW_COUNT' })
}

function tooLarge(rows: number, bytes: number, limits: { rows: number; bytes: number }): StoreFault {
  return new StoreFault(
    'too-large',
    `${rows} rows with ${bytes} bytes of values; one statement may have at most ${limits.rows} and ${limits.bytes}`,
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
