/**
 * Narrowing: the rows of a list or subscription whose columns have certain values, which are those of one of the model's `by`, of its
 * `visibleTo`, or both. Each narrowing has a key, by which pages are cached and invalidated.
 */
import { hash } from 'node:crypto'
import { type Column, codecs, Problem } from './columns.ts'
import { badInput, SpillwayError } from './error.ts'
import { claimOf, type Grant } from './grant.ts'
import type { Model, Row, Values } from './model.ts'
import { nativeLimits } from './native.ts'

/** Values by column: all are equal to the row's; {}: every row. */
export type Narrowing = Readonly<Values>

/** Keys of one set of columns: a collision only costs a miss of the cache, and their number is bounded. */
const slots = 1_024

/** The narrowing of a client's arguments (null counts as none) and of what its grant may see. Throws BAD_USER_INPUT, FORBIDDEN. */
export function narrowingOf(model: Model, args: Values, grant: Grant): Narrowing {
  const given = Object.entries(args).filter(([, value]) => value !== undefined && value !== null)
  const names = given.map(([name]) => name)
  if (
    names.length > 0 &&
    !model.by.some((set) => set.length === names.length && set.every((name) => names.includes(name)))
  ) {
    const sets = model.by.map((set) => set.join(' and ')).join(', or by ')
    throw badInput(
      `${model.names.many} cannot be narrowed by ${names.join(' and ')}; ${sets ? `expected: by ${sets}` : 'it has no columns for that'}`,
    )
  }
  const narrowing: Values = {}
  for (const [name, input] of given) {
    const column = model.columns.find((one) => one.name === name)!
    const value = codecs[column.type].parse(input, searched(column))
    if (value instanceof Problem) throw badInput(`${name} of ${model.name} ${value.text}`)
    narrowing[name] = value
  }
  return visibleTo(model, narrowing, grant)
}

/** A rule of the model for new rows does not hold for what is searched; a number beyond the type is an error in some databases. */
export function searched(column: Column): Column {
  const limits = nativeLimits(column.type, undefined)
  const { min, max }: Pick<Column, 'min' | 'max'> =
    typeof limits === 'string' ? { min: undefined, max: undefined } : { min: limits.min, max: limits.max }
  return { ...column, min, max, pattern: undefined }
}

function visibleTo(model: Model, narrowing: Values, grant: Grant): Narrowing {
  const visible = visibleValue(model, grant)
  if (!visible) return narrowing
  const { column, value } = visible
  const asked = narrowing[column]
  if (asked !== undefined && asked !== value) throw otherValue(model, column)
  return { ...narrowing, [column]: value }
}

interface Visible {
  column: string
  value: unknown
}

/** The value that a row must have in the column of `visibleTo`; undefined: the grant may see every row. Throws FORBIDDEN. */
export function visibleValue(model: Model, grant: Grant): Visible | undefined {
  const visible = visibilityOf(model, grant)
  if (visible !== 'none') return visible
  throw new SpillwayError(
    'FORBIDDEN',
    `Rows of ${model.name} are visible only to tokens with the claim ${JSON.stringify(model.visibleTo?.claim)}, which this token lacks or has with an invalid value.`,
  )
}

function visibilityOf(model: Model, grant: Grant): Visible | 'none' | undefined {
  if (!model.visibleTo || grant.scopes.has('admin')) return undefined
  const { column: name, claim } = model.visibleTo
  const text = claimOf(grant, claim)
  if (text === undefined) return 'none'
  const column = model.columns.find((one) => one.name === name)!
  const value = codecs[column.type].parse(fromText(column.type, text), column)
  return value instanceof Problem ? 'none' : { column: name, value }
}

/** The input form of a claim's text. */
export function fromText(type: string, text: string): unknown {
  if (type !== 'Int' && type !== 'BigInt') return text
  // "7" and "007" are two claims, and would be one number.
  if (!/^(0|-?[1-9]\d{0,18})$/.test(text)) return undefined
  return type === 'Int' ? Number(text) : text
}

function otherValue(model: Model, column: string) {
  return new SpillwayError(
    'FORBIDDEN',
    `Rows of ${model.name} with another ${column} than the token's are not visible.`,
  )
}

/** Whether the grant may see the row. */
export function isVisible(model: Model, row: Row, grant: Grant): boolean {
  const visible = visibilityOf(model, grant)
  if (visible === 'none') return false
  return !visible || row[visible.column] === visible.value
}

export function matches(narrowing: Narrowing, row: Row): boolean {
  for (const name in narrowing) if (row[name] !== narrowing[name]) return false
  return true
}

/** The key of a narrowing, for its cached pages; bounded in number. */
export function cacheKeyOf(model: Model, narrowing: Narrowing): string {
  const names = Object.keys(narrowing)
  return names.length === 0 ? model.name : keyOf(model, names.sort(), narrowing)
}

/** The keys of all narrowings that a row belongs to. */
export function cacheKeysOf(model: Model, row: Row): string[] | string {
  // Many models have no other narrowing.
  if (setsOf(model).length === 1) return model.name
  return setsOf(model).map((names) => (names.length === 0 ? model.name : keyOf(model, names, row)))
}

function keyOf(model: Model, names: readonly string[], values: Values): string {
  const text = names.map(
    (name) =>
      `${name}=${values[name] === null ? '' : codecs[model.columns.find((one) => one.name === name)!.type].text(values[name])}`,
  )
  return `${model.name}.${names.join('+')}.${hash('sha256', text.join('\n'), 'buffer').readUInt32BE() % slots}`
}

const known = new WeakMap<Model, string[][]>()

/** All sets of columns of the model's narrowings, each sorted. */
export function setsOf(model: Model): string[][] {
  let sets = known.get(model)
  if (!sets) {
    const visible = model.visibleTo ? [[], [model.visibleTo.column]] : [[]]
    const all = visible.flatMap((some) => [[], ...model.by].map((by) => [...new Set([...some, ...by])].sort()))
    sets = [...new Map(all.map((set) => [set.join('+'), set])).values()]
    known.set(model, sets)
  }
  return sets
}
