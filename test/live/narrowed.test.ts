/** Narrowed subscriptions: P4, P5 and P9 hold for them as for the others, and a quiet one does not expire. */
import { randomUUID } from 'node:crypto'
import { createClient } from 'graphql-ws'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { boot, type SetUp, type Spillway, setUps } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { models } from '../harness/contents.ts'
import { savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { quiet } from '../harness/quiet.ts'
import { type Random, seeded } from '../harness/random.ts'
import { roomFeed, roomQuery, treeWithRooms } from '../harness/rooms.ts'
import { SseClient } from '../harness/sse.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber, type Wire, wires } from '../harness/subscriber.ts'
import type { Tree } from '../harness/tree.ts'

let tree: Tree
beforeAll(async () => {
  tree = await treeWithRooms()
}, 180_000)
afterAll(() => tree?.[Symbol.asyncDispose]())

let system: Spillway | undefined
let dispose: (() => unknown)[] = []
afterEach(async () => {
  for (const each of dispose) await each()
  dispose = []
  await system?.stop()
  system = undefined
})

async function start(setUp: SetUp, env: Record<string, string> = {}, heartbeatMs = 200): Promise<Spillway> {
  const options = { workers: 1, tree: tree.path, intervals: { heartbeatMs } }
  system = await boot(setUp, { ...options, env, apis: setUp === 'embedded' ? 1 : 2 })
  return system
}

/** Saves messages, and waits until they are rows; their ids. */
async function save(rooms: readonly string[], body = 'a message', author = 'ann'): Promise<string[]> {
  const inputs = rooms.map((room) => ({ id: randomUUID(), room, author, body }))
  const query = 'mutation ($inputs: [MessageInput!]!) { saveMessages(inputs: $inputs) { saveId } }'
  const { data } = await system!.client.graphql(query, { inputs })
  expect(data?.saveMessages).toHaveLength(rooms.length)
  await holds(async () => expect((await system!.client.queue()).depth).toBe(0))
  return inputs.map(({ id }) => id)
}

/** The cursors of heartbeats, and the ids of events, in the order in which they came. */
async function follow(wire: Wire, url: string, room: string, after?: string) {
  const cursors: string[] = []
  const ids: string[] = []
  let code: string | undefined
  const note = ({ data, errors }: Json) => {
    if (errors) code = errors[0].extensions.code
    else ids.push(data.messageSaved.message.id)
  }
  const variables = after === undefined ? {} : { after }
  if (wire === 'SSE') {
    const client = await SseClient.open(url, roomQuery(room), variables)
    client.onFrame = ({ id, event, data }) => {
      if (event === 'next') note(JSON.parse(data))
      else if (event === undefined && id) cursors.push(id)
    }
    for (const frame of client.frames) client.onFrame(frame)
    dispose.push(() => client.close())
    return { cursors, ids, code: () => code, close: () => client.close() }
  }
  // The library as it is: it answers each ping with its payload.
  const client = createClient({
    url: `${url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    on: {
      ping: (received, payload) => {
        if (received) cursors.push(...(Object.values(payload?.cursors ?? {}) as string[]))
      },
    },
  })
  client.subscribe(
    { query: roomQuery(room), variables },
    {
      next: note,
      error: (errors) => {
        if (Array.isArray(errors)) note({ errors })
        else code = `closed with ${(errors as CloseEvent).code}`
      },
      complete: () => {},
    },
  )
  dispose.push(() => client.dispose())
  return { cursors, ids, code: () => code, close: () => client.dispose() }
}

describe.each(setUps)('A narrowed subscription (%s)', (setUp) => {
  test('that is quiet gets cursors by heartbeats, resumes from the last one, and does not expire', async () => {
    const { url } = await start(setUp, { EVENTS_RETENTION_BYTES: '1048576' })
    const quiet = await Promise.all(wires.map((wire) => follow(wire, url, 'quiet')))
    await holds(() => expect(quiet.every(({ cursors }) => cursors.length > 0)).toBe(true))
    const first = quiet[0]!.cursors[0]!
    const [own] = await save(['quiet'])
    // More than the log keeps.
    for (let n = 0; n < 6; n += 1) await save(['a', 'b', 'c', 'd'], 'x'.repeat(60_000))
    const now = await cursorNow(url)
    await holds(() => expect(quiet.map(({ cursors }) => cursors.at(-1))).toEqual([now, now]))
    for (const { cursors, ids, close } of quiet) {
      expect(cursors).toEqual([...new Set(cursors)].sort())
      expect(ids).toEqual([own])
      close()
    }
    // A process that was there has the last megabytes in memory.
    await system!.crash()
    const expired = await Promise.all(wires.map((wire) => follow(wire, system!.url, 'quiet', first)))
    await holds(() => expect(expired.map(({ code }) => code())).toEqual(['CURSOR_EXPIRED', 'CURSOR_EXPIRED']))
    const resumed = await Promise.all(wires.map((wire) => follow(wire, system!.url, 'quiet', now)))
    const [next] = await save(['quiet', 'a'])
    await holds(() => expect(resumed.map(({ ids }) => ids)).toEqual([[next], [next]]))
    expect(resumed.map(({ code }) => code())).toEqual([undefined, undefined])
  }, 90_000)
})

const rooms = Array.from({ length: 20 }, (_, n) => `room ${n}`)
const authors = ['ann', 'bob']

interface Message {
  id: string
  room: string
  author: string
  body: string
}

/** Saves messages until it is stopped; each call is repeated with its ids until it is acknowledged. */
class Writer {
  readonly acknowledged: Message[] = []
  readonly #stopping = new AbortController()
  readonly #clients: Promise<void>[]

  constructor(system: Spillway, random: Random) {
    this.#clients = [0, 1, 2].map(async () => {
      while (!this.#stopping.signal.aborted) {
        const message = () => ({ id: randomUUID(), room: random.pick(rooms), author: random.pick(authors), body: 'x' })
        const inputs = Array.from({ length: 1 + random.whole(20) }, message)
        const query = 'mutation ($inputs: [MessageInput!]!) { saveMessages(inputs: $inputs) { saveId } }'
        for (let saved: Json; !saved; ) {
          const api = system.apis[random.whole(system.apis.length)]
          saved = (await api?.client.graphql(query, { inputs }).catch(() => undefined))?.data?.saveMessages
          // Nothing depends on this pause but the load.
          await new Promise((resolve) => setTimeout(resolve, 30))
        }
        this.acknowledged.push(...inputs)
      }
    })
  }

  async more(count: number): Promise<void> {
    const goal = this.acknowledged.length + count
    const progress = () => this.acknowledged.length
    await holds(() => expect(progress()).toBeGreaterThan(goal), { timeoutMs: 60_000, progress })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#clients)
  }
}

/** P5: whether the list of the room, of whichever process answers, has the row. A list of 100 newer rows says nothing. */
async function isListed(system: Spillway, random: Random, room: string, id: string): Promise<boolean> {
  const api = system.apis[random.whole(system.apis.length)]
  const query = `{ messages(room: "${room}", first: 100) { edges { node { id } } } }`
  const answer = await api?.client.graphql(query).catch(() => undefined)
  const edges: Json[] | undefined = answer?.data?.messages?.edges
  return !edges || edges.length === 100 || edges.some(({ node }) => node.id === id)
}

/** Subscribers of some rooms that drop and resume at random, while messages are saved and the faults happen. */
async function missNothing(system: Spillway, faults: (() => Promise<void>)[]): Promise<void> {
  const random = seeded()
  console.log(`SEED=${random.seed}`)
  const start = await cursorNow(system.url)
  const url = () => system.apis[random.whole(system.apis.length)]?.url
  const reads: Promise<void>[] = []
  const stale: string[] = []
  const topics = [
    ...rooms.slice(0, 4).map((room) => ({ room, author: undefined })),
    ...authors.map((author) => ({ room: rooms[0]!, author })),
    { room: 'a room of nobody', author: undefined },
  ]
  const groups = topics.map(({ room, author }) => {
    const subscribers = wires.map((wire) => new Subscriber(wire, start, url, roomFeed(room, author)).start())
    for (const subscriber of subscribers) {
      dispose.push(() => subscriber.stop())
      subscriber.onEvent = (id) => {
        reads.push(isListed(system, random, room, id).then((is) => void (is || stale.push(`${room} ${id}`))))
      }
    }
    return { room, author, subscribers }
  })
  const all = groups.flatMap(({ subscribers }) => subscribers)
  await holds(() => expect(all.every(({ connections }) => connections > 0)).toBe(true))
  const dropping = setInterval(() => random.pick(all).drop(), 150)
  const writer = new Writer(system, random)
  for (const fault of faults) {
    await writer.more(200)
    await fault()
  }
  await writer.more(200)
  await writer.stop()
  clearInterval(dropping)

  for (const { room, author, subscribers } of groups) {
    const own = writer.acknowledged.filter((one) => one.room === room && (author ?? one.author) === one.author)
    const ids = own.map(({ id }) => id).sort()
    await holds(() => expect(subscribers.map((one) => [...one.ids].sort())).toEqual([ids, ids]), {
      timeoutMs: 30_000,
      progress: () => subscribers.map(({ seen }) => seen.length).join(),
    })
    // One order, also of events that were published twice.
    await holds(() => expect(subscribers[0]!.seen).toEqual(subscribers[1]!.seen))
  }
  await Promise.all(reads)
  expect(stale).toEqual([])
  expect(all.flatMap(({ faults }) => faults)).toEqual([])
  const sum = (count: (subscriber: Subscriber) => number) => all.reduce((total, one) => total + count(one), 0)
  const [connections, heartbeats] = [sum((one) => one.connections), sum((one) => one.heartbeats)]
  expect(connections, 'subscribers that do not resume prove nothing').toBeGreaterThan(all.length * 2)
  expect(heartbeats, 'nor those that resume from events only').toBeGreaterThan(all.length)
  console.log(
    `${writer.acknowledged.length} saves, ${connections} connections, ${heartbeats} heartbeats, ${reads.length} reads`,
  )
}

describe('P4 and P5: narrowed subscriptions that drop and resume miss nothing, and their lists have the rows,', () => {
  test('while APIs, Redis and its pub/sub are killed', async () => {
    const stack = await Stack.start({ tree: tree.path, apis: 2, workers: 1, intervals: { heartbeatMs: 100 } })
    system = stack
    const killApi = async () => {
      await stack.kill(stack.apis[0]!)
      await stack.startApi()
    }
    const killRedis = async () => {
      await stack.redis.stop('SIGKILL')
      await stack.redis.restart()
    }
    const killPubSub = async () => void (await stack.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'))
    await missNothing(stack, [killPubSub, killApi, killRedis, killPubSub, killApi])
  }, 180_000)

  test('while the embedded process is killed', async () => {
    const stack = await Stack.start({ tree: tree.path, embedded: true, intervals: { heartbeatMs: 100 } })
    system = stack
    const killApi = async () => {
      await stack.kill(stack.apis[0]!)
      await stack.startApi()
    }
    await missNothing(stack, [killApi, killApi])
  }, 120_000)
})

test('A pong that answers a heartbeat does not count for the rate limit', async () => {
  const { env, url } = await start('redis + mariadb', { RATE_LIMIT: '5' }, 50)
  const log = new RedisEventLog(parseRedisUrl(env.QUEUE_URL!), {
    retentionMs: 60_000,
    retentionBytes: 1_048_576,
    models,
    log: quiet(),
  })
  dispose.push(() => log.close())
  const { cursors, code } = await follow('WebSocket', url, 'a room')
  await holds(async () => {
    await log.append([[savedEvent('of another model')]])
    expect(cursors.length).toBeGreaterThan(40)
  })
  expect(code()).toBeUndefined()
}, 60_000)
