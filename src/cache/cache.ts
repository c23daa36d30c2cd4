/**
 * The cache of pages. Invariant: a page is stored with the version it was read under, and is good only while that version stands; the
 * worker bumps the version after each commit and before it announces. So nobody who was told of a content is shown a page without it.
 */
export interface Found {
  /** Undefined: the cache is away; read the store and keep nothing. */
  version: string | undefined
  value: string | undefined
  /** When the store was read for it, on this process' monotonic clock (performance.now()); of no meaning without a value. */
  readAt: number
}

export interface Cache {
  /** For how long after the store was read a page may be given. */
  readonly ttlMs: number
  /** The page under `key`, if there is a good one, and the version now: hand it to `set` with what was read after this call. Never throws. */
  get(key: string): Promise<Found>
  /** The version now; undefined: the cache is away. One look-up for all who ask in a tick. Never throws. */
  version(): Promise<string | undefined> | string
  /**
   * Keeps a page that was read from the store after `version` was got. `readAt`: when that read began (performance.now()): the time to live
   * counts from there. Never throws, and may keep nothing.
   */
  set(key: string, version: string, value: string, readAt: number): void
  /** Makes every page of before worthless, in every process, before it resolves. Throws when that cannot be said. */
  invalidate(): Promise<void>
  /** Does what an invalidation takes, and invalidates nothing. Undefined when it was done; else a code that says why not. Never throws. */
  probe(): Promise<string | undefined>
  /** May be called twice. */
  close(): Promise<void>
}

/** Where the version stands, for a cache whose pages are in this process but whose bumps may come from another one. */
export interface Version {
  /** Undefined when it cannot be told. Never throws. */
  current(): Promise<string | undefined> | string
  invalidate(): Promise<void>
  /** As Cache.probe. */
  probe(): Promise<string | undefined>
  close(): void
}
