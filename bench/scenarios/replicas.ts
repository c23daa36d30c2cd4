/** What it costs that replicas must have a save before it is acknowledged (QUEUE_REPLICAS). No worker runs. */
import { startProxy } from '../../test/harness/proxy.ts'
import { startRedis } from '../../test/harness/redis.ts'
import { primaryArgs, startReplica } from '../../test/harness/replica.ts'
import { run } from '../client.ts'
import { type Contender, startSpillway } from '../contender.ts'
import { redisArgs } from '../parts.ts'
import { checkGraphqlSave, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'

const connections = 256
const lagMs = 5

/** Each has a primary of its own. `lag`: of its replica, in milliseconds; undefined: it has none. */
const spillway = (name: string, role: Contender['role'], lag?: number): Contender => ({
  name,
  role,
  async start(parts, execArgv) {
    await using opened = new AsyncDisposableStack()
    const primary = await startRedis({ args: [...redisArgs, ...primaryArgs] })
    opened.defer(() => primary.cleanup())
    if (lag !== undefined) {
      const link = await startProxy(primary.url)
      opened.defer(() => link.close())
      if (lag > 0) link.set({ kind: 'delay', ms: lag })
      const replica = await startReplica(lag > 0 ? link : primary)
      opened.defer(() => replica.cleanup())
    }
    const replicas = lag === undefined ? '0' : '1'
    const { url, stop } = await startSpillway(
      'api',
      { ...parts.env, QUEUE_URL: primary.url, QUEUE_REPLICAS: replicas },
      execArgv,
    )
    opened.defer(stop)
    const requests = graphqlSaves(url)
    const { seconds, warmUpSeconds } = parts.pace
    const kept = opened.move()
    return {
      async measure() {
        await primary.cli('FLUSHALL')
        const load = { url, connections, requests, check: checkGraphqlSave, seconds, warmUpSeconds }
        const { rate, errors, latency } = await run(load)
        return { rate, p50: latency.quantile(0.5), p99: latency.quantile(0.99), errors }
      },
      stop: () => kept.disposeAsync(),
    }
  },
})

export const replicated: Scenario = {
  name: 'replicas',
  title: `accept with QUEUE_REPLICAS=1, ${connections} connections`,
  figure: 'rate',
  unit: '/s',
  note: `GraphQL save, one API process; each contender has a primary of its own. The replica runs on the same two cores: a part of the cost is its own work, which is elsewhere in production. A proxy gives the lagging replica each write ${lagMs} ms late.`,
  contenders: [
    spillway('Spillway, one replica', 'ours', 0),
    spillway('Spillway, no replica', 'limit'),
    spillway(`Spillway, one replica that lags by ${lagMs} ms`, 'peer', lagMs),
  ],
  targets: [
    { beside: 'Spillway, no replica', atLeast: 0.5 },
    { beside: `Spillway, one replica that lags by ${lagMs} ms` },
    { figure: 'p50', unit: 'ms' },
  ],
}
