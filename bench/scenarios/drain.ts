/** How many rows a second one worker takes out of a full queue: from the first message that is gone to the last. */
import { Queue as BullQueue } from 'bullmq'
import { Redis } from 'ioredis'
import { uuidv7 } from 'uuidv7'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { contentMessage, digestOfContent } from '../../test/harness/contents.ts'
import { type Contender, type Figures, type Process, startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { contentOf } from '../save.ts'
import type { Scenario } from '../scenario.ts'

const lookEveryMs = 5
const silent = { info() {}, warn() {}, error() {} }

/** Starts a worker on a queue of `messages`; until `depth` is 0 and every row is there. */
async function drain(
  parts: Parts,
  messages: number,
  depth: () => Promise<number>,
  start: () => Promise<Process>,
): Promise<Figures> {
  const starting = start()
  let first: { left: number; at: number } | undefined
  for (;;) {
    const left = await depth()
    const at = performance.now()
    if (left < messages) first ??= { left, at }
    if (left === 0) {
      const worker = await starting
      await worker.stop()
      const rows = await parts.rows()
      if (rows !== messages) throw new Error(`${messages} messages became ${rows} rows`)
      return { rate: (first!.left / (at - first!.at)) * 1_000, messages }
    }
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
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
              data: { id: uuidv7(), content: contentOf(n + i), at: Date.now() },
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
    const { url, stop } = await startPeer('bulk-insert', parts.env)
    return {
      async measure() {
        await parts.reset()
        const rows = messagesFor(parts, 200_000)
        const { ms } = (await (await fetch(`${url}/?rows=${rows}`)).json()) as { ms: number }
        return { rate: (rows / ms) * 1_000, messages: rows }
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
  note: 'From the first message that left the queue to the last; for Spillway, these are committed, published and acknowledged. The BullMQ workers get fewer messages (20,000 and 50,000): they would need minutes. BullMQ has no batches of its own; the second one gathers jobs to createMany of 1,000. A statement alone needs no queue. While the worker drains, it takes about 70 % of a core and Redis 58 %, to receive, mark saved, append the events and acknowledge (three writes to disk a batch), of the two cores that the database is on as well.',
  profile: true,
  contenders: [
    spillway,
    bull('BullMQ worker + Prisma create', 'bullmq-create', 20_000),
    bull('BullMQ worker + createMany of 1,000', 'bullmq-batch', 50_000),
    insertAlone,
  ],
  targets: [
    { figure: 'rate', unit: 'rows/s', atLeast: 40_000 },
    { beside: 'BullMQ worker + Prisma create', atLeast: 30 },
    { beside: 'BullMQ worker + createMany of 1,000', atLeast: 4 },
    { beside: 'bulk insert alone', atLeast: 0.5 },
  ],
}
