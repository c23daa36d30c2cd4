/** The form of a model: what was typed into its fields, as values that the API takes; and values, as text of the fields. */
import { type Column, type Model, sentColumns, type Values } from './models.ts'

/** By column. */
export type Texts = Record<string, string>

export interface Read {
  values: Values
  /** By column: why its text is no value. */
  problems: Texts
}

/** Nothing typed is no value: the default of the column, or null. The API checks all rules of the columns. */
export function readTexts(model: Model, texts: Texts): Read {
  const values: Values = {}
  const problems: Texts = {}
  for (const column of sentColumns(model)) {
    const text = texts[column.name] ?? ''
    if (text === '') {
      if (isRequired(column)) problems[column.name] = `${column.name} is missing.`
      continue
    }
    const value = parse(column, text)
    if (value === undefined) problems[column.name] = `${column.name} must be ${kinds[column.type]}.`
    else values[column.name] = value
  }
  return { values, problems }
}

export const isRequired = ({ nullable, default: value }: Column): boolean => !nullable && value === undefined

/** Undefined: the text is no value of the column's type. */
function parse({ type }: Column, text: string): unknown {
  switch (type) {
    case 'Int':
    case 'Float':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined
    case 'BigInt':
    case 'Decimal':
      return text.trim()
    case 'Boolean':
      return text === 'true'
    case 'DateTime': {
      const date = new Date(text)
      return Number.isNaN(+date) ? undefined : date.toISOString()
    }
    case 'Json':
      try {
        return JSON.parse(text)
      } catch {
        return undefined
      }
    default:
      return text
  }
}

export function textsOf({ columns }: Model, values: Values): Texts {
  const known = columns.filter(({ name }) => values[name] !== undefined && values[name] !== null)
  return Object.fromEntries(known.map((column) => [column.name, textOf(column, values[column.name])]))
}

export function textOf({ type }: Column, value: unknown): string {
  if (type === 'Json') return JSON.stringify(value)
  return type === 'DateTime' ? localTime(String(value)) : String(value)
}

/** As `datetime-local` has it: without an offset. */
function localTime(iso: string): string {
  const date = new Date(iso)
  return new Date(+date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, -1)
}

const kinds: Record<Column['type'], string> = {
  String: 'text',
  Int: 'a whole number',
  BigInt: 'a whole number',
  Float: 'a number',
  Decimal: 'a decimal number',
  Boolean: 'true or false',
  DateTime: 'a time',
  Json: 'JSON',
  Bytes: 'base64',
  Enum: 'one of the values',
}

/** What a field takes, in a few words. */
export function hintOf(column: Column): string {
  const { type, min, max, maxLength, digits, nullable, default: value } = column
  const isNumber = ['Int', 'BigInt', 'Float', 'Decimal'].includes(type)
  const range = [min === undefined ? '' : `from ${min}`, max === undefined ? '' : `to ${max}`].join(' ').trim()
  return [
    type === 'DateTime' ? 'local time' : ['Boolean', 'Enum'].includes(type) ? '' : kinds[type],
    // The limits of the type itself say nothing new.
    isNumber && Math.abs(Number(max)) < 2 ** 31 - 1 ? range : '',
    maxLength === undefined ? '' : `at most ${maxLength} characters`,
    digits ? `at most ${digits[0]} + ${digits[1]} digits` : '',
    value !== undefined ? `default ${textOf(column, value)}` : nullable ? 'optional' : '',
  ]
    .filter((part) => part !== '')
    .join(', ')
}
