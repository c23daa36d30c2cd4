/**
 * The cache of pages. Each page belongs to one cache key (a model, or a narrowing of it: model/narrow.ts), which has a version. Invariant: a
 * page is stored with the version it was read under, and is valid only while that version is the current one; the worker invalidates the
 * cache keys of the rows after each commit and before it publishes. So after a `saved` event no process returns a page without that row.
 */
export interface Found {
  /** Undefined: the cache is unavailable; read the store and cache nothing. */
  version: string | undefined
  value: string | undefined
  /** When the store was read for it, on this process' monotonic clock (performance.now()); meaningless without a value. */
  readAt: number
}

export interface Cache {
  /** A page may be returned for this long after the store was read. */
  readonly ttlMs: number
  /** The valid page under `pageKey`, if there is one, and the current version of `cacheKey`, to `set` with a page that is read after this
   *  call. A page key is unique among all cache keys. Never throws. */
  get(cacheKey: string, pageKey: string): Promise<Found>
  /** The current versions of the keys, as one text; undefined: the cache is unavailable. One look-up for all callers of a tick. Never throws. */
  version(cacheKeys: readonly string[]): Promise<string | undefined> | string
  /**
   * Stores a page whose read began after `version` was returned. `readAt`: when that read began (performance.now()); the time to live
   * counts from there. Never throws, and may store nothing.
   */
  set(pageKey: string, version: string, value: string, readAt: number): void
  /** Makes every page of the keys stored before this call invalid, in every process, before it resolves. Throws if that is not certain. */
  invalidate(cacheKeys: readonly string[]): Promise<void>
  /** Tries what an invalidation does, and invalidates nothing. Undefined if that succeeds; else a code that says why not. Never throws. */
  probe(): Promise<string | undefined>
  /** May be called twice. */
  close(): Promise<void>
}

/** The versions of a cache whose pages are in this process, and which another process may invalidate. */
export interface Versions {
  /** As Cache.version. */
  current(cacheKeys: readonly string[]): Promise<string | undefined> | string
  invalidate(cacheKeys: readonly string[]): Promise<void>
  /** As Cache.probe. */
  probe(): Promise<string | undefined>
  close(): void
}
