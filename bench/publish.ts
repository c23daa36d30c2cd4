/** Publishing to subscribers: what Spillway's worker does after a commit, and what the peers' users do. */
import { Redis } from 'ioredis'
import type { KnownEvent } from '../src/events/events.ts'
import { RedisEventLog } from '../src/events/redis.ts'
import type { Model } from '../src/model/model.ts'
import { parseRedisUrl } from '../src/redis/address.ts'
import { holds } from '../test/harness/eventually.ts'

export interface Publisher {
  publish(events: number): Promise<void>
  close(): Promise<void>
}

/** Calls of Redis that wait for an answer: so that no subscriber waits for the publisher. */
const callsAtOnce = 64

/** Resolves when it is connected. Appends to the events log of a Redis: `entrySize` events an entry, an entry a call. `rowOf` makes the row of the n-th event. */
export async function logPublisher(
  redisUrl: string,
  model: Model,
  rowOf: (n: number) => Extract<KnownEvent, { type: 'saved' }>['row'],
  entrySize = 1,
): Promise<Publisher> {
  const log = new RedisEventLog(parseRedisUrl(redisUrl), {
    retentionMs: 3_600_000,
    retentionBytes: 268_435_456,
    models: new Map([[model.name, model]]),
    log: { info() {}, warn() {}, error() {} },
  })
  await holds(() => log.tail())
  let published = 0
  return {
    publish: (events) =>
      eachOf(Math.ceil(events / entrySize), async (i) => {
        const size = Math.min(entrySize, events - i * entrySize)
        const entry = Array.from(
          { length: size },
          (): KnownEvent => ({ type: 'saved', model, row: rowOf(published++) }),
        )
        await log.append([entry])
      }),
    close: () => log.close(),
  }
}

/** Publishes to Redis' channels, an event a call. `messageOf` makes the channel and the payload of the n-th event. */
export function channelPublisher(redisUrl: string, messageOf: (n: number) => [string, object]): Publisher {
  const redis = new Redis(redisUrl)
  let published = 0
  return {
    publish: (events) =>
      eachOf(events, async () => {
        const [channel, payload] = messageOf(published++)
        await redis.publish(channel, JSON.stringify(payload))
      }),
    close: async () => redis.disconnect(),
  }
}

async function eachOf(count: number, call: (i: number) => Promise<void>): Promise<void> {
  let next = 0
  const callInTurn = async () => {
    while (next < count) await call(next++)
  }
  await Promise.all(Array.from({ length: callsAtOnce }, callInTurn))
}
