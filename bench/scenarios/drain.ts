/** How many rows a second one worker takes out of a full queue: from the first message that is gone to the last. */
import { Queue as BullQueue } from 'bullmq'
import { Redis } from 'ioredis'
import { uuidv7 } from 'uuidv7'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { contentMessage, digestOfContent } from '../../test/harness/contents.ts'
import { type Contender, type Figures, type Process, type Server, startPeer, startSpillway } from '../contender.ts'
import { startNats } from '../nats.ts'
import type { Parts } from '../parts.ts'
import { startPostgres } from '../postgres.ts'
import { CpuMeter } from '../process-figures.ts'
import { contentOf } from '../save.ts'
import type { Scenario } from '../scenario.ts'

/** Not more than a part of a percent of any queue's time. */
const lookEveryMs = 5
const lookAtServerEveryMs = 25
const silent = { info() {}, warn() {}, error() {} }

/** Starts a worker on a queue of `messages`; until `depth` is 0 and every row is there. */
async function drain(
  parts: Parts,
  messages: number,
  depth: () => Promise<number>,
  start: () => Promise<Process>,
  server?: Server,
): Promise<Figures> {
  const worker = await start()
  const meter = new CpuMeter({
    worker: [worker.pid],
    ...(server ? { [server.name]: [server.pid] } : { Redis: [parts.redis.pid] }),
    ...(!server?.table && { database: [parts.mariadb.pid] }),
  })
  let first: { left: number; at: number } | undefined
  for (;;) {
    const left = await depth()
    const at = performance.now()
    if (left < messages && !first) {
      first = { left, at }
      meter.begin()
    }
    if (left === 0) {
      if (!first) throw new Error(`${messages} messages were gone before the worker said that it is ready: queue more`)
      meter.end()
      await worker.stop()
      const rows = await (server?.table ?? parts).rows()
      if (rows !== messages) throw new Error(`${messages} messages became ${rows} rows`)
      return { rate: (first.left / (at - first.at)) * 1_000, ...meter.perOperation(first.left), messages }
    }
    await new Promise((resolve) => setTimeout(resolve, server ? lookAtServerEveryMs : lookEveryMs))
  }
}

const messagesFor = (parts: Parts, full: number) => (parts.pace.quick ? full / 10 : full)

const spillway: Contender = {
  name: 'Spillway',
  role: 'ours',
  start: async (parts, execArgv) => ({
    async measure() {
      await parts.reset()
      const messages = messagesFor(parts, 200_000)
      const redis = new Redis(parts.redis.url)
      try {
        await fill(parts.redis.url, messages)
        const depth = () => redis.xlen(queueKeys('{spillway:0}').stream)
        return await drain(parts, messages, depth, () => startSpillway('worker', parts.env, execArgv))
      } finally {
        redis.disconnect()
      }
    },
    stop: async () => {},
  }),
}

async function fill(url: string, messages: number): Promise<void> {
  const queue = new RedisQueue(parseRedisUrl(url), { capacity: messages, log: silent })
  await queue.connection.whenReady(5_000)
  for (let n = 0; n < messages; n += 250) {
    const groups = Array.from({ length: Math.min(250, messages - n) }, (_, i) => {
      const [id, at, content] = [uuidv7(), Date.now(), contentOf(n + i)]
      return [{ id, digest: digestOfContent(content), at, body: contentMessage(id, content, at) }]
    })
    await queue.enqueue(groups)
  }
  await queue.close()
}

/** Its queue has what bench/peers/mercurius-stream.ts would have added. */
const forty: Contender = {
  name: 'forty lines: XREADGROUP, INSERT, XACK',
  role: 'peer',
  start: async (parts) => ({
    async measure() {
      await parts.reset()
      const messages = messagesFor(parts, 200_000)
      const redis = new Redis(parts.redis.url)
      try {
        for (let n = 0; n < messages; n += 500) {
          const some = redis.pipeline()
          for (let i = n; i < Math.min(n + 500, messages); i++)
            some.xadd('queue', '*', 'id', uuidv7(), 'content', contentOf(i))
          await some.exec()
        }
        return await drain(
          parts,
          messages,
          () => redis.xlen('queue'),
          () => startPeer('stream-insert', parts.env),
        )
      } finally {
        redis.disconnect()
      }
    },
    stop: async () => {},
  }),
}

const saveOf = (n: number) => ({ id: uuidv7(), content: contentOf(n), at: Date.now() })

