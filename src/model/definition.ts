/** What a file of src/models/ says of its model: the types of `defineModel`'s argument. */
import type { Grant } from './grant.ts'
import type { Names, Row } from './model.ts'

/** Rules of a column for what clients send; the limits of its type in the database hold besides. */
export interface Rules {
  /** String, Json and Bytes: the most bytes (of UTF-8). Default: what the database column takes, at most CONTENT_MAX_BYTES. */
  maxBytes?: number
  /** String: the most characters. */
  maxLength?: number
  /** Numbers and DateTime; BigInt, Decimal and DateTime as text. */
  min?: number | string
  max?: number | string
  /** String. */
  pattern?: RegExp
  /** The claim of the token that gives the value. */
  fromToken?: string
  description?: string
}

type Bounds<V> = Pick<Rules, 'fromToken' | 'description'> & { min?: V; max?: V }

/** The rules of a column whose values have the type `V` in Prisma's client. */
type RulesFor<V> = unknown extends V
  ? Rules
  : [V] extends [string]
    ? Pick<Rules, 'fromToken' | 'description'> &
        (string extends V ? Pick<Rules, 'maxBytes' | 'maxLength' | 'pattern'> : unknown)
    : [V] extends [number]
      ? Bounds<number>
      : [V] extends [boolean]
        ? Pick<Rules, 'description'>
        : [V] extends [Date]
          ? Omit<Bounds<string>, 'fromToken'>
          : // A value of Json may be a text, too.
            [Extract<V, string | Uint8Array>] extends [never]
            ? Bounds<string> // BigInt and Decimal
            : Pick<Rules, 'maxBytes' | 'description'>

export type Own<R> = Exclude<keyof R & string, keyof Row & ('id' | 'createdAt' | 'savedAt')>

export type RulesOf<R> = { readonly [C in Own<R>]?: Readonly<RulesFor<NonNullable<R[C]>>> }

/** As `Given`, whose columns and rules must be among those of `Known`. */
type Exactly<Given, Known> = Given & {
  [C in keyof Given]: C extends keyof Known
    ? { [P in keyof Given[C]]: P extends keyof NonNullable<Known[C]> ? Given[C][P] : never }
    : never
}

/**
 * `R`: a row, as the Prisma client returns it. `F`: fields of the GraphQL type. The others are inferred, for the types of clients (shape.ts): the
 * sets of columns, the rules, the columns of `visibleTo`.
 */
export interface Definition<
  R,
  F = unknown,
  By extends readonly (readonly Own<R>[])[] = readonly (readonly Own<R>[])[],
  Columns extends RulesOf<R> = RulesOf<R>,
  Visible extends Own<R> = Own<R>,
> {
  description?: string
  columns?: Exactly<Columns, RulesOf<R>>
  /** Sets of columns that lists and subscriptions can be narrowed to. */
  by?: By
  /** Column -> claim: rows are visible only to tokens whose claim has the column's value, and saves set it. */
  visibleTo?: { [C in Visible]?: string }
  /** What is wrong with a valid input; undefined: nothing. */
  check?: (input: Readonly<Pick<R, Own<R>>>, grant: Grant) => string | undefined
  /** Names other than those made of the model's name. */
  names?: Partial<Names>
  fields?: F
}

/** The columns that have a claim. */
export type WithClaim<Columns> = {
  [C in keyof Columns]: Columns[C] extends { fromToken: string } ? C : never
}[keyof Columns]
