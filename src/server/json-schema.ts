/**
 * Columns as JSON Schema (2020-12), for the OpenAPI document. Invariant: a value that a schema of inputs refuses, the server refuses, too.
 * The converse holds but for what JSON Schema cannot say (bytes of UTF-8, ranges of numbers in texts, a model's `check`), which the
 * description says.
 */
import { type Column, codecs, uuid } from '../model/columns.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import type { ColumnType } from '../model/table.ts'
import { isRequired } from './samples.ts'

export type Schema = Record<string, unknown>

export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

export const idSchema: Schema = { type: 'string', format: 'uuid', description: 'A UUID.' }
export const timeSchema: Schema = { type: 'string', format: 'date-time' }

/** What a client may send of a row: without the columns that are set from its token. */
export function inputSchema(model: Model): Schema {
  const columns = model.columns.filter((column) => claimNameOf(model, column) === undefined)
  const id = { ...idSchema, description: 'Left out: the server makes one. With an id, a save can be sent again.' }
  return {
    type: 'object',
    description: `A ${model.name} to be saved.`,
    properties: { id, ...Object.fromEntries(columns.map((column) => [column.name, columnInput(column)])) },
    required: columns.filter((column) => isRequired(model, column)).map(({ name }) => name),
    additionalProperties: false,
  }
}

function columnInput(column: Column): Schema {
  const value = column.default
  return {
    ...orNull(inputs[column.type](column), column),
    ...described([column.description, ...rulesOf(column)]),
    ...(value === undefined ? {} : { default: value === null ? null : (codecs[column.type].output?.(value) ?? value) }),
  }
}

/** A value of a query string, by which a list is narrowed. `column` has the limits of its type only. */
export function parameterSchema(column: Column): Schema {
  return column.type === 'BigInt' ? digits : inputs[column.type](column)
}

/** The columns of a row, as clients get them. A row may be older than a rule, so that none is repeated here. */
export function outputProperties({ columns }: Model): Record<string, Schema> {
  return Object.fromEntries(
    columns.map((column) => [
      column.name,
      { ...orNull(outputs(column), column), ...described([column.description ?? '']) },
    ]),
  )
}

function orNull(schema: Schema, { nullable }: Column): Schema {
  if (!nullable) return schema
  if (schema.type === undefined) return { anyOf: [schema, { type: 'null' }] }
  return { ...schema, type: [schema.type, 'null'].flat() }
}

const digits: Schema = { type: 'string', pattern: '^-?\\d{1,20}$' }
const anyJson = ['object', 'array', 'string', 'number', 'boolean']

const inputs: Record<ColumnType, (column: Column) => Schema> = {
  String: (column) => ({
    type: 'string',
    maxLength: Math.min(column.maxLength ?? column.maxBytes, column.maxBytes),
    ...(column.parent === undefined ? {} : { format: 'uuid' }),
    ...patterns(column),
  }),
  Int: (column) => ({ type: 'integer', ...between(column) }),
  BigInt: (column) => ({
    ...digits,
    type: ['string', 'integer'],
    minimum: Number.MIN_SAFE_INTEGER,
    maximum: Number.MAX_SAFE_INTEGER,
    ...between(column),
  }),
  Float: (column) => ({ type: 'number', ...between(column) }),
  Decimal: (column) => ({ type: ['string', 'number'], pattern: decimalPattern(column.digits!), ...between(column) }),
  Boolean: () => ({ type: 'boolean' }),
  DateTime: () => ({
    ...timeSchema,
    pattern: '^\\d{4}-\\d\\d-\\d\\d[Tt]\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,3}0*)?([Zz]|[+-]\\d\\d:\\d\\d)$',
  }),
  Json: () => ({ type: anyJson }),
  Bytes: ({ maxBytes, exactBytes }) => ({
    type: 'string',
    contentEncoding: 'base64',
    ...(exactBytes === undefined
      ? { maxLength: Math.ceil(maxBytes / 3) * 4, pattern: base64Pattern('*', `(?:${ends[1]}|${ends[2]})?`) }
      : { pattern: base64Pattern(`{${Math.floor(exactBytes / 3)}}`, ends[exactBytes % 3]!) }),
  }),
  Enum: ({ enumName }) => ref(enumName!),
}

