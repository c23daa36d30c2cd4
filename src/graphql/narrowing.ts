/**
 * What a root field of rows reads, by its arguments and by the grant: the narrowing, the cache keys of a document's pages, and the part of a
 * key that tells grants apart. Invariant: two clients share a page or a rendering only if both see the same rows.
 */
import { codecs } from '../model/columns.ts'
import { SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import type { Model, Models } from '../model/model.ts'
import { cacheKeyOf, type Narrowing, narrowingOf, visibleValue } from '../model/narrow.ts'
import { narrowingColumns } from './columns.ts'
import type { Document } from './documents.ts'
import { listOf } from './roots.ts'

/** The narrowing of a root field with these arguments. Throws BAD_USER_INPUT, FORBIDDEN. */
export function narrowingOfArgs(model: Model, args: Readonly<Record<string, unknown>>, grant: Grant): Narrowing {
  const given = narrowingColumns(model).map(({ name }) => [name, args[name]])
  return narrowingOf(model, Object.fromEntries(given), grant)
}

/** Equal for equal narrowings. */
export function narrowingText(model: Model, narrowing: Narrowing): string {
  return Object.keys(narrowing)
    .sort()
    .map(
      (name) => `${name}:${codecs[model.columns.find((column) => column.name === name)!.type].text(narrowing[name])}`,
    )
    .join()
}

/** The cache keys of all pages that the document reads; undefined where an argument is wrong, or the grant may not see the rows. */
export function cacheKeysOf(
  document: Document,
  variables: Record<string, unknown>,
  grant: Grant,
): readonly string[] | undefined {
  try {
    const keys = document.roots(variables).map((root) => {
      const model = listOf(root)!
      return cacheKeyOf(model, narrowingOfArgs(model, root.args, grant))
    })
    return [...new Set(keys)]
  } catch (error) {
    if (error instanceof SpillwayError) return undefined
    throw error
  }
}

/** For each grant, a text of what it sees. Equal texts: it sees the same rows of every model. Empty: every row. */
export class Sights {
  readonly #models: readonly Model[]
  readonly #known = new WeakMap<Grant, string>()

  constructor(models: Models) {
    this.#models = [...models.values()].filter(({ visibleTo }) => visibleTo !== undefined)
  }

  of(grant: Grant): string {
    if (this.#models.length === 0) return ''
    const known = this.#known.get(grant)
    if (known !== undefined) return known
    const parts = this.#models.map((model) => sightOf(model, grant))
    // No request begins with this text and a line break: a request is JSON, and JSON is one value.
    const sight = parts.every((part) => part === '') ? '' : `${JSON.stringify(parts)}\n`
    this.#known.set(grant, sight)
    return sight
  }
}

/** Empty: every row. */
function sightOf(model: Model, grant: Grant): string {
  try {
    const visible = visibleValue(model, grant)
    return visible ? narrowingText(model, { [visible.column]: visible.value }) : ''
  } catch (error) {
    if (error instanceof SpillwayError) return 'none'
    throw error
  }
}
