/**
 * A spike: more saves than the database can take. It is throttled where it does not depend on how one asks: each row, whoever inserts it
 * and in whichever statement, waits for its turn (a named lock) and then for half a millisecond. That is some 1,300 rows a second for
 * everybody.
 */
import { run } from '../client.ts'
import type { Contender } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { checkGraphqlSave, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import {
  batchStack,
  createStack,
  directStack,
  jetstreamStack,
  type Stack,
  type StackKind,
  spillwayStack,
  streamStack,
  written,
} from '../stacks.ts'

const rate = 5_000
const connections = 256
const workers = 1
const concurrency = 2

async function spike(parts: Parts, { api: { url, server } }: Stack) {
  await parts.reset()
  await server?.reset()
  const load = { url, connections, requests: graphqlSaves(url), check: checkGraphqlSave }
  const warm = await run({ ...load, seconds: parts.pace.warmUpSeconds, rate: 500 })
  await written(parts, warm.total)
  await parts.databaseIdle()
  await parts.sql(
    "CREATE OR REPLACE TRIGGER throttle BEFORE INSERT ON Content FOR EACH ROW BEGIN DO GET_LOCK('row', 60); DO SLEEP(0.0005); DO RELEASE_LOCK('row'); END",
  )
  const stopWatching = await parts.watchStatements()
  const seconds = parts.pace.quick ? 3 : 10
  const since = performance.now()
  const { rate: accepted, total, errors, latency } = await run({ ...load, seconds, rate })
  const statements = await stopWatching()
  await written(parts, warm.total + total)
  const lastRow = (performance.now() - since) / 1_000
  // A peer may still be at what nobody waits for any more.
  await parts.databaseIdle()
  await parts.sql('DROP TRIGGER throttle')
  return {
    rate: accepted,
    p50: latency.quantile(0.5),
    p99: latency.quantile(0.99),
    'statements in flight': statements,
    'last row after s': lastRow,
    'rows/s': total / lastRow,
    errors,
  }
}

const spiked = ({ name, role, start }: StackKind): Contender => ({
  name,
  role,
  start: async (parts) => {
    const stack = await start(parts)
    return { measure: () => spike(parts, stack), stop: stack.stop }
  },
})

export const spiking: Scenario = {
  name: 'spike',
  title: 'spike: 10 s at more than the database can take',
  figure: 'p99',
  unit: 'ms',
  note: `${rate.toLocaleString('en-US')} saves/s over ${connections} connections, whether or not they are answered (latency counts from when a save was due), while each row costs the database half a millisecond, one row at a time. A save that was not answered two seconds after the end is an error, of whomever; the latencies are of those that were answered. The last row is counted from the beginning.`,
  contenders: [
    spillwayStack({ WORKER_CONCURRENCY: String(concurrency) }),
    streamStack,
    jetstreamStack,
    batchStack,
    createStack,
    directStack,
  ].map(spiked),
  targets: [
    { figure: 'errors', unit: '', atMost: 0 },
    { figure: 'p99', unit: 'ms', atMost: 10 },
    { figure: 'statements in flight', unit: '', atMost: workers * concurrency },
    { beside: streamStack.name },
    { beside: streamStack.name, figure: 'last row after s', unit: 's', atMost: 1 },
    { beside: jetstreamStack.name },
    { beside: batchStack.name },
    { beside: createStack.name },
    { beside: directStack.name },
  ],
}
