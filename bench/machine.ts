/** What was measured on, and with what. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import { findMariadb, findRedis } from '../test/harness/binaries.ts'
import { cacheArgs, mariadbArgs, type Pace, redisArgs } from './parts.ts'

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
  '@apollo/server',
  'graphql-redis-subscriptions',
]

export function machine(): string[] {
  const [redis] = /v=[\d.]+/.exec(version(findRedis())) ?? ['']
  const [mariadb] = /[\d.]+-MariaDB|[\d.]+/.exec(version(findMariadb())) ?? ['']
  return [
    `${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`,
    `Node ${process.version}, Redis ${redis.slice(2)}, MariaDB ${mariadb}`,
    packages.map((name) => `${name} ${versionOf(name)}`).join(', '),
  ]
}

export function settings({ rounds, seconds, warmUpSeconds }: Pace): string[] {
  return [
    'The client, the contender, both Redis and MariaDB share these cores and talk over the loopback: figures are to be read as ratios.',
    `Medians of ${rounds} round${rounds === 1 ? '' : 's'}, contenders in turns, each round in another order; ${seconds} s each, after ${warmUpSeconds} s of warming up. NODE_ENV=production for all, one process each.`,
    `Queue: appendonly yes, appendfsync always, for every contender's queue; maxmemory-policy noeviction; ${redisArgs.join(' ').replaceAll('--', '')}. Cache: ${cacheArgs.join(' ').replaceAll('--', '')}.`,
    `MariaDB: innodb-flush-log-at-trx-commit=1, skip-log-bin, ${mariadbArgs.join(', ').replaceAll('--', '')}.`,
  ]
}

function version(binary: string | undefined): string {
  return binary ? execFileSync(binary, ['--version'], { encoding: 'utf8' }) : ''
}

function versionOf(name: string): string {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}
