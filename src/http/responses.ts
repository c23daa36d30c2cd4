/**
 * A cache of response bodies that depend on nothing but rows. A body is valid while the versions of its cache keys are unchanged, and no longer
 * than a cached page. Its `savedCursor`s are not part of it: each response gets those of its own request, so that they do not expire in
 * a list to which nothing is written.
 * Invariants: a response is rendered after its version was read, so that it is never older than an event that a client has received (P5); its
 * time to live counts from when the store was read, even if the page itself came from the cache.
 */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.ts'
import { SingleFlight } from '../model/single-flight.ts'

const responsesCached = 1_000
/** Of all bodies, and of the characters of their keys. */
const bytesCached = 16 * 1024 * 1024

/** A rendered text has this in place of each `savedCursor`. Random, and never sent: no row has it. */
export const cursorMark = randomBytes(18).toString('base64url')
const markedString = JSON.stringify(cursorMark)

/** A buffer, and a cursor. */
const bytesOfPart = 200

/** A body that may be cached, as JSON, and when its oldest part was read (performance.now()). */
export interface Rendered {
  text: string
  readAt: number
}

interface Response {
  cacheKeys: readonly string[]
  version: string
  body: Body
  expiresAt: number
}

/** A rendered body. All responses with one cursor share their bytes, as all of a body without marks do. */
class Body {
  /** What is between the marks. */
  readonly #parts: readonly Buffer[]
  #latest: { cursor: string | null; bytes: Buffer } | undefined

  constructor(text: string) {
    this.#parts = text.split(markedString).map((part) => Buffer.from(part))
  }

  /** The bytes that it keeps in memory, about. */
  get size(): number {
    const { length } = this.#parts
    const size = this.#parts.reduce((sum, part) => sum + part.length, 0)
    return length === 1 ? size : 2 * size + length * bytesOfPart
  }

  /** With the cursor in place of each mark; undefined if it has marks and there is no cursor. */
  with(cursor: string | null | undefined): Buffer | undefined {
    if (this.#parts.length === 1) return this.#parts[0]
    if (cursor === undefined) return undefined
    if (this.#latest?.cursor !== cursor) {
      const inserted = Buffer.from(JSON.stringify(cursor))
      const bytes = Buffer.concat(this.#parts.flatMap((part, i) => (i === 0 ? [part] : [inserted, part])))
      this.#latest = { cursor, bytes }
    }
    return this.#latest.bytes
  }
}

/** One instance per kind of request: a key may be any text, so that two kinds must not share an instance. */
export class Responses {
  readonly #cache: Pick<Cache, 'version' | 'ttlMs'>
  readonly #cached = new LRUCache<string, Response>({
    max: responsesCached,
    maxSize: bytesCached,
    sizeCalculation: ({ body }, key) => key.length + body.size,
  })
  /** The lengths of all keys so far: a lookup, which hashes the key, is skipped for a key of another length. */
  readonly #lengths = new Set<number>()
  readonly #renders = new SingleFlight<Body | undefined>()

  constructor(cache: Pick<Cache, 'version' | 'ttlMs'>) {
    this.#cache = cache
  }

  /** Whether a response is cached under the key, of any version. */
  has(key: string): boolean {
    return this.#lengths.has(key.length) && this.#cached.has(key)
  }

  /**
   * The response under `key`: cached, or rendered now, once for all concurrent calls. `cacheKeysOf` returns the cache keys of its pages, which
   * must follow from `key`. If that or `render` returns undefined, so does this, and nothing is cached. `savedCursor` was taken before this
   * call, and takes the place of each mark; while it is undefined, a response with marks is not returned.
   */
  async get(
    key: string,
    cacheKeysOf: () => readonly string[] | undefined,
    render: () => Promise<Rendered | undefined>,
    savedCursor: string | null | undefined,
  ): Promise<Buffer | undefined> {
    const cached = this.#cached.get(key)
    const cacheKeys = cached?.cacheKeys ?? cacheKeysOf()
    if (!cacheKeys) return undefined
    const version = await this.#cache.version(cacheKeys)
    if (cached !== undefined && cached.version === version && cached.expiresAt > performance.now())
      return cached.body.with(savedCursor)
    // Without a version, a response that is being rendered for another request may be too old for this one.
    if (version === undefined) {
      const rendered = await render()
      return rendered && new Body(rendered.text).with(savedCursor)
    }
    const body = await this.#renders.run(`${version} ${key}`, async () => {
      const rendered = await render()
      if (!rendered) return undefined
      const body = new Body(rendered.text)
      const expiresAt = rendered.readAt + this.#cache.ttlMs
      this.#cached.set(key, { cacheKeys, version, body, expiresAt })
      this.#lengths.add(key.length)
      return body
    })
    return body?.with(savedCursor)
  }
}
