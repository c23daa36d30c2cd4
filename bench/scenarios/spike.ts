/**
 * A spike: more saves than the database can take. It is throttled where it does not depend on how one asks: each row, whoever inserts it
 * and in whichever statement, waits for its turn (a named lock) and then for half a millisecond. That is some 1,300 rows a second for
 * everybody.
 */
import { run } from '../client.ts'
import { type Contender, type Process, startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { checkGraphqlSave, graphqlSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import { drained } from './embedded.ts'

const rate = 5_000
const connections = 256
const workers = 1
const concurrency = 2

async function spike(parts: Parts, { url }: Process) {
  await parts.reset()
  await parts.sql(
    "CREATE OR REPLACE TRIGGER throttle BEFORE INSERT ON Content FOR EACH ROW BEGIN DO GET_LOCK('row', 60); DO SLEEP(0.0005); DO RELEASE_LOCK('row'); END",
  )
  const stopWatching = await parts.watchStatements()
  const load = {
    url,
    connections,
    requests: graphqlSaves(url),
    check: checkGraphqlSave,
    seconds: parts.pace.quick ? 3 : 10,
    rate,
  }
  const { rate: accepted, errors, latency } = await run(load)
  const statements = await stopWatching()
  const written = await parts.rows()
  await parts.sql('DROP TRIGGER throttle')
  return {
    rate: accepted,
    p50: latency.quantile(0.5),
    p99: latency.quantile(0.99),
    'statements in flight': statements,
    'rows/s meanwhile': written / load.seconds,
    errors,
  }
}

const spillway: Contender = {
  name: 'Spillway',
  role: 'ours',
  start: async (parts) => {
    const api = await startSpillway('api', parts.env)
    const workers = await startSpillway('worker', { ...parts.env, WORKER_CONCURRENCY: String(concurrency) })
    return {
      async measure() {
        const figures = await spike(parts, api)
        await drained(api.url)
        return figures
      },
      stop: async () => {
        await Promise.all([api.stop(), workers.stop()])
      },
    }
  },
}

const create: Contender = {
  name: 'stock Yoga + Pothos + Prisma create',
  role: 'peer',
  start: async (parts) => {
    const api = await startPeer('yoga-create', parts.env)
    return {
      async measure() {
        const figures = await spike(parts, api)
        // It is still at what nobody waits for any more, and must not be counted for the next.
        await parts.databaseIdle()
        return figures
      },
      stop: api.stop,
    }
  },
}

export const spiking: Scenario = {
  name: 'spike',
  title: 'spike: 10 s at more than the database can take',
  figure: 'p99',
  unit: 'ms',
  note: `${rate.toLocaleString('en-US')} saves/s over ${connections} connections, whether or not they are answered (latency counts from when a save was due), while each row costs the database half a millisecond, one row at a time. A save of the peer's that was not answered by the end counts as an error.`,
  contenders: [spillway, create],
  targets: [
    { figure: 'errors', unit: '', atMost: 0 },
    { figure: 'p99', unit: 'ms', atMost: 50 },
    { figure: 'statements in flight', unit: '', atMost: workers * concurrency },
    { beside: create.name },
  ],
}
