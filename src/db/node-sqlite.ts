/**
 * Prisma's driver adapter over Node's own SQLite. Not @prisma/adapter-libsql: its driver cuts text at NUL when it reads, opens
 * connections that nobody configured, and would be a second SQLite in a process whose queue uses Node's (two of them on one file drop
 * each other's locks). Invariants: every connection is WAL with synchronous=FULL; a statement that meets another process' lock is
 * tried again, without blocking the event loop, until `patience` is over, and leaves nothing behind when it fails.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type ArgType,
  type ColumnType,
  ColumnTypeEnum,
  DriverAdapterError,
  type MappedError,
  type SqlDriverAdapter,
  type SqlDriverAdapterFactory,
  type SqlQuery,
  type SqlResultSet,
  type Transaction,
} from '@prisma/driver-adapter-utils'

/** SQLite's own busy handler sleeps on the event loop's thread, so it gets little; the rest of the patience is spent asleep. */
const BUSY_TIMEOUT_MS = 20
const RETRY_MS = 25
/** Statements kept compiled: an insert of 1,000 rows takes a millisecond to parse. */
const STATEMENTS = 32

/** One connection, configured. The only place a store's file is opened. */
export function openSqlite(path: string): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true })
  const db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  try {
    db.exec('PRAGMA synchronous = FULL')
    const mode = db.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode
    if (mode !== 'wal') {
      throw new Error(
        `SQLite keeps ${path} in journal mode ${mode}; it needs WAL, which network file systems do not have: use a local disk`,
      )
    }
  } catch (error) {
    db.close()
    throw error
  }
  return db
}

/** Does it, and again while another process holds the lock, until the patience is over. */
export async function whileBusy<T>(patienceMs: number, work: () => T): Promise<T> {
  const end = performance.now() + patienceMs
  for (;;) {
    try {
      return work()
    } catch (error) {
      const primary = ((error as { errcode?: number }).errcode ?? 0) & 0xff
      if ((primary !== 5 && primary !== 6) || performance.now() >= end) throw error
    }
    await sleep(RETRY_MS)
  }
}

export class NodeSqlite implements SqlDriverAdapterFactory {
  readonly provider = 'sqlite'
  readonly adapterName = 'node-sqlite'
  readonly #path: string
  readonly #patienceMs: number

  constructor(path: string, patienceMs: number) {
    this.#path = path
    this.#patienceMs = patienceMs
  }

  async connect(): Promise<SqlDriverAdapter> {
    return new Connection(this.#path, await opened(this.#path, this.#patienceMs), this.#patienceMs)
  }
}

async function opened(path: string, patienceMs: number): Promise<DatabaseSync> {
  try {
    return await whileBusy(patienceMs, () => openSqlite(path))
  } catch (error) {
    throw adapterError(error)
  }
}

class Session {
  readonly provider = 'sqlite'
  readonly adapterName = 'node-sqlite'
  readonly db: DatabaseSync
  readonly patienceMs: number
  readonly #statements = new Map<string, StatementSync>()

  constructor(db: DatabaseSync, patienceMs: number) {
    this.db = db
    this.patienceMs = patienceMs
  }

  queryRaw(query: SqlQuery): Promise<SqlResultSet> {
    return this.#attempt(() => {
      const statement = this.#prepare(query.sql)
      const columns = statement.columns()
      const rows = statement.all(...query.args.map(argument(query.argTypes))) as unknown as unknown[][]
      const columnTypes = columns.map(({ type }, i) => declared(type) ?? inferred(rows, i))
      for (const row of rows)
        columnTypes.forEach((type, i) => {
          row[i] = result(row[i], type)
        })
      return { columnNames: columns.map(({ name }) => name), columnTypes, rows }
    })
  }

  executeRaw(query: SqlQuery): Promise<number> {
    return this.#attempt(() =>
      Number(this.#prepare(query.sql).run(...query.args.map(argument(query.argTypes))).changes),
    )
  }

  async #attempt<T>(work: () => T): Promise<T> {
    try {
      return await whileBusy(this.patienceMs, work)
    } catch (error) {
      throw adapterError(error)
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement) {
      this.#statements.delete(sql)
    } else {
      statement = this.db.prepare(sql)
      statement.setReadBigInts(true)
      statement.setReturnArrays(true)
      if (this.#statements.size >= STATEMENTS) this.#statements.delete(this.#statements.keys().next().value!)
    }
    this.#statements.set(sql, statement)
    return statement
  }
}

class Connection extends Session implements SqlDriverAdapter {
  readonly #path: string

  constructor(path: string, db: DatabaseSync, patienceMs: number) {
    super(db, patienceMs)
    this.#path = path
  }

  async executeScript(script: string): Promise<void> {
    try {
      await whileBusy(this.patienceMs, () => this.db.exec(script))
    } catch (error) {
      throw adapterError(error)
    }
  }

