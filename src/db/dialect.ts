/**
 * The differences between the databases of a PrismaStore. mysql.ts and sqlite.ts implement it; all other code is the same for both.
 */
import type { Migratable } from './migrate.ts'
import type { Limits } from './store.ts'
import type { TableQueries } from './table.ts'

/** The part of a generated Prisma client that the store uses. Its clients of both databases have the same models. */
export interface Client {
  $executeRawUnsafe(sql: string, ...args: unknown[]): Promise<number>
  $queryRawUnsafe<T>(sql: string, ...args: unknown[]): Promise<T>
  $transaction<T>(
    work: (transaction: Pick<Client, '$executeRawUnsafe'>) => Promise<T>,
    options: { maxWait: number; timeout: number },
  ): Promise<T>
  $connect(): Promise<void>
  $disconnect(): Promise<void>
}

/** A generated Prisma client's class. */
// biome-ignore lint/suspicious/noExplicitAny: each schema generates a class with options of its own.
export type ClientClass = new (options: { adapter: any }) => object

/** The generated clients of one Prisma schema, for both databases. */
export interface Clients {
  mysql: ClientClass
  sqlite: ClientClass
  /** The folder of the schema, with a slash at the end: the migrations are in mysql/migrations and sqlite/migrations. */
  folder: URL
}

export interface Dialect {
  /** For writes, and for reads that must see them. */
  readonly primary: Client
  /** For reads that may lag behind: the primary itself if there is no replica. */
  readonly replica: Client
  /** Runs a statement on the primary, and resolves with the number of rows that it changed. By Prisma's adapter alone: the client would
   *  write thousands of parameters as JSON, and read them again. */
  execute(sql: string, args: readonly unknown[]): Promise<number>
  /** The most reads of one model at once: fewer than there are connections. */
  readonly readsOfOneModel: number
  /** A date as Prisma's own client writes it into this database: as text, which is the fastest type of parameter. */
  timestamp(date: Date): string
  /** Asks the server for its limits, and checks that it stores text unchanged. Throws an error that waiting cannot fix. */
  limits(): Promise<ServerLimits>
  /** Queries about a table on the primary. */
  table(name: string): TableQueries
  /** A connection of its own to apply migrations over. */
  migratable(signal: AbortSignal): Promise<Migratable>
  /** May be called twice. */
  close(): Promise<void>
}

/** The limits of an insert into a table with so many columns. */
export type ServerLimits = (columns: number) => Limits

/** The limits before the database was asked: every server accepts them. */
export const cautious: ServerLimits = () => ({ rows: 500, bytes: 256 * 1024 })
