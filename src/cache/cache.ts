/**
 * The cache of pages. Invariant: a page is stored with the version it was read under, and is good only while that version stands; the
 * worker bumps the version after each commit and before it announces. So nobody who was told of a content is shown a page without it.
 */
export interface Cache {
  /** The page under `key`, if there is a good one, and the version now: hand it to `set` with what was read after this call. Undefined
   *  version: the cache is away; read the store and keep nothing. Never throws. */
  get(key: string): Promise<{ version: string | undefined; value: string | undefined }>
  /** The version now; undefined: the cache is away. One look-up for all who ask in a tick. Never throws. */
  version(): Promise<string | undefined> | string
  /** Keeps a page that was read from the store after `version` was got. Never throws, and may keep nothing. */
  set(key: string, version: string, value: string): void
  /** Makes every page of before worthless, in every process, before it resolves. Throws when that cannot be said. */
  bump(): Promise<void>
  /** May be called twice. */
  close(): Promise<void>
}

/** Where the version stands, for a cache whose pages are in this process but whose bumps may come from another one. */
export interface Version {
  /** Undefined when it cannot be told. Never throws. */
  current(): Promise<string | undefined> | string
  bump(): Promise<void>
  close(): void
}
