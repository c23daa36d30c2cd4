/** The type and the default of a column in SQL. */
import type { DMMF } from '@prisma/generator-helper'

type Values = readonly DMMF.EnumValue[] | undefined

/** What Prisma takes for a field without `@db.…`. */
const mysqlTypes: Record<string, string> = {
  String: 'VARCHAR(191)',
  Int: 'INT',
  BigInt: 'BIGINT',
  Float: 'DOUBLE',
  Decimal: 'DECIMAL(65,30)',
  Boolean: 'BOOLEAN',
  DateTime: 'DATETIME(3)',
  Json: 'JSON',
  Bytes: 'LONGBLOB',
}

/** SQLite converts a number in a NUMERIC column, and loses its digits: so Decimal and Json are TEXT. */
const sqliteTypes: Record<string, string> = {
  String: 'TEXT',
  Int: 'INTEGER',
  BigInt: 'BIGINT',
  Float: 'REAL',
  Decimal: 'TEXT',
  Boolean: 'BOOLEAN',
  DateTime: 'DATETIME',
  Json: 'TEXT',
  Bytes: 'BLOB',
}

/** The default may be latin1, and a collation that is not binary makes two texts one. */
const UTF8 = 'CHARACTER SET utf8mb4 COLLATE utf8mb4_bin'
const ASCII = 'CHARACTER SET ascii COLLATE ascii_bin'

export function mysqlType({ kind, type, nativeType }: DMMF.Field, values: Values, ascii: boolean): string {
  if (values) return `ENUM(${values.map(inDatabase).map(mysqlLiterals.text).join(', ')}) ${UTF8}`
  if (kind === 'unsupported') return type
  const base = nativeType ? native(nativeType) : mysqlTypes[type]!
  return type === 'String' ? `${base} ${ascii ? ASCII : UTF8}` : base
}

/** ['UnsignedInt', []] is INT UNSIGNED. */
function native([name, args]: readonly [string, readonly string[]]): string {
  const unsigned = name.startsWith('Unsigned')
  const base = name.replace('Unsigned', '').toUpperCase()
  return `${base}${args.length ? `(${args.join(',')})` : ''}${unsigned ? ' UNSIGNED' : ''}`
}

export function sqliteType({ kind, type }: DMMF.Field): string {
  if (kind === 'unsupported') return type
  return kind === 'enum' ? 'TEXT' : sqliteTypes[type]!
}

const inDatabase = ({ name, dbName }: DMMF.EnumValue) => dbName ?? name

export function mysqlDefault(field: DMMF.Field, values: Values): string | undefined {
  const call = callOf(field)
  if (call?.name === 'now') {
    const digits = field.nativeType?.[1][0] ?? (field.nativeType ? '0' : '3')
    return field.nativeType?.[0] === 'Date' ? '(CURRENT_DATE)' : `CURRENT_TIMESTAMP(${digits})`
  }
  if (call) return expressionOf(call)
  const value = literalOf(field, values, mysqlLiterals)
  // MySQL takes only an expression for the default of a text, a blob or JSON.
  const large = /Text|Blob|Json/.test(field.nativeType?.[0] ?? (field.type === 'Bytes' ? 'Blob' : field.type))
  return large && value !== undefined ? `(${value})` : value
}

export function sqliteDefault(field: DMMF.Field, values: Values): string | undefined {
  const call = callOf(field)
  // As the adapter writes a time: CURRENT_TIMESTAMP has another form, and would be sorted wrongly among the others.
  if (call?.name === 'now') return "(strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))"
  if (call) return expressionOf(call)
  return literalOf(field, values, sqliteLiterals)
}

function callOf({ default: value }: DMMF.Field): DMMF.FieldDefault | undefined {
  return typeof value === 'object' && 'name' in value ? value : undefined
}

/** Prisma's client, not the database, has the others: uuid(), cuid(), nanoid(). */
function expressionOf({ name, args }: DMMF.FieldDefault): string | undefined {
  return name === 'dbgenerated' && args[0] !== undefined ? `(${args[0]})` : undefined
}

function literalOf({ type, name, default: value }: DMMF.Field, values: Values, literals: Literals): string | undefined {
  if (value === undefined || typeof value === 'object') return undefined
  if (typeof value === 'boolean') return value ? 'TRUE' : 'FALSE'
  if (values) return literals.text(inDatabase(values.find((each) => each.name === value)!))
  if (type === 'Bytes') return literals.bytes(Buffer.from(String(value), 'base64').toString('hex'))
  if (type === 'DateTime') return literals.time(new Date(String(value)))
  if (type === 'Decimal') return literals.text(decimal(name, Number(value)))
  return typeof value === 'number' || type === 'BigInt' ? String(value) : literals.text(String(value))
}

/** Prisma hands a Decimal over as a number. */
function decimal(name: string, value: number): string {
  const text = String(value)
  if (text.replace(/e.*|^-?0\.0*|\D/g, '').length <= 15) return text
  throw new Error(
    `The default of the column ${name} has more than 15 digits, which Prisma rounds: write @default(dbgenerated("'…'")) with all digits`,
  )
}

interface Literals {
  text(value: string): string
  bytes(hex: string): string
  time(date: Date): string
}

const sqliteLiterals: Literals = {
  text: (value) => `'${value.replaceAll("'", "''")}'`,
  bytes: (hex) => `X'${hex}'`,
  time: (date) => `'${date.toISOString().slice(0, -1)}+00:00'`,
}

const mysqlLiterals: Literals = {
  text: (value) => sqliteLiterals.text(value.replaceAll('\\', '\\\\')),
  bytes: sqliteLiterals.bytes,
  time: (date) => `'${date.toISOString().slice(0, -1).replace('T', ' ')}'`,
}
