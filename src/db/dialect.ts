/**
 * The differences between the databases of a PrismaStore. mysql.ts and sqlite.ts implement it; all other code is the same for both.
 */
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type { Migratable } from './migrate.ts'
import type { TableQueries } from './table.ts'

export interface Dialect {
  /** For writes, and for reads that must see them. The two generated clients have the same models, so that one type serves for both. */
  readonly primary: PrismaClient
  /** For reads that may lag behind: the primary itself if there is no replica. */
  readonly replica: PrismaClient
  /** A date as Prisma's own client writes it into this database: as text, which is the fastest type of parameter. */
  timestamp(date: Date): string
  /** Asks the server for its limits, and checks that it stores text unchanged. Throws an error that waiting cannot fix. */
  limits(): Promise<Limits>
  /** Queries about the table on the primary. */
  readonly table: TableQueries
  /** A connection of its own to apply migrations over. */
  migratable(signal: AbortSignal): Promise<Migratable>
  /** May be called twice. */
  close(): Promise<void>
}

export interface Limits {
  rows: number
  /** UTF-8 bytes of content. */
  bytes: number
}

/** The limits before the database was asked: every server accepts them. */
export const CAUTIOUS: Limits = { rows: 1_000, bytes: 256 * 1024 }
