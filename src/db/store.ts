/**
 * The store: where rows are. Reading is for the API, writing for the worker. Nothing of Prisma's leaves this folder but the client
 * that the GraphQL schema is built on.
 */
import type { Content } from '../model/content.ts'

/** A page of contents, newest first (createdAt, then id), in Prisma's own terms. */
export interface PageQuery {
  /** How many rows; negative: backwards from the cursor. Rows always come newest first. */
  take: number
  /** 1 to leave out the cursor's own row, else 0. */
  skip: number
  /** The id of the row to start from. */
  cursor?: string
}

export interface Reader {
  /** undefined: the cursor names no row. Throws STORE_UNAVAILABLE. */
  page(query: PageQuery): Promise<Content[] | undefined>
  /** The rows there are of these ids, in no order. At most 1,000 ids. Throws STORE_UNAVAILABLE. */
  find(ids: readonly string[]): Promise<Content[]>
}

/**
 * Why rows were not written:
 * - duplicate: a value of a unique index is there already: an id, as a rule (which one is for the caller to find);
 * - rejected: a rule of the table refuses a row (its columns, a CHECK, a trigger): this row's fault only where the table takes others;
 * - reference: a foreign key names a row that is not there; it may come;
 * - too-large: the statement, not a row, was more than the server takes; try fewer rows;
 * - unavailable: the database is away, busy, read-only, full, or its schema is another one; nothing is wrong with the rows;
 * - unknown: none of these could be told.
 */
export type FaultKind = 'duplicate' | 'rejected' | 'reference' | 'too-large' | 'unavailable' | 'unknown'

export class StoreFault extends Error {
  override readonly name = 'StoreFault'
  readonly kind: FaultKind
  /** The server's own error code (MySQL's number, SQLite's name), where there was one. */
  readonly vendorCode: string | undefined
  /** With `duplicate`: the unique index, where the database names it; undefined for the id's own. */
  readonly index: string | undefined

  constructor(
    kind: FaultKind,
    message: string,
    details: { vendorCode?: string | undefined; index?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause })
    this.kind = kind
    this.vendorCode = details.vendorCode
    this.index = details.index
  }
}

export interface Writer {
  /** Writes all of them or none, in one statement, durable when it resolves. At most `maxRows` and `maxBytes` a call. Throws StoreFault.
   *  After `unavailable` or `unknown` the rows may have been written all the same: look, or try again and meet `duplicate`. */
  insert(rows: readonly Content[]): Promise<void>
  /** As the API's, but throws StoreFault. */
  existing(ids: readonly string[]): Promise<Content[]>
  /** Resolves when the table takes rows at this moment: `insert` was run with a row that is known to be good, and undone. Leaves nothing
   *  behind. Throws StoreFault with what `insert` came to otherwise. */
  probe(): Promise<void>
  readonly maxRows: number
  /** UTF-8 bytes of content in one insert. */
  readonly maxBytes: number
}

export interface Store extends Reader, Writer {
  /** Makes the database ready: waits for it as long as it takes, applies what migrations are missing, checks its settings. Throws for
   *  what waiting does not mend (a changed migration, a server that is not strict), saying what to do. May be called once. */
  prepare(signal: AbortSignal): Promise<void>
  /** May be called twice. */
  close(): Promise<void>
}
