/** The follower and its feeds on both events logs: every feed returns the whole log, in order, once, even if wake-ups are lost. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import type { Event, EventLog, KnownEvent, LogEntry, Position } from '../../src/events/events.ts'
import { type Feed, Follower } from '../../src/events/follower.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import type { FeedEvent } from '../../src/events/topics.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { contentOf, contents, savedEvent } from '../harness/events.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
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

/** One file with several connections, as the API and its worker thread have them. */
async function sqlite(retention: Retention): Promise<EventsBench> {
  const { file, cleanup } = await testSqlite(retention)
  const opened = await file()
  return { open: async () => new SqliteEventLog(opened.connect(), { models }), cleanup }
}

const saved = (content: string, id: string = randomUUID()): KnownEvent =>
  savedEvent(content, { id, createdAt: new Date(0), savedAt: new Date(1) })
const textOf = (event: Event) => contentOf(event) ?? (event.type === 'failed' ? event.failure.message : 'unknown')
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => String(from + n))

type Wake = (entry?: LogEntry) => void

/** The log, counting its reads, with wake-ups that pass through `hear`. */
function recorded(
  log: EventLog,
  hear: (entry: LogEntry | undefined, wake: Wake) => void = (entry, wake) => wake(entry),
) {
  let reads = 0
  const source: EventLog = {
    history: log.history,
    append: (entries) => log.append(entries),
    tail: () => log.tail(),
    probe: () => log.probe(),
    read(after, limit) {
      reads += 1
      return log.read(after, limit)
    },
    follow: (wake) => log.follow((entry) => hear(entry, wake)),
    close: () => log.close(),
  }
  return { source, reads: () => reads }
}

