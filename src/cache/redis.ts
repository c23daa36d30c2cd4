/**
 * Pages, or only their versions, on a Redis. A version is a random text and not a counter: after an eviction a counter would start again,
 * and old pages would be valid again.
 */
import { randomBytes } from 'node:crypto'
import { coalesce } from '../model/coalesce.ts'
import type { Log } from '../model/log.ts'
import { hashTag, type RedisAddress } from '../redis/address.ts'
import { RedisConnection } from '../redis/connection.ts'
import type { Cache, Found, Versions } from './cache.ts'

/** Works on a full server, too (the queue's Redis may be full): DEL takes no memory, and a script that has begun to write may go on. One
 *  key at a time: Lua's unpack takes about 8,000 values. */
const invalidateScript =
  "for _, key in ipairs(KEYS) do redis.call('DEL', key) redis.call('SET', key, ARGV[1]) end return 1"

const newVersion = () => randomBytes(12).toString('base64url')

/** The pages and their versions on a Redis of their own: one MGET for all reads of a tick. */
export class RedisCache implements Cache {
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly ttlMs: number
  /** The values of keys: null where there is none, undefined where the cache is unavailable. */
  readonly #value = coalesce((keys: string[]) => this.#read(keys))

  constructor(address: RedisAddress, options: { ttlMs: number; log: Log }) {
    const tag = hashTag(address, 'cache')
    this.#connection = new RedisConnection(address, { role: 'cache', tag, log: options.log, deadlineMs: 1_000 })
    this.#prefix = `${tag}:`
    this.ttlMs = options.ttlMs
  }

  async get(cacheKey: string, pageKey: string): Promise<Found> {
    // In one MGET: a page is valid under a version that was read with it.
    const [version, page] = await Promise.all([this.#version(cacheKey), this.#value(`page:${pageKey}`)])
    return { version, value: undefined, readAt: 0, ...pageOf(page, version) }
  }

  version(cacheKeys: readonly string[]): Promise<string | undefined> {
    // Most responses have one key.
    if (cacheKeys.length === 1) return this.#version(cacheKeys[0]!)
    return Promise.all(cacheKeys.map((key) => this.#version(key))).then(joined)
  }

  async #version(cacheKey: string): Promise<string | undefined> {
    const key = `version:${cacheKey}`
    const version = await this.#value(key)
    if (version !== null) return version
    try {
      return await this.#firstVersion(`${this.#prefix}${key}`)
    } catch {
      return undefined
    }
  }

  async #read(keys: string[]): Promise<(string | null | undefined)[]> {
    try {
      return await this.#connection.ask((client) => client.mget(...keys.map((key) => `${this.#prefix}${key}`)))
    } catch {
      return keys.map(() => undefined)
    }
  }

  /** Sets a version if there is none (evicted, or the first one ever), and returns the current one. */
  #firstVersion(key: string): Promise<string> {
    const version = newVersion()
    return this.#connection.ask(async (client) => {
      await client.set(key, version, 'NX')
      return (await client.get(key)) ?? version
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

  async invalidate(cacheKeys: readonly string[]): Promise<void> {
    const version = newVersion()
    await this.#connection.ask((client) =>
      client.mset(cacheKeys.flatMap((key) => [`${this.#prefix}version:${key}`, version])),
    )
  }

  probe(): Promise<string | undefined> {
    return this.#connection.probe(async (client) => {
      await client.mget(`${this.#prefix}probe`)
      await client.mset(`${this.#prefix}probe`, '')
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

const joined = (versions: readonly (string | undefined)[]) =>
  versions.every((version) => version !== undefined) ? versions.join() : undefined

/** Only the versions, on the queue's Redis: for `CACHE_URL=memory:` with workers in other processes. One MGET for all callers of a tick. */
export class RedisVersions implements Versions {
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #version = coalesce((keys: string[]) => this.#read(keys))

  constructor(address: RedisAddress, options: { log: Log }) {
    const tag = hashTag(address, 'cache')
    this.#connection = new RedisConnection(address, { role: 'cache version', tag, log: options.log, deadlineMs: 1_000 })
    this.#prefix = `${tag}:version:`
  }

  current(cacheKeys: readonly string[]): Promise<string | undefined> {
    // Most responses have one key.
    if (cacheKeys.length === 1) return this.#version(cacheKeys[0]!)
    return Promise.all(cacheKeys.map((key) => this.#version(key))).then(joined)
  }

  async #read(keys: string[]): Promise<(string | undefined)[]> {
    try {
      const versions = await this.#connection.ask((client) => client.mget(...keys.map((key) => this.#prefix + key)))
      return versions.map((version) => version ?? 'none yet')
    } catch {
      return keys.map(() => undefined)
    }
  }

  async invalidate(cacheKeys: readonly string[]): Promise<void> {
    const keys = cacheKeys.map((key) => this.#prefix + key)
    await this.#connection.ask((client) => client.eval(invalidateScript, keys.length, ...keys, newVersion()))
  }

  probe(): Promise<string | undefined> {
    return this.#connection.probe(async (client) => {
      const key = `${this.#prefix}probe`
      await client.mget(key)
      await client.eval(`${invalidateScript.replace('return 1', '')} redis.call('DEL', KEYS[1]) return 1`, 1, key, '')
      return undefined
    })
  }

  close(): void {
    this.#connection.close()
  }
}
