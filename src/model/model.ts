/**
 * A model: a table whose rows are written through the queue. `define.ts` makes it from a file in src/models/ and the Prisma schema. Rows have
 * three columns of Spillway, `id`, `createdAt` (when the save was enqueued) and `savedAt` (when the row was written), and columns of the model.
 */
import { hash } from 'node:crypto'
import { type Column, codecs } from './columns.ts'
import type { Grant } from './grant.ts'
import { isObject, readDate } from './parse.ts'
import type { Reference } from './table.ts'

export interface Row {
  /** A lower-case UUID. */
  id: string
  createdAt: Date
  savedAt: Date
  [column: string]: unknown
}

/** Values of the model's columns by name, whole and valid. */
export type Values = Record<string, unknown>

/** The names of a model in GraphQL and REST, each unique among all models. */
export interface Names {
  /** `comment`: the query of one row, and the field of a row in receipts and events. */
  one: string
  /** `comments` */
  many: string
  /** `saveComment` */
  save: string
  /** `saveComments` */
  saveMany: string
  /** `commentSaved` */
  saved: string
  /** `POST /comments`, and `GET /comments?…` */
  savePath: string
  listPath: string
  /** Whether `save` takes the columns as arguments of its own; else as one argument `input`. */
  flat: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: a list of models has models of different rows.
export interface Model<R = any> {
  /** The Prisma model. */
  name: string
  /** In the database. */
  table: string
  description: string
  /** Without id, createdAt and savedAt. */
  columns: readonly Column[]
  /** What lists and subscriptions can be narrowed to: sets of columns. */
  by: readonly (readonly string[])[]
  /** Rows are visible only to clients whose claim equals the column's value. */
  visibleTo: { column: string; claim: string } | undefined
  references: readonly Reference[]
  names: Names
  /** A rule of the model's own: what is wrong with an input; undefined: nothing. */
  check: ((input: R, grant: Grant) => string | undefined) | undefined
  /** Fields of the GraphQL type beside the columns; graphql/ calls it with its field builder. */
  fields: unknown
}

/** Of a release: by name. */
export type Models = ReadonlyMap<string, Model>

/** The values as JSON text. Equal values have equal texts. A null is left out, so that a new column changes no text. */
export function dataText(model: Model, values: Values): string {
  return `{${membersText(model, values)}}`
}

function membersText(
  { columns }: Model,
  values: Values,
  isLeftOut?: (column: Column, text: string) => boolean,
): string {
  let text = ''
  for (let i = 0; i < columns.length; i += 1) {
    const column = columns[i]!
    const { name, type, default: given } = column
    const value = values[name]
    // A reader takes the default for a value that is missing.
    if (value === null && given === undefined) continue
    const part = value === null ? 'null' : codecs[type].text(value)
    if (isLeftOut?.(column, part)) continue
    text += text === '' ? `"${name}":${part}` : `,"${name}":${part}`
  }
  return text
}

/**
 * Equal digests mean equal models and values. 132 bits of SHA-256, as 22 characters of base64url, and the model's name: the queue keeps the
 * digest, and so the model, of an id. Hashed is dataText (`data`, if it is known) without the values that are their column's default, so
 * that a digest stays the same when a column with a default is added.
 */
export function digestOf(model: Model, values: Values, data = dataText(model, values)): string {
  const text = model.columns.some(hasDefault) ? `{${membersText(model, values, isDefault)}}` : data
  return `${hash('sha256', text, 'base64url').slice(0, 22)}.${model.name}`
}

const hasDefault = (column: Column) => column.default !== undefined

function isDefault({ type, default: value }: Column, text: string): boolean {
  return value !== undefined && codecs[type].text(value) === text
}

/** The name of the model in a digest; undefined in a digest of release 0.1. */
export function modelNameOf(digest: string): string | undefined {
  return digest[22] === '.' ? digest.slice(23) : undefined
}

/** Why text of the queue is no save of this release. */
export class Undecodable {
  readonly problem: string
  /** A newer release may decode it. */
  readonly newer: boolean
  /** REJECTED: it is a save, whose values cannot be a row. */
  readonly code: 'UNDECODABLE' | 'REJECTED'

