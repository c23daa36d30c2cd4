/** Checks of arguments that GraphQL and REST share. */
import { pageLimit } from '../app/contents.ts'
import { parseId } from '../model/content.ts'
import { badInput } from '../model/error.ts'

export function checkId(id: string): string {
  const parsed = parseId(id)
  if (!parsed) throw badInput(`id must be a UUID, got ${JSON.stringify(id.slice(0, 50))}`)
  return parsed
}

/** A page's cursor is some fifty characters. */
const cursorLength = 200

interface PageArgs {
  first?: number | null | undefined
  last?: number | null | undefined
  after?: string | null | undefined
  before?: string | null | undefined
}

export function checkPage({ first, last, after, before }: PageArgs): void {
  for (const [name, cursor] of [['after', after] as const, ['before', before] as const]) {
    if (cursor != null && cursor.length > cursorLength)
      throw badInput(`${name} is not a cursor; use one that a page of contents gave`)
  }
  if (first != null && last != null) throw badInput('first and last cannot be used together; ask for one of them')
  for (const [name, size] of [['first', first] as const, ['last', last] as const]) {
    if (size == null) continue
    if (size < 0) throw badInput(`${name} must not be negative, got ${size}`)
    if (size > pageLimit) throw badInput(`${name} must be at most ${pageLimit}, got ${size}`)
  }
}
