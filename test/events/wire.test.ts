/**
 * Foreign data in the events log and on its wake-up channel: garbage, entries of release 0.1 (no `v`), and entries of a later release. No
 * process ends, every readable event is returned, and a cursor means the same place to every release.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import type { EventLog, KnownEvent } from '../../src/events/events.ts'
import { type Feed, Follower } from '../../src/events/follower.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { type EventsCalls, eventsQuestions } from '../../src/events/sqlite-tables.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { RpcClient } from '../../src/sqlite/rpc-client.ts'
import { models } from '../harness/contents.ts'
import { contentOf, contents, savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { SseClient } from '../harness/sse.ts'

const retention = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }
const saved = (content: string): KnownEvent => savedEvent(content, { createdAt: new Date(0), savedAt: new Date(1) })
const old = (content: string) => ({ type: 'saved', content: { id: randomUUID(), content, createdAt: 0, savedAt: 1 } })
const later = [
  { v: 2, type: 'saved', model: 'Unknown', row: { id: randomUUID(), body: 'of a model that this release lacks' } },
  { v: 3, type: 'saved', model: 'Content', row: { id: randomUUID(), body: 'a later version of a known type' } },
  { v: 1, type: 'archived', id: randomUUID() },
  { type: 'somethingNew' },
  { v: 7 },
]
const damaged = [
  '[{"type":"saved"}]',
  '[{"v":1,"type":"saved","content":null}]',
  '[{"v":1,"type":"saved","content":{"id":"x","content":7,"createdAt":0,"savedAt":0}}]',
  '[{"v":1,"type":"saved","content":{"id":"x","content":"x","createdAt":"yesterday","savedAt":0}}]',
  '[{"v":1,"type":"saved","content":{"id":"x","content":"x","createdAt":1e300,"savedAt":0}}]',
  '[{"v":2,"type":"saved","row":{"id":"x","content":"x","createdAt":0,"savedAt":0}}]',
  '[{"v":2,"type":"saved","model":"Content","row":null}]',
  '[{"v":2,"type":"saved","model":"Content","row":{"id":"x","content":7,"createdAt":0,"savedAt":0}}]',
  '[{"v":2,"type":"saved","model":"Content","row":{"id":"x","content":"x","createdAt":"yesterday","savedAt":0}}]',
  '[{"v":1,"type":"failed","id":"x"}]',
  '[{"v":1,"type":"failed","id":"x","failure":{"code":1,"message":"x","attempts":1,"failedAt":0}}]',
  '[null]',
  '["saved"]',
  '{"type":"saved"}',
  '"saved"',
  'null',
  '[{"type":"sav',
  '',
]

interface Wire {
  log: EventLog
  /** Appends the texts of entries, as a process of any release does, and wakes the followers. */
  raw(...texts: string[]): Promise<void>
  /** The texts of all entries, as they are stored. */
  texts(): Promise<string[]>
  close(): Promise<void>
}

const appendScript = readFileSync(new URL('../../src/events/lua/append.lua', import.meta.url), 'utf8')

async function onRedis(): Promise<Wire> {
  const address = parseRedisUrl(freshRedisUrl())
  const redis = new Redis(inject('redisUrl'))
  const log = new RedisEventLog(address, { ...retention, models, log: quiet() })
  await holds(() => log.tail())
  const key = (name: string) => `{${address.prefix}:events}:${name}`
  const keys = ['log', 'meta', 'sizes', 'wake'].map(key)
  return {
    log,
    raw: async (...texts) => {
      await redis.eval(appendScript, 3, ...keys, 'epoch', 3_600_000, 268_435_456, 262_144, 5, ...texts)
    },
    texts: async () => (await redis.xrange(keys[0]!, '-', '+')).map(([, fields]) => fields[3]!),
    close: async () => {
      await log.close()
      redis.disconnect()
    },
  }
}

