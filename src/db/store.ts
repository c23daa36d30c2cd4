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
 * - duplicate: an id is there already (which one is for the caller to find);
 * - rejected: the database will not have a row as it is, however often it is tried;
 * - too-large: the statement, not a row, was more than the server takes; try fewer rows;
 * - unavailable: the database is away, busy, read-only or full; nothing is wrong with the rows;
 * - unknown: none of these could be told; it may or may not be for ever.
 */
export type FaultKind = 'duplicate' | 'rejected' | 'too-large' | 'unavailable' | 'unknown'

export class StoreFault extends Error {
  override readonly name = 'StoreFault'
  readonly kind: FaultKind
  /** The server's own error code (MySQL's number, SQLite's name), where there was one. */
  readonly vendorCode: string | undefined

  constructor(kind: FaultKind, message: string, details: { vendorCode?: string; cause?: unknown } = {}) {
    super(message, { cause: details.cause })
    this.kind = kind
    this.vendorCode = details.vendorCode
  }
}

export interface Writer {
  /** Writes all of them or none, in one statement, durable when it resolves. At most `maxRows` and `maxBytes` a call. Throws StoreFault.
   *  After `unavailable` or `unknown` the rows may have been written all the same: look, or try again and meet `duplicate`. */
  insert(rows: readonly Content[]): Promise<void>
  /** As the API's, but throws StoreFault. */
  existing(ids: readonly string[]): Promise<Content[]>
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
