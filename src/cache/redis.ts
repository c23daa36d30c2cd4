/**
 * Pages, or only their version, on a Redis. The version is a random text and not a counter: after an eviction a counter would start again,
 * and old pages would be valid again.
 */
import { randomBytes } from 'node:crypto'
import { coalesce } from '../model/coalesce.ts'
import type { Log } from '../model/log.ts'
import type { RedisAddress } from '../redis/address.ts'
import { RedisConnection } from '../redis/connection.ts'
import type { Cache, Found, Version } from './cache.ts'

/** Works on a full server, too (the queue's Redis may be full): DEL takes no memory, and a script that has begun to write may go on. */
const invalidateScript = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], ARGV[1])"

const newVersion = () => randomBytes(12).toString('base64url')

/** The pages and their version on a Redis of their own: one MGET for all reads of a tick. */
export class RedisCache implements Cache {
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly ttlMs: number
  /** The page under a key, and the version. The empty key, which no page has, asks for the version alone. */
  readonly get = coalesce((keys: string[]) => this.#read(keys))

  constructor(address: RedisAddress, options: { ttlMs: number; log: Log }) {
    this.#connection = new RedisConnection(address, { role: 'cache', log: options.log, deadlineMs: 1_000 })
    this.#prefix = `{${address.prefix}:cache}:`
    this.ttlMs = options.ttlMs
  }

  async version(): Promise<string | undefined> {
    return (await this.get('')).version
  }

  async #read(keys: string[]): Promise<Found[]> {
    let version: string | undefined
    let pages: (string | null)[] = []
    try {
      const [stored = null, ...found] = await this.#connection.ask((client) =>
        client.mget(`${this.#prefix}version`, ...keys.map((key) => `${this.#prefix}page:${key}`)),
      )
      version = stored ?? (await this.#firstVersion())
      pages = found
    } catch {
      // The cache is unavailable: a version of undefined says so.
    }
    return keys.map((_, i) => ({ version, value: undefined, readAt: 0, ...pageOf(pages[i], version) }))
  }

  /** Sets a version if there is none (evicted, or the first one ever), and returns the current one. */
  #firstVersion(): Promise<string> {
    const version = newVersion()
    return this.#connection.ask(async (client) => {
      await client.set(`${this.#prefix}version`, version, 'NX')
      return (await client.get(`${this.#prefix}version`)) ?? version
    })
  }

  set(key: string, version: string, value: string, readAt: number): void {
    const ageMs = Math.max(0, performance.now() - readAt)
    const leftMs = Math.floor(this.ttlMs - ageMs)
    if (leftMs <= 0) return
    const page = `${version}\n${Math.round(Date.now() - ageMs)}\n${value}`
    this.#connection
      .ask((client) => client.set(`${this.#prefix}page:${key}`, page, 'PX', leftMs))
      .catch(() => {
        // The page is not cached then.
      })
  }

  async invalidate(): Promise<void> {
    await this.#connection.ask((client) => client.set(`${this.#prefix}version`, newVersion()))
  }

  probe(): Promise<string | undefined> {
    return this.#connection.probe(async (client) => {
      await client.mget(`${this.#prefix}version`, `${this.#prefix}probe`)
      await client.set(`${this.#prefix}probe`, '', 'PX', 1_000)
      return undefined
    })
  }

  async close(): Promise<void> {
    this.#connection.close()
  }
}

/**
 * A page as `set` wrote it: its version, the time of the read by the clock of the reading machine, and the value. Redis ends its time to
 * live; that clock only gives its age, so that a wrong clock cannot make a page live longer than its time to live on Redis.
 */
function pageOf(page: string | null | undefined, version: string | undefined): Partial<Found> {
  if (version === undefined || !page?.startsWith(`${version}\n`)) return {}
  const begin = version.length + 1
  const end = page.indexOf('\n', begin)
  const readAt = page.slice(begin, Math.max(begin, end))
  // Written by another release, or by another program.
  if (!/^\d{1,15}$/.test(readAt)) return {}
  const ageMs = Math.max(0, Date.now() - Number(readAt))
  return { value: page.slice(end + 1), readAt: performance.now() - ageMs }
}

/** Only the version, on the queue's Redis: for `CACHE_URL=memory:` with workers in other processes. One GET for all callers of a tick. */
export class RedisVersion implements Version {
  readonly #connection: RedisConnection
  readonly #key: string
  readonly #version = coalesce(async () => [await this.#read()])

  constructor(address: RedisAddress, options: { log: Log }) {
    this.#connection = new RedisConnection(address, { role: 'cache version', log: options.log, deadlineMs: 1_000 })
    this.#key = `{${address.prefix}:cache}:version`
  }

  current(): Promise<string | undefined> {
    return this.#version('')
  }

  #read(): Promise<string | undefined> {
    return this.#connection
      .ask((client) => client.get(this.#key))
      .then(
        (version) => version ?? 'none yet',
        () => undefined,
      )
  }

  async invalidate(): Promise<void> {
    await this.#connection.ask((client) => client.eval(invalidateScript, 1, this.#key, newVersion()))
  }

  probe(): Promise<string | undefined> {
    return this.#connection.probe(async (client) => {
      await client.get(this.#key)
      await client.eval(`${invalidateScript} and redis.call('DEL', KEYS[1])`, 1, `${this.#key}-probe`, '')
      return undefined
    })
  }

  close(): void {
    this.#connection.close()
  }
}
