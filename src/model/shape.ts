/**
 * The types of a model as its clients have them, made of its table and its definition. `defineModel` returns them as the type of a property
 * that does not exist, so that `typeof models` is all that the package spillway-client needs.
 */
import type { Table, TableColumn } from './table.ts'

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** In the form of JSON: DateTime, BigInt, Decimal and Bytes (base64) are texts. */
type ValueOf<C extends TableColumn> = C['type'] extends 'Enum'
  ? NonNullable<C['values']>[number]['name']
  : C['type'] extends 'Int' | 'Float'
    ? number
    : C['type'] extends 'Boolean'
      ? boolean
      : C['type'] extends 'Json'
        ? Json
        : string

type Nullable<C extends TableColumn> = C['nullable'] extends true ? ValueOf<C> | null : ValueOf<C>
/** A client may leave it out. */
type IsOptional<C extends TableColumn> = C['nullable'] extends true
  ? true
  : C['default'] extends undefined
    ? false
    : true

/** The columns that a client sends; one type of the union for each. */
type Sent<C extends TableColumn, FromToken> = C extends { name: 'id' | 'createdAt' | 'savedAt' | FromToken } ? never : C
type Required<C extends TableColumn> = C extends unknown ? (IsOptional<C> extends true ? never : C) : never
type Optional<C extends TableColumn> = C extends unknown ? (IsOptional<C> extends true ? C : never) : never

type RowOf<C extends TableColumn> = { readonly [One in C as One['name']]: Nullable<One> }
type InputOf<C extends TableColumn> = { [One in Required<C> as One['name']]: Nullable<One> } & {
  [One in Optional<C> as One['name']]?: Nullable<One> | undefined
}
/** A value for each column of one set. */
type ByOf<C extends TableColumn, By> = By extends readonly (infer Columns extends readonly string[])[]
  ? Columns extends unknown
    ? { [One in Extract<C, { name: Columns[number] }> as One['name']]: ValueOf<One> }
    : never
  : never

/** Lines up the members of an intersection, so that an editor shows them. */
type Flat<T> = { [K in keyof T]: T[K] }

/** `By`: sets of columns. `FromToken`: names of the columns that the token gives. */
export interface Shape<Name extends string, T extends Table, By, FromToken> {
  name: Name
  row: RowOf<T['columns'][number]>
  input: Flat<InputOf<Sent<T['columns'][number], FromToken>>>
  by: ByOf<T['columns'][number], By>
}

/** A model with its types. Of a table that is not known literally, nothing is known. */
export interface Shaped<Name extends string, T extends Table, By, FromToken> {
  /** It exists as a type only. */
  // biome-ignore lint/suspicious/noExplicitAny: nothing is known.
  readonly shape?: string extends T['name'] ? any : Shape<Name, T, By, FromToken>
}
