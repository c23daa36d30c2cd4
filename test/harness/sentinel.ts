/** Redis Sentinels of a test's own. They watch one master, called mymaster. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findRedis, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'
import { type Command, command } from './redis.ts'

export interface TestSentinel extends Daemon {
  /** One command on a connection of its own; rejects with what the Sentinel answered. */
  cli(...args: Command): Promise<unknown>
}

interface SentinelOptions {
  /** How many Sentinels must agree. */
  quorum?: number
  /** The Sentinel's own. */
  password?: string
  /** More lines of sentinel.conf. */
  config?: readonly string[]
}

export async function spawnSentinel(primaryPort: number, options: SentinelOptions = {}): Promise<TestSentinel> {
  const { quorum = 1, password, config = [] } = options
  const binary = need(findRedis(), 'redis-server')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-sentinel-'))
  const file = join(dir, 'sentinel.conf')
  const lines = [
    `dir ${dir}`,
    'bind 127.0.0.1',
    `sentinel monitor mymaster 127.0.0.1 ${primaryPort} ${quorum}`,
    ...(password ? [`requirepass ${password}`] : []),
    ...config,
  ]
  await writeFile(file, `${lines.join('\n')}\n`)
  const cli = (port: number, args: Command) => command(port, args, password)
  const daemon = await startDaemon({
    name: 'redis-sentinel',
    dir,
    throwAway: true,
    launch: (port) => launch(binary, [file, '--sentinel', '--port', String(port)], { throwAway: dir }),
    ping: (port) => cli(port, ['PING']),
    readyMs: 30_000,
  })
  const own = { value: (...args: Command) => cli(daemon.port, args), enumerable: true }
  return Object.defineProperty(daemon, 'cli', own) as TestSentinel
}
