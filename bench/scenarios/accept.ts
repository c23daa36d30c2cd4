/** How many saves a second are acknowledged, durable. No worker runs: everybody's queue only grows. */
import { fileURLToPath } from 'node:url'
import { run } from '../client.ts'
import type { Contender, Figures, Process, Running, Server } from '../contender.ts'
import { startPeer, startPeerOn, startSpillway } from '../contender.ts'
import { startNats } from '../nats.ts'
import type { Parts } from '../parts.ts'
import { startPostgres } from '../postgres.ts'
import { CpuMeter, residentKiB } from '../process-figures.ts'
import {
  checkGraphqlSave,
  checkRestSave,
  checkSaveMany,
  contentLength,
  graphqlSaveManys,
  graphqlSaves,
  restSaves,
} from '../save.ts'
import type { Scenario } from '../scenario.ts'

const connections = 64
const many = 100

interface Saves {
  requests(url: string): Buffer[]
  check(body: string): void
  /** Rows in one request. */
  rows: number
}

const singleOf = (bytes: number): Saves => ({
  requests: (url) => graphqlSaves(url, bytes),
  check: checkGraphqlSave,
  rows: 1,
})
const single = singleOf(contentLength)
const rest: Saves = { requests: restSaves, check: checkRestSave, rows: 1 }
const restToLimit: Saves = { ...rest, check: checkGraphqlSave }
const hundred: Saves = { requests: (url) => graphqlSaveManys(url, many), check: checkSaveMany(many), rows: many }

