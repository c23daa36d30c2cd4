/**
 * The cache of pages. Invariant: a page is stored with the version it was read under, and is valid only while that version is the current
 * one; the worker invalidates the version after each commit and before it publishes. So after a `saved` event no process returns a page
 * without that row.
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
  /** The valid page under `key`, if there is one, and the current version, to `set` with a page that is read after this call. Never throws. */
  get(key: string): Promise<Found>
  /** The current version; undefined: the cache is unavailable. One look-up for all callers of a tick. Never throws. */
  version(): Promise<string | undefined> | string
  /**
   * Stores a page whose read began after `version` was returned. `readAt`: when that read began (performance.now()); the time to live
   * counts from there. Never throws, and may store nothing.
   */
  set(key: string, version: string, value: string, readAt: number): void
  /** Makes every page stored before this call invalid, in every process, before it resolves. Throws if that is not certain. */
  invalidate(): Promise<void>
  /** Tries what an invalidation does, and invalidates nothing. Undefined if that succeeds; else a code that says why not. Never throws. */
  probe(): Promise<string | undefined>
  /** May be called twice. */
  close(): Promise<void>
}

/** The version of a cache whose pages are in this process, and which another process may invalidate. */
export interface Version {
  /** Undefined while it is unavailable. Never throws. */
  current(): Promise<string | undefined> | string
  invalidate(): Promise<void>
  /** As Cache.probe. */
  probe(): Promise<string | undefined>
  close(): void
}
