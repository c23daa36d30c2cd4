/** The Redis of the queue and that of the cache, through ioredis. */
import { Redis, type RedisOptions } from 'ioredis'
import { need } from './peer.ts'

export const queueRedis = (options: RedisOptions = {}) => new Redis(need('QUEUE_URL'), options)
export const cacheRedis = (options: RedisOptions = {}) => new Redis(need('CACHE_URL'), options)