/** Its stream has what bench/peers/mercurius-jetstream.ts would have published. */
const jetstream: Contender = {
  name: 'forty lines: NATS JetStream, INSERT, ack',
  role: 'peer',
  async start(parts) {
    const server = await startNats()
    return {
      async measure() {
        await parts.reset()
        await server.reset()
        const messages = messagesFor(parts, 20_000)
        for (let n = 0; n < messages; n += 500)
          await server.publish(Array.from({ length: 500 }, (_, i) => JSON.stringify(saveOf(n + i))))
        const start = () => startPeer('jetstream-insert', { ...parts.env, ...server.env })
        return await drain(parts, messages, server.depth, start, server)
      },
      stop: server.stop,
    }
  },
}

/** Its jobs are batches, as those of bench/peers/mercurius-graphile.ts are under a full load. */
const graphile: Contender = {
  name: 'graphile-worker, batch jobs, INSERT',
  role: 'peer',
  async start(parts) {
    const server = await startPostgres()
    const size = 50
    return {
      async measure() {
        await server.reset()
        const messages = messagesFor(parts, 100_000)
        for (let n = 0; n < messages; n += size * 10) {
          const batch = (_: unknown, i: number) => Array.from({ length: size }, (_, j) => saveOf(n + i * size + j))
          await server.addJobs(Array.from({ length: 10 }, batch))
        }
        const depth = async () => (await server.depth()) * size
        const start = () => startPeer('graphile-insert', server.env)
        return await drain(parts, messages, depth, start, server)
      },
      stop: server.stop,
    }
  },
}

const bull = (name: string, file: string, full: number): Contender => ({
  name,
  role: 'peer',
  start: async (parts) => ({
    async measure() {
      await parts.reset()
      const messages = messagesFor(parts, full)
      const { hostname, port } = new URL(parts.redis.url)
      const queue = new BullQueue('save', { connection: { host: hostname, port: Number(port) } })
      try {
        for (let n = 0; n < messages; n += 500) {
          await queue.addBulk(
            Array.from({ length: Math.min(500, messages - n) }, (_, i) => ({
              name: 'save',
              data: saveOf(n + i),
              opts: { removeOnComplete: true },
            })),
          )
        }
        const depth = async () => {
          const { waiting = 0, active = 0 } = await queue.getJobCounts('waiting', 'active')
          return waiting + active
        }
        return await drain(parts, messages, depth, () => startPeer(file, parts.env))
      } finally {
        await queue.close()
      }
    },
    stop: async () => {},
  }),
})

const insertAlone: Contender = {
  name: 'bulk insert alone',
  role: 'limit',
  start: async (parts) => {
    const { url, pid, stop } = await startPeer('bulk-insert', parts.env)
    return {
      async measure() {
        await parts.reset()
        const rows = messagesFor(parts, 200_000)
        const meter = new CpuMeter({ worker: [pid], Redis: [parts.redis.pid], database: [parts.mariadb.pid] })
        meter.begin()
        const { ms } = (await (await fetch(`${url}/?rows=${rows}`)).json()) as { ms: number }
        meter.end()
        return { rate: (rows / ms) * 1_000, ...meter.perOperation(rows), messages: rows }
      },
      stop,
    }
  },
}

export const draining: Scenario = {
  name: 'drain',
  title: 'drain, one worker, 200,000 queued',
  figure: 'rate',
  unit: 'rows/s',
  note: 'From the first message that left the queue to the last; for Spillway, these are committed, published and acknowledged. The forty lines keep no receipts, dead letters or events. PostgreSQL gets 100,000, NATS 20,000 (it writes each to disk by itself), the BullMQ workers 20,000 and 50,000: they would need minutes. A job of graphile-worker is a batch of 50 saves. BullMQ has no batches of its own; the second one gathers jobs to createMany of 1,000. A statement alone needs no queue. CPU µs are a row.',
  profile: true,
  contenders: [
    spillway,
    forty,
    jetstream,
    graphile,
    bull('BullMQ worker + Prisma create', 'bullmq-create', 20_000),
    bull('BullMQ worker + createMany of 1,000', 'bullmq-batch', 50_000),
    insertAlone,
  ],
  targets: [
    { beside: forty.name, atLeast: 1 },
    { beside: forty.name, figure: 'CPU µs', unit: 'µs' },
    { beside: jetstream.name },
    { beside: jetstream.name, figure: 'CPU µs', unit: 'µs' },
    { beside: graphile.name },
    { beside: graphile.name, figure: 'CPU µs', unit: 'µs' },
    { beside: 'BullMQ worker + Prisma create' },
    { beside: 'BullMQ worker + createMany of 1,000' },
    { beside: 'bulk insert alone', atLeast: 0.5 },
  ],
}
