/**
 * The scalars that GraphQL lacks. Each parses to a form that the column's codec takes (model/columns.ts), which checks it further, and
 * serializes a value to the form in which clients get it. Invariant: a literal in a document is taken digit for digit, or refused.
 */
import { Decimal } from 'decimal.js'
import { GraphQLError, Kind, type ValueNode } from 'graphql'
import { codecs, Problem, parseDateTime } from '../model/columns.ts'
import type { ColumnType } from '../model/table.ts'
import type { Builder } from './builder.ts'

export function addScalars(builder: Builder): void {
  builder.scalarType('DateTime', {
    description: 'A point in time: ISO 8601 (RFC 3339), in UTC, with milliseconds. More exact times are refused.',
    specifiedByURL: 'https://scalars.graphql.org/andimarek/date-time.html',
    serialize: outputOf('DateTime'),
    parseValue: dateTime,
    parseLiteral: (node) => dateTime(node.kind === Kind.STRING ? node.value : wrong('DateTime', 'a string', node)),
  })
  builder.scalarType('BigInt', {
    description:
      'A whole number of any size: a string of digits in responses; a string of digits or a number in requests. JSON cannot hold every number beyond 2^53: send it as a string.',
    serialize: outputOf('BigInt'),
    parseValue: (value) => bigInt(value),
    parseLiteral: (node) =>
      bigInt(
        node.kind === Kind.INT || node.kind === Kind.STRING
          ? node.value
          : wrong('BigInt', 'a whole number or a string of digits', node),
      ),
  })
  builder.scalarType('Decimal', {
    description:
      'A decimal number, exact: a string such as "12.50" in responses; a string or a number in requests. JSON cannot hold every number of more than 15 digits: send it as a string.',
    serialize: outputOf('Decimal'),
    parseValue: (value) => decimal(value),
    parseLiteral: (node) =>
      decimal(
        node.kind === Kind.INT || node.kind === Kind.FLOAT || node.kind === Kind.STRING
          ? node.value
          : wrong('Decimal', 'a number or a string', node),
      ),
  })
  builder.scalarType('JSON', {
    description: 'Any JSON value (ECMA-404). Objects come back with their keys in any order.',
    specifiedByURL: 'https://ecma-international.org/publications-and-standards/standards/ecma-404/',
    serialize: (value) => value,
    parseValue: (value) => value,
    parseLiteral: (node) => json(node),
  })
  builder.scalarType('Bytes', {
    description: 'Bytes as base64 (RFC 4648, section 4), with padding.',
    specifiedByURL: 'https://www.rfc-editor.org/rfc/rfc4648#section-4',
    serialize: outputOf('Bytes'),
    parseValue: (value) => text('Bytes', value),
    parseLiteral: (node) => (node.kind === Kind.STRING ? node.value : wrong('Bytes', 'a string of base64', node)),
  })
}

/** A default value is in its output form already. */
function outputOf(type: ColumnType): (value: unknown) => unknown {
  const { output } = codecs[type]
  return (value) => (typeof value === 'string' ? value : output!(value))
}

function dateTime(value: unknown): Date {
  const date = parseDateTime(value)
  if (date instanceof Problem) throw new GraphQLError(`A DateTime ${date.text}.`)
  return date
}

/** The codec refuses a number that JSON has rounded. */
function bigInt(value: unknown): string {
  if (typeof value === 'string' && /^-?\d+$/.test(value)) return value
  if (Number.isSafeInteger(value)) return String(value)
  if (Number.isInteger(value))
    throw new GraphQLError('A BigInt is a number that JSON cannot hold exactly; send it as a string of digits.')
  throw new GraphQLError(`A BigInt must be a whole number, as a string of digits or as a number, got ${kindOf(value)}.`)
}

function decimal(value: unknown): string | number {
  if (typeof value === 'string' || typeof value === 'number') return value
  throw new GraphQLError(`A Decimal must be a decimal number, as a string such as "12.50", got ${kindOf(value)}.`)
}

function text(type: string, value: unknown): string {
  if (typeof value === 'string') return value
  throw new GraphQLError(`${type} must be a string, got ${kindOf(value)}.`)
}

/** A literal as JSON. It cannot contain variables: their types are not known, so that they could not be checked. */
function json(node: ValueNode): unknown {
  switch (node.kind) {
    case Kind.NULL:
      return null
    case Kind.STRING:
    case Kind.BOOLEAN:
      return node.value
    case Kind.INT:
    case Kind.FLOAT:
      return exactNumber(node.value)
    case Kind.LIST:
      return node.values.map(json)
    case Kind.OBJECT:
      return Object.fromEntries(node.fields.map(({ name, value }) => [name.value, json(value)]))
    case Kind.ENUM:
      throw new GraphQLError(`JSON has no value ${node.value.slice(0, 50)}; expected a JSON value.`)
    case Kind.VARIABLE:
      throw new GraphQLError('A JSON literal cannot contain variables; send the whole value as one variable.')
  }
}

function exactNumber(literal: string): number {
  const value = Number(literal)
  if (Number.isFinite(value) && new Decimal(literal).equals(new Decimal(value))) return value
  throw new GraphQLError('A number in a JSON literal would be rounded; send it as a string.')
}

function wrong(type: string, expected: string, node: ValueNode): never {
  const got = node.kind.replace(/Value$/, '').toLowerCase()
  throw new GraphQLError(`${type} must be ${expected}, got a literal of the kind ${got}.`)
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : typeof value
}
