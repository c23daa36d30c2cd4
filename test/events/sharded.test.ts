import { expect } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { eventsSuite } from '../suites/events.ts'

eventsSuite(
  'RedisEventLog of 3 shards',
  async ({ retentionMs, retentionBytes }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const logs: RedisEventLog[] = []
    return {
      open: async () => {
        const log = new RedisEventLog(address, { retentionMs, retentionBytes, models, log: quiet(), shards: 3 })
        logs.push(log)
        await holds(async () => expect(await log.tail()).toBeDefined())
        await holds(async () => expect(await log.probe()).toBeUndefined())
        return log
      },
      cleanup: async () => {
        await Promise.all(logs.map((log) => log.close()))
      },
    }
  },
  { wakesWithEntries: false },
)
