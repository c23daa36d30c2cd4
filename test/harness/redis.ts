/** A Redis of a test's own, as durable as the promises ask for (appendfsync always) unless told otherwise. */
import { Redis } from 'ioredis'
import { findRedis, need } from './binaries.ts'
import { launch } from './child.ts'
import { type Daemon, startDaemon } from './daemon.ts'
import { temporary } from './temporary.ts'

export interface TestRedis extends Daemon {
  readonly url: string
  /** One command on a connection of its own; rejects with what Redis answered, or after 10 s. */
  cli(...args: Command): Promise<unknown>
}

export type Command = (string | number | Buffer)[]

/** `args` come after the defaults and win over them, as in `['--appendfsync', 'everysec']`. `dir` is the caller's and is kept. */
export async function startRedis(
  options: { args?: readonly string[]; dir?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<TestRedis> {
  const binary = need(findRedis(), 'redis-server')
  const dir = options.dir ?? (await temporary('spillway-redis-'))
  const defaults = {
    dir,
    bind: '127.0.0.1',
    appendonly: 'yes',
    appendfsync: 'always',
    save: '',
    'maxmemory-policy': 'noeviction',
  }
  const settings = Object.entries(defaults).flatMap(([name, value]) => [`--${name}`, value])
  const daemon = await startDaemon({
    name: 'redis-server',
    dir,
    throwAway: options.dir === undefined,
    launch: (port, args) =>
      launch(binary, ['--port', String(port), ...settings, ...(options.args ?? []), ...args], {
        env: { ...process.env, ...options.env },
        throwAway: options.dir === undefined ? dir : undefined,
      }),
    // Rejects while Redis still loads its file.
    ping: (port) => command(port, ['PING']),
    readyMs: 30_000,
  })
  const url = `redis://127.0.0.1:${daemon.port}/0`
  return Object.defineProperties(daemon, {
    url: { value: url, enumerable: true },
    cli: { value: (...args: Command) => command(daemon.port, args), enumerable: true },
  }) as TestRedis
}

/** One command to a server on loopback, on a connection of its own. */
export async function command(port: number, [name, ...args]: Command, password?: string): Promise<unknown> {
  const redis = new Redis({
    host: '127.0.0.1',
    port,
    ...(password && { password }),
    lazyConnect: true,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    commandTimeout: 10_000,
    connectTimeout: 10_000,
  })
  // What goes wrong rejects the call as well.
  redis.on('error', () => {})
  try {
    await redis.connect()
    return await redis.call(String(name), ...args)
  } finally {
    redis.disconnect()
  }
}
