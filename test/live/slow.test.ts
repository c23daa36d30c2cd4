/**
 * P9: a subscriber that does not read is not read for. It holds the batch it is being sent and its place in the log, whatever passes
 * meanwhile, and then gets all of it in order; or CURSOR_EXPIRED, where the log kept less than that. Never a hole.
 */
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { EventLog } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import type { Models } from '../../src/model/model.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import type { SetUp } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { models as contentModels } from '../harness/contents.ts'
import { largeEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { type Inspected, inspect } from '../harness/inspected.ts'
import { quiet } from '../harness/quiet.ts'
import { roomEvents, treeWithRooms } from '../harness/rooms.ts'
import { testSqlite } from '../harness/sqlite.ts'
import type { Tree } from '../harness/tree.ts'

const megabyte = 1024 * 1024
/** The ring, and what was rendered last for all: what the events themselves may take, whoever reads. */
const ringBytes = 32 * megabyte + 32 * megabyte
interface Result {
  data?: Json
  errors?: { extensions?: { code: string } }[]
}

/** A subscription, and of each result the cursor and the text that begins with a number. */
interface Asked {
  query: string
  read(data: Json): { cursor: string; text: string }
}

const contents: Asked = {
  query: 'subscription { saved { cursor content { content } } }',
  read: ({ saved }) => ({ cursor: saved.cursor, text: saved.content.content }),
}

const messagesOf = (room: string): Asked => ({
  query: `subscription { messageSaved(room: "${room}") { cursor message { body } } }`,
  read: ({ messageSaved }) => ({ cursor: messageSaved.cursor, text: messageSaved.message.body }),
})

/** Reads frames by hand, so that it can stop: its socket is paused, and then nothing is taken from the kernel any more. */
interface Reader {
  /** The number each event begins with. */
  readonly numbers: number[]
  readonly cursors: string[]
  error: string | undefined
  pause(): void
  resume(): void
  close(): void
}

function notes({ read }: Asked): Omit<Reader, 'pause' | 'resume' | 'close'> & { note(result: Result): void } {
  const reader = {
    numbers: [] as number[],
    cursors: [] as string[],
    error: undefined as string | undefined,
    note({ data, errors }: Result) {
      if (errors) reader.error = errors[0]!.extensions?.code ?? 'no code'
      if (!data) return
      const { cursor, text } = read(data)
      reader.numbers.push(Number.parseInt(text, 10))
      reader.cursors.push(cursor)
    },
  }
  return reader
}

async function overSse(url: string, asked = contents): Promise<Reader> {
  const reader = notes(asked)
  const sent = get(`${url}/graphql?query=${encodeURIComponent(asked.query)}`, {
    agent: false as never,
    headers: { accept: 'text/event-stream' },
  })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  let rest = ''
  response.setEncoding('utf8').on('data', (chunk: string) => {
    const frames = (rest + chunk).split('\n\n')
    rest = frames.pop()!
    for (const frame of frames) {
      const data = frame.split('\n').find((line) => line.startsWith('data: '))
      if (data) reader.note(JSON.parse(data.slice(6)))
    }
  })
  response.on('error', () => {})
  return Object.assign(reader, {
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    close: () => response.destroy(),
  })
}

async function overWs(url: string, asked = contents): Promise<Reader> {
  const reader = notes(asked)
  const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws')
  await once(socket, 'open')
  socket.on('message', (data) => {
    const { type, payload } = JSON.parse(String(data))
    if (type === 'next') reader.note(payload)
    if (type === 'error') reader.note({ errors: payload })
  })
  socket.on('close', (code) => {
    reader.error ??= `closed with ${code}`
  })
  socket.send(JSON.stringify({ type: 'connection_init' }))
  await once(socket, 'message')
  socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: asked.query } }))
  // Answered behind the subscription: it is open by then.
  const ponged = new Promise<void>((resolve) =>
    socket.on('message', function pong(data) {
      if (JSON.parse(String(data)).type !== 'pong') return
      socket.off('message', pong)
      resolve()
    }),
  )
  socket.send(JSON.stringify({ type: 'ping' }))
  await ponged
  return Object.assign(reader, {
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.terminate(),
  })
}