  constructor(problem: string, { newer = false, code = 'UNDECODABLE' as Undecodable['code'] } = {}) {
    this.problem = problem
    this.newer = newer
    this.code = code
  }
}

/** The values of parsed dataText. Limits are not checked: the database has them. */
export function readData(model: Model, data: unknown): Values | Undecodable {
  if (!isObject(data)) return new Undecodable(`the data of ${model.name} is no object`)
  const values: Values = {}
  let known = 0
  for (const column of model.columns) {
    const { name, nullable, type } = column
    const json = data[name]
    if (json !== undefined) known += 1
    const value = json === undefined ? (column.default ?? null) : json === null ? null : codecs[type].read(json, column)
    if (value === undefined || (value === null && !nullable)) {
      const problem = json === undefined ? 'is missing' : `has a value that is none of its type ${type}`
      // A newer release may have dropped a column, or have more values of an enum.
      const newer = json === undefined || (type === 'Enum' && typeof json === 'string')
      return new Undecodable(`${name} of ${model.name} ${problem}`, { newer, code: 'REJECTED' })
    }
    values[name] = value
  }
  for (const _ in data) known -= 1
  if (known < 0) {
    const unknown = Object.keys(data).find((name) => !model.columns.some((column) => column.name === name))
    return new Undecodable(`${model.name} has no column ${JSON.stringify(unknown)} in this release`, { newer: true })
  }
  return values
}

/** A row as JSON text, for events and pages: dataText with id, createdAt and savedAt in milliseconds since 1970. */
export function rowText(model: Model, row: Row): string {
  const members = membersText(model, row)
  return `{"id":"${row.id}","createdAt":${+row.createdAt},"savedAt":${+row.savedAt}${members && `,${members}`}}`
}

/**
 * The row of parsed rowText; columns of a newer release are left out. `newer`: a newer release wrote it, which has dropped a column or has
 * more values of an enum. Undefined: another program wrote it, and it is no row.
 */
export function readRow({ columns }: Model, value: unknown): Row | 'newer' | undefined {
  if (!isObject(value) || typeof value.id !== 'string') return undefined
  const createdAt = readDate(value.createdAt)
  const savedAt = readDate(value.savedAt)
  if (!createdAt || !savedAt) return undefined
  const row: Row = { id: value.id, createdAt, savedAt }
  for (const column of columns) {
    const json = value[column.name]
    const part =
      json === undefined ? (column.default ?? null) : json === null ? null : codecs[column.type].read(json, column)
    if (part === undefined || (part === null && !column.nullable))
      return json === undefined || (column.type === 'Enum' && typeof json === 'string') ? 'newer' : undefined
    row[column.name] = part
  }
  return row
}

/** Bytes of the values in a statement, roughly. */
export function sizeOf({ columns }: Model, row: Values): number {
  let size = 0
  for (const { name, type } of columns) {
    const value = row[name]
    if (value !== null && value !== undefined) size += codecs[type].size(value)
  }
  return size
}

/** The most bytes that `sizeOf` returns for a row that `parseInput` accepted. */
export function maxSizeOf({ columns }: Model): number {
  const most = ({ type, maxBytes, maxLength = maxBytes }: Column) => {
    if (type === 'String') return Math.min(maxBytes, maxLength * 4)
    return type === 'Json' || type === 'Bytes' ? maxBytes : 70
  }
  return columns.reduce((sum, column) => sum + most(column), 0)
}

/** The values as clients get them in JSON. */
export function jsonOf({ columns }: Model, values: Values): Record<string, unknown> {
  return Object.fromEntries(
    columns.map(({ name, type }) => {
      const value = values[name] ?? null
      return [name, value === null ? null : (codecs[type].output?.(value) ?? value)]
    }),
  )
}
