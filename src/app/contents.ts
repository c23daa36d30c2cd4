/**
 * Reading contents. Invariants: a page comes from the cache only under the version that stands; however many ask for one page at once, a
 * process has one query for it under way; and nobody is given what a query read that began before they asked, unless the version proves
 * that nothing was announced in between.
 */
import type { Cache } from '../cache/cache.ts'
import type { PageQuery, Reader } from '../db/store.ts'
import { type Content, parseId } from '../model/content.ts'
import { type Meter, noMeter } from '../model/meter.ts'
import { parseJson, readDate } from '../model/parse.ts'
import { badInput } from './save.ts'

export const pageLimit = 100
export const pageDefault = 20

/** Rows, and when the store was read for them (performance.now() as the read began). */
interface Page {
  rows: Content[]
  readAt: number
}

interface Flight {
  running: Promise<Page>
  /** Who asks while a query runs without a version shares the one after it. */
  next: Promise<Page> | undefined
}

export class Contents {
  readonly #store: Reader
  readonly #cache: Cache
  readonly #meter: Meter
  readonly #flights = new Map<string, Flight>()
  #asked: Map<string, PromiseWithResolvers<Content | undefined>> | undefined

  constructor(store: Reader, cache: Cache, meter: Meter = noMeter) {
    this.#store = store
    this.#cache = cache
    this.#meter = meter
  }

  /**
   * A page, newest first. `onRead` is told when the store was read for it, for whoever keeps what is made of it. Throws BAD_USER_INPUT for a
   * cursor that names no content, STORE_UNAVAILABLE.
   */
  async page(query: PageQuery, onRead: (readAt: number) => void = () => {}): Promise<Content[]> {
    if (query.cursor !== undefined && parseId(query.cursor) !== query.cursor) throw unknownCursor()
    const key = `${query.take},${query.skip},${query.cursor ?? ''}`
    const { version, value, readAt: cachedAt } = await this.#cache.get(key)
    const kept = value === undefined ? undefined : parsePage(value, Math.abs(query.take))
    this.#meter.cacheRequest(kept ? 'hit' : version !== undefined ? 'miss' : 'away')
    const { rows, readAt } = kept
      ? { rows: kept, readAt: cachedAt }
      : await (version === undefined ? this.#uncached(key, query) : this.#cacheable(key, query, version))
    onRead(readAt)
    return rows
  }

  #cacheable(key: string, query: PageQuery, version: string): Promise<Page> {
    const flight = `${version} ${key}`
    let running = this.#flights.get(flight)?.running
    if (!running) {
      running = this.#read(query)
        .then((page) => {
          this.#cache.set(key, version, formatPage(page.rows), page.readAt)
          return page
        })
        .finally(() => this.#flights.delete(flight))
      this.#flights.set(flight, { running, next: undefined })
    }
    return running
  }

  /** Without a version, only a query that begins after now will do. */
  #uncached(key: string, query: PageQuery): Promise<Page> {
    const flight = this.#flights.get(key)
    if (flight) {
      flight.next ??= flight.running.then(
        () => this.#uncached(key, query),
        () => this.#uncached(key, query),
      )
      return flight.next
    }
    const running = this.#read(query).finally(() => this.#flights.delete(key))
    this.#flights.set(key, { running, next: undefined })
    return running
  }

  async #read(query: PageQuery): Promise<Page> {
    const readAt = performance.now()
    const rows = await this.#store.page(query)
    if (rows === undefined) throw unknownCursor()
    return { rows, readAt }
  }

  /** One content; undefined when there is none. All that are asked for in a tick are one query. Throws STORE_UNAVAILABLE. */
  find(id: string): Promise<Content | undefined> {
    if (!this.#asked) {
      this.#asked = new Map()
      setImmediate(() => this.#fetch())
    }
    let asked = this.#asked.get(id)
    if (!asked) {
      asked = Promise.withResolvers()
      this.#asked.set(id, asked)
    }
    return asked.promise
  }

  async #fetch(): Promise<void> {
    const asked = [...this.#asked!]
    this.#asked = undefined
    for (let i = 0; i < asked.length; i += 1_000) {
      const chunk = asked.slice(i, i + 1_000)
      try {
        const rows = new Map((await this.#store.find(chunk.map(([id]) => id))).map((row) => [row.id, row]))
        for (const [id, { resolve }] of chunk) resolve(rows.get(id))
      } catch (error) {
        for (const [, { reject }] of chunk) reject(error)
      }
    }
  }
}

function formatPage(rows: readonly Content[]): string {
  return JSON.stringify(rows.map(({ id, content, createdAt, savedAt }) => [id, content, +createdAt, +savedAt]))
}

/** Undefined where the text is no page of ours: another release, or another program, may have written it to the cache. */
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
