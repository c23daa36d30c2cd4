/**
 * Prisma's driver adapter over Node's own SQLite. Not @prisma/adapter-libsql: its driver cuts text at NUL when it reads, opens connections
 * without our settings, and would be a second SQLite in a process whose queue uses Node's (two of them on one file drop each other's
 * locks). Invariants: ../sqlite/open.ts opens and guards every connection; a statement that meets another process' lock is tried again,
 * without blocking the event loop, until `patienceMs` is over, and changes nothing if it fails.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
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
import { LRUCache } from 'lru-cache'
import { fileReason, isBusy } from '../sqlite/fault.ts'
import { type FileGuard, inspector } from '../sqlite/guard.ts'
import { type OpenFile, openExisting } from '../sqlite/open.ts'

const RETRY_MS = 25
/** How often the files of an idle connection are checked. */
const INSPECT_MS = 1_000
/** The number of cached statements: SQLite compiles an insert of 1,000 rows in a millisecond. */
const STATEMENTS = 32

/** Runs `work`, and again while another process has the lock, until the patience is over. */
export async function whileBusy<T>(patienceMs: number, work: () => T): Promise<T> {
  const end = performance.now() + patienceMs
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!isBusy(error) || performance.now() >= end) throw error
    }
    await sleep(RETRY_MS)
  }
}

export interface NodeSqliteOptions {
  /** How long a statement waits for a lock of another process. */
  patienceMs: number
  /** Called when the files are no longer at their paths, and when they are again. */
  note: (text: string) => void
}

export class NodeSqlite implements SqlDriverAdapterFactory {
  readonly provider = 'sqlite'
  readonly adapterName = 'node-sqlite'
  readonly #path: string
  readonly #options: NodeSqliteOptions
  #connection: Connection | undefined

  /** The file must exist: the adapter never creates one in the place of a removed file. */
  constructor(path: string, options: NodeSqliteOptions) {
    this.#path = path
    this.#options = options
  }

  async connect(): Promise<SqlDriverAdapter> {
    const { patienceMs, note } = this.#options
    this.#connection = new Connection(this.#path, await opened(this.#path, patienceMs), patienceMs, note)
    return this.#connection
  }

  /** Resolves with the number of rows. Prisma's client must have connected. */
  async execute(sql: string, args: readonly unknown[]): Promise<number> {
    return await this.#connection!.executeRaw({ sql, args: [...args], argTypes: [] })
  }

  /** Changes with each change of the schema by any process. Bypasses Prisma's client, which takes thirty times as long. */
  async schemaVersion(): Promise<number | undefined> {
    return await this.#connection?.schemaVersion()
  }
}

async function opened(path: string, patienceMs: number): Promise<OpenFile> {
  try {
    return await whileBusy(patienceMs, () => openExisting(path))
  } catch (error) {
    throw adapterError(error)
  }
}

class Session {
  readonly provider = 'sqlite'
  readonly adapterName = 'node-sqlite'
  readonly db: DatabaseSync
  readonly guard: FileGuard
  readonly patienceMs: number
  readonly #statements = new LRUCache<string, StatementSync>({ max: STATEMENTS })

  constructor({ db, guard }: OpenFile, patienceMs: number) {
    this.db = db
    this.guard = guard
    this.patienceMs = patienceMs
  }

  queryRaw(query: SqlQuery): Promise<SqlResultSet> {
    return this.attempt(() => {
      this.guard.assertInPlace()
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
    return this.attempt(() => {
      const statement = this.#prepare(query.sql)
      const args = query.args.map(argument(query.argTypes))
      return this.committed(() => Number(statement.run(...args).changes))
    })
  }

  /** Runs a commit, and checks before and after it that it goes to the files at the paths. */
  protected committed<T>(work: () => T): T {
    this.guard.assertWritable()
    const value = work()
    this.guard.committed()
    return value
  }

  protected async attempt<T>(work: () => T): Promise<T> {
    try {
      return await whileBusy(this.patienceMs, work)
    } catch (error) {
      throw adapterError(error)
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.db.prepare(sql)
      statement.setReadBigInts(true)
      statement.setReturnArrays(true)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}

class Connection extends Session implements SqlDriverAdapter {
  readonly #path: string
  readonly #inspecting: NodeJS.Timeout
  #schemaVersion: StatementSync | undefined

  constructor(path: string, file: OpenFile, patienceMs: number, note: (text: string) => void) {
    super(file, patienceMs)
    this.#path = path
    this.#inspecting = setInterval(inspector(file.guard, 'the store', note), INSPECT_MS).unref()
  }

  schemaVersion(): Promise<number> {
    return this.attempt(() => {
      this.guard.assertInPlace()
      this.#schemaVersion ??= this.db.prepare('PRAGMA schema_version')
      return Number(this.#schemaVersion.get()!.schema_version)
    })
  }

  executeScript(script: string): Promise<void> {
    return this.attempt(() => this.committed(() => this.db.exec(script)))
  }

  /** On a connection of its own, so that no other statement joins it; IMMEDIATE, since SQLite does not wait for a lock that is upgraded later. */
  async startTransaction(): Promise<Transaction> {
    // If the files in use are no longer at their paths, a second connection would mix two databases.
    await this.attempt(() => this.guard.assertWritable())
    const file = await opened(this.#path, this.patienceMs)
    try {
      await whileBusy(this.patienceMs, () => file.db.exec('BEGIN IMMEDIATE'))
    } catch (error) {
      file.db.close()
      throw adapterError(error)
    }
    return new OpenTransaction(file, this.patienceMs)
  }

  async dispose(): Promise<void> {
    clearInterval(this.#inspecting)
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

  /** A transaction commits at its end. */
  protected override committed<T>(work: () => T): T {
    this.guard.assertInPlace()
    return work()
  }

  async #run(sql: string): Promise<void> {
    try {
      this.db.exec(sql)
      if (sql === 'COMMIT') this.guard.committed()
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
    // SQLite's own message does not name the cause of a file error.
    originalMessage: fileReason(error) ?? message,
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
