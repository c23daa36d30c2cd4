import { randomUUID } from 'node:crypto'
import { expect } from 'vitest'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { withShard } from '../../src/queue/shard-of.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { type QueueBench, queueSuite } from '../suites/queue.ts'

const reclaimMs = 1_000
const shards = 3
const most = 1
const log = quiet()

interface ShardedBench extends QueueBench {
  shard: RedisQueue
  prefix: string
}

queueSuite<ShardedBench>(
  'ShardedQueue',
  async ({ capacity }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const queues: ShardedQueue[] = []
    // Most of it is the capacity of the shard whose ids the suite takes where that matters.
    const little = Math.floor(capacity / 200)
    const open = (shard: number) => {
      const part = shard === most ? capacity - 2 * little : little
      return new RedisQueue(address, { capacity: part, reclaimMs, log, shard })
    }
    const one = open(2)
    expect(await one.connection.whenReady(5_000)).toBe(true)
    return {
      shard: one,
      prefix: address.prefix,
      reclaimMs,
      open: async () => {
        const queue = new ShardedQueue(open, { shards, log })
        queues.push(queue)
        await queue.whenReady(5_000)
        return queue
      },
      cleanup: async () => {
        await Promise.all([...queues, one].map((queue) => queue.close()))
      },
    }
  },
  async ({ shard, prefix }) => {
    const { stream } = queueKeys(hashTag({ prefix }, '2'))
    await shard.connection.client.xadd(stream, '*', 'colour', 'red', 'who', randomUUID())
  },
  { newId: () => withShard(randomUUID(), most, shards), ofShards: true },
)
