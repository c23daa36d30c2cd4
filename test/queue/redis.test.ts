import { randomUUID } from 'node:crypto'
import { expect } from 'vitest'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { parseRedisUrl } from '../../src/redis/connection.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { type QueueBench, queueSuite } from '../suites/queue.ts'

const reclaimMs = 1_000

interface RedisBench extends QueueBench {
  queues: RedisQueue[]
  prefix: string
}

queueSuite<RedisBench>(
  'RedisQueue',
  async ({ capacity }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const queues: RedisQueue[] = []
    return {
      queues,
      prefix: address.prefix,
      reclaimMs,
      open: async () => {
        const queue = new RedisQueue(address, { capacity, reclaimMs, log: quiet() })
        queues.push(queue)
        expect(await queue.connection.whenReady(5_000)).toBe(true)
        return queue
      },
      cleanup: async () => {
        await Promise.all(queues.map((queue) => queue.close()))
      },
    }
  },
  async ({ queues, prefix }) => {
    await queues[0]!.connection.client.xadd(queueKeys(prefix).stream, '*', 'colour', 'red', 'who', randomUUID())
  },
)