describe.each([
  ['RedisEventLog', redis],
  ['SqliteEventLog', sqlite],
] as const)('on %s', (_, make: (retention: Retention) => Promise<EventsBench>) => {
  let bench: EventsBench
  /** The worker's connection. */
  let other: EventLog
  let start: Position
  const followers: Follower[] = []

  beforeEach(async () => {
    bench = await make(ample)
    other = await bench.open()
    start = await other.tail()
  })
  afterEach(async () => {
    for (const follower of followers.splice(0)) await follower.close()
    await bench.cleanup()
  })

  async function follow(source?: EventLog): Promise<Follower> {
    const follower = new Follower({ events: source ?? (await bench.open()), log: quiet() })
    followers.push(follower)
    follower.start()
    return follower
  }

  /** A follower that got the log's first wake-up. */
  async function following(hear?: Parameters<typeof recorded>[1]) {
    const log = recorded(await bench.open(), hear)
    const follower = await follow(log.source)
    await follower.feed(contents)
    await untilQuiet(log.reads)
    return { follower, reads: log.reads }
  }

  /** A follower reads at its start and after wake-ups; then no more. */
  async function untilQuiet(reads: () => number): Promise<void> {
    let last = -1
    await eventually(
      () => {
        const same = reads() === last
        last = reads()
        return same
      },
      { intervalMs: 150 },
    )
  }

  /** The texts of a number of events; fails if the feed has fewer. */
  async function collect(feed: Feed, count: number): Promise<string[]> {
    const all: FeedEvent[] = []
    while (all.length < count) {
      const events = await within(feed.next(), `${count - all.length} more after ${all.length}`)
      if (!events) throw new Error('the feed ended')
      all.push(...events)
    }
    return all.map(({ event }) => textOf(event))
  }

  const append = (from: number, to: number) => other.append(numbers(from, to).map((text) => [saved(text)]))

  test('A feed without a cursor returns later events in order, without a read of the log', async () => {
    await append(0, 3)
    const { follower, reads } = await following()
    const feed = await follower.feed(contents)
    const before = reads()
    await append(3, 20)
    expect(await collect(feed, 17)).toEqual(numbers(3, 20))
    expect(reads()).toBe(before)
    expect(feed.cursor).toEqual({ position: await other.tail(), index: 0 })
  })

  test('A feed from a cursor returns all later events: from the log, from the ring, and live', async () => {
    await append(0, 10)
    const [, , third] = await other.read(start, 10)
    const { follower } = await following()
    const feeds = [
      await follower.feed(contents, { position: start, index: 0 }),
      await follower.feed(contents, { position: third!.position, index: 0 }),
    ]
    await append(10, 20)
    expect(await collect(feeds[0]!, 20)).toEqual(numbers(0, 20))
    expect(await collect(feeds[1]!, 17)).toEqual(numbers(3, 20))
  })

  test('A feed from a cursor inside an entry returns the rest of it, each event with the cursor behind it', async () => {
    await other.append([[saved('a'), saved('b'), saved('c')], [saved('d')]])
    const { follower } = await following()
    const whole = await follower.feed(contents, { position: start, index: 0 })
    const seen = [...(await whole.next())!, ...(await whole.next())!]
    expect(seen.map(({ event }) => textOf(event))).toEqual(['a', 'b', 'c', 'd'])
    expect(seen.map(({ cursor }) => cursor.index)).toEqual([1, 2, 0, 0])
    for (const [n, { cursor }] of seen.entries()) {
      const rest = await follower.feed(contents, cursor)
      await other.append([[saved('live')]])
      expect((await collect(rest, 4 - n)).slice(0, 3 - n)).toEqual(['a', 'b', 'c', 'd'].slice(n + 1))
      rest.close()
    }
  })

  describe('A follower whose wake-ups', () => {
    test.each([
      ['are lost, every second one', (n: number) => (n % 2 ? 0 : 1)],
      ['are lost, all but the last', (n: number) => (n === 59 ? 1 : 0)],
      ['come twice', () => 2],
    ])('%s notices a gap by the predecessor and reads the log', async (_, times) => {
      let wakeUps = 0
      const { follower } = await following((entry, wake) => {
        // A wake-up without an entry would fill the gap, too.
        if (!entry) return
        for (let n = times(wakeUps); n > 0; n--) wake(entry)
        wakeUps += 1
      })
      const watched: string[] = []
      const ids = numbers(0, 60).map(() => randomUUID())
      for (const id of ids) follower.watch([id], (event) => event && watched.push(textOf(event)))
      const feed = await follower.feed(contents)
      for (const [n, id] of ids.entries()) await other.append([[saved(String(n), id)]])
      expect(await collect(feed, 60)).toEqual(numbers(0, 60))
      expect(watched).toEqual(numbers(0, 60))
    })

    test('come in any order returns events in theirs', async () => {
      let waiting: LogEntry[] = []
      const { follower } = await following((entry, wake) => {
        if (!entry) return
        waiting.push(entry)
        if (waiting.length < 10) return
        const all = waiting.reverse()
        waiting = []
        for (const one of all) wake(one)
      })
      const feed = await follower.feed(contents)
      for (const text of numbers(0, 40)) await other.append([[saved(text)]])
      expect(await collect(feed, 40)).toEqual(numbers(0, 40))
    })

    test('are all lost reads the log by itself', async () => {
      const { follower, reads } = await following(() => {})
      const feed = await follower.feed(contents)
      const before = reads()
      await append(0, 40)
      expect(await collect(feed, 40)).toEqual(numbers(0, 40))
      // In batches, not one by one, and not in a loop.
      expect(reads() - before).toBeLessThan(10)
    })
  })

  test('Feeds that begin during appends miss nothing and get nothing twice', { timeout: 60_000 }, async () => {
    const { follower } = await following()
    const total = 300
    const histories: Promise<number>[] = []
    /** From behind a random entry, during more appends. */
    const history = async (there: number): Promise<number> => {
      const from = Math.floor(Math.random() * (there + 1))
      let position = start
      for (let seen = 0; seen < from; ) {
        const entries = await other.read(position, from - seen)
        seen += entries.length
        position = entries.at(-1)!.position
      }
      const feed = await follower.feed(contents, { position, index: 0 })
      expect(await collect(feed, total - from)).toEqual(numbers(from, total))
      feed.close()
      return from
    }
    for (let there = 0; there < total; ) {
      const to = Math.min(total, there + 1 + Math.floor(Math.random() * 4))
      const appending = append(there, to)
      histories.push(history(there))
      await appending
      there = to
    }
    await Promise.all(histories)
    expect(histories.length).toBeGreaterThan(50)
  })

  describe('The ring is bounded', () => {
    test.each([
      ['in entries', 4_300, 1, 1, 4_096],
      ['in events', 60, 1_000, 1, 50],
      ['in size', 40, 1, 1_000_000, 16],
    ])(
      '%s: a feed reads entries from the log only if the ring lacks them',
      { timeout: 60_000 },
      async (_, entries, events, length, kept) => {
        const { follower, reads } = await following()
        const live = await follower.feed(contents)
        const positions: Position[] = []
        for (let n = 0; n < entries; n += 100) {
          const some = Array.from({ length: Math.min(100, entries - n) }, () =>
            Array.from({ length: events }, () => saved('x'.repeat(length))),
          )
          // An append has a largest size.
          for (let m = 0; m < some.length; m += 4) {
            await other.append(some.slice(m, m + 4))
            // At once, so that it reads all of them in the ring.
            while (positions.length < Math.min(n + m + 4, entries)) {
              const received = (await within(live.next(), `entry ${positions.length}`))!
              // Behind the last event of an entry.
              for (const { cursor } of received) if (cursor.index === 0) positions.push(cursor.position)
            }
          }
        }
        await untilQuiet(reads)
        const before = reads()
        const near = await follower.feed(contents, { position: positions.at(-kept)!, index: 0 })
        for (let n = 1; n < kept; n++) await within(near.next(), 'an entry of the ring')
        expect(reads()).toBe(before)
        // From before its oldest entry.
        const far = await follower.feed(contents, { position: positions.at(-kept - 2)!, index: 0 })
        await within(far.next(), 'an entry of the log')
        expect(reads()).toBeGreaterThan(before)
        for (let n = 0; n < kept; n++) await within(far.next(), 'an entry of the ring')
        expect(far.cursor.position).toEqual(positions.at(-1))
      },
    )
  })

  test('A thousand waiting feeds share one entry and read nothing', async () => {
    const { follower, reads } = await following()
    const feeds = await Promise.all(Array.from({ length: 1_000 }, () => follower.feed(contents)))
    const waiting = feeds.map((feed) => feed.next())
    const before = reads()
    await other.append([[saved('to all'), saved('of them')]])
    const given = await within(Promise.all(waiting), 'an event for each of a thousand')
    expect(new Set(given).size).toBe(1)
    expect(given[0]!.map(({ event }) => textOf(event))).toEqual(['to all', 'of them'])
    // A thousand feeds that begin at one old position share its read.
    expect(reads() - before).toBeLessThanOrEqual(2)
    await append(0, 1_100)
    const live = await follower.feed(contents, { position: await other.tail(), index: 0 })
    await other.append([[saved('fence')]])
    await collect(live, 1)
    const old = await Promise.all(
      Array.from({ length: 1_000 }, () => follower.feed(contents, { position: start, index: 0 })),
    )
    const readsBefore = reads()
    const firsts = await Promise.all(old.map((feed) => feed.next()))
    expect(new Set(firsts.map((events) => textOf(events![0]!.event)))).toEqual(new Set(['to all']))
    expect(reads() - readsBefore).toBeLessThanOrEqual(2)
  })

  describe('A feed fails with CURSOR_EXPIRED, and skips nothing,', () => {
    const expired = { code: 'CURSOR_EXPIRED' }

    test('at once, for a cursor of another log, of the future, or of no place', async () => {
      await other.append([[saved('a'), saved('b')]])
      const { follower } = await following()
      const tail = await other.tail()
      for (const cursor of [
        { position: { ...tail, epoch: 'another-log' }, index: 0 },
        { position: { ...tail, major: tail.major + 1 }, index: 0 },
        { position: { ...tail, minor: tail.minor + 1_000 }, index: 0 },
        { position: start, index: 3 },
        { position: tail, index: 1 },
      ]) {
        await expect(follower.feed(contents, cursor), JSON.stringify(cursor)).rejects.toMatchObject(expired)
      }
      await expect(follower.feed(contents, { position: start, index: 2 })).resolves.toBeDefined()
    })

    test('for what was trimmed, at the start of a feed and under one that is slow', { timeout: 60_000 }, async () => {
      const small = await make({ retentionMs: 3_600_000, retentionBytes: 3_000_000 })
      try {
        const log = await small.open()
        const begin = await log.tail()
        const follower = new Follower({ events: await small.open(), log: quiet() })
        followers.push(follower)
        follower.start()
        const slow = await follower.feed(contents, { position: begin, index: 0 })
        await log.append([[saved('first')]])
        expect(await collect(slow, 1)).toEqual(['first'])
        const fast = await follower.feed(contents, { position: begin, index: 0 })
        // More than the log keeps, and more than the ring keeps.
        for (let n = 0; n < 60; n++) {
          await log.append([[saved(`${n} ${'x'.repeat(500_000)}`)]])
        }
        // Once the ring has moved on, too.
        await holds(() => expect(follower.feed(contents, { position: begin, index: 0 })).rejects.toMatchObject(expired))
        const outcome = async (feed: Feed) => {
          for (let n = 0; ; n++) {
            const events = await within(feed.next(), 'an event or the error')
            if (textOf(events![0]!.event).startsWith('59 ')) return n
          }
        }
        // The events that a feed returned before are complete; this feed is too far behind.
        await expect(outcome(slow)).rejects.toMatchObject(expired)
        await expect(outcome(fast)).rejects.toMatchObject(expired)
        const again = await follower.feed(contents)
        await log.append([[saved('59 afterwards')]])
        expect(await outcome(again)).toBe(0)
      } finally {
        for (const follower of followers.splice(0)) await follower.close()
        await small.cleanup()
      }
    })
  })

  test('Follower.watch calls back with each event of an id, until it is stopped', async () => {
    const { follower } = await following()
    const [id, elsewhere] = [randomUUID(), randomUUID()]
    const seen: (string | undefined)[] = []
    const twice: (string | undefined)[] = []
    const stop = follower.watch([id], (event) => seen.push(event && textOf(event)))
    const stopTwice = follower.watch([id], (event) => twice.push(event && textOf(event)))
    const feed = await follower.feed(contents)
    await other.append([[saved('one', id), saved('else', elsewhere)], [saved('two', id)]])
    await collect(feed, 3)
    expect([seen, twice]).toEqual([
      ['one', 'two'],
      ['one', 'two'],
    ])
    stop()
    stop()
    await other.append([[saved('three', id)]])
    await collect(feed, 1)
    expect(seen).toEqual(['one', 'two'])
    expect(twice).toEqual(['one', 'two', 'three'])
    stopTwice()
  })

  test('A feed ends when it or its follower is closed', async () => {
    const { follower } = await following()
    const [closed, goesOn] = [await follower.feed(contents), await follower.feed(contents)]
    const waiting = [closed.next(), goesOn.next()]
    closed.close()
    closed.close()
    expect(await within(waiting[0]!, 'the end')).toBeUndefined()
    expect(await closed.next()).toBeUndefined()
    await other.append([[saved('one')]])
    expect((await within(waiting[1]!, 'an event'))!.map(({ event }) => textOf(event))).toEqual(['one'])
    const last = goesOn.next()
    await follower.close()
    expect(await within(last, 'the end')).toBeUndefined()
    expect(await goesOn.next()).toBeUndefined()
  })
})

