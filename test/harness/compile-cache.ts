/**
 * Node's compile cache for the processes of the tests. A start costs more than three seconds of processor time, half of it to strip types
 * and to compile, and the suite starts hundreds. Node compares the cache with each source file, so that a stale entry costs time only.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { root } from './imports.ts'
import { createDatabase, query } from './mariadb.ts'
import { spawnSpillway } from './process.ts'

/**
 * Sets NODE_COMPILE_CACHE for the test processes and what they start; the first run of a checkout fills it, for an entry is of a path.
 * Entries are written by a process that ends by itself: one that a test kills leaves none.
 */
export async function useCompileCache(urls: { redisUrl: string; databaseUrl: string }): Promise<void> {
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return
  const uid = process.getuid?.() ?? 0
  const checkout = createHash('sha256').update(root).digest('hex').slice(0, 12)
  const path = join(tmpdir(), `spillway-compile-cache-${uid}-${checkout}`)
  const isNew = mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined
  // Compiled code is run as it is found: a directory of another user is not to be used.
  if (statSync(path).uid !== uid) throw new Error(`${path} belongs to another user; remove it, or set TMPDIR`)
  process.env.NODE_COMPILE_CACHE = path
  if (isNew) await fill(urls)
}

async function fill({ redisUrl, databaseUrl }: { redisUrl: string; databaseUrl: string }): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-compile-'))
  const name = basename(dir)
  try {
    const files = { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` }
    const queue = new URL(redisUrl)
    queue.searchParams.set('prefix', name)
    const servers = { DATABASE_URL: await createDatabase(databaseUrl, name), QUEUE_URL: queue.href }
    const embedded = await spawnSpillway('api', files)
    await embedded.client.save('compiled')
    const api = await spawnSpillway('api', servers)
    const worker = await spawnSpillway('worker', servers)
    for (const process of [embedded, api, worker]) {
      process.kill('SIGTERM')
      await process.exited
    }
  } finally {
    await query(databaseUrl, `DROP DATABASE IF EXISTS \`${name}\``)
    await rm(dir, { recursive: true, force: true })
  }
}
