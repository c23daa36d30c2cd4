/** What all peers share, and nobody's speed depends on: where they listen, saying so, their parts by URL, and stopping. */
import type { RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PrismaMariaDb } from '@prisma/adapter-mariadb'
import { Redis, type RedisOptions } from 'ioredis'
import { PrismaClient } from '../../prisma/mysql/generated/client.ts'

const need = (name: string): string => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set; peers are started by bench/main.ts`)
  return value
}

export const queueRedis = (options: RedisOptions = {}) => new Redis(need('QUEUE_URL'), options)
export const cacheRedis = (options: RedisOptions = {}) => new Redis(need('CACHE_URL'), options)

/** The address of the queue for who connects by themselves. */
export function queueAddress(): { host: string; port: number } {
  const { hostname, port } = new URL(need('QUEUE_URL'))
  return { host: hostname, port: Number(port) }
}

export const prismaClient = () => new PrismaClient({ adapter: new PrismaMariaDb(need('DATABASE_URL')) })

export function serve(listener: RequestListener): void {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1', () => ready(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
}

/** Says that the peer is ready, in the words of Spillway's own log. */
export function ready(url?: string): void {
  console.log(JSON.stringify({ msg: 'ready', url }))
}

// So that a CPU profile is written.
process.on('SIGTERM', () => process.exit(0))
