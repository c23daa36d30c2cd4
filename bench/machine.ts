/** What was measured on, and with what. */
import { execFileSync } from 'node:child_process'
import { closeSync, fsyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import { dirname, join } from 'node:path'
import { findMariadb, findRedis } from '../test/harness/binaries.ts'
import { natsConfig, natsVersion } from './nats.ts'
import { cacheArgs, mariadbArgs, type Pace, redisArgs } from './parts.ts'
import { postgresSettings, postgresVersion } from './postgres.ts'
import { Samples } from './samples.ts'
import { number } from './scenario.ts'

const packages = [
  'graphql',
  'graphql-yoga',
  '@pothos/core',
  '@prisma/client',
  'ioredis',
  'graphql-jit',
  'bullmq',
  'fastify',
  'mercurius',
  '@nats-io/jetstream',
  'graphile-worker',
  'pg',
  '@apollo/server',
  'graphql-redis-subscriptions',
]

export const hardware = (): string =>
  `${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`

/** Of what Spillway itself needs. */
export function versions(): string {
  const [redis] = /v=[\d.]+/.exec(version(findRedis())) ?? ['']
  const [mariadb] = /[\d.]+-MariaDB|[\d.]+/.exec(version(findMariadb())) ?? ['']
  return `Node ${process.version}, Redis ${redis.slice(2)}, MariaDB ${mariadb}`
}

export function machine(): string[] {
  return [
    hardware(),
    `${versions()}, NATS ${natsVersion()}, PostgreSQL ${postgresVersion()}`,
    packages.map((name) => `${name} ${versionOf(name)}`).join(', '),
  ]
}

export function settings({ rounds, seconds, warmUpSeconds }: Pace): string[] {
  return [
    'The client, the contender, both Redis and MariaDB share these cores and talk over the loopback: figures are to be read as ratios.',
    `Medians of ${rounds} round${rounds === 1 ? '' : 's'}, contenders in turns, each round in another order; ${seconds} s each, after ${warmUpSeconds} s of warming up. NODE_ENV=production for all, one process each.`,
    `Queue: appendonly yes, appendfsync always, for every contender's queue; maxmemory-policy noeviction; ${redisArgs.join(' ').replaceAll('--', '')}. Cache: ${cacheArgs.join(' ').replaceAll('--', '')}.`,
    `NATS: ${natsConfig}, a work queue in a file, acknowledged one by one. PostgreSQL: fsync and synchronous_commit on, as by default, ${postgresSettings.join(', ')}.`,
    `MariaDB: innodb-flush-log-at-trx-commit=1, skip-log-bin, ${mariadbArgs.join(', ').replaceAll('--', '')}.`,
  ]
}

/** What the servers wait for before they answer. `dir`: of one of them. */
export function fsyncTime(dir: string): string {
  const folder = dirname(dir)
  const own = mkdtempSync(join(folder, 'spillway-fsync-'))
  const file = openSync(join(own, 'file'), 'w')
  const samples = new Samples()
  try {
    for (let i = 0; i < 200; i++) {
      writeSync(file, Buffer.alloc(4_096))
      const since = performance.now()
      fsyncSync(file)
      samples.add((performance.now() - since) * 1_000)
    }
  } finally {
    closeSync(file)
    rmSync(own, { recursive: true })
  }
  const [p50, p99] = [0.5, 0.99].map((at) => number(samples.quantile(at)))
  const where = folder === '/dev/shm' ? 'in memory' : 'on the disk'
  return `The servers keep their files ${where}: an fsync of 4 KiB takes ${p50} µs there, p99 ${p99} µs.`
}

function version(binary: string | undefined): string {
  return binary ? execFileSync(binary, ['--version'], { encoding: 'utf8' }) : ''
}

function versionOf(name: string): string {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}