describe('A follower whose Redis is unavailable', () => {
  const following: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const one of following.splice(0)) await one.close()
  })

  async function throughProxy() {
    const proxy = await startProxy(inject('redisUrl'))
    const url = freshRedisUrl()
    const direct = await redis(ample, url)
    const other = await direct.open()
    const log = new RedisEventLog(parseRedisUrl(proxy.url(url)), { ...ample, models, log: quiet() })
    const follower = new Follower({ events: log, log: quiet() })
    following.push(follower, log, { close: direct.cleanup }, proxy)
    return { proxy, other, follower, prefix: parseRedisUrl(url).prefix }
  }

  test('refuses a feed at the start, and opens one when Redis is back', async () => {
    const { proxy, other, follower } = await throughProxy()
    proxy.set('cut')
    follower.start()
    await expect(follower.feed(contents)).rejects.toMatchObject({
      code: 'QUEUE_UNAVAILABLE',
      retryAfterMs: expect.any(Number),
    })
    proxy.set('pass')
    const feed = await holds(() => follower.feed(contents), { timeoutMs: 20_000 })
    await other.append([[saved('one')]])
    expect((await within(feed.next(), 'an event'))!.map(({ event }) => textOf(event))).toEqual(['one'])
  })

  test('lets feeds wait, which then miss nothing', async () => {
    const { proxy, other, follower } = await throughProxy()
    const begin = await other.tail()
    follower.start()
    const feed = await holds(() => follower.feed(contents, { position: begin, index: 0 }))
    for (let round = 0; round < 3; round++) {
      const waiting = feed.next()
      // The feed returns entries of the ring, and then waits.
      proxy.set('cut')
      for (const text of numbers(round * 20, round * 20 + 20)) await other.append([[saved(text)]])
      proxy.set('pass')
      const texts = (await within(waiting, 'the first')) ?? []
      const all = texts.map(({ event }) => textOf(event))
      while (all.length < 20) all.push(...(await within(feed.next(), 'the rest'))!.map(({ event }) => textOf(event)))
      expect(all).toEqual(numbers(round * 20, round * 20 + 20))
    }
  })

  test('and comes back empty expires feeds, calls watchers with undefined, and opens new feeds', async () => {
    const { other, follower, prefix } = await throughProxy()
    follower.start()
    const feed = await holds(() => follower.feed(contents))
    await other.append([[saved('before')]])
    await within(feed.next(), 'an event')
    const calls: unknown[] = []
    follower.watch([randomUUID()], (event) => calls.push(event))
    const waiting = feed.next()
    const expired = expect(waiting).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    const client = new Redis(inject('redisUrl'))
    await client.del(...['log', 'meta', 'sizes'].map((key) => `{${prefix}:events}:${key}`))
    client.disconnect()
    await other.append([[saved('after')]])
    await within(expired, 'CURSOR_EXPIRED')
    expect(calls).toContain(undefined)
    const next = await follower.feed(contents)
    await other.append([[saved('later')]])
    expect((await within(next.next(), 'an event'))!.map(({ event }) => textOf(event))).toEqual(['later'])
  })
})

/** Fails if a feed never answers, before the test times out. */
async function within<T>(promise: Promise<T>, what: string, ms = 15_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms)
  })
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
