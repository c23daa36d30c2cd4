/** A store in memory, for models that no Prisma client was generated for: what reads them and writes them is the product's own. */
import { type Limits, type PageQuery, type Store, StoreFault } from '../../src/db/store.ts'
import type { Model, Row } from '../../src/model/model.ts'
import { matches } from '../../src/model/narrow.ts'

export class MemoryStore implements Store {
  readonly hasReplica = false
  /** How often a page was read. */
  pages = 0
  readonly #rows = new Map<string, Map<string, Row>>()

  #of({ name }: Model): Map<string, Row> {
    const rows = this.#rows.get(name) ?? new Map<string, Row>()
    this.#rows.set(name, rows)
    return rows
  }

  async page(model: Model, { take, skip, cursor, where }: PageQuery): Promise<Row[] | undefined> {
    this.pages += 1
    const all = [...this.#of(model).values()]
      .filter((row) => matches(where, row))
      .sort((a, b) => +b.createdAt - +a.createdAt || (a.id < b.id ? 1 : -1))
    const at = cursor === undefined ? -1 : all.findIndex(({ id }) => id === cursor)
    if (cursor !== undefined && at < 0) return undefined
    if (take >= 0) return all.slice(Math.max(0, at) + skip, Math.max(0, at) + skip + take)
    const end = at < 0 ? all.length : at + 1 - skip
    return all.slice(Math.max(0, end + take), end)
  }

  async find(model: Model, ids: readonly string[]): Promise<Row[]> {
    return ids.flatMap((id) => this.#of(model).get(id) ?? [])
  }

  existing(model: Model, ids: readonly string[]): Promise<Row[]> {
    return this.find(model, ids)
  }

  async insert(model: Model, rows: readonly Row[]): Promise<void> {
    const known = this.#of(model)
    if (rows.some(({ id }) => known.has(id))) throw new StoreFault('duplicate', 'an id is taken')
    for (const row of rows) known.set(row.id, row)
  }

  /** Deletes a row, as `clear` does. */
  remove(model: Model, id: string): void {
    this.#of(model).delete(id)
  }

  /** Deletes all rows of the model, as somebody may in a database. */
  clear({ name }: Model): void {
    this.#rows.delete(name)
  }

  async probe(): Promise<void> {}

  limits(): Limits {
    return { rows: 1_000, bytes: 4 * 1024 * 1024 }
  }

  async prepare(): Promise<void> {}

  async close(): Promise<void> {}
}
