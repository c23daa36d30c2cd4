/** Inputs of saves, as GraphQL and REST hand them over: from a client's values to the values of a row. */
import { type Column, codecs, Problem, uuid } from './columns.ts'
import { badInput, SpillwayError } from './error.ts'
import { claimOf, type Grant } from './grant.ts'
import type { Model, Values } from './model.ts'
import { fromText } from './narrow.ts'

/** The id in lower case, the one form that is stored, or undefined if it is no UUID. */
export function parseId(id: unknown): string | undefined {
  if (typeof id !== 'string') return undefined
  const lower = id.toLowerCase()
  return uuid.test(lower) ? lower : undefined
}

/** `path` is where the input stands, such as `inputs[3].`. Throws BAD_USER_INPUT, UNAUTHENTICATED, FORBIDDEN. */
export function parseInput(model: Model, input: Readonly<Record<string, unknown>>, grant: Grant, path = ''): Values {
  return parse(model, input, { grant, path })
}

/**
 * As `parseInput`, for an operator's edit of a save with the values `stored`: columns that are set from a token keep their values, and the
 * input may repeat them.
 */
export function parseEdit(
  model: Model,
  input: Readonly<Record<string, unknown>>,
  grant: Grant,
  stored: Values,
): Values {
  return parse(model, input, { grant, path: '', stored })
}

interface Parsing {
  grant: Grant
  path: string
  stored?: Values
}

function parse(model: Model, input: Readonly<Record<string, unknown>>, parsing: Parsing): Values {
  const { grant, path } = parsing
  const values: Values = {}
  let known = 0
  for (const column of model.columns) {
    const given = Object.hasOwn(input, column.name) ? input[column.name] : undefined
    if (Object.hasOwn(input, column.name)) known += 1
    values[column.name] = columnValue(model, column, given, parsing)
  }
  if (known < Object.keys(input).length) throw unknownColumn(model, input, path)
  const problem = model.check?.(values, grant)
  if (problem !== undefined) throw badInput(`${path}${model.name}: ${problem}`)
  return values
}

function columnValue(model: Model, column: Column, given: unknown, { grant, path, stored }: Parsing): unknown {
  const { name, type, nullable } = column
  const claim = claimNameOf(model, column)
  const wrong = (problem: string) => badInput(`${path}${name} of ${model.name} ${problem}`)
  if (claim !== undefined && stored) {
    const kept = stored[name] ?? null
    if (given !== undefined && !isSame(column, given, kept))
      throw wrong('was set from the token of the client, and stays as it is; leave it out')
    return kept
  }
  if (claim !== undefined) {
    if (given !== undefined) throw wrong('is set from the token; leave it out')
    return fromClaim(model, column, claim, grant)
  }
  if (given === undefined && column.default !== undefined) return column.default
  if (given === undefined || given === null) {
    if (nullable) return null
    throw wrong(given === null ? 'must not be null' : 'is missing')
  }
  const value = codecs[type].parse(given, column)
  if (value instanceof Problem) throw wrong(value.text)
  return value
}

function isSame(column: Column, given: unknown, kept: unknown): boolean {
  if (given === null || kept === null) return given === kept
  const value = codecs[column.type].parse(given, column)
  return !(value instanceof Problem) && codecs[column.type].text(value) === codecs[column.type].text(kept)
}

/** The claim that gives the column's value; undefined: the client does. */
export function claimNameOf(model: Model, { name, fromToken }: Column): string | undefined {
  return fromToken ?? (model.visibleTo?.column === name ? model.visibleTo.claim : undefined)
}

function fromClaim(model: Model, column: Column, claim: string, grant: Grant): unknown {
  const text = claimOf(grant, claim)
  if (text === undefined) {
    // A row that only some may see needs its value; without authentication there is nobody to tell apart.
    const isVisibility = column.fromToken === undefined
    if (column.nullable && (!isVisibility || grant.subject === undefined)) return null
    const needs = `${column.name} of ${model.name} is set from the claim ${JSON.stringify(claim)}`
    if (grant.subject === undefined) {
      throw new SpillwayError(
        'UNAUTHENTICATED',
        `${needs}, and there are no claims without authentication; send a token, or set AUTH_DEV_CLAIMS on a laptop.`,
      )
    }
    throw new SpillwayError('FORBIDDEN', `${needs}, which this token lacks.`)
  }
  const value = codecs[column.type].parse(fromText(column.type, text), column)
  if (value instanceof Problem)
    throw new SpillwayError(
      'FORBIDDEN',
      `The claim ${JSON.stringify(claim)} cannot be ${column.name} of ${model.name}: it ${value.text}.`,
    )
  return value
}

function unknownColumn(model: Model, input: Readonly<Record<string, unknown>>, path: string): SpillwayError {
  const unknown = Object.keys(input).find((name) => !model.columns.some((column) => column.name === name)) ?? ''
  if (unknown === 'createdAt' || unknown === 'savedAt')
    return badInput(`${path}${unknown} of ${model.name} is set by Spillway; leave it out`)
  const names = model.columns.filter((column) => claimNameOf(model, column) === undefined).map(({ name }) => name)
  return badInput(
    `${path}${JSON.stringify(unknown.slice(0, 50))} is no column of ${model.name}; it has id, ${names.join(', ')}`,
  )
}
