/** `saved` to many subscribers who asked the same: deliveries a second, how late they come, and what an idle one costs. */
import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { uuidv7 } from 'uuidv7'
import type { KnownEvent } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Content, contentRow, models } from '../../test/harness/contents.ts'
import { type Contender, type Process, type Running, startPeer, startSpillway } from '../contender.ts'
import type { Parts } from '../parts.ts'
import { Samples } from '../samples.ts'
import { contentOf } from '../save.ts'
import type { Scenario } from '../scenario.ts'
import { Crowd } from '../subscribers.ts'

const document = 'subscription { saved { cursor content { id content } } }'
const subscribers = 1_000
/** Events of one log entry; a worker under load publishes more at once. */
const batch = 20
const patienceMs = 120_000

type Publish = (events: number) => Promise<void>

/**
 * The length of one event, as every subscriber is sent it: measured until two agree, since a heartbeat may come in between, and since a
 * peer may have answered before it was subscribed itself.
 */
async function lengthOfOne(crowd: Crowd, publish: Publish): Promise<number> {
  let before = 0
  for (let tries = 1; tries <= 20; tries++) {
    await crowd.quiet()
    crowd.restart()
    await publish(1)
    await crowd.quiet()
    const length = crowd.total / crowd.size
    if (length > 0 && length === before && Number.isInteger(length)) return length
    before = length
  }
  throw new Error('the subscribers do not get events of one length')
}

function fanningOut(
  crowd: Crowd,
  length: number,
  events: number,
  publish: Publish,
  stop: () => Promise<void>,
): Running {
  return {
    async measure() {
      await crowd.quiet()
      crowd.restart()
      const since = performance.now()
      await Promise.all([publish(events), crowd.hasReceived(events * length * crowd.size, patienceMs)])
      return { rate: ((events * crowd.size) / (performance.now() - since)) * 1_000 }
    },
    stop: async () => {
      crowd.close()
      await stop()
    },
  }
}

/** Appends to the events log what a worker would: `batch` events an entry. */
function publisher(parts: Parts): { publish: Publish; close(): Promise<void> } {
  const log = new RedisEventLog(parseRedisUrl(parts.redis.url), {
    retentionMs: 3_600_000,
    retentionBytes: 268_435_456,
    models,
    log: { info() {}, warn() {}, error() {} },
  })
  const publish = async (events: number) => {
    const entries = Array.from({ length: Math.ceil(events / batch) }, (_, i) =>
      entry(Math.min(batch, events - i * batch)),
    )
    // A few to a call, so that the subscribers never wait for the publisher.
    for (let i = 0; i < entries.length; i += 10) await log.append(entries.slice(i, i + 10))
  }
  return { publish, close: () => log.close() }
}

function entry(size: number): KnownEvent[] {
  return Array.from({ length: size }, (_, n) => ({
    type: 'saved',
    model: Content,
    row: contentRow(contentOf(n), { id: uuidv7() }),
  }))
}

let ourLength = 0

const spillway: Contender = {
  name: 'Spillway',
  role: 'ours',
  start: async (parts, execArgv) => {
    await parts.reset()
    const api = await startSpillway('api', parts.env, execArgv)
    const { publish, close } = publisher(parts)
    const crowd = await Crowd.open(api.url, document, subscribers)
    ourLength = await lengthOfOne(crowd, publish)
    return fanningOut(crowd, ourLength, parts.pace.quick ? 400 : 2_000, publish, async () => {
      await close()
      await api.stop()
    })
  },
}

const constant: Contender = {
  name: 'constant bytes to the same sockets',
  role: 'limit',
  start: async (parts) => {
    const peer = await startPeer('sse-constant', parts.env)
    const crowd = await Crowd.open(peer.url, document, subscribers)
    const publish: Publish = async (events) => {
      await fetch(`${peer.url}/write?times=${events / batch}&length=${ourLength * batch}`)
    }
    return fanningOut(crowd, ourLength, parts.pace.quick ? 400 : 2_000, publish, peer.stop)
  },
}

const yoga: Contender = {
  name: 'stock Yoga + graphql-redis-subscriptions',
  role: 'peer',
  start: async (parts) => {
    const peer = await startPeer('yoga-pubsub', parts.env)
    const redis = new Redis(parts.redis.url)
    const publish: Publish = async (events) => {
      const messages = Array.from({ length: events }, (_, n) => {
        const saved = { cursor: `mDfe1pzOdSJE.${'0'.repeat(28)}`, content: { id: uuidv7(), content: contentOf(n) } }
        return redis.publish('saved', JSON.stringify({ saved }))
      })
      await Promise.all(messages)
    }
    const crowd = await Crowd.open(peer.url, document, subscribers)
    const length = await lengthOfOne(crowd, publish)
    return fanningOut(crowd, length, parts.pace.quick ? 40 : 200, publish, async () => {
      redis.disconnect()
      await peer.stop()
    })
  },
}

