/**
 * The form of a definition. The compiler checks it, too, but Node removes the types and runs a file that was never compiled: there a
 * misspelt `visibleTo` would show every row to everybody.
 */
import { isObject } from './parse.ts'

type Fail = (text: string) => Error

interface Kind {
  is(value: unknown): boolean
  /** Completes "must be". */
  expected: string
}

const text: Kind = { is: (value) => typeof value === 'string', expected: 'a text' }
const objectLike: Kind = { is: (value) => isObject(value) && !Array.isArray(value), expected: 'an object' }
const flag: Kind = { is: (value) => typeof value === 'boolean', expected: 'true or false' }
const isTexts = (value: unknown) => Array.isArray(value) && value.length > 0 && value.every(text.is)
const options: Record<string, Kind> = {
  description: text,
  columns: objectLike,
  by: {
    is: (value) => Array.isArray(value) && value.every(isTexts),
    expected: "lists of columns, such as [['postId']]",
  },
  visibleTo: objectLike,
  check: { is: (value) => isFunction(value) && !isAsync(value), expected: 'a function that is not async' },
  names: objectLike,
  fields: { is: isFunction, expected: 'a function' },
}

/** Claims are looked up by these names. */
const claim: Kind = {
  is: (value) => typeof value === 'string' && value.trim() !== '',
  expected: "the name of a claim, such as 'sub'",
}
const keysOfRules: Record<string, Kind> = {
  fromToken: claim,
  pattern: { is: (value) => value instanceof RegExp, expected: 'a regular expression' },
  description: text,
}

/** Throws unless the definition has the form that its types describe. Whether its columns exist is checked elsewhere. */
export function checkDefinition(definition: unknown, problem: Fail): void {
  if (!objectLike.is(definition))
    throw problem(`its definition must be an object, such as {}; got ${kindOf(definition)}`)
  const given = definition as Record<string, unknown>
  checkOptions(given, problem)
  const { by = [], visibleTo = {}, names = {}, columns = {} } = given as Record<string, Record<string, unknown>>
  for (const [name, value] of Object.entries(names))
    check(`names.${name}`, value, name === 'flat' ? flag : text, problem)
  for (const [column, name] of Object.entries(visibleTo)) check(`visibleTo.${column}`, name, claim, problem)
  checkSets(by as unknown as string[][], problem)
  for (const [column, rules] of Object.entries(columns)) {
    const where = `the rules of the column ${column}`
    check(where, rules, objectLike, problem)
    for (const [rule, value] of Object.entries(rules as object)) {
      const kind = Object.hasOwn(keysOfRules, rule) ? keysOfRules[rule] : undefined
      if (kind) check(`${rule} of the column ${column}`, value, kind, problem)
    }
  }
}

function checkSets(sets: readonly (readonly string[])[], problem: Fail): void {
  const known = new Set<string>()
  for (const set of sets) {
    const key = [...set].sort().join()
    if (new Set(set).size < set.length) throw problem(`by names a column twice in [${set.join(', ')}]; name each once`)
    if (known.has(key)) throw problem(`by has the columns [${set.join(', ')}] twice; remove one of the two`)
    known.add(key)
  }
}

function checkOptions(given: Record<string, unknown>, problem: Fail): void {
  for (const [name, value] of Object.entries(given)) {
    const kind = Object.hasOwn(options, name) ? options[name] : undefined
    if (!kind) throw problem(`the option ${name} is unknown; expected one of ${Object.keys(options).join(', ')}`)
    // A definition that is made elsewhere may have options that are undefined: they are left out.
    if (value !== undefined) check(name, value, kind, problem)
  }
}

function check(where: string, value: unknown, { is, expected }: Kind, problem: Fail): void {
  if (!is(value)) throw problem(`${where} must be ${expected}; got ${kindOf(value)}`)
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function'
}

/** Its promise would count as what is wrong with each input. */
function isAsync(value: unknown): boolean {
  return Object.prototype.toString.call(value) !== '[object Function]'
}

function kindOf(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 50))
  if (Array.isArray(value)) return value.length === 0 ? '[]' : 'a list'
  if (typeof value === 'function') return 'such a function'
  return isObject(value) ? 'an object' : String(value)
}