async function onSqlite(): Promise<Wire> {
  const sqlite = await testSqlite()
  const file = await sqlite.file()
  const log = new SqliteEventLog(file.connect(), { models })
  const port = new RpcClient<EventsCalls>(file.connect(), eventsQuestions)
  return {
    log,
    raw: (...texts) => port.call('append', [texts]),
    texts: async () => {
      const { epoch } = await port.call('tail', [])
      const rows = await port.call('read', [{ epoch, major: 0, minor: 0 }, 100])
      return rows === 'expired' ? [] : rows.map(({ events }) => events!)
    },
    close: async () => {
      await log.close()
      await port.close()
      await sqlite.cleanup()
    },
  }
}

describe.each([
  ['RedisEventLog', onRedis],
  ['SqliteEventLog', onSqlite],
] as const)('%s', (_, make) => {
  let wire: Wire
  let follower: Follower
  beforeEach(async () => {
    wire = await make()
    follower = new Follower({ events: wire.log, log: quiet() })
    follower.start()
  })
  afterEach(async () => {
    await follower.close()
    await wire.close()
  })

  const read = async (feed: Feed, count: number) => {
    const texts: string[] = []
    while (texts.length < count) {
      for (const { event } of (await feed.next()) ?? []) if (event.type === 'saved') texts.push(contentOf(event)!)
    }
    return texts
  }

  test('reads the entries of release 0.1, which have no version', async () => {
    const feed = await follower.feed(contents)
    await wire.raw(JSON.stringify([old('one'), old('two')]))
    await wire.log.append([[saved('three')]])
    expect(await read(feed, 3)).toEqual(['one', 'two', 'three'])
  })

  test('writes the version and the model beside the row', async () => {
    await wire.log.append([[saved('one')]])
    const [text] = await wire.texts()
    expect(JSON.parse(text!)).toEqual([
      {
        v: 2,
        type: 'saved',
        model: 'Content',
        row: { id: expect.any(String), createdAt: 0, savedAt: 1, content: 'one' },
      },
    ])
  })

  test('skips events of a later release, and its position moves on', async () => {
    const feed = await follower.feed(contents)
    await wire.raw(JSON.stringify(later))
    await wire.raw(JSON.stringify([later[0], old('one'), later[1], old('two')]), JSON.stringify(later))
    await wire.log.append([[saved('three')]])
    expect(await read(feed, 3)).toEqual(['one', 'two', 'three'])
    // A client can also resume from an entry that this release does not know.
    const tail = await wire.log.tail()
    await wire.raw(JSON.stringify(later))
    const behind = await follower.feed(contents, { position: await wire.log.tail(), index: 0 })
    const before = await follower.feed(contents, { position: tail, index: 0 })
    await wire.log.append([[saved('four')]])
    expect(await read(behind, 1)).toEqual(['four'])
    expect(await read(before, 1)).toEqual(['four'])
  })

  test('counts events of a later release in a cursor, so that every release resumes at the same event', async () => {
    const start = await wire.log.tail()
    await wire.raw(JSON.stringify([later[0], old('one'), later[1], later[2], old('two')]))
    for (const [index, texts] of [
      [0, ['one', 'two']],
      [1, ['one', 'two']],
      [2, ['two']],
      [4, ['two']],
    ] as const) {
      expect(await read(await follower.feed(contents, { position: start, index }), texts.length)).toEqual(texts)
    }
    await expect(follower.feed(contents, { position: start, index: 6 })).rejects.toMatchObject({
      code: 'CURSOR_EXPIRED',
    })
  })

  test.each(damaged)('reports a damaged entry as CURSOR_EXPIRED, and goes on behind it: %s', async (text) => {
    const feed = await follower.feed(contents)
    const start = await wire.log.tail()
    await wire.log.append([[saved('one')]])
    expect(await read(feed, 1)).toEqual(['one'])
    await wire.raw(text)
    await expect(feed.next()).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    const next = await holds(() => follower.feed(contents, { position: start, index: 0 }))
    expect(await read(next, 1)).toEqual(['one'])
    const fresh = await holds(async () => {
      const feed = await follower.feed(contents)
      expect(feed.cursor.position).toEqual(await wire.log.tail())
      return feed
    })
    await wire.log.append([[saved('two')]])
    expect(await read(fresh, 1)).toEqual(['two'])
  })
})

