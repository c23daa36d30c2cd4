/**
 * Reading rows. Invariants: a cached page is used only under the current version; a process runs one query at a time for a page,
 * whatever the number of its readers; and a reader joins a query that is already running only if the version proves that no save was
 * published since the query began.
 */
import type { Cache } from '../cache/cache.ts'
import type { PageQuery, Reader } from '../db/store.ts'
import { coalesce } from '../model/coalesce.ts'
import { badInput } from '../model/error.ts'
import { parseId } from '../model/input.ts'
import { type Meter, noMeter } from '../model/meter.ts'
import { type Model, type Models, maxSizeOf, type Row, readRow, rowText } from '../model/model.ts'
import { cacheKeyOf, matches } from '../model/narrow.ts'
import { parseJson } from '../model/parse.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { Bytes, largeBytes } from './bytes.ts'
import { bytesOfOperation, Reads, rowsAtOnce, tooLarge } from './reads.ts'

export const pageLimit = 100
export const pageDefault = 20

/** Rows, their size in bytes as JSON, and when the read of the store began (performance.now()). */
interface Page {
  rows: Row[]
  bytes: number
  readAt: number
}

/** A row that an operation asks for. */
export interface Selected {
  model: Model
  id: string
  /** Where it was read already. */
  row?: Row | undefined
}

type Find = (model: Model, ids: string[]) => Promise<(Row | undefined)[]>

/** So many bytes of rows are read together with those of other operations. */
const fewBytes = 1024 * 1024
/** Of the rows of receipts that one statement may read: its result is decoded in one turn of the event loop. */
const bytesAtOnce = 4 * 1024 * 1024

export class Rows {
  readonly #models: Models
  readonly #store: Reader
  readonly #cache: Cache
  readonly #meter: Meter
  readonly #reads: Reads
  /** Pages whose read has not begun yet: all readers that come meanwhile share it. */
  readonly #waiting = new Map<string, Promise<Page>>()
  /** By version and page. */
  readonly #cacheableReads = new SingleFlight<Page>()
  /** By page: reads while the cache is unavailable. */
  readonly #uncachedReads = new Map<string, { running: Promise<Page>; next: Promise<Page> | undefined }>()
  /** By operation. */
  readonly #selects = new WeakMap<object, (wanted: Selected) => Promise<Row | undefined | Error>>()
  readonly #finds: ReadonlyMap<Model, (id: string) => Promise<Row | undefined>>

