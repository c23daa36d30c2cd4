/**
 * A cache of response bodies that depend on nothing but rows. A body is valid while the versions of its cache keys are unchanged, and no longer
 * than a cached page.
 * Invariants: a response is rendered after its version was read, so that it is never older than an event that a client has received (P5); its
 * time to live counts from when the store was read, even if the page itself came from the cache.
 */
import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.ts'
import { SingleFlight } from '../model/single-flight.ts'

const responsesCached = 1_000
/** Of all bodies, and of the characters of their keys. */
const bytesCached = 16 * 1024 * 1024

/** A body that may be cached, and when its oldest part was read (performance.now()). */
export interface Rendered {
  text: string
  readAt: number
}

interface Response {
  cacheKeys: readonly string[]
  version: string
  body: Buffer
  expiresAt: number
}

/** One instance per kind of request: a key may be any text, so that two kinds must not share an instance. */
export class Responses {
  readonly #cache: Pick<Cache, 'version' | 'ttlMs'>
  readonly #cached = new LRUCache<string, Response>({
    max: responsesCached,
    maxSize: bytesCached,
    sizeCalculation: ({ body }, key) => key.length + body.length,
  })
  /** The lengths of all keys so far: a lookup, which hashes the key, is skipped for a key of another length. */
  readonly #lengths = new Set<number>()
  readonly #renders = new SingleFlight<Buffer | undefined>()

  constructor(cache: Pick<Cache, 'version' | 'ttlMs'>) {
    this.#cache = cache
  }

  /** Whether a response is cached under the key, of any version. */
  has(key: string): boolean {
    return this.#lengths.has(key.length) && this.#cached.has(key)
  }

  /**
   * The response under `key`: cached, or rendered now, once for all concurrent calls. `cacheKeysOf` returns the cache keys of its pages, which
   * must follow from `key`. If that or `render` returns undefined, so does this, and nothing is cached.
   */
  async get(
    key: string,
    cacheKeysOf: () => readonly string[] | undefined,
    render: () => Promise<Rendered | undefined>,
  ): Promise<Buffer | undefined> {
    const cached = this.#cached.get(key)
    const cacheKeys = cached?.cacheKeys ?? cacheKeysOf()
    if (!cacheKeys) return undefined
    const version = await this.#cache.version(cacheKeys)
    if (cached !== undefined && cached.version === version && cached.expiresAt > performance.now()) return cached.body
    // Without a version, a response that is being rendered for another request may be too old for this one.
    if (version === undefined) return (await bytes(render()))?.body
    return await this.#renders.run(`${version} ${key}`, async () => {
      const rendered = await bytes(render())
      if (!rendered) return undefined
      const expiresAt = rendered.readAt + this.#cache.ttlMs
      this.#cached.set(key, { cacheKeys, version, body: rendered.body, expiresAt })
      this.#lengths.add(key.length)
      return rendered.body
    })
  }
}

async function bytes(rendering: Promise<Rendered | undefined>): Promise<{ body: Buffer; readAt: number } | undefined> {
  const rendered = await rendering
  return rendered && { body: Buffer.from(rendered.text), readAt: rendered.readAt }
}