  /** On a connection of its own, so that nothing else gets into it; IMMEDIATE, since a lock that is upgraded later cannot be waited for. */
  async startTransaction(): Promise<Transaction> {
    const db = await opened(this.#path, this.patienceMs)
    try {
      await whileBusy(this.patienceMs, () => db.exec('BEGIN IMMEDIATE'))
    } catch (error) {
      db.close()
      throw adapterError(error)
    }
    return new OpenTransaction(db, this.patienceMs)
  }

  async dispose(): Promise<void> {
    if (this.db.isOpen) this.db.close()
  }
}

class OpenTransaction extends Session implements Transaction {
  readonly options = { usePhantomQuery: true }

  commit = () => this.#end('COMMIT')
  rollback = () => this.#end('ROLLBACK')
  createSavepoint = (name: string) => this.#run(`SAVEPOINT ${name}`)
  rollbackToSavepoint = (name: string) => this.#run(`ROLLBACK TO ${name}`)
  releaseSavepoint = (name: string) => this.#run(`RELEASE SAVEPOINT ${name}`)

  async #run(sql: string): Promise<void> {
    try {
      this.db.exec(sql)
    } catch (error) {
      throw adapterError(error)
    }
  }

  async #end(sql: string): Promise<void> {
    try {
      // SQLite rolls back by itself after some errors.
      if (this.db.isTransaction || sql === 'COMMIT') await this.#run(sql)
    } finally {
      this.db.close()
    }
  }
}

type Parameter = null | number | bigint | string | Uint8Array

function argument(types: readonly ArgType[]) {
  return (value: unknown, i: number): Parameter => {
    const type = types[i]?.scalarType
    if (value === null || value === undefined) return null
    if (typeof value === 'boolean') return value ? 1 : 0
    if (value instanceof Date) return sqliteTimestamp(value)
    if (typeof value === 'string') {
      if (type === 'datetime') return sqliteTimestamp(new Date(value))
      if (type === 'bigint') return BigInt(value)
      if (type === 'decimal') return Number.parseFloat(value)
      if (type === 'bytes') return Buffer.from(value, 'base64')
    }
    return value as Parameter
  }
}

/** As Prisma's own SQLite adapters write it: of one width, so that the order of the text is the order of time. */
export function sqliteTimestamp(date: Date): string {
  return `${date.toISOString().slice(0, -1)}+00:00`
}

function declared(type: string | null): ColumnType | undefined {
  switch (type?.toUpperCase().replace(/\(.*/, '').trim()) {
    case 'TEXT':
    case 'VARCHAR':
      return ColumnTypeEnum.Text
    case 'INT':
    case 'INTEGER':
      return ColumnTypeEnum.Int32
    case 'BIGINT':
      return ColumnTypeEnum.Int64
    case 'REAL':
    case 'DOUBLE':
    case 'FLOAT':
      return ColumnTypeEnum.Double
    case 'DECIMAL':
      return ColumnTypeEnum.Numeric
    case 'BOOLEAN':
      return ColumnTypeEnum.Boolean
    case 'DATETIME':
      return ColumnTypeEnum.DateTime
    case 'BLOB':
      return ColumnTypeEnum.Bytes
    case 'JSONB':
      return ColumnTypeEnum.Json
    default:
      return undefined
  }
}

/** The type of an expression is that of the first value it has. */
function inferred(rows: readonly unknown[][], column: number): ColumnType {
  const value = rows.find((row) => row[column] !== null)?.[column]
  if (typeof value === 'string') return ColumnTypeEnum.Text
  if (typeof value === 'bigint') return ColumnTypeEnum.Int64
  if (typeof value === 'number') return ColumnTypeEnum.Double
  if (value instanceof Uint8Array) return ColumnTypeEnum.Bytes
  return ColumnTypeEnum.Int32
}

function result(value: unknown, type: ColumnType): unknown {
  if (typeof value !== 'bigint') return value
  if (type === ColumnTypeEnum.DateTime) return new Date(Number(value)).toISOString()
  return type === ColumnTypeEnum.Int64 ? value.toString() : Number(value)
}

function adapterError(error: unknown): unknown {
  const { errcode, message } = error as { errcode?: number; message: string }
  if (errcode === undefined) return error
  return new DriverAdapterError({
    originalCode: String(errcode),
    originalMessage: message,
    ...mapped(errcode, message),
  })
}

function mapped(code: number, message: string): MappedError {
  const fields = message
    .split('constraint failed: ')[1]
    ?.split(', ')
    .map((field) => field.split('.').at(-1)!)
  const constraint = fields ? { constraint: { fields } } : {}
  if (code === 1555 || code === 2067) return { kind: 'UniqueConstraintViolation', ...constraint }
  if (code === 1299) return { kind: 'NullConstraintViolation', ...constraint }
  if (code === 787 || code === 1811) return { kind: 'ForeignKeyConstraintViolation', constraint: { foreignKey: {} } }
  if ((code & 0xff) === 5) return { kind: 'SocketTimeout' }
  const [, missing] = /^no such table: (.*)/.exec(message) ?? []
  if (missing) return { kind: 'TableDoesNotExist', table: missing }
  return { kind: 'sqlite', extendedCode: code, message }
}
