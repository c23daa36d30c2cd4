/**
 * What differs between the databases a PrismaStore can stand on. mysql.ts and sqlite.ts each make one; everything above is the same
 * code for both.
 */
import type { PrismaClient } from '../../prisma/mysql/generated/client.ts'
import type { Migratable } from './migrate.ts'
import type { TableQueries } from './table.ts'

export interface Dialect {
  /** Writes, and reads that must see them. The two generated clients have the same models, so that one type serves for both. */
  readonly primary: PrismaClient
  /** Reads that may lag behind: the primary itself where there is no replica. */
  readonly replica: PrismaClient
  /** A date as Prisma's own client writes it into this database: text, since text is the fastest parameter there is. */
  timestamp(date: Date): string
  /** Asks the server what one statement may hold, and whether it would change what is written. Throws for what waiting does not mend. */
  limits(): Promise<Limits>
  /** What the table on the primary is. */
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

/** Before the database was asked: what any server takes. */
export const CAUTIOUS: Limits = { rows: 1_000, bytes: 256 * 1024 }
