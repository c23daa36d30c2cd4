/** A Redis Sentinel of a test's own, for what happens to a client that takes it for a Redis. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { findRedis, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'

export async function spawnSentinel(primaryPort: number): Promise<Daemon> {
  const binary = need(findRedis(), 'redis-server')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-sentinel-'))
  const file = join(dir, 'sentinel.conf')
  await writeFile(file, `dir ${dir}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 ${primaryPort} 1\n`)
  return await startDaemon({
    name: 'redis-sentinel',
    dir,
    throwAway: true,
    launch: (port) => launch(binary, [file, '--sentinel', '--port', String(port)], { throwAway: dir }),
    ping: async (port) => {
      const options = { port, host: '127.0.0.1', lazyConnect: true, enableReadyCheck: false, retryStrategy: () => null }
      const redis = new Redis(options)
      redis.on('error', () => {})
      try {
        await redis.connect()
        return await redis.ping()
      } finally {
        redis.disconnect()
      }
    },
    readyMs: 30_000,
  })
}
