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
import { roomQuery, treeWithRooms } from '../harness/rooms.ts'
import { SseClient } from '../harness/sse.ts'
import { cursorNow, type Wire, wires } from '../harness/subscriber.ts'
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
    { next: note, error: (errors) => note({ errors }), complete: () => {} },
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

test('A pong that answers a heartbeat does not count for the rate limit', async () => {
  const { env, url } = await start('redis + mariadb', { REQUESTS_PER_SECOND: '5' }, 50)
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