export const fanOut: Scenario = {
  name: 'fan-out',
  title: 'deliveries to 1,000 identical subscribers over SSE',
  figure: 'rate',
  unit: '/s',
  note: `Published to Spillway in log entries of ${batch} events, as its worker publishes batches; published to the peer one by one. The limit writes bytes of the length of ${batch} events to each socket as often.`,
  profile: true,
  contenders: [spillway, constant, yoga],
  targets: [
    { beside: yoga.name, atLeast: 5 },
    { beside: constant.name, atLeast: 0.6 },
  ],
}

const pacedPerSecond = 10

export const delivery: Scenario = {
  name: 'delivery',
  title: 'delivery of a batch at 20,000 deliveries/s',
  figure: 'p99',
  unit: 'ms',
  note: `${subscribers.toLocaleString('en-US')} subscribers, ${pacedPerSecond} log entries of 2 events a second; from the append to the arrival at each subscriber.`,
  contenders: [
    {
      name: 'Spillway',
      role: 'ours',
      start: async (parts) => {
        await parts.reset()
        const api = await startSpillway('api', parts.env)
        const { publish, close } = publisher(parts)
        const crowd = await Crowd.open(api.url, document, subscribers)
        const length = await lengthOfOne(crowd, publish)
        return {
          async measure() {
            await pacedDelivery(crowd, length, publish, parts.pace.warmUpSeconds)
            return await pacedDelivery(crowd, length, publish, parts.pace.seconds)
          },
          stop: async () => {
            crowd.close()
            await close()
            await api.stop()
          },
        }
      },
    },
  ],
  targets: [{ figure: 'p99', unit: 'ms', atMost: 100 }],
}

async function pacedDelivery(crowd: Crowd, length: number, publish: Publish, seconds: number) {
  await crowd.quiet()
  crowd.restart()
  const times = Math.ceil(seconds * pacedPerSecond)
  const size = 2 * length
  const appendedAt: number[] = []
  const samples = new Samples()
  crowd.onBytes = (bytes) => {
    // Whole batches only; what is left over is on its way.
    const since = appendedAt[Math.floor(bytes / size + 0.01) - 1]
    if (since !== undefined) samples.add(performance.now() - since)
  }
  for (let i = 0; i < times; i++) {
    appendedAt.push(performance.now())
    await publish(2)
    const rest = appendedAt[0]! + ((i + 1) * 1_000) / pacedPerSecond - performance.now()
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, rest)))
  }
  await crowd.hasReceived(times * size * crowd.size, 30_000)
  crowd.onBytes = () => {}
  return { p50: samples.quantile(0.5), p99: samples.quantile(0.99) }
}

const idling = (name: string, role: 'ours' | 'peer', start: (parts: Parts) => Promise<Process>): Contender => ({
  name,
  role,
  start: async (parts) => ({
    async measure() {
      await parts.reset()
      const server = await start(parts)
      const size = parts.pace.quick ? 2_000 : 10_000
      // The first ones compile and warm up what all share.
      const first = await Crowd.open(server.url, document, 200)
      await first.quiet()
      const before = residentKiB(server.pid)
      const crowd = await Crowd.open(server.url, document, size)
      await crowd.quiet()
      const after = residentKiB(server.pid)
      first.close()
      crowd.close()
      await server.stop()
      return { memory: (after - before) / size, subscribers: size }
    },
    stop: async () => {},
  }),
})

function residentKiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

const idleYoga = 'stock Yoga + graphql-redis-subscriptions'

export const idle: Scenario = {
  name: 'idle',
  title: '10,000 idle subscribers in one process, memory of each',
  figure: 'memory',
  unit: 'KiB',
  note: 'Resident memory of the process after less before, by the number of subscribers; sockets included.',
  contenders: [
    idling('Spillway', 'ours', (parts) => startSpillway('api', parts.env)),
    idling(idleYoga, 'peer', (parts) => startPeer('yoga-pubsub', parts.env)),
  ],
  targets: [{ figure: 'memory', unit: 'KiB' }, { beside: idleYoga }],
}
