/** Tables as prisma/schema.prisma declares them. Our Prisma generator writes them beside the client; defineModel reads them. */

export type ColumnType =
  | 'String'
  | 'Int'
  | 'BigInt'
  | 'Float'
  | 'Decimal'
  | 'Boolean'
  | 'DateTime'
  | 'Json'
  | 'Bytes'
  | 'Enum'

export interface EnumValue {
  name: string
  /** In the database (`@map`). */
  dbName: string
}

/** A column of a Prisma model; relation fields are none. In the order of the schema, with id, createdAt and savedAt. */
export interface TableColumn {
  name: string
  /** In the database (`@map`). */
  dbName: string
  /** A type of Prisma that Spillway does not know stays as it is, such as `Unsupported`. */
  type: ColumnType | (string & {})
  nullable: boolean
  /** A scalar list. */
  list: boolean
  /** `@db.VarChar(100)` is ['VarChar', ['100']]. */
  native: readonly [name: string, args: readonly string[]] | undefined
  /** Of an enum, in order. */
  values: readonly EnumValue[] | undefined
  /** The name of the enum. */
  enumName: string | undefined
  /** A literal of `@default`: an enum value by its name, BigInt, Decimal, Json and Bytes as texts. */
  default: string | number | boolean | undefined
  /** The name of a function in `@default`, such as `autoincrement`, or `@updatedAt`. */
  generated: string | undefined
  description: string | undefined
}

export interface Reference {
  columns: readonly string[]
  /** The parent. */
  model: string
  parentColumns: readonly string[]
}

export interface Table {
  /** The Prisma model. */
  name: string
  /** In the database (`@@map`). */
  dbName: string
  description: string | undefined
  columns: readonly TableColumn[]
  /** The columns of the primary key. */
  primaryKey: readonly string[]
  /** Columns of each index, in order; of `@unique` and `@@unique` in `unique`. */
  indexes: readonly (readonly string[])[]
  unique: readonly (readonly string[])[]
  /** Foreign keys. */
  references: readonly Reference[]
}