test('Follower goes on from the end of a log whose meta was damaged, and asks for the end once a refresh', async () => {
  const address = parseRedisUrl(freshRedisUrl())
  const key = (name: string) => `{${address.prefix}:events}:${name}`
  const redis = new Redis(inject('redisUrl'))
  const log = new RedisEventLog(address, { ...retention, models, log: quiet() })
  await holds(() => log.tail())
  let reads = 0
  const said = quiet()
  const source: EventLog = Object.assign(Object.create(log), {
    read: (...args: Parameters<EventLog['read']>) => {
      reads += 1
      return log.read(...args)
    },
    tail: () => log.tail(),
    follow: () => async () => {},
  })
  await log.append([[saved('one')], [saved('two')]])
  await redis.xtrim(key('log'), 'MAXLEN', 1)
  for (const last of ['rubbish', '9-9-9', '']) {
    await redis.hset(key('meta'), 'last', last)
    const follower = new Follower({ events: source, log: said })
    reads = 0
    follower.start()
    await holds(async () => expect(reads).toBeGreaterThan(0))
    await holds(() => follower.feed(contents))
    expect(reads).toBeLessThan(6)
    await follower.close()
  }
  await log.append([[saved('three')]])
  expect(await log.tail()).toMatchObject({ major: expect.any(Number) })
  await log.close()
  redis.disconnect()
})

test('Follower logs a defect of the events log once, with its message and stack', async () => {
  const lines: [object, string][] = []
  const say = (fields: object, message: string) => void lines.push([fields, message])
  let reads = 0
  const defective = {
    tail: async () => ({ epoch: 'epoch', major: 0, minor: 0 }),
    read: async () => {
      reads += 1
      throw new TypeError('of something that is not there')
    },
    follow: (wake: () => void) => {
      const timer = setInterval(wake, 5)
      return async () => clearInterval(timer)
    },
  } as unknown as EventLog
  const follower = new Follower({ events: defective, log: { info: say, warn: say, error: say } })
  follower.start()
  await holds(() => expect(reads).toBeGreaterThan(20))
  await follower.close()
  expect(lines).toEqual([
    [{ err: expect.objectContaining({ message: 'of something that is not there' }) }, expect.any(String)],
  ])
})

describe('An API process', () => {
  const children: SpillwayProcess[] = []
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(children.splice(0).map(({ exited }) => exited))
  })

  test('FB4: survives any message on the wake-up channel, and streams the events that come meanwhile', async () => {
    const url = freshRedisUrl()
    const address = parseRedisUrl(url)
    const channel = `{${address.prefix}:events}:wake`
    const api = await spawnSpillway('api', { QUEUE_URL: url, DATABASE_URL: 'file:./data/store.db' })
    children.push(api)
    const redis = new Redis(inject('redisUrl'))
    const log = new RedisEventLog(address, { ...retention, models, log: quiet() })
    const { epoch } = await holds(() => log.tail())
    const stream = await SseClient.open(api.url!, 'subscription { saved { cursor content { content } } }')
    // It does not follow the tail; one that does would be indistinguishable from an entry of a worker.
    const place = { epoch, id: '7-7', previous: '5-5' }
    const messages = [
      '{"epoch":"x","id":"1-1","previous":"","events":[{"type":"somethingNew"}]}',
      JSON.stringify({ ...place, events: [{ type: 'somethingNew' }] }),
      ...damaged.map((events) => `{"epoch":"${epoch}","id":"7-7","previous":"5-5","events":${events || 'null'}}`),
      JSON.stringify({ ...place, id: 7, events: [] }),
      JSON.stringify({ ...place, id: 'x', events: [] }),
      JSON.stringify({ ...place, previous: null, events: [] }),
      JSON.stringify({ epoch: null, id: '1-1', previous: '', events: [] }),
      ...damaged,
      '{',
      '7',
      'true',
      '[]',
      '{"__proto__":{"events":[]}}',
      '\0\ufffd',
      'x'.repeat(100_000),
    ]
    for (const message of messages) await redis.publish(channel, message)
    await log.append([[saved('after all that')]])
    await holds(() => expect(stream.results).toHaveLength(1))
    expect(stream.results[0].data.saved.content.content).toBe('after all that')
    expect((await fetch(`${api.url}/livez`)).status).toBe(200)
    stream.close()
    await log.close()
    redis.disconnect()
  })
})
