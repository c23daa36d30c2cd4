/** From the request to the row: what a saved row costs all parts together, and how many are accepted while a worker drains. */
import { run } from '../client.ts'
import type { Contender, Figures } from '../contender.ts'
import { CpuMeter, residentKiB } from '../process-figures.ts'
import { checkGraphqlSave as check, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import {
  batchStack,
  createStack,
  directStack,
  graphileStack,
  jetstreamStack,
  type StackKind,
  spillwayStack,
  streamStack,
  written,
} from '../stacks.ts'

const connections = 64
/** Saves a second; undefined: as many as are answered. */
const loads = [1_000, 10_000, undefined]

const whole = ({ name, role, start }: StackKind): Contender => ({
  name,
  role,
  start: async (parts) => {
    const { api, worker, stop } = await start(parts)
    const requests = graphqlSaves(api.url)
    const { seconds, warmUpSeconds } = parts.pace
    const { server } = api
    const table = server?.table ?? parts
    const load = { url: api.url, connections, requests, check }
    return {
      async measure() {
        await parts.reset()
        await server?.reset()
        const warm = await run({ ...load, seconds: warmUpSeconds, rate: 500 })
        await written(table, warm.total)
        const figures: Figures = { errors: 0 }
        for (const rate of loads) {
          await table.databaseIdle()
          await table.truncate()
          const meter = new CpuMeter({
            API: [api.pid],
            worker: worker ? [worker.pid] : [],
            ...(server ? { [server.name]: [server.pid] } : { Redis: [parts.redis.pid, parts.cache.pid] }),
            ...(!server?.table && { database: [parts.mariadb.pid] }),
          })
          meter.begin()
          const { rate: accepted, total, errors, latency } = await run({ ...load, seconds, ...(rate && { rate }) })
          const ms = await written(table, total)
          meter.end()
          const rows = await table.rows()
          if (errors === 0 && rows !== total) throw new Error(`${total} saves were acknowledged, ${rows} are rows`)
          const at = rate ? `at ${rate / 1_000}k/s` : 'full'
          const cpu = meter.perOperation(total)
          if (!rate) Object.assign(figures, cpu)
          figures[`CPU µs ${at}`] = cpu['CPU µs']!
          figures[`accepted/s ${at}`] = accepted
          figures[`p99 ms ${at}`] = latency.quantile(0.99)
          figures[`last row after s ${at}`] = ms / 1_000
          // What a peer cannot keep up with is seen in what it accepts.
          if (rate === loads[0]) figures.errors! += errors
        }
        figures['API MiB'] = residentKiB(api.pid) / 1_024
        if (worker) figures['worker MiB'] = residentKiB(worker.pid) / 1_024
        return figures
      },
      stop,
    }
  },
})

export const endToEnd: Scenario = {
  name: 'end-to-end',
  title: 'end to end: CPU of a saved row, of all parts',
  figure: 'CPU µs full',
  unit: 'µs',
  note: `API, worker, both Redis and MariaDB together (of the peers on NATS and PostgreSQL these, in place of what they do not use), from the first request until the last row is there, for so many saves a second over ${connections} connections and for as many as are answered. The parts are those of the full load; resident memory is that after it. Spillway keeps receipts and tells of events meanwhile, the peers do not.`,
  contenders: [spillwayStack(), streamStack, jetstreamStack, graphileStack, batchStack, createStack, directStack].map(
    whole,
  ),
  targets: [
    ...['CPU µs at 1k/s', 'CPU µs at 10k/s', 'CPU µs full'].flatMap((figure) => [
      { beside: streamStack.name, figure, unit: 'µs' },
      { beside: batchStack.name, figure, unit: 'µs', atMost: 1 / 3 },
      { beside: createStack.name, figure, unit: 'µs', atMost: 1 / 8 },
    ]),
    { beside: jetstreamStack.name, figure: 'CPU µs full', unit: 'µs' },
    { beside: graphileStack.name, figure: 'CPU µs full', unit: 'µs' },
    { beside: streamStack.name, figure: 'accepted/s full', unit: '/s' },
    { beside: jetstreamStack.name, figure: 'accepted/s full', unit: '/s' },
    { beside: graphileStack.name, figure: 'accepted/s full', unit: '/s' },
  ],
}
