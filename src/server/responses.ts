/**
 * Whole responses that depend on nothing but the contents, kept as bytes while the cache version stands. Invariant: a response is made
 * after the version it is kept under was read, so that it is never older than what anybody was told of (P5).
 */
import type { Cache } from '../cache/cache.ts'
import { Kept } from './kept.ts'

const mostKept = 1_000
const bytesKept = 32 * 1024 * 1024

export class Responses {
  readonly #cache: Pick<Cache, 'version'>
  readonly #kept = new Kept<{ version: string; body: Buffer }>(mostKept, bytesKept, ({ body }) => body.length)
  /** Of all keys there ever were: a key of another length need not be looked up, which takes reading all of it. */
  readonly #lengths = new Set<number>()
  readonly #making = new Map<string, Promise<Buffer | undefined>>()

  constructor(cache: Pick<Cache, 'version'>) {
    this.#cache = cache
  }

  /** Whether there is one under this key, of whatever version: worth asking for. */
  has(key: string): boolean {
    return this.#lengths.has(key.length) && this.#kept.get(key) !== undefined
  }

  /**
   * The response under `key`: kept, or made now, once for all who ask at the same time. `make` may say undefined: then this is
   * undefined, too, and nothing is kept.
   */
  async get(key: string, make: () => Promise<string | undefined>): Promise<Buffer | undefined> {
    const version = await this.#cache.version()
    const kept = this.#kept.get(key)
    if (kept !== undefined && kept.version === version) return kept.body
    // Without a version nothing proves that what somebody else is having made is new enough for this one.
    if (version === undefined) return await bytes(make())
    const name = `${version} ${key}`
    let making = this.#making.get(name)
    if (!making) {
      making = bytes(make())
        .then((body) => {
          if (body) {
            this.#kept.set(key, { version, body })
            this.#lengths.add(key.length)
          }
          return body
        })
        .finally(() => this.#making.delete(name))
      this.#making.set(name, making)
    }
    return await making
  }
}

async function bytes(text: Promise<string | undefined>): Promise<Buffer | undefined> {
  const made = await text
  return made === undefined ? undefined : Buffer.from(made)
}
