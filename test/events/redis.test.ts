import { expect } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/connection.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { eventsSuite } from '../suites/events.ts'

eventsSuite('RedisEventLog', async ({ retentionMs, retentionBytes }) => {
  const address = parseRedisUrl(freshRedisUrl())
  const logs: RedisEventLog[] = []
  return {
    open: async () => {
      const log = new RedisEventLog(address, { retentionMs, retentionBytes, log: quiet() })
      logs.push(log)
      await holds(async () => expect(await log.tail()).toBeDefined())
      return log
    },
    cleanup: async () => {
      await Promise.all(logs.map((log) => log.close()))
    },
  }
})
