/** Checks of input that GraphQL and REST share: ids, pages, and how many values a JSON text has. */
import { largeBytes } from '../app/bytes.ts'
import { pageLimit } from '../app/rows.ts'
import { badInput } from '../model/error.ts'
import { parseId } from '../model/input.ts'

export function checkId(id: string, name = 'id'): string {
  const parsed = parseId(id)
  if (!parsed) throw badInput(`${name} must be a UUID, got ${JSON.stringify(id.slice(0, 50))}`)
  return parsed
}

/** Throws BAD_USER_INPUT, which names the first wrong id by its position. */
export function checkIds(ids: readonly string[], most: number): string[] {
  if (ids.length === 0) throw badInput('ids is empty; give the id of at least one save')
  if (ids.length > most)
    throw badInput(`at most ${most.toLocaleString('en')} ids may be given at once, got ${ids.length}`)
  return ids.map((id, i) => checkId(id, `ids[${i}]`))
}

/** A page's cursor has about fifty characters. */
export const maxCursorLength = 200

interface PageArgs {
  first?: number | null | undefined
  last?: number | null | undefined
  after?: string | null | undefined
  before?: string | null | undefined
}

export function checkPage({ first, last, after, before }: PageArgs): void {
  for (const [name, cursor] of [['after', after] as const, ['before', before] as const]) {
    if (cursor != null && cursor.length > maxCursorLength)
      throw badInput(`${name} is not a cursor; use one that a page gave`)
  }
  if (first != null && last != null) throw badInput('first and last cannot be used together; ask for one of them')
  for (const [name, size] of [['first', first] as const, ['last', last] as const]) {
    if (size == null) continue
    if (size < 0) throw badInput(`${name} must not be negative, got ${size}`)
    if (size > pageLimit) throw badInput(`${name} must be at most ${pageLimit}, got ${size}`)
  }
}

/** A thousand inputs of thirty columns have about 60,000 values. Node parses this many, in the worst shape, in 50 ms. */
const maxValues = 100_000

/**
 * Throws BAD_USER_INPUT for a large JSON text with too many values, before it is parsed: a hundred thousand keys, or a million brackets,
 * take long to parse. A small text parses fast whatever it holds, and a text that is no JSON object or list fails later.
 */
export function checkValues(text: string): void {
  if (text.length <= largeBytes || !/^\s*[[{]/.test(text)) return
  let values = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x22) i = endOfString(text, i)
    else if (code === 0x2c || code === 0x3a || code === 0x5b || code === 0x7b) values += 1
    if (values > maxValues) throw badInput(`a request of this size may not have more than ${maxValues} values`)
  }
}

/** The index of the quote that ends the JSON string beginning at `start`. */
export function endOfString(text: string, start: number): number {
  let end = start
  do {
    end = text.indexOf('"', end + 1)
    if (end < 0) return text.length
  } while (isEscaped(text, end))
  return end
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes += 1
  return backslashes % 2 === 1
}
