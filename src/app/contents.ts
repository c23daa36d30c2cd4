/**
 * Reading contents. Invariants: a cached page is used only under the current version; a process runs one query at a time for a page,
 * whatever the number of its readers; and a reader joins a query that is already running only if the version proves that no save was
 * published since the query began.
 */
import type { Cache } from '../cache/cache.ts'
import type { PageQuery, Reader } from '../db/store.ts'
import { coalesce } from '../model/coalesce.ts'
import { type Content, parseId } from '../model/content.ts'
import { badInput } from '../model/error.ts'
import { type Meter, noMeter } from '../model/meter.ts'
import { parseJson, readDate } from '../model/parse.ts'
import { SingleFlight } from '../model/single-flight.ts'
import { Bytes, largeBytes } from './bytes.ts'
import { bytesOfOperation, Reads, tooLarge } from './reads.ts'

export const pageLimit = 100
export const pageDefault = 20

/** Rows, their size in bytes as JSON, and when the read of the store began (performance.now()). */
interface Page {
  rows: Content[]
  bytes: number
  readAt: number
}

export class Contents {
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
  /** One row; undefined when there is none. All ids of a tick are one query. Rejects with STORE_UNAVAILABLE, OVERLOADED. */
  readonly find: (id: string) => Promise<Content | undefined>

  constructor(deps: { store: Reader; cache: Cache; meter?: Meter; reads?: Reads }) {
    const { store, cache, meter = noMeter, reads = new Reads({ bytes: new Bytes() }, { rowBytes: 65_536 }) } = deps
    this.#store = store
    this.#cache = cache
    this.#meter = meter
    this.#reads = reads
    this.find = coalesce((ids) => this.#rows(ids), Math.min(1_000, reads.rowsAtOnce))
  }

  /**
   * A page, newest first. `onRead` gets the time at which the store was read, from which the time to live of a cached response counts.
   * `operation` is the same object for all pages of one operation: they share one bound. Throws BAD_USER_INPUT for a cursor that names no
   * content and for too many rows or bytes, STORE_UNAVAILABLE, OVERLOADED.
   */
  async page(
    query: PageQuery,
    onRead: (readAt: number) => void = () => {},
    operation: object = {},
  ): Promise<Content[]> {
    if (query.cursor !== undefined && parseId(query.cursor) !== query.cursor) throw unknownCursor()
    const count = Math.abs(query.take)
    this.#reads.ask(operation, Math.max(0, count - 1))
    const key = `${query.take},${query.skip},${query.cursor ?? ''}`
    let waiting = this.#waiting.get(key)
    const joins = waiting !== undefined
    if (!waiting) {
      const begin = () => {
        this.#waiting.delete(key)
        return this.#page(key, query)
      }
      waiting = this.#reads.page(count, begin).finally(() => {
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

  async #page(key: string, query: PageQuery): Promise<Page> {
    const { version, value, readAt } = await this.#cache.get(key)
    if (value !== undefined && value.length > largeBytes) await this.#reads.bytes.turn()
    const cached = value === undefined ? undefined : parsePage(value, Math.abs(query.take))
    this.#meter.cacheRequest(cached ? 'hit' : version !== undefined ? 'miss' : 'unavailable')
    if (cached) return { rows: cached, bytes: sizeOf(value!), readAt }
    const page = await (version === undefined ? this.#uncached(key, query) : this.#cacheable(key, query, version))
    // The first reader renders it in the same turn of the event loop.
    if (page.bytes > largeBytes) await this.#reads.bytes.turn()
    return page
  }

  #cacheable(key: string, query: PageQuery, version: string): Promise<Page> {
    return this.#cacheableReads.run(`${version} ${key}`, async () => {
      const { text, ...page } = await this.#read(query)
      this.#cache.set(key, version, text, page.readAt)
      return page
    })
  }

  /** Without a version, a reader must not join a running query: all readers that arrive while it runs share the next one. */
  #uncached(key: string, query: PageQuery): Promise<Page> {
    const read = this.#uncachedReads.get(key)
    if (read) {
      const again = () => this.#uncached(key, query)
      read.next ??= read.running.then(again, again)
      return read.next
    }
    const running = this.#read(query).finally(() => this.#uncachedReads.delete(key))
    this.#uncachedReads.set(key, { running, next: undefined })
    return running
  }

  /**
   * The page and its text, read in as many statements as bound the rows of each, whatever the size of a row. Throws BAD_USER_INPUT as soon
   * as it has more bytes than an operation may read.
   */
  async #read({ take, skip, cursor }: PageQuery): Promise<Page & { text: string }> {
    const readAt = performance.now()
    const sign = Math.sign(take)
    const all: Content[] = []
    const texts: string[] = []
    let bytes = 0
    let from = { skip, ...(cursor === undefined ? {} : { cursor }) }
    for (let left = Math.abs(take); left > 0; ) {
      const count = Math.min(left, this.#reads.rowsAtOnce)
      const rows = await this.#store.page({ take: sign * count, ...from })
      if (rows === undefined) throw unknownCursor()
      const formatted = rows.map((row) => {
        const text = formatRow(row)
        bytes += sizeOf(text) + 1
        if (bytes > bytesOfOperation) throw tooLarge()
        return text
      })
      if (sign > 0) {
        all.push(...rows)
        texts.push(...formatted)
      } else {
        all.unshift(...rows)
        texts.unshift(...formatted)
      }
      left -= count
      if (rows.length < count) break
      from = { skip: 1, cursor: (sign > 0 ? rows.at(-1) : rows[0])!.id }
    }
    return { rows: all, bytes, readAt, text: `[${texts.join(',')}]` }
  }

  async #rows(ids: string[]): Promise<(Content | undefined)[]> {
    const found = await this.#reads.some(ids.length, () => this.#store.find(ids))
    const rows = new Map(found.map((row) => [row.id, row]))
    return ids.map((id) => rows.get(id))
  }
}

/** In bytes where the text is long; else its length, which is close enough. */
const sizeOf = (text: string) => (text.length > 1_000 ? Buffer.byteLength(text) : text.length)

function formatRow({ id, content, createdAt, savedAt }: Content): string {
  return JSON.stringify([id, content, +createdAt, +savedAt])
}

/** Undefined where the text is no page: another release, or another program, may have written it to the cache. */
function parsePage(text: string, atMost: number): Content[] | undefined {
  const parsed = parseJson(text)
  if (!Array.isArray(parsed) || parsed.length > atMost) return undefined
  const rows = parsed.map(parseRow)
  return rows.every((row) => row !== undefined) ? rows : undefined
}

function parseRow(value: unknown): Content | undefined {
  if (!Array.isArray(value)) return undefined
  const [id, content] = value
  const createdAt = readDate(value[2])
  const savedAt = readDate(value[3])
  if (typeof id !== 'string' || typeof content !== 'string' || !createdAt || !savedAt) return undefined
  return { id, content, createdAt, savedAt }
}

function unknownCursor() {
  return badInput('the cursor names no content; use one that a page of contents gave')
}
