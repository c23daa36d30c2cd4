/**
 * The store: the rows. The API reads, the worker writes. Only db/ uses Prisma, except for the client that the GraphQL schema is built on.
 */
import type { Model, Row } from '../model/model.ts'
import type { Narrowing } from '../model/narrow.ts'

/** A page of rows, newest first (createdAt, then id), in Prisma's terms. */
export interface PageQuery {
  /** The number of rows; negative: backwards from the cursor. Rows always come newest first. */
  take: number
  /** 1 to leave out the cursor's own row, else 0. */
  skip: number
  /** The id of the row to start from. */
  cursor?: string
  where: Narrowing
  /** Read the primary: a replica may lack rows whose events were published. */
  primary?: boolean
}

export interface Reader {
  /** Pages may be those of a replica, which lags, unless they are asked of the primary. */
  readonly hasReplica: boolean
  /** undefined: the cursor names no row of the narrowing. Throws STORE_UNAVAILABLE. */
  page(model: Model, query: PageQuery): Promise<Row[] | undefined>
  /** The existing rows of these ids, in no order. At most 1,000 ids. Throws STORE_UNAVAILABLE. */
  find(model: Model, ids: readonly string[]): Promise<Row[]>
}

/**
 * Why rows were not written:
 * - duplicate: a unique index has a value already, as a rule an id (the caller must find out which one);
 * - rejected: a rule of the table refuses a row (its columns, a CHECK, a trigger); the row is the cause only if the table accepts others;
 * - reference: a foreign key names a row that does not exist; it may be inserted later;
 * - too-large: the statement, not a row, exceeds a limit of the server; try fewer rows;
 * - unavailable: the database cannot be reached, is busy, read-only or full, or has another schema; nothing is wrong with the rows;
 * - unknown: the error proves none of these.
 */
export type FaultKind = 'duplicate' | 'rejected' | 'reference' | 'too-large' | 'unavailable' | 'unknown'

export class StoreFault extends Error {
  override readonly name = 'StoreFault'
  readonly kind: FaultKind
  /** The server's own error code (MySQL's number, SQLite's name), if it gave one. */
  readonly vendorCode: string | undefined
  /** With `duplicate`: the unique index, if the database names it; undefined for the id's own. */
  readonly index: string | undefined
  /** With `rejected` and `reference`: 'constraint NAME' or 'column NAME', if the database names what the row breaks. */
  readonly rule: string | undefined

  constructor(
    kind: FaultKind,
    message: string,
    details: {
      vendorCode?: string | undefined
      index?: string | undefined
      rule?: string | undefined
      cause?: unknown
    } = {},
  ) {
    super(message, { cause: details.cause })
    this.kind = kind
    this.vendorCode = details.vendorCode
    this.index = details.index
    this.rule = details.rule
  }
}

/** Of one insert. */
export interface Limits {
  rows: number
  /** Bytes of values (model.ts' sizeOf). */
  bytes: number
}

export interface Writer {
  /** Writes all rows or none, in one statement, durable when it resolves. At most `limits` a call. Throws StoreFault. After `unavailable` or
   *  `unknown` the rows may have been written: read them, or try again and get `duplicate`. */
  insert(model: Model, rows: readonly Row[]): Promise<void>
  /** As `find`, but throws StoreFault. */
  existing(model: Model, ids: readonly string[]): Promise<Row[]>
  /** Resolves if the table accepts rows now: inserts a row that is known to be good, and rolls it back. Otherwise throws the StoreFault of
   *  that insert. */
  probe(model: Model): Promise<void>
  limits(model: Model): Limits
}

export interface Store extends Reader, Writer {
  /** Prepares the database: waits for it without a limit, applies missing migrations, checks its settings. Throws an error that waiting
   *  cannot fix (a changed migration, sessions that are not strict) and that says what to do. May be called once. */
  prepare(signal: AbortSignal): Promise<void>
  /** May be called twice. */
  close(): Promise<void>
}