export function accepting(
  parts: Parts,
  { url, pid, server, stop }: Process,
  saves: Saves,
  load = connections,
): Running {
  const { seconds, warmUpSeconds } = parts.pace
  const requests = saves.requests(url)
  const { check, rows } = saves
  return {
    async measure() {
      await parts.reset()
      await server?.reset()
      const meter = new CpuMeter({
        API: [pid],
        ...(server ? { [server.name]: [server.pid] } : { Redis: [parts.redis.pid], database: [parts.mariadb.pid] }),
      })
      const bytesBefore = await parts.queueBytes()
      const done = await run({ url, connections: load, requests, check, seconds, warmUpSeconds, meter })
      const { rate, count, total, errors, latency } = done
      const bytes = (await parts.queueBytes()) - bytesBefore
      return {
        rate: rate * rows,
        p50: latency.quantile(0.5),
        p99: latency.quantile(0.99),
        ...meter.perOperation(count * rows),
        'RSS MiB': residentKiB(pid) / 1_024,
        ...(!server && { 'Redis bytes': bytes / (total * rows) }),
        errors,
      }
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

/** On a server of its own. */
const peerOn = (name: string, file: string, startServer: () => Promise<Server>): Contender => ({
  name,
  role: 'peer',
  start: async (parts) => accepting(parts, await startPeerOn(startServer, file, parts), single),
})

const limit = 'node:http + JSON.parse + XADD'
const nearest = 'Mercurius + jit + XADD'
const jetstream = 'Mercurius + jit + NATS JetStream'
const graphile = 'Mercurius + jit + graphile-worker'

const figures =
  'CPU µs a save, of the API and of the servers that it asks; resident memory of the API at the end; bytes of Redis a queued save'

export const acceptGraphql: Scenario = {
  name: 'accept',
  title: `accept, GraphQL save, ${connections} connections`,
  figure: 'rate',
  unit: '/s',
  note: `One API process; contents of ${contentLength} bytes; no worker runs beside it, so that every queue only grows. Both XADDs are pipelined: those of one tick go in one write. NATS acknowledges each message by itself; a job of graphile-worker has all saves that came while the last one was added. The limit checks nothing and finds no duplicates. ${figures}.`,
  profile: true,
  contenders: [
    spillway('Spillway', single),
    peer(limit, 'http-stream', 'limit'),
    peer(nearest, 'mercurius-stream', 'peer'),
    peerOn(jetstream, 'mercurius-jetstream', startNats),
    peerOn(graphile, 'mercurius-graphile', startPostgres),
    peer('Apollo Server + BullMQ', 'apollo-bullmq', 'peer'),
    peer('stock Yoga + Pothos + BullMQ', 'yoga-bullmq', 'peer'),
    peer('stock Yoga + Pothos + Prisma create', 'yoga-create', 'peer'),
  ],
  targets: [
    { beside: limit, figure: 'CPU µs', unit: 'µs', atMost: 1.15 },
    { beside: nearest, figure: 'CPU µs', unit: 'µs', atMost: 0.85 },
    { beside: limit },
    { beside: nearest, atLeast: 1.2 },
    { beside: jetstream },
    { beside: graphile },
    { beside: 'Apollo Server + BullMQ' },
    { beside: 'stock Yoga + Pothos + BullMQ' },
    { beside: 'stock Yoga + Pothos + Prisma create' },
  ],
}

/** Longer contents, beside the limit and the nearest peer. */
const acceptOf = (name: string, bytes: number): Scenario => ({
  name,
  title: `accept, GraphQL save of ${bytes.toLocaleString('en')} bytes, ${connections} connections`,
  figure: 'CPU µs',
  unit: 'µs',
  note: `As above, with longer contents. ${figures}.`,
  contenders: [
    spillway('Spillway', singleOf(bytes)),
    peer(limit, 'http-stream', 'limit', singleOf(bytes)),
    peer(nearest, 'mercurius-stream', 'peer', singleOf(bytes)),
  ],
  targets: [
    { beside: limit, atMost: 1.15 },
    { beside: nearest, atMost: 0.85 },
    { beside: nearest, figure: 'rate', unit: '/s' },
  ],
})

export const accept1K = acceptOf('accept-1k', 1_000)
export const accept10K = acceptOf('accept-10k', 10_000)

const counts = [1, 16, 256, 1_000]

const byConnections = (
  name: string,
  role: Contender['role'],
  start: (parts: Parts) => Promise<Process>,
): Contender => ({
  name,
  role,
  start: async (parts) => {
    const process = await start(parts)
    const some = counts.map((count) => [count, accepting(parts, process, single, count)] as const)
    return {
      async measure() {
        const figures: Figures = { errors: 0 }
        for (const [count, running] of some) {
          const { rate, p99, errors } = await running.measure()
          figures[`/s of ${count}`] = rate!
          figures[`p99 ms of ${count}`] = p99!
          figures.errors! += errors!
        }
        return figures
      },
      stop: process.stop,
    }
  },
})

export const acceptConnections: Scenario = {
  name: 'connections',
  title: `accept, GraphQL save, ${counts.map((count) => count.toLocaleString('en')).join(', ')} connections`,
  figure: `/s of ${counts.at(-1)}`,
  unit: '/s',
  note: 'One API process; each connection sends as soon as it was answered.',
  contenders: [
    byConnections('Spillway', 'ours', (parts) => startSpillway('api', parts.env)),
    byConnections(nearest, 'peer', (parts) => startPeer('mercurius-stream', parts.env)),
  ],
  targets: counts.map((count) => ({ beside: nearest, figure: `/s of ${count}`, unit: '/s' })),
}

const rates = [1_000, 3_000, 10_000]

/** Spillway's rate beside a peer's says nothing of how long a save takes: so all get the same load. */
const atEqualRates = (name: string, role: Contender['role'], start: (parts: Parts) => Promise<Process>): Contender => ({
  name,
  role,
  start: async (parts) => {
    const { url, server, stop } = await start(parts)
    const { seconds, warmUpSeconds } = parts.pace
    return {
      async measure() {
        const figures: Figures = {}
        for (const rate of rates) {
          await parts.reset()
          await server?.reset()
          const requests = single.requests(url)
          const load = { url, connections, requests, check: single.check, seconds, warmUpSeconds, rate }
          const { latency, errors } = await run(load)
          figures[`p50 ms at ${rate}/s`] = latency.quantile(0.5)
          figures[`p99 ms at ${rate}/s`] = latency.quantile(0.99)
          figures[`late or lost at ${rate}/s`] = errors
          await parts.databaseIdle()
        }
        return figures
      },
      stop,
    }
  },
})

export const equalRates: Scenario = {
  name: 'equal-rates',
  title: `accept, GraphQL save, at ${rates.map((rate) => rate.toLocaleString('en')).join(', ')}/s for all`,
  figure: 'p99 ms at 1000/s',
  unit: 'ms',
  note: `${connections} connections; a latency counts from when a save was due. What was not answered two seconds after the end is late or lost.`,
  contenders: [
    atEqualRates('Spillway', 'ours', (parts) => startSpillway('api', parts.env)),
    atEqualRates(limit, 'limit', (parts) => startPeer('http-stream', parts.env)),
    atEqualRates(nearest, 'peer', (parts) => startPeer('mercurius-stream', parts.env)),
    atEqualRates(jetstream, 'peer', (parts) => startPeerOn(startNats, 'mercurius-jetstream', parts)),
    atEqualRates(graphile, 'peer', (parts) => startPeerOn(startPostgres, 'mercurius-graphile', parts)),
    atEqualRates('Apollo Server + BullMQ', 'peer', (parts) => startPeer('apollo-bullmq', parts.env)),
    atEqualRates('stock Yoga + Pothos + BullMQ', 'peer', (parts) => startPeer('yoga-bullmq', parts.env)),
    atEqualRates('stock Yoga + Pothos + Prisma create', 'peer', (parts) => startPeer('yoga-create', parts.env)),
  ],
  targets: [1_000, 10_000].flatMap((rate) =>
    ['p50', 'p99'].map((p) => ({ beside: nearest, figure: `${p} ms at ${rate}/s`, unit: 'ms' })),
  ),
}

export const acceptRest: Scenario = {
  name: 'rest',
  title: `accept, POST /save, ${connections} connections`,
  figure: 'rate',
  unit: '/s',
  note: 'As above, without GraphQL.',
  contenders: [spillway('Spillway', rest), peer(limit, 'http-stream', 'limit', restToLimit)],
  targets: [{ beside: limit, figure: 'CPU µs', unit: 'µs', atMost: 1.15 }, { beside: limit }],
}

export const acceptMany: Scenario = {
  name: 'save-many',
  title: `accept, saveMany of ${many}`,
  figure: 'rate',
  unit: 'rows/s',
  note: `Beside single saves to the same kind of process. CPU µs are a row.`,
  profile: true,
  contenders: [spillway('Spillway', hundred), { ...spillway('Spillway, single saves', single), role: 'peer' }],
  targets: [
    { beside: 'Spillway, single saves', atLeast: 6 },
    { figure: 'p50', unit: 'ms', atMost: 25 },
    { figure: 'Redis µs', unit: 'µs', atMost: 6 },
  ],
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
