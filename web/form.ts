/**
 * The form of a model: what was typed into its fields, as values that the API takes; and values, as texts of the fields. Invariant: a value is
 * what was typed, digit for digit, or there is a problem: a number that JavaScript and the server would round is not sent.
 */
import { type Column, type Model, sentColumns, type Values } from './models.ts'

/** By column. */
export type Texts = Record<string, string>

/** By column: its text, or null for null. A column that is missing has no value, so that it takes its default. */
export type Typed = Record<string, string | null>

export interface Read {
  values: Values
  /** By column: why its text is no value. */
  problems: Texts
}

/** The API checks all rules of the columns. */
export function readTyped(model: Model, typed: Typed): Read {
  const values: Values = {}
  const problems: Texts = {}
  for (const column of sentColumns(model)) {
    const { name } = column
    const text = typed[name]
    if (text === undefined) {
      if (isRequired(column)) problems[name] = `${name} is missing.`
    } else if (text === null) values[name] = null
    else {
      const value = parse(column, text)
      if (value instanceof Problem) problems[name] = `${name} ${value.text}.`
      else values[name] = value
    }
  }
  return { values, problems }
}

export const isRequired = ({ nullable, default: value }: Column): boolean => !nullable && value === undefined

/** Whether an empty text can be a value, as far as is known here. */
export const mayBeEmpty = ({ type, pattern }: Column): boolean =>
  type === 'String' && (pattern === undefined || new RegExp(pattern).test(''))

export class Problem {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** The value of a text that was typed. */
export function parse({ type }: Column, text: string): unknown {
  const wrong = new Problem(`must be ${kinds[type]}`)
  switch (type) {
    case 'Int':
    case 'Float':
      return number.test(text.trim()) ? (roundingProblem(text.trim()) ?? Number(text)) : wrong
    case 'BigInt':
    case 'Decimal':
      return text.trim() === '' ? wrong : text.trim()
    case 'Boolean':
      return text === 'true'
    case 'DateTime': {
      const date = new Date(text)
      if (Number.isNaN(+date)) return wrong
      // The clocks leave out an hour in spring: Date takes its times for later ones.
      const isShown = localTime(date.toISOString()) === new Date(`${text}Z`).toISOString().slice(0, -1)
      return isShown ? date.toISOString() : new Problem('is a time that the clocks leave out here')
    }
    case 'Json': {
      const value = jsonOf(text)
      return value === undefined ? wrong : value
    }
    default:
      return text
  }
}

const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

function roundingProblem(literal: string): Problem | undefined {
  const value = Number(literal)
  if (!Number.isFinite(value)) return new Problem(`has a number that is too large: ${literal.slice(0, 50)}`)
  if (plain(literal) === plain(String(value))) return undefined
  return new Problem(`would be changed: ${literal.slice(0, 50)} would be rounded to ${value}`)
}

/** A number in the one form that all its spellings have: its digits without zeros at either end, and where its point is. */
function plain(literal: string): string {
  const [, sign, whole = '', fraction = '', exponent = 0] = /^([+-]?)(\d*)\.?(\d*)(?:e(.+))?$/i.exec(literal)!
  const digits = (whole + fraction).replace(/^0+/, '')
  const point = digits.length - fraction.length + Number(exponent)
  return digits === '' ? '0' : `${sign === '-' ? '-' : ''}${digits.replace(/0+$/, '')}e${point}`
}

/** The strings of a JSON text, each with the colon that makes it a key, and its numbers. */
const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|-?\d[\d.eE+-]*/g

/** Undefined: the text is no JSON. */
export function jsonOf(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  let keys = 0
  for (const [token, colon] of text.matchAll(tokens)) {
    if (colon) keys += 1
    const problem = token.startsWith('"') ? undefined : roundingProblem(token)
    if (problem) return new Problem(`${problem.text}; write it as a text, in quotes`)
  }
  return keys > countKeys(value)
    ? new Problem('has a key twice in one object, and only the last would be saved')
    : value
}

function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const parts = Object.values(value)
  const own = Array.isArray(value) ? 0 : parts.length
  return parts.reduce((sum, part) => sum + countKeys(part), own)
}

/** The fields as they would have to be filled for these values. */
export function typedOf(model: Model, values: Values): Typed {
  const given = sentColumns(model).filter(({ name }) => values[name] !== undefined)
  const textFor = (column: Column) => (values[column.name] === null ? null : textOf(column, values[column.name]))
  return Object.fromEntries(given.map((column) => [column.name, textFor(column)]))
}

export function textOf({ type }: Column, value: unknown): string {
  if (type === 'Json') return JSON.stringify(value)
  return type === 'DateTime' ? localTime(String(value)) : String(value)
}

/** As `datetime-local` has it: without an offset. */
function localTime(iso: string): string {
  const date = new Date(iso)
  const local = new Date(0)
  local.setUTCFullYear(date.getFullYear(), date.getMonth(), date.getDate())
  local.setUTCHours(date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds())
  return local.toISOString().slice(0, -1)
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
  const { type, min, max, maxLength, digits } = column
  const isNumber = ['Int', 'BigInt', 'Float', 'Decimal'].includes(type)
  const range = [min === undefined ? '' : `from ${min}`, max === undefined ? '' : `to ${max}`].join(' ').trim()
  return [
    type === 'DateTime' ? 'local time' : ['Boolean', 'Enum'].includes(type) ? '' : kinds[type],
    // The limits of the type itself say nothing new.
    isNumber && Math.abs(Number(max)) < 2 ** 31 - 1 ? range : '',
    maxLength === undefined ? '' : `at most ${maxLength} characters`,
    digits ? `at most ${digits[0]} + ${digits[1]} digits` : '',
  ]
    .filter((part) => part !== '')
    .join(', ')
}

/** What a field may have in the place of a text, the first of which it begins with; none where it must have one. */
export interface Choice {
  key: 'default' | 'null' | 'empty'
  label: string
}

export function choicesOf(column: Column): Choice[] {
  const { nullable, default: value } = column
  const choices: Choice[] = []
  if (value !== undefined) choices.push({ key: 'default', label: `default: ${textOf(column, value).slice(0, 40)}` })
  if (nullable) choices.push({ key: 'null', label: 'null' })
  if (choices.length > 0 && mayBeEmpty(column)) choices.push({ key: 'empty', label: 'empty text' })
  return choices
}