function outputs({ type, enumName }: Column): Schema {
  switch (type) {
    case 'String':
      return { type: 'string' }
    case 'Int':
      return { type: 'integer', format: 'int32' }
    case 'BigInt':
      return digits
    case 'Float':
      return { type: 'number', format: 'double' }
    case 'Decimal':
      return { type: 'string', pattern: '^-?\\d+(\\.\\d+)?$' }
    case 'Boolean':
      return { type: 'boolean' }
    case 'DateTime':
      return timeSchema
    case 'Json':
      return { type: anyJson }
    case 'Bytes':
      return { type: 'string', contentEncoding: 'base64' }
    case 'Enum':
      return ref(enumName!)
  }
}

export function enumSchemas(models: readonly Model[]): Record<string, Schema> {
  const columns = models.flatMap((model) => model.columns).filter(({ type }) => type === 'Enum')
  return Object.fromEntries(
    columns.map(({ enumName, values = [] }) => [enumName!, { type: 'string', enum: values.map(({ name }) => name) }]),
  )
}

/** Of numbers. A number of JSON is exact up to 2^53; Float has no other limits than its type. */
function between({ min, max }: Column): Schema {
  const bound = (value: unknown) => (value === undefined ? undefined : Number(value))
  const isBound = (value: number | undefined) => value !== undefined && Math.abs(value) <= Number.MAX_SAFE_INTEGER
  const [minimum, maximum] = [bound(min), bound(max)]
  return { ...(isBound(minimum) ? { minimum } : {}), ...(isBound(maximum) ? { maximum } : {}) }
}

/** With padding, and without bits that would be lost: after whole groups of three bytes, so many. */
const ends = ['', '[A-Za-z0-9+/][AQgw]==', '[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=']
const base64Pattern = (groups: string, end: string) => `^(?:[A-Za-z0-9+/]{4})${groups}${end}$`

function decimalPattern([before, after]: readonly [number, number]): string {
  const whole = before === 0 ? '0+' : `0*\\d{1,${before}}`
  const fraction = after === 0 ? '0+' : `\\d{1,${after}}0*`
  return `^-?${whole}(?:\\.${fraction})?$`
}

function patterns({ pattern, parent, trimsEnd }: Column): Schema {
  const all: string[] = []
  if (parent !== undefined) all.push(uuid.source)
  else if (trimsEnd) all.push('(?:^|[^ ])$')
  if (pattern && isPortable(pattern)) all.push(pattern.source)
  const [first, ...others] = all
  if (first === undefined) return {}
  return { pattern: first, ...(others.length === 0 ? {} : { allOf: others.map((one) => ({ pattern: one })) }) }
}

/** A pattern of JSON Schema has no flags but `u`. */
function isPortable({ source, flags }: RegExp): boolean {
  if (flags !== '' && flags !== 'u') return false
  try {
    new RegExp(source, 'u')
    return true
  } catch {
    return false
  }
}

/** The rules of which JSON Schema can say nothing, or not all. */
function rulesOf(column: Column): string[] {
  const { type, maxBytes, exactBytes, pattern, parent, trimsEnd } = column
  switch (type) {
    case 'String':
      return [
        `At most ${maxBytes} bytes of UTF-8.`,
        ...(parent === undefined ? [] : [`The id of a ${parent}, in lower case.`]),
        ...(trimsEnd ? ['No space at the end.'] : []),
        ...(pattern && !isPortable(pattern) ? [`It matches ${pattern}.`] : []),
      ]
    case 'BigInt':
      return [`Digits, or a number up to 2^53; ${rangeOf(column)}.`]
    case 'Decimal': {
      const [before, after] = column.digits!
      const limits = `at most ${before} digits before and ${after} after the point`
      return [`A text, or a number of up to 15 digits; ${[limits, rangeOf(column)].filter(Boolean).join('; ')}.`]
    }
    case 'DateTime':
      return [`RFC 3339, at most milliseconds; ${rangeOf(column)}.`]
    case 'Json':
      return [`Any JSON but null, with at most 30 levels, ${maxBytes} bytes of UTF-8, and whole numbers up to 2^53.`]
    case 'Bytes':
      return [exactBytes === undefined ? `At most ${maxBytes} bytes.` : `Exactly ${exactBytes} bytes.`]
    default:
      return []
  }
}

function rangeOf({ type, min, max }: Column): string {
  const text = (value: unknown) => String(codecs[type].output?.(value) ?? value)
  return [min === undefined ? '' : `at least ${text(min)}`, max === undefined ? '' : `at most ${text(max)}`]
    .filter(Boolean)
    .join(', ')
}

function described(sentences: readonly (string | undefined)[]): Schema {
  const whole = sentences.map((text) => (text && !/[.!?]$/.test(text) ? `${text}.` : text))
  const description = whole.filter(Boolean).join(' ')
  return description === '' ? {} : { description }
}
