/** A valid value of a column in a client's form: for the first document of GraphiQL, errors of REST, and rows that the console makes in numbers. */
import { type Column, codecs, Problem } from '../model/columns.ts'
import { claimNameOf } from '../model/input.ts'
import type { Model } from '../model/model.ts'
import type { ColumnType } from '../model/table.ts'

/** Undefined: the token gives it, it names a row of another model, or no candidate fits its rules. */
export function sampleOf(model: Model, column: Column): unknown {
  const names = ({ columns }: { columns: readonly string[] }) => columns.includes(column.name)
  if (claimNameOf(model, column) !== undefined || model.references.some(names)) return undefined
  return candidatesOf(column).find((one) => !(codecs[column.type].parse(one, column) instanceof Problem))
}

/** Whether an input must have the column. */
export function isRequired(model: Model, column: Column): boolean {
  return !column.nullable && column.default === undefined && claimNameOf(model, column) === undefined
}

function candidatesOf(column: Column): unknown[] {
  const { type, min, max, default: value } = column
  const output = (one: unknown) => (one === undefined || one === null ? [] : [codecs[type].output?.(one) ?? one])
  return [...output(value), ...common(column)[type], ...output(min), ...output(max)]
}

function common({ maxLength, maxBytes, exactBytes, values = [] }: Column): Record<ColumnType, unknown[]> {
  const size = exactBytes ?? Math.min(8, maxBytes)
  return {
    String: ['something'.slice(0, Math.min(maxLength ?? maxBytes, maxBytes))],
    Int: [1],
    BigInt: ['1'],
    Float: [1],
    Decimal: ['1'],
    Boolean: [true],
    DateTime: ['2026-01-31T12:00:00.000Z'],
    Json: [{}],
    Bytes: [Buffer.alloc(size).toString('base64')],
    Enum: values.map(({ name }) => name),
  }
}
