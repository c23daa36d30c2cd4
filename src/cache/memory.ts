/** Pages in the memory of this process, bounded by their length; the versions may be in another place (see Versions). */
import { LRUCache } from 'lru-cache'
import type { Cache, Found, Versions } from './cache.ts'

interface Page {
  version: string
  value: string
  readAt: number
}

/** Of all keys and pages together, in UTF-16 code units; the least recently used page is dropped first. */
const maxLength = 32 * 1024 * 1024

export interface MemoryCacheOptions {
  ttlMs: number
  versions: Versions
}

export class MemoryCache implements Cache {
  readonly #pages = new LRUCache<string, Page>({
    maxSize: maxLength,
    sizeCalculation: ({ value }, key) => key.length + value.length || 1,
  })
  readonly #options: MemoryCacheOptions

  constructor(options: MemoryCacheOptions) {
    this.#options = options
  }

  get ttlMs(): number {
    return this.#options.ttlMs
  }

  async get(cacheKey: string, key: string): Promise<Found> {
    const version = await this.#options.versions.current([cacheKey])
    const nothing = { version, value: undefined, readAt: 0 }
    const page = this.#pages.get(key)
    if (!page) return nothing
    if (page.version !== version || page.readAt + this.ttlMs <= performance.now()) {
      this.#pages.delete(key)
      return nothing
    }
    return { version, value: page.value, readAt: page.readAt }
  }

  version(cacheKeys: readonly string[]): Promise<string | undefined> | string {
    return this.#options.versions.current(cacheKeys)
  }

  set(key: string, version: string, value: string, readAt: number): void {
    this.#pages.set(key, { version, value, readAt })
  }

  invalidate(cacheKeys: readonly string[]): Promise<void> {
    return this.#options.versions.invalidate(cacheKeys)
  }

  probe(): Promise<string | undefined> {
    return this.#options.versions.probe()
  }

  async close(): Promise<void> {
    this.#pages.clear()
    this.#options.versions.close()
  }
}

/** The number of counters: keys that share one only cause misses. */
const counters = 16_384

/** Versions that the threads of one process share: for the embedded worker. */
export class SharedVersions implements Versions {
  static readonly bytes = counters * BigUint64Array.BYTES_PER_ELEMENT
  readonly #counters: BigUint64Array

  constructor(buffer = new SharedArrayBuffer(SharedVersions.bytes)) {
    this.#counters = new BigUint64Array(buffer)
  }

  current(cacheKeys: readonly string[]): string {
    if (cacheKeys.length === 1) return String(Atomics.load(this.#counters, counterOf(cacheKeys[0]!)))
    return cacheKeys.map((key) => Atomics.load(this.#counters, counterOf(key))).join()
  }

  async invalidate(cacheKeys: readonly string[]): Promise<void> {
    for (const key of cacheKeys) Atomics.add(this.#counters, counterOf(key), 1n)
  }

  async probe(): Promise<undefined> {}

  close(): void {}
}

/** FNV-1a. */
function counterOf(key: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return (hash >>> 0) % counters
}
