/**
 * Whole responses that depend on nothing but the contents, kept as bytes while the cache version stands, and no longer than a page may be.
 * Invariants: a response is made after the version it is kept under was read, so that it is never older than what anybody was told of (P5);
 * its time to live counts from when the store was read, not from when it was made of a page that was kept already.
 */
import { LRUCache } from 'lru-cache'
import type { Cache } from '../cache/cache.ts'
import { SingleFlight } from '../model/single-flight.ts'

const responsesCached = 1_000
/** Of all bodies, and of the characters of their keys. */
const bytesCached = 16 * 1024 * 1024

/** One that may be kept, and when the oldest of what it is made of was read (performance.now()). */
export interface Made {
  text: string
  readAt: number
}

interface Response {
  version: string
  body: Buffer
  expiresAt: number
}

/** Of one way of asking: what is a key here may be anything, so that two ways must not share them. */
export class Responses {
  readonly #cache: Pick<Cache, 'version' | 'ttlMs'>
  readonly #cached = new LRUCache<string, Response>({
    max: responsesCached,
    maxSize: bytesCached,
    sizeCalculation: ({ body }, key) => key.length + body.length,
  })
  /** Of all keys there ever were: a key of another length need not be looked up, which takes reading all of it. */
  readonly #lengths = new Set<number>()
  readonly #making = new SingleFlight<Buffer | undefined>()

  constructor(cache: Pick<Cache, 'version' | 'ttlMs'>) {
    this.#cache = cache
  }

  /** Whether there is one under this key, of whatever version: worth asking for. */
  has(key: string): boolean {
    return this.#lengths.has(key.length) && this.#cached.has(key)
  }

  /**
   * The response under `key`: kept, or made now, once for all who ask at the same time. `make` may say undefined: then this is
   * undefined, too, and nothing is kept.
   */
  async get(key: string, make: () => Promise<Made | undefined>): Promise<Buffer | undefined> {
    const version = await this.#cache.version()
    const cached = this.#cached.get(key)
    if (cached !== undefined && cached.version === version && cached.expiresAt > performance.now()) return cached.body
    // Without a version nothing proves that what somebody else is having made is new enough for this one.
    if (version === undefined) return (await bytes(make()))?.body
    return await this.#making.run(`${version} ${key}`, async () => {
      const made = await bytes(make())
      if (!made) return undefined
      this.#cached.set(key, { version, body: made.body, expiresAt: made.readAt + this.#cache.ttlMs })
      this.#lengths.add(key.length)
      return made.body
    })
  }
}

async function bytes(making: Promise<Made | undefined>): Promise<{ body: Buffer; readAt: number } | undefined> {
  const made = await making
  return made && { body: Buffer.from(made.text), readAt: made.readAt }
}
