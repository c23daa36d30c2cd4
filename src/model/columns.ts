/**
 * The types of columns: one table of codecs. A value has these forms: `input` as a client sends it in JSON or GraphQL; the value itself, as
 * Prisma's client returns it; JSON text in messages, events and pages; a parameter of SQL. Invariant: each form holds the value exactly; a
 * value that one of them or the database cannot hold is refused by `parse`, never cut or rounded.
 */
import { Decimal } from 'decimal.js'
import type { ColumnType, EnumValue } from './table.ts'

/** Text in the place of a value: what is wrong with an input. It continues a sentence that begins with the column's name. */
export class Problem {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A column, with the rules of its type in the database and of the model; of two rules the stricter one. */
export interface Column {
  name: string
  /** In the database. */
  dbName: string
  type: ColumnType
  nullable: boolean
  /** The value if an input has none; undefined: there is no default. */
  default: unknown
  description: string | undefined
  enumName: string | undefined
  values: readonly EnumValue[] | undefined
  /** String, Json and Bytes: the most bytes (of UTF-8). */
  maxBytes: number
  /** Whether the model has a rule for it, so that CONTENT_MAX_BYTES does not lower it. */
  hasMaxBytes: boolean
  /** String: the most characters (code points). */
  maxLength: number | undefined
  /** Bytes: the only length. */
  exactBytes: number | undefined
  /** Int and Float as number, BigInt as bigint, Decimal as Decimal, DateTime as Date. */
  min: unknown
  max: unknown
  /** Decimal: the most digits before and after the point. */
  digits: readonly [before: number, after: number] | undefined
  pattern: RegExp | undefined
  /** The model whose id the value is: a foreign key. */
  parent: string | undefined
  /** The database ignores spaces at the end of the text, when it stores or compares it. */
  trimsEnd: boolean
  /** The claim of the token that gives the value; a client may not send it. */
  fromToken: string | undefined
}

export type Parameter = string | number | boolean | Uint8Array | null

export interface Codec<V> {
  /** The value of an input that is not null. */
  parse(input: unknown, column: Column): V | Problem
  /** JSON text. Equal values have equal texts. */
  text(value: V): string
  /** The value of parsed JSON text; undefined if it is none. */
  read(json: unknown, column: Column): V | undefined
  /** `timestamp` formats a date as the database expects it. */
  parameter(value: V, column: Column, timestamp: (date: Date) => string): Parameter
  /** Bytes in a statement, roughly, before escaping. */
  size(value: V): number
  /** The form in which clients get the value as JSON; undefined: as it is. */
  output?(value: V): unknown
}

/** MariaDB refuses JSON with more than 32 levels, MySQL with more than 100. */
const maxJsonLevels = 30
const mostJsonLevels = 100
const numberSize = 24

const string: Codec<string> = {
  parse(input, column) {
    if (typeof input !== 'string') return expected('a string', input)
    return stringProblem(input, column) ?? input
  },
  text: (value) => JSON.stringify(value),
  read: (json) => (typeof json === 'string' && json.isWellFormed() ? json : undefined),
  parameter: (value) => value,
  size: (value) => Buffer.byteLength(value),
}

function stringProblem(text: string, column: Column): Problem | undefined {
  const { maxBytes, maxLength, pattern, parent, trimsEnd } = column
  const tooLong = bytesProblem(text, maxBytes)
  if (tooLong) return tooLong
  if (maxLength !== undefined && text.length > maxLength) {
    const characters = [...text].length
    if (characters > maxLength) return new Problem(`is ${characters} characters long; at most ${maxLength} are allowed`)
  }
  if (!text.isWellFormed()) return loneSurrogate
  if (trimsEnd && text.endsWith(' '))
    return new Problem('ends with a space, which the database would ignore; remove it')
  if (parent !== undefined && !uuid.test(text))
    return new Problem(`must be the id of a row of ${parent}, a UUID in lower case`)
  if (pattern && !pattern.test(text)) return new Problem(`does not match the pattern ${pattern}`)
  return undefined
}

/** In the one form that is stored. */
export const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const loneSurrogate = new Problem(
  'holds a lone surrogate, which is not Unicode text and cannot be stored unchanged; remove it or send the pair',
)

function bytesProblem(text: string, maxBytes: number): Problem | undefined {
  // A UTF-16 code unit is 1 to 3 bytes of UTF-8, so that most texts need not be measured.
  if (text.length * 3 <= maxBytes) return undefined
  const bytes = Buffer.byteLength(text)
  return bytes > maxBytes ? new Problem(`is ${bytes} bytes of UTF-8; at most ${maxBytes} are allowed`) : undefined
}

const int: Codec<number> = {
  parse(input, column) {
    if (typeof input !== 'number') return expected('a whole number', input)
    if (!Number.isInteger(input)) return new Problem(`must be a whole number, got ${input}`)
    return rangeProblem(input, column, (a, b) => a - b) ?? plusZero(input)
  },
  text: String,
  read: (json) => (Number.isSafeInteger(json) ? (json as number) : undefined),
  parameter: String,
  size: () => numberSize,
}

const bigint: Codec<bigint> = {
  parse(input, column) {
    const value = parseBigInt(input)
    if (value instanceof Problem) return value
    return rangeProblem(value, column, (a, b) => (a < b ? -1 : a > b ? 1 : 0)) ?? value
  },
  text: (value) => `"${value}"`,
  read: (json) => (typeof json === 'string' && /^-?\d{1,20}$/.test(json) ? BigInt(json) : undefined),
  parameter: String,
  size: () => numberSize,
  output: String,
}

function parseBigInt(input: unknown): bigint | Problem {
  if (typeof input === 'bigint') return input
  if (Number.isSafeInteger(input)) return BigInt(input as number)
  if (typeof input === 'string' && /^-?\d{1,20}$/.test(input)) return BigInt(input)
  if (typeof input === 'number' && Number.isInteger(input))
    return new Problem('is a number that JSON cannot hold exactly; send it as a string of digits')
  return expected('a whole number, as a string of digits or as a number', input)
}

const float: Codec<number> = {
  parse(input, column) {
    if (typeof input !== 'number') return expected('a number', input)
    if (!Number.isFinite(input)) return new Problem('must be a finite number')
    return rangeProblem(input, column, (a, b) => a - b) ?? plusZero(input)
  },
  text: String,
  read: (json) => (typeof json === 'number' ? json : undefined),
  // As a number: SQLite's conversion of text may be off by the last bit.
  parameter: (value) => value,
  size: () => numberSize,
}

/** JSON, MySQL and SQLite have one zero. */
const plusZero = (value: number) => (value === 0 ? 0 : value)

const decimal: Codec<Decimal> = {
  parse(input, column) {
    const value = parseDecimal(input)
    if (value instanceof Problem) return value
    const [before, after] = column.digits!
    const [whole = '', fraction = ''] = value.abs().toFixed().split('.')
    if (whole.replace(/^0+/, '').length > before || fraction.length > after) {
      const got = `${whole.replace(/^0+(?=\d)/, '').length} and ${fraction.length}`
      return new Problem(`has ${got} digits before and after the point; at most ${before} and ${after} are allowed`)
    }
    return rangeProblem(value, column, (a, b) => a.comparedTo(b)) ?? value
  },
  text: (value) => `"${plain(value)}"`,
  read: (json) => (typeof json === 'string' && decimalText.test(json) ? new Decimal(json) : undefined),
  parameter: plain,
  size: () => 70,
  output: plain,
}

const decimalText = /^-?\d{1,100}(\.\d{1,100})?$/

function parseDecimal(input: unknown): Decimal | Problem {
  if (typeof input === 'string') {
    if (!decimalText.test(input)) return new Problem('must be a decimal number, such as "12.50"')
    return new Decimal(input)
  }
  if (typeof input !== 'number') return expected('a decimal number, as a string such as "12.50"', input)
  const text = String(input)
  if (!decimalText.test(text) || text.replace(/[-.]|^0\.0*/g, '').length > 15)
    return new Problem('is a number that JSON cannot hold exactly; send it as a string such as "12.50"')
  return new Decimal(text)
}

/** Without an exponent, zeros at the end, or a sign of zero. */
function plain(value: Decimal): string {
  return value.isZero() ? '0' : value.toFixed()
}

const boolean: Codec<boolean> = {
  parse: (input) => (typeof input === 'boolean' ? input : expected('true or false', input)),
  text: String,
  read: (json) => (typeof json === 'boolean' ? json : undefined),
  parameter: (value) => (value ? 1 : 0),
  size: () => 1,
}

const dateTime: Codec<Date> = {
  parse(input, column) {
    const value = input instanceof Date ? input : parseDateTime(input)
    if (value instanceof Problem) return value
    return (
      rangeProblem(
        value,
        column,
        (a, b) => +a - +b,
        (date) => date.toISOString(),
      ) ?? value
    )
  },
  text: (value) => String(+value),
  read: (json) => (typeof json === 'number' && Math.abs(json) <= 8.64e15 ? new Date(json) : undefined),
  parameter: (value, _column, timestamp) => timestamp(value),
  size: () => numberSize,
  output: (value) => value.toISOString(),
}

const rfc3339 = /^\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

/** RFC 3339, at most milliseconds. */
export function parseDateTime(input: unknown): Date | Problem {
  if (typeof input !== 'string') return expected('a text such as "2026-01-31T12:00:00.000Z"', input)
  const [, fraction] = rfc3339.exec(input) ?? []
  const date = new Date(rfc3339.test(input) ? input.toUpperCase() : Number.NaN)
  const day = Number(input.slice(8, 10))
  // Date takes February 30th for March 1st or 2nd.
  if (Number.isNaN(+date) || new Date(`${input.slice(0, 10)}T00:00:00Z`).getUTCDate() !== day)
    return new Problem('must be a time with its offset, such as "2026-01-31T12:00:00.000Z" (RFC 3339)')
  if (fraction !== undefined && /[1-9]/.test(fraction.slice(4)))
    return new Problem(
      'is more exact than a millisecond, and would be rounded; send at most three digits after the second',
    )
  return date
}

const json: Codec<unknown> = {
  parse(input, { maxBytes }) {
    const problem = jsonProblem(input, maxJsonLevels) ?? unsafeProblem(input)
    return problem ?? bytesProblem(canonical(input), maxBytes) ?? input
  },
  text: canonical,
  // Another program may have written it.
  read: (value) => (jsonProblem(value, mostJsonLevels) ? undefined : value),
  parameter: canonical,
  size: (value) => Buffer.byteLength(canonical(value)),
}

/** `levels`: how many levels of lists and objects the value may have. */
function jsonProblem(value: unknown, levels: number): Problem | undefined {
  if (value === null || typeof value === 'boolean') return undefined
  if (typeof value === 'string') return value.isWellFormed() ? undefined : loneSurrogate
  if (typeof value === 'number')
    return Number.isFinite(value) ? undefined : new Problem('holds a number that is not finite')
  if (typeof value !== 'object') return expected('a JSON value', value)
  if (levels === 0) return new Problem(`has more than ${maxJsonLevels} levels of lists and objects`)
  for (const [key, part] of Object.entries(value)) {
    if (!key.isWellFormed()) return loneSurrogate
    const problem = jsonProblem(part, levels - 1)
    if (problem) return problem
  }
  return undefined
}

/** JSON.parse has rounded such a number already, or the database or another reader will. */
function unsafeProblem(value: unknown): Problem | undefined {
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value))
    return new Problem('holds a whole number beyond 2^53, which JSON cannot hold exactly; send it as a string')
  if (typeof value !== 'object' || value === null) return undefined
  for (const part of Object.values(value)) {
    const problem = unsafeProblem(part)
    if (problem) return problem
  }
  return undefined
}

