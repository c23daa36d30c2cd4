/** Pages in the memory of this process, bounded by their length; the version may be in another place (see Version). */
import type { Cache, Found, Version } from './cache.ts'

interface Page {
  version: string
  value: string
  readAt: number
}

export interface MemoryCacheOptions {
  ttlMs: number
  version: Version
  /** Of all pages together, in UTF-16 code units; what was not asked for longest goes first. */
  maxLength?: number
}

export class MemoryCache implements Cache {
  readonly #pages = new Map<string, Page>()
  readonly #options: Required<MemoryCacheOptions>
  #length = 0

  constructor(options: MemoryCacheOptions) {
    this.#options = { maxLength: 32 * 1024 * 1024, ...options }
  }

  get ttlMs(): number {
    return this.#options.ttlMs
  }

  async get(key: string): Promise<Found> {
    const version = await this.#options.version.current()
    const nothing = { version, value: undefined, readAt: 0 }
    const page = this.#pages.get(key)
    if (!page) return nothing
    this.#drop(key, page)
    if (page.version !== version || page.readAt + this.ttlMs <= performance.now()) return nothing
    this.#keep(key, page)
    return { version, value: page.value, readAt: page.readAt }
  }

  version(): Promise<string | undefined> | string {
    return this.#options.version.current()
  }

  set(key: string, version: string, value: string, readAt: number): void {
    const old = this.#pages.get(key)
    if (old) this.#drop(key, old)
    this.#keep(key, { version, value, readAt })
    for (const [oldest, page] of this.#pages) {
      if (this.#length <= this.#options.maxLength) break
      this.#drop(oldest, page)
    }
  }

  #keep(key: string, page: Page): void {
    this.#pages.set(key, page)
    this.#length += key.length + page.value.length
  }

  #drop(key: string, page: Page): void {
    this.#pages.delete(key)
    this.#length -= key.length + page.value.length
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