  constructor(deps: { models: Models; store: Reader; cache: Cache; meter?: Meter; reads?: Reads }) {
    const { models, store, cache, meter = noMeter, reads = new Reads({ bytes: new Bytes() }) } = deps
    this.#models = models
    this.#store = store
    this.#cache = cache
    this.#meter = meter
    this.#reads = reads
    this.#finds = new Map(
      [...models.values()].map((model) => {
        const most = Math.min(1_000, rowsAtOnce(maxSizeOf(model)))
        return [model, coalesce((ids) => this.#rows(model, ids), most)]
      }),
    )
  }

  /** One row; undefined when there is none. All ids of a tick are one query. Rejects with STORE_UNAVAILABLE, OVERLOADED. */
  find(model: Model, id: string): Promise<Row | undefined> {
    return this.#finds.get(model)!(id)
  }

  /**
   * As `find`, for an operation that returns rows of receipts. All rows that an operation asks for in a tick are read together. Throws BAD_USER_INPUT for those that are too many bytes.
   */
  async select(operation: object, wanted: Selected): Promise<Row | undefined> {
    if (wanted.row) {
      this.#count(operation, wanted.model, wanted.row)
      return wanted.row
    }
    let select = this.#selects.get(operation)
    if (!select) {
      select = coalesce((all) => this.#select(operation, all))
      this.#selects.set(operation, select)
    }
    const found = await select(wanted)
    if (found instanceof Error) throw found
    return found
  }

  async #select(operation: object, wanted: readonly Selected[]): Promise<(Row | undefined | Error)[]> {
    const most = wanted.reduce((sum, { model }) => sum + maxSizeOf(model), 0)
    // Few rows are read together with those of other operations.
    const find: Find = (model, ids) => Promise.all(ids.map((id) => this.find(model, id)))
    if (most <= fewBytes) return await this.#selectBy(find, operation, wanted)
    // Twice the bytes of a page, because no other operation shares what is decoded, counted and rendered.
    return await this.#reads.page(2 * most, async () => {
      const found = await this.#selectBy((model, ids) => this.#byIds(model, ids), operation, wanted)
      // They are rendered in the same turn of the event loop.
      await this.#reads.bytes.turn()
      return found
    })
  }

  async #selectBy(find: Find, operation: object, wanted: readonly Selected[]): Promise<(Row | undefined | Error)[]> {
    const found = new Map<Selected, Row | undefined | Error>()
    for (const [model, ofModel] of Map.groupBy(wanted, ({ model }) => model)) {
      const atOnce = Math.min(1_000, Math.max(1, Math.floor(bytesAtOnce / maxSizeOf(model))))
      for (let i = 0; i < ofModel.length; i += atOnce) {
        try {
          const some = ofModel.slice(i, i + atOnce)
          const rows = await find(
            model,
            some.map(({ id }) => id),
          )
          for (const [j, row] of rows.entries()) {
            if (row) this.#count(operation, model, row)
            found.set(some[j]!, row)
          }
        } catch (error) {
          // Nothing more is read for an operation that has too many bytes already, nor of a table that cannot be read.
          for (const one of ofModel.slice(i)) if (!found.has(one)) found.set(one, error as Error)
          break
        }
      }
    }
    return wanted.map((one) => found.get(one))
  }

  #count(operation: object, model: Model, row: Row): void {
    this.#reads.got(operation, sizeOf(rowText(model, row)))
  }

  /**
   * As `find`, of whichever model has the id: an id names one row. `first` is asked first. A table that cannot be read keeps no row of
   * another one away.
   */
  async findAny(id: string, first?: Model): Promise<{ model: Model; row: Row } | undefined> {
    const failures: unknown[] = []
    for (const model of new Set([...(first ? [first] : []), ...this.#models.values()])) {
      try {
        const row = await this.find(model, id)
        if (row) return { model, row }
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
    return undefined
  }

  /**
   * A page of the rows of a narrowing, newest first; of the primary if the query says so, also from the cache. `onRead` gets the time at which the store was read, from which the time to live of a cached response counts.
   * `operation` is the same object for all pages of one operation: they share one bound. Throws BAD_USER_INPUT for a cursor that names no
   * row and for too many rows or bytes, STORE_UNAVAILABLE, OVERLOADED.
   */
  async page(
    model: Model,
    query: PageQuery,
    onRead: (readAt: number) => void = () => {},
    operation: object = {},
  ): Promise<Row[]> {
    if (query.cursor !== undefined && parseId(query.cursor) !== query.cursor) throw unknownCursor(model)
    const count = Math.abs(query.take)
    this.#reads.ask(operation, Math.max(0, count - 1))
    const replica = this.#store.hasReplica && !query.primary
    const key = pageKeyOf(model, query, replica ? 'replica' : 'primary')
    let waiting = this.#waiting.get(key)
    const joins = waiting !== undefined
    if (!waiting) {
      const begin = () => {
        this.#waiting.delete(key)
        return this.#page(model, key, query)
      }
      waiting = this.#reads.page(count * maxSizeOf(model), begin).finally(() => {
        // There was no room: the read never began.
        if (this.#waiting.get(key) === waiting) this.#waiting.delete(key)
      })
      this.#waiting.set(key, waiting)
    }
    const { rows, bytes, readAt } = await waiting
    this.#reads.got(operation, bytes)
    // Each reader of a shared page renders it by itself.
    if (joins && bytes > largeBytes) await this.#reads.bytes.turn()
    onRead(readAt)
    return rows
  }

  async #page(model: Model, key: string, query: PageQuery): Promise<Page> {
    const { version, value, readAt } = await this.#cache.get(cacheKeyOf(model, query.where), key)
    if (value !== undefined && value.length > largeBytes) await this.#reads.bytes.turn()
    const cached = value === undefined ? undefined : parsePage(model, value, Math.abs(query.take))
    this.#meter.cacheRequest(model.name, cached ? 'hit' : version !== undefined ? 'miss' : 'unavailable')
    if (cached) return { rows: cached, bytes: sizeOf(value!), readAt }
    const page = await (version === undefined
      ? this.#uncached(model, key, query)
      : this.#cacheable(model, key, query, version))
    // The first reader renders it in the same turn of the event loop.
    if (page.bytes > largeBytes) await this.#reads.bytes.turn()
    return page
  }

  #cacheable(model: Model, key: string, query: PageQuery, version: string): Promise<Page> {
    return this.#cacheableReads.run(`${version} ${key}`, async () => {
      const { text, ...page } = await this.#read(model, query)
      this.#cache.set(key, version, text, page.readAt)
      return page
    })
  }

  /** Without a version, a reader must not join a running query: all readers that arrive while it runs share the next one. */
  #uncached(model: Model, key: string, query: PageQuery): Promise<Page> {
    const read = this.#uncachedReads.get(key)
    if (read) {
      const again = () => this.#uncached(model, key, query)
      read.next ??= read.running.then(again, again)
      return read.next
    }
    const running = this.#read(model, query).finally(() => this.#uncachedReads.delete(key))
    this.#uncachedReads.set(key, { running, next: undefined })
    return running
  }

  /**
   * The page and its text, read in as many statements as bound the rows of each, whatever the size of a row. Throws BAD_USER_INPUT as soon
   * as it has more bytes than an operation may read.
   */
  async #read(model: Model, query: PageQuery): Promise<Page & { text: string }> {
    const { take, skip, cursor, where } = query
    const readAt = performance.now()
    const sign = Math.sign(take)
    const atOnce = rowsAtOnce(maxSizeOf(model))
    const all: Row[] = []
    const texts: string[] = []
    let bytes = 0
    let from = { skip, ...(cursor === undefined ? {} : { cursor }) }
    for (let left = Math.abs(take); left > 0; ) {
      const count = Math.min(left, atOnce)
      const rows = await this.#store.page(model, { ...query, take: sign * count, ...from })
      if (rows === undefined) throw unknownCursor(model)
      // The database may compare text by rules of its own (a collation without case): then a row of another value is left out.
      const matching = rows.filter((row) => matches(where, row))
      const formatted = matching.map((row) => {
        const text = rowText(model, row)
        bytes += sizeOf(text) + 1
        if (bytes > bytesOfOperation) throw tooLarge()
        return text
      })
      if (sign > 0) {
        all.push(...matching)
        texts.push(...formatted)
      } else {
        all.unshift(...matching)
        texts.unshift(...formatted)
      }
      left -= count
      if (rows.length < count) break
      from = { skip: 1, cursor: (sign > 0 ? rows.at(-1) : rows[0])!.id }
    }
    return { rows: all, bytes, readAt, text: `[${texts.join(',')}]` }
  }

  #rows(model: Model, ids: string[]): Promise<(Row | undefined)[]> {
    return this.#reads.some(ids.length * maxSizeOf(model), () => this.#byIds(model, ids))
  }

  async #byIds(model: Model, ids: string[]): Promise<(Row | undefined)[]> {
    const found = await this.#store.find(model, ids)
    const rows = new Map(found.map((row) => [row.id, row]))
    return ids.map((id) => rows.get(id))
  }
}

/** In bytes where the text is long; else its length, which is close enough. */
const sizeOf = (text: string) => (text.length > 1_000 ? Buffer.byteLength(text) : text.length)

/**
 * Also distinct among models, whose cursors may be equal; and by the server that is read, since processes with another configuration, or of
 * another release, may share the cache.
 */
function pageKeyOf(model: Model, { take, skip, cursor, where }: PageQuery, server: 'primary' | 'replica'): string {
  const narrowed = JSON.stringify(where, (_, value) => (typeof value === 'bigint' ? String(value) : value))
  return `${model.name},${server},${take},${skip},${cursor ?? ''},${narrowed}`
}

/** Undefined where the text is no page: another release, or another program, may have written it to the cache. */
function parsePage(model: Model, text: string, atMost: number): Row[] | undefined {
  const parsed = parseJson(text)
  if (!Array.isArray(parsed) || parsed.length > atMost) return undefined
  const rows: Row[] = []
  for (const value of parsed) {
    const row = readRow(model, value)
    if (typeof row !== 'object') return undefined
    rows.push(row)
  }
  return rows
}

function unknownCursor({ names }: Model) {
  return badInput(`the cursor names no row of ${names.many}; use one that a page of ${names.many} gave`)
}