/** JSON text with sorted keys: databases keep no order of keys. */
function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value === 0 ? 0 : value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const keys = Object.keys(value).sort()
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical((value as Record<string, unknown>)[key])}`).join(',')}}`
}

const bytes: Codec<Uint8Array> = {
  parse(input, { maxBytes, exactBytes }) {
    if (typeof input !== 'string') return expected('a string of base64', input)
    if (!base64.test(input)) return new Problem('must be base64 (RFC 4648, with padding)')
    const value = Buffer.from(input, 'base64')
    if (value.toString('base64') !== input) return new Problem('must be base64 (RFC 4648, with padding)')
    if (value.length > maxBytes) return new Problem(`is ${value.length} bytes; at most ${maxBytes} are allowed`)
    if (exactBytes !== undefined && value.length !== exactBytes)
      return new Problem(`is ${value.length} bytes; exactly ${exactBytes} are allowed`)
    return new Uint8Array(value)
  },
  text: (value) => `"${toBase64(value)}"`,
  read: (value) =>
    typeof value === 'string' && base64.test(value) ? new Uint8Array(Buffer.from(value, 'base64')) : undefined,
  parameter: (value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength),
  size: (value) => value.byteLength,
  output: toBase64,
}

const base64 = /^[A-Za-z0-9+/]*={0,2}$/

