/** A corner of the shared servers (servers.ts) for one test file: nobody else sees it, and it is cleared away when the file is done. */
import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, inject } from 'vitest'
import { createDatabase, query, type Row } from './mariadb.ts'

export interface TestDatabase {
  readonly url: string
  /** One statement, on a connection of its own. */
  sql(statement: string): Promise<Row[]>
  /** At once instead of when the file is done. May be called twice. */
  drop(): Promise<void>
}

const cleaners = new Set<() => Promise<void>>()

// Registered before any hook of the test file, and hooks run in reverse: what the file itself closes is closed by then.
afterAll(async () => {
  const results = await Promise.allSettled([...cleaners].map((clean) => clean()))
  const failed = results.find((result) => result.status === 'rejected')
  if (failed) throw failed.reason
})

/** An empty database, on the default character set of the server, which is the wrong one. */
export async function freshDatabase(): Promise<TestDatabase> {
  const url = await createDatabase(inject('databaseUrl'))
  const name = new URL(url).pathname.slice(1)
  const drop = async () => {
    if (!cleaners.delete(drop)) return
    // A test that left a transaction open fails here, and does not wait for ever.
    await query(inject('databaseUrl'), `DROP DATABASE IF EXISTS \`${name}\``, undefined, { lock_wait_timeout: 10 })
  }
  cleaners.add(drop)
  return { url, sql: (statement) => query(url, statement), drop }
}

/** The shared Redis with a key prefix (and channel prefix) of its own. */
export function freshRedisUrl(): string {
  const url = new URL(inject('redisUrl'))
  const prefix = randomBytes(8).toString('hex')
  url.searchParams.set('prefix', prefix)
  const clean = async () => {
    cleaners.delete(clean)
    await deleteKeys(prefix)
  }
  cleaners.add(clean)
  return url.href
}

async function deleteKeys(prefix: string): Promise<void> {
  const redis = new Redis(inject('redisUrl'), { commandTimeout: 10_000 })
  try {
    for await (const keys of redis.scanStream({ match: `*${prefix}*`, count: 1000 })) {
      if (keys.length > 0) await redis.unlink(...keys)
    }
  } finally {
    redis.disconnect()
  }
}
