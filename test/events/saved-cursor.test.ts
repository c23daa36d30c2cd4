/**
 * P11: the savedCursor that a process takes from its follower is followed by every later event, at whichever process, or is expired; never
 * by a hole.
 */
import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { SavedCursor } from '../../src/app/saved-cursor.ts'
import { type Cursor, type EventLog, formatCursor, parseCursor } from '../../src/events/events.ts'
import { Follower } from '../../src/events/follower.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { savedRows } from '../../src/events/topics.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Content, models } from '../harness/contents.ts'
import { contentOf, savedEvent } from '../harness/events.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import type { EventsBench, Retention } from '../suites/events.ts'

const ample: Retention = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }

async function redis(retention: Retention, url = freshRedisUrl()): Promise<EventsBench> {
  const logs: RedisEventLog[] = []
  return {
    open: async () => {
      const log = new RedisEventLog(parseRedisUrl(url), { ...retention, models, log: quiet() })
      logs.push(log)
      await holds(() => log.tail())
      return log
    },
    cleanup: async () => void (await Promise.all(logs.map((log) => log.close()))),
  }
}

async function sqlite(retention: Retention): Promise<EventsBench> {
  const { file, cleanup } = await testSqlite(retention)
  const opened = await file()
  return { open: async () => new SqliteEventLog(opened.connect(), { models }), cleanup }
}

const followers: Follower[] = []
afterEach(async () => {
  for (const follower of followers.splice(0)) await follower.close()
})

/** A process: its follower, and the cursor that its pages have now. `deaf`: no wake-up reaches it, so that it knows the end of its start. */
async function processOn(log: EventLog, deaf = false) {
  const events: EventLog = {
    history: log.history,
    append: (entries) => log.append(entries),
    tail: () => log.tail(),
    read: (after, limit) => log.read(after, limit),
    follow: (wake) => (deaf ? async () => {} : log.follow(wake)),
    probe: () => log.probe(),
    close: () => log.close(),
  }
  const follower = new Follower({ events, log: quiet() })
  followers.push(follower)
  follower.start()
  const saved = new SavedCursor({ follower })
  await saved.known()
  return { follower, cursor: () => parseCursor(saved.now!)! }
}

/** The next events behind a cursor. */
async function behind(follower: Follower, cursor: Cursor, count: number): Promise<(string | undefined)[]> {
  const feed = await follower.feed(savedRows(Content), cursor)
  const contents: (string | undefined)[] = []
  while (contents.length < count) contents.push(...(await feed.next())!.map(({ event }) => contentOf(event)))
  feed.close()
  return contents
}

const expired = { code: 'CURSOR_EXPIRED', message: expect.stringContaining('savedCursor') }
const append = (log: EventLog, ...contents: string[]) => log.append(contents.map((content) => [savedEvent(content)]))

describe.each([
  ['RedisEventLog', redis],
  ['SqliteEventLog', sqlite],
] as const)('A savedCursor of %s', (_, make: (retention: Retention) => Promise<EventsBench>) => {
  let bench: EventsBench
  let worker: EventLog
  beforeEach(async () => {
    bench = await make(ample)
    worker = await bench.open()
  })
  afterEach(() => bench.cleanup())

  test('is followed by every event if the log was empty', async () => {
    const [one, other] = [await processOn(await bench.open()), await processOn(await bench.open())]
    const cursor = one.cursor()
    expect(other.cursor()).toEqual(cursor)
    await append(worker, 'a', 'b', 'c')
    for (const { follower } of [one, other]) expect(await behind(follower, cursor, 3)).toEqual(['a', 'b', 'c'])
  })

  test('is followed by every event if its process was behind, and if the subscribed one is', async () => {
    await append(worker, 'a')
    const slow = await processOn(await bench.open(), true)
    const fast = await processOn(await bench.open())
    const old = slow.cursor()
    await append(worker, 'b', 'c')
    await holds(() => expect(fast.cursor()).not.toEqual(old))
    const newest = await holds(async () => {
      const cursor = fast.cursor()
      expect(cursor.position).toEqual(await worker.tail())
      return cursor
    })
    const waiting = behind(slow.follower, newest, 2)
    await append(worker, 'd', 'e')
    expect(await behind(fast.follower, old, 4)).toEqual(['b', 'c', 'd', 'e'])
    // It reads the log every few seconds.
    expect(await waiting).toEqual(['d', 'e'])
    expect(await behind(slow.follower, old, 4)).toEqual(['b', 'c', 'd', 'e'])
  })

  test('is expired if the log no longer has the events behind it', async () => {
    await bench.cleanup()
    bench = await make({ ...ample, retentionBytes: 2_000 })
    worker = await bench.open()
    const slow = await processOn(await bench.open(), true)
    const beginning = slow.cursor()
    for (let i = 0; i < 40; i++) await append(worker, `${i} ${'x'.repeat(200)}`)
    const other = await processOn(await bench.open())
    await expect(other.follower.feed(savedRows(Content), beginning)).rejects.toMatchObject(expired)
    await expect(behind(slow.follower, beginning, 1)).rejects.toMatchObject(expired)
    const { cursor, follower } = other
    const end = cursor()
    await append(worker, 'next')
    expect(await behind(follower, end, 1)).toEqual(['next'])
  })
})

test('A savedCursor of RedisEventLog is expired after the log was flushed, also at a process that does not know of it yet', async () => {
  const url = freshRedisUrl()
  const bench = await redis(ample, url)
  const worker = await bench.open()
  for (const before of [[], ['a']]) {
    await append(worker, ...before)
    const slow = await processOn(await bench.open(), true)
    const cursor = slow.cursor()
    const { prefix } = parseRedisUrl(url)
    const client = new Redis(inject('redisUrl'))
    await client.del(...['log', 'meta', 'sizes'].map((key) => `{${prefix}:events}:${key}`))
    await client.quit()
    await append(worker, 'after the flush')
    const other = await processOn(await bench.open())
    await expect(other.follower.feed(savedRows(Content), cursor)).rejects.toMatchObject(expired)
    await expect(behind(slow.follower, cursor, 1)).rejects.toMatchObject(expired)
    // The page that it then reads has a cursor of the new log.
    await holds(() => expect(slow.cursor().position.epoch).not.toBe(cursor.position.epoch))
    expect(formatCursor(slow.cursor())).toBe(formatCursor(other.cursor()))
  }
  await bench.cleanup()
})
