/** Pages in the memory of this process, bounded by their length; the version may be in another place (see Version). */
import { LRUCache } from 'lru-cache'
import type { Cache, Found, Version } from './cache.ts'

interface Page {
  version: string
  value: string
  readAt: number
}

/** Of all keys and pages together, in UTF-16 code units; the least recently used page is dropped first. */
const maxLength = 32 * 1024 * 1024

export interface MemoryCacheOptions {
  ttlMs: number
  version: Version
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

  async get(key: string): Promise<Found> {
    const version = await this.#options.version.current()
    const nothing = { version, value: undefined, readAt: 0 }
    const page = this.#pages.get(key)
    if (!page) return nothing
    if (page.version !== version || page.readAt + this.ttlMs <= performance.now()) {
      this.#pages.delete(key)
      return nothing
    }
    return { version, value: page.value, readAt: page.readAt }
  }

  version(): Promise<string | undefined> | string {
    return this.#options.version.current()
  }

  set(key: string, version: string, value: string, readAt: number): void {
    this.#pages.set(key, { version, value, readAt })
  }

  invalidate(): Promise<void> {
    return this.#options.version.invalidate()
  }

  probe(): Promise<string | undefined> {
    return this.#options.version.probe()
  }

  async close(): Promise<void> {
    this.#pages.clear()
    this.#options.version.close()
  }
}

/** A version that the threads of one process share: for the embedded worker. */
export class SharedVersion implements Version {
  readonly #counter: BigInt64Array

  readonly buffer: SharedArrayBuffer

  constructor(buffer = new SharedArrayBuffer(8)) {
    this.buffer = buffer
    this.#counter = new BigInt64Array(buffer)
  }

  current(): string {
    return String(Atomics.load(this.#counter, 0))
  }

  async invalidate(): Promise<void> {
    Atomics.add(this.#counter, 0, 1n)
  }

  async probe(): Promise<undefined> {}

  close(): void {}
}