let api: Inspected | undefined
let cleanups: (() => Promise<void> | void)[] = []

afterEach(async () => {
  await api?.stop()
  for (const cleanup of cleanups.reverse()) await cleanup()
  cleanups = []
  api = undefined
})

/** The API, and its events log to append to: what passes is events, and no database has to write 200 MB. */
async function start(
  setUp: SetUp,
  retentionBytes: number,
  { tree, models = contentModels }: { tree?: string; models?: Models } = {},
): Promise<{ api: Inspected; log: EventLog }> {
  const env = { EVENTS_RETENTION_BYTES: String(retentionBytes) }
  const retention = { retentionMs: 3_600_000, retentionBytes }
  if (setUp === 'embedded') {
    const sqlite = await testSqlite(retention)
    cleanups.push(() => sqlite.cleanup())
    const log = await sqlite.events()
    api = await inspect(
      { ...env, DATABASE_URL: `file:${sqlite.path}.store`, QUEUE_URL: `file:${sqlite.path}` },
      { tree },
    )
    return { api, log }
  }
  const database = await freshDatabase()
  const redis = freshRedisUrl()
  const log = new RedisEventLog(parseRedisUrl(redis), { ...retention, models, log: quiet() })
  cleanups.push(() => log.close())
  api = await inspect({ ...env, DATABASE_URL: database.url, QUEUE_URL: redis }, { tree })
  await holds(() => log.tail())
  return { api, log }
}

/** Appends entries of half a megabyte, as a worker does when contents are large. */
async function pass(log: EventLog, from: number, entries: number, everyMs: number): Promise<void> {
  for (let i = 0; i < entries; i++) {
    const due = performance.now() + everyMs
    await log.append([Array.from({ length: 10 }, (_, n) => largeEvent(from + i * 10 + n))])
    // The rate is the load.
    await sleep(Math.max(0, due - performance.now()))
  }
}

