/** How many saves a second are acknowledged, durable. No worker runs: everybody's queue only grows. */
import { fileURLToPath } from 'node:url'
import { run } from '../client.ts'
import type { Contender, Process, Running } from '../contender.ts'
import { startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { checkGraphqlSave, checkRestSave, checkSaveMany, graphqlSaveManys, graphqlSaves, restSaves } from '../save.ts'
import type { Scenario } from '../scenario.ts'

const connections = 64
const many = 100

interface Saves {
  requests(url: string): Buffer[]
  check(body: string): void
  /** Rows in one request. */
  rows: number
}

const single: Saves = { requests: graphqlSaves, check: checkGraphqlSave, rows: 1 }
const rest: Saves = { requests: restSaves, check: checkRestSave, rows: 1 }
const restToLimit: Saves = { ...rest, check: checkGraphqlSave }
const hundred: Saves = { requests: (url) => graphqlSaveManys(url, many), check: checkSaveMany(many), rows: many }

export function accepting(parts: Parts, { url, stop }: Process, saves: Saves, load = connections): Running {
  const { seconds, warmUpSeconds } = parts.pace
  const requests = saves.requests(url)
  return {
    async measure() {
      await parts.reset()
      const check = saves.check
      const { rate, errors, latency } = await run({ url, connections: load, requests, check, seconds, warmUpSeconds })
      return { rate: rate * saves.rows, p50: latency.quantile(0.5), p99: latency.quantile(0.99), errors }
    },
    stop,
  }
}

const spillway = (name: string, saves: Saves): Contender => ({
  name,
  role: 'ours',
  start: async (parts, execArgv) => accepting(parts, await startSpillway('api', parts.env, execArgv), saves),
})

const peer = (name: string, file: string, role: 'peer' | 'limit', saves = single): Contender => ({
  name,
  role,
  start: async (parts) => accepting(parts, await startPeer(file, parts.env), saves),
})

const limit = 'node:http + JSON.parse + XADD'

export const acceptGraphql: Scenario = {
  name: 'accept',
  title: `accept, GraphQL save, ${connections} connections`,
  figure: 'rate',
  unit: '/s',
  note: 'One API process; contents of 100 bytes; no worker runs beside it, so that every queue only grows. The limit checks nothing and finds no duplicates.',
  profile: true,
  contenders: [
    spillway('Spillway', single),
    peer(limit, 'http-stream', 'limit'),
    peer('Mercurius + jit + XADD', 'mercurius-stream', 'peer'),
    peer('Apollo Server + BullMQ', 'apollo-bullmq', 'peer'),
    peer('stock Yoga + Pothos + BullMQ', 'yoga-bullmq', 'peer'),
    peer('stock Yoga + Pothos + Prisma create', 'yoga-create', 'peer'),
  ],
  targets: [
    { beside: limit, atLeast: 0.85 },
    { beside: 'Mercurius + jit + XADD', atLeast: 1.15 },
    { beside: 'Apollo Server + BullMQ' },
    { beside: 'stock Yoga + Pothos + BullMQ', atLeast: 4 },
    { beside: 'stock Yoga + Pothos + Prisma create', atLeast: 20 },
  ],
}

export const acceptRest: Scenario = {
  name: 'rest',
  title: `accept, POST /save, ${connections} connections`,
  figure: 'rate',
  unit: '/s',
  note: 'As above, without GraphQL. What is missing to 0.9 is what the limit leaves out: a script in Redis that keeps the id beside the message (4.6 µs a save, seen under saveMany, of which the XADD is 0.7), and in the API a digest, an id and the two counts of a save.',
  contenders: [spillway('Spillway', rest), peer(limit, 'http-stream', 'limit', restToLimit)],
  targets: [{ beside: limit, atLeast: 0.9 }],
}

export const acceptMany: Scenario = {
  name: 'save-many',
  title: `accept, saveMany of ${many}`,
  figure: 'rate',
  unit: 'rows/s',
  note: 'Beside single saves to the same kind of process.',
  profile: true,
  contenders: [spillway('Spillway', hundred), { ...spillway('Spillway, single saves', single), role: 'peer' }],
  targets: [{ beside: 'Spillway, single saves', atLeast: 5 }],
}

const unmetered = fileURLToPath(new URL('../peers/unmetered.ts', import.meta.url))

export const metered: Scenario = {
  name: 'metrics',
  title: 'accept with metrics, beside the same without',
  figure: 'rate',
  unit: '/s',
  note: 'GraphQL save. The other process has every counter and histogram emptied of what it does.',
  contenders: [
    spillway('Spillway', single),
    {
      name: 'Spillway, counting nothing',
      role: 'limit',
      start: async (parts) => accepting(parts, await startSpillway('api', parts.env, ['--import', unmetered]), single),
    },
  ],
  targets: [{ beside: 'Spillway, counting nothing', atLeast: 0.97 }],
}

export { limit as acceptLimit }
