/** Columns in GraphQL: their types, descriptions and defaults; as fields of a row, as fields of an input, and as arguments of lists. */
import type { EnumRef, FieldMap, ScalarName } from '@pothos/core'
import { type Column, codecs } from '../model/columns.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import type { ColumnType } from '../model/table.ts'
import type { Builder } from './builder.ts'

type Types = Builder extends PothosSchemaTypes.SchemaBuilder<infer T> ? T : never
type Type = ScalarName<Types> | EnumRef<Types, string>

const scalars: Record<Exclude<ColumnType, 'Enum'>, ScalarName<Types>> = {
  String: 'String',
  Int: 'Int',
  BigInt: 'BigInt',
  Float: 'Float',
  Decimal: 'Decimal',
  Boolean: 'Boolean',
  DateTime: 'DateTime',
  Json: 'JSON',
  Bytes: 'Bytes',
}

/** The GraphQL types of columns. Several columns may have one enum. */
export class ColumnTypes {
  readonly #builder: Builder
  readonly #enums = new Map<string, EnumRef<Types, string>>()

  constructor(builder: Builder) {
    this.#builder = builder
  }

  of({ type, enumName, values = [] }: Column): Type {
    if (type !== 'Enum') return scalars[type]
    const known = this.#enums.get(enumName!)
    if (known) return known
    const made = this.#builder.enumType(enumName!, {
      description: `One of ${values.length} values.`,
      values: Object.fromEntries(
        values.map(({ name }) => [name, { value: name, description: `The value ${name}.` }] as const),
      ),
    }) as EnumRef<Types, string>
    this.#enums.set(enumName!, made)
    return made
  }
}

/** A row's columns, with those of Spillway. */
export function rowFields(t: object, model: Model, types: ColumnTypes): FieldMap {
  // Pothos would infer each column's type from a generated client; here the columns are data.
  const { expose } = t as { expose(name: string, options: FieldOptions): FieldMap[string] }
  const field = (name: string, options: FieldOptions) => [name, expose.call(t, name, options)] as const
  return Object.fromEntries([
    field('id', { type: 'ID', nullable: false, description: 'The id of the save: a UUID in lower case.' }),
    ...model.columns.map((column) =>
      field(column.name, {
        type: types.of(column),
        nullable: column.nullable,
        description: descriptionOf(column),
      }),
    ),
    field('createdAt', { type: 'DateTime', nullable: false, description: 'When the API received the save.' }),
    field('savedAt', { type: 'DateTime', nullable: false, description: 'When the worker wrote the row.' }),
  ])
}

interface FieldOptions {
  type: Type
  nullable: boolean
  description: string
}

interface InputOptions {
  type: Type
  required: boolean
  defaultValue?: unknown
  description: string
}

/** The columns that a client may send. `make` makes a field of an input type, or an argument. */
export function inputFields<Field>(
  model: Model,
  types: ColumnTypes,
  make: (options: InputOptions) => Field,
): Record<string, Field> {
  return Object.fromEntries(
    model.columns
      .filter((column) => claimNameOf(model, column) === undefined)
      .map((column) => {
        const { name, nullable, default: value } = column
        const defaultValue = defaultOf(column)
        return [
          name,
          make({
            type: types.of(column),
            // With a default, GraphQL lets a required one be left out. A default that has no literal makes it optional.
            required: !nullable && (value === undefined || defaultValue !== undefined),
            ...(defaultValue === undefined ? {} : { defaultValue }),
            description: descriptionOf(column),
          }),
        ]
      }),
  )
}

/** In the form in which a client would send it; undefined: none, or one that GraphQL cannot print. */
function defaultOf({ type, default: value }: Column): unknown {
  if (value === undefined || value === null || type === 'Json') return undefined
  return codecs[type].output?.(value) ?? value
}

/** The columns that lists and subscriptions can be narrowed to. */
export function narrowingColumns(model: Model): Column[] {
  const names = new Set(model.by.flat())
  return model.columns.filter(({ name }) => names.has(name))
}

/** The arguments by which lists and subscriptions are narrowed. */
export function narrowingArgs<Field>(
  model: Model,
  types: ColumnTypes,
  make: (options: InputOptions) => Field,
): Record<string, Field> {
  const sets = model.by.map((set) => set.join(' with '))
  return Object.fromEntries(
    narrowingColumns(model).map((column) => [
      column.name,
      make({
        type: types.of(column),
        required: false,
        description: `Only the rows with this value of ${column.name}; null counts as left out. Rows can be narrowed by: ${sets.join('; ')}.`,
      }),
    ]),
  )
}

function descriptionOf(column: Column): string {
  return column.description ?? `${kinds[column.type]}${limitsOf(column)}.`
}

const kinds: Record<ColumnType, string> = {
  String: 'Text',
  Int: 'A whole number',
  BigInt: 'A whole number',
  Float: 'A number',
  Decimal: 'A decimal number',
  Boolean: 'True or false',
  DateTime: 'A point in time',
  Json: 'A JSON value',
  Bytes: 'Bytes',
  Enum: 'One of the values of the enum',
}

/** Those of the limits that say more than the type: of text, bytes and decimals. */
function limitsOf({ type, maxLength, exactBytes, digits }: Column): string {
  if (type === 'String' && maxLength !== undefined) return `, at most ${maxLength} characters`
  if (exactBytes !== undefined) return `, exactly ${exactBytes}`
  if (digits) return `, at most ${digits[0]} digits before and ${digits[1]} after the point`
  return ''
}