/** Waits as long as more of them come. */
async function receives(readers: readonly Reader[], count: number): Promise<void> {
  const lengths = () => readers.map(({ numbers, error }) => error ?? numbers.length)
  const all = readers.map(() => count)
  await holds(() => expect(lengths()).toEqual(all), { timeoutMs: 30_000, progress: () => lengths().join() })
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

// What an API holds of events does not depend on the set-up: they pass through one follower and one ring.
describe('Spillway (redis + mariadb)', () => {
  test('holds its memory and goes on sending to others while two subscribers do not read 100 MB, which they then get without a gap', async () => {
    const { api, log } = await start('redis + mariadb', 400 * megabyte)
    const others = await overSse(api.url)
    const slow = [await overSse(api.url), await overWs(api.url)]
    // What it takes with everybody reading.
    await pass(log, 0, 40, 20)
    await receives([others, ...slow], 400)
    const before = await api.holding()

    for (const reader of slow) reader.pause()
    // The other one gets all of it while they do not read. A WebSocket that answers no ping for 36 s is closed: so many pass before that.
    const deadline = performance.now() + 20_000
    let passed = 400
    for (; passed < 2_400 && performance.now() < deadline; passed += 100) {
      await pass(log, passed, 10, 20)
      await receives([others], passed + 100)
    }
    const during = await api.holding()
    const behind = slow.map(({ numbers }) => numbers.length)
    for (const reader of slow) reader.resume()
    await receives([others, ...slow], passed)
    console.log(
      `heap and buffers +${((during.bytes - before.bytes) / megabyte).toFixed(1)} MB, RSS +${((during.rss - before.rss) / megabyte).toFixed(1)} MB; ${passed - 400} of 2,000 events passed`,
    )
    // A busy machine passes less in 20 s; it is more than the ring has.
    expect(passed).toBeGreaterThan(1_400)
    for (const count of behind) expect(count, 'it read on').toBeLessThan(passed - 500)
    // The ring may have had room left before; the rest is two batches and some change.
    expect(during.bytes).toBeLessThan(before.bytes + ringBytes / 2 + 8 * megabyte)

    for (const reader of slow) {
      expect(reader.numbers).toEqual(upTo(passed))
      expect(reader.cursors).toEqual(others.cursors)
      expect(reader.error).toBeUndefined()
      reader.close()
    }
    others.close()
  }, 180_000)
})

describe.each<SetUp>(['redis + mariadb', 'embedded'])('Spillway (%s)', (setUp) => {
  test('sends CURSOR_EXPIRED after the last event without a gap to a subscriber that does not read for longer than the log keeps', async () => {
    const { api, log } = await start(setUp, 32 * megabyte)
    const others = await overSse(api.url)
    const slow = [await overSse(api.url), await overWs(api.url)]
    for (const reader of slow) reader.pause()
    // Not faster than the other one reads, or its place would be lost, too.
    for (let n = 0; n < 1_200; n += 100) {
      await pass(log, n, 10, 20)
      await receives([others], n + 100)
    }
    expect(others.numbers).toEqual(upTo(1_200))
    for (const reader of slow) reader.resume()
    await holds(() => expect(slow.map(({ error }) => error)).toEqual(['CURSOR_EXPIRED', 'CURSOR_EXPIRED']), {
      timeoutMs: 20_000,
      progress: () => slow.map(({ numbers }) => numbers.length).join(),
    })
    for (const reader of slow) {
      expect(reader.numbers).toEqual(upTo(reader.numbers.length))
      expect(reader.numbers.length).toBeLessThan(1_200)
      reader.close()
    }
    others.close()
  }, 180_000)
})

describe('Narrowed subscribers', () => {
  let tree: Tree
  beforeAll(async () => {
    tree = await treeWithRooms()
  }, 180_000)
  afterAll(() => tree?.[Symbol.asyncDispose]())

  test.each<SetUp>(['redis + mariadb', 'embedded'])(
    'that do not read hold little while 50 MB of several rooms pass, and miss nothing (%s)',
    async (setUp) => {
      const { models, event } = await roomEvents(tree)
      const { api, log } = await start(setUp, 400 * megabyte, { tree: tree.path, models })
      const other = await overSse(api.url, messagesOf('busy'))
      const slow = [await overSse(api.url, messagesOf('busy')), await overWs(api.url, messagesOf('busy'))]
      const rare = [await overSse(api.url, messagesOf('rare')), await overWs(api.url, messagesOf('rare'))]
      let busyEvents = 0
      let rareEvents = 0
      const append = async (entries: number) => {
        for (let n = 0; n < entries; n += 1) {
          const busy = Array.from({ length: 3 }, () => event('busy', busyEvents++))
          const own = n % 40 === 39 ? [event('rare', rareEvents++)] : []
          await log.append([[event('elsewhere', 0), ...busy, ...own]])
        }
      }
      await append(40)
      await receives([other, ...slow], busyEvents)
      const before = await api.holding()
      for (const reader of [...slow, ...rare]) reader.pause()
      await append(250)
      await receives([other], busyEvents)
      const during = await api.holding()
      console.log(`heap and buffers +${((during.bytes - before.bytes) / megabyte).toFixed(1)} MB`)
      for (const { numbers } of slow) expect(numbers.length, 'it read on').toBeLessThan(busyEvents - 300)
      expect(during.bytes).toBeLessThan(before.bytes + ringBytes / 2 + 8 * megabyte)
      for (const reader of [...slow, ...rare]) reader.resume()
      await receives([other, ...slow], busyEvents)
      await receives(rare, rareEvents)
      for (const reader of [other, ...slow]) expect(reader.numbers).toEqual(upTo(busyEvents))
      for (const reader of rare) expect(reader.numbers).toEqual(upTo(rareEvents))
      for (const reader of [other, ...slow, ...rare]) {
        expect(reader.error).toBeUndefined()
        reader.close()
      }
    },
    180_000,
  )
})