function toBase64(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')
}

const enumeration: Codec<string> = {
  parse(input, { values = [] }) {
    if (values.some(({ name }) => name === input)) return input as string
    const got = typeof input === 'string' ? JSON.stringify(input.slice(0, 50)) : kindOf(input)
    return new Problem(`must be one of ${values.map(({ name }) => name).join(', ')}, got ${got}`)
  },
  text: (value) => JSON.stringify(value),
  read: (value, { values = [] }) => (values.some(({ name }) => name === value) ? (value as string) : undefined),
  parameter: (value, { values = [] }) => values.find(({ name }) => name === value)?.dbName ?? value,
  size: (value) => value.length,
}

// biome-ignore lint/suspicious/noExplicitAny: the value's type follows from the column's type.
export const codecs: Readonly<Record<ColumnType, Codec<any>>> = {
  String: string,
  Int: int,
  BigInt: bigint,
  Float: float,
  Decimal: decimal,
  Boolean: boolean,
  DateTime: dateTime,
  Json: json,
  Bytes: bytes,
  Enum: enumeration,
}

function rangeProblem<V>(
  value: V,
  { min, max }: Column,
  compare: (a: V, b: V) => number,
  show: (value: V) => string = String,
): Problem | undefined {
  const isLess = min !== undefined && compare(value, min as V) < 0
  const isMore = max !== undefined && compare(value, max as V) > 0
  if (!isLess && !isMore) return undefined
  const range = [
    ...(min === undefined ? [] : [`at least ${show(min as V)}`]),
    ...(max === undefined ? [] : [`at most ${show(max as V)}`]),
  ]
  return new Problem(`must be ${range.join(' and ')}, got ${show(value)}`)
}

function expected(what: string, input: unknown): Problem {
  return new Problem(`must be ${what}, got ${kindOf(input)}`)
}

function kindOf(input: unknown): string {
  if (input === null) return 'null'
  return Array.isArray(input) ? 'a list' : typeof input === 'object' ? 'an object' : typeof input
}
