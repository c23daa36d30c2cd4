/** Publishing, on real servers and files: the order of its steps as other processes see it, and what it does while one of them is unavailable. */
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import type { Cache } from '../../src/cache/cache.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { RedisCache } from '../../src/cache/redis.ts'
import type { Writer } from '../../src/db/store.ts'
import type { EventLog, LogEntry, Position } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import type { Consumer, Entry, Item, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import type { Outcome } from '../../worker/outcome.ts'
import { Persister } from '../../worker/persist.ts'
import { Publisher } from '../../worker/publisher.ts'
import { Worker } from '../../worker/worker.ts'
import { Content, models } from '../harness/contents.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { persistEntries } from '../harness/persist.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { statusOf } from '../harness/states.ts'
import { sqliteStore, type TestStore } from '../harness/stores.ts'
import { item } from '../suites/queue.ts'

interface Parts {
  queue: Queue
  events: EventLog
  cache: Cache
  /** Makes the queue and the events log unavailable, and available again. */
  queueAway(): Promise<void>
  queueBack(): Promise<void>
  cleanup(): Promise<void>
}

interface RedisParts extends Parts {
  cacheProxy: TestProxy
}

async function redisParts(): Promise<RedisParts> {
  const [proxy, cacheProxy] = [await startProxy(inject('redisUrl')), await startProxy(inject('redisUrl'))]
  const address = parseRedisUrl(proxy.url(freshRedisUrl()))
  const log = quiet()
  const queue = new RedisQueue(address, { capacity: 10_000, log })
  const events = new RedisEventLog(address, { retentionMs: 3_600_000, retentionBytes: 268_435_456, models, log })
  const cache = new RedisCache(parseRedisUrl(cacheProxy.url(freshRedisUrl())), { ttlMs: 1_000, log })
  await holds(() => Promise.all([queue.status(), events.tail()]))
  await eventually(async () => (await cache.get('Content', 'x')).version)
  return {
    queue,
    events,
    cache,
    cacheProxy,
    queueAway: async () => proxy.set('cut'),
    async queueBack() {
      proxy.set('pass')
      // Each connection has its own pause between its attempts.
      await holds(() => queue.status())
    },
    async cleanup() {
      await Promise.all([queue.close(), events.close(), cache.close()])
      await Promise.all([proxy.close(), cacheProxy.close()])
    },
  }
}

async function sqliteParts(): Promise<Parts> {
  const sqlite = await testSqlite({ busyMs: 200, leaseMs: 1_000 })
  const queue = await sqlite.queue()
  const events = await sqlite.events()
  let other: DatabaseSync | undefined
  return {
    queue,
    events,
    cache: new MemoryCache({ ttlMs: 1_000, versions: new SharedVersions() }),
    async queueAway() {
      // Another process, in the middle of a write.
      other = new DatabaseSync(sqlite.path, { timeout: 5_000 })
      other.exec('BEGIN IMMEDIATE')
    },
    async queueBack() {
      other?.exec('ROLLBACK')
      other?.close()
    },
    cleanup: sqlite.cleanup,
  }
}

const items = (count: number, content = 'something') => Array.from({ length: count }, () => item(randomUUID(), content))

describe.each([
  ['Redis', redisParts],
  ['SQLite', sqliteParts],
] as const)('publishing on %s', (_, make: () => Promise<Parts>) => {
  let parts: Parts
  let stored: TestStore
  let start: Position
  let consumer: Consumer
  let stopping: AbortController
  const closers: (() => Promise<void>)[] = []

  beforeEach(async () => {
    parts = await make()
    stored = await sqliteStore()
    start = await parts.events.tail()
    consumer = parts.queue.consumer('w')
    stopping = new AbortController()
  })
  afterEach(async () => {
    stopping.abort()
    for (const close of closers.splice(0)) await close()
    await parts.cleanup()
    await stored.cleanup()
  })

  const options = () => ({ cacheTtlMs: 1_000, log: quiet(), signal: stopping.signal })
  const persister = () => new Persister({ store: stored.store }, { model: Content, maxAttempts: 3, ...options() })

  async function enqueue(all: Item[]): Promise<void> {
    for (const reply of await parts.queue.enqueue([all])) expect(reply).toHaveLength(all.length)
  }

  /** Enqueues the items and receives all of them. */
  async function received(all: Item[], by = consumer): Promise<Entry[]> {
    await enqueue(all)
    return await receiveAll(all.length, by)
  }

  async function receiveAll(count: number, by: Consumer): Promise<Entry[]> {
    const entries: Entry[] = []
    await holds(
      async () => {
        entries.push(...(await by.receive({ rows: 10_000, bytes: 64_000_000 }, 200)))
        expect(entries).toHaveLength(count)
      },
      { timeoutMs: 20_000 },
    )
    return entries
  }

  async function log(): Promise<LogEntry[]> {
    const all: LogEntry[] = []
    for (;;) {
      const entries = await parts.events.read(all.at(-1)?.position ?? start, 100)
      if (entries.length === 0) return all
      all.push(...entries)
    }
  }
  const published = async () =>
    (await log()).flatMap(({ events }) =>
      events.map((event) =>
        event.type === 'saved' ? event.row.id : event.type === 'failed' ? `failed ${event.id}` : 'unknown',
      ),
    )

  /** The parts, with a record of each call's begin and end. Calls `look` at the begin. */
  function observed(look: (step: string) => Promise<void> = async () => {}) {
    const seen: string[] = []
    const step = async <T>(name: string, act: () => Promise<T>): Promise<T> => {
      seen.push(`${name} begins`)
      await look(name)
      const result = await act()
      seen.push(`${name} is done`)
      return result
    }
    const { cache, events } = parts
    return {
      seen,
      cache: { invalidate: (keys: readonly string[]) => step('invalidate', () => cache.invalidate(keys)) },
      events: { append: (entries: Parameters<EventLog['append']>[0]) => step('append', () => events.append(entries)) },
      consumer: {
        receive: consumer.receive.bind(consumer),
        extendLease: consumer.extendLease.bind(consumer),
        countAttempt: consumer.countAttempt.bind(consumer),
        withdrawAttempt: consumer.withdrawAttempt.bind(consumer),
        release: consumer.release.bind(consumer),
        probe: () => consumer.probe(),
        close: () => consumer.close(),
        markSaved: (entries) => step('markSaved', () => consumer.markSaved(entries)),
        ack: (entries) => step('ack', () => consumer.ack(entries)),
        deadLetter: (deadLetters) => step('deadLetter', () => consumer.deadLetter(deadLetters)),
      } satisfies Consumer,
      store: {
        limits: (model) => stored.store.limits(model),
        insert: (model, rows) => step('insert', () => stored.store.insert(model, rows)),
        existing: (model, ids) => stored.store.existing(model, ids),
        probe: (model) => stored.store.probe(model),
      } satisfies Writer,
    }
  }

  test('Worker commits, invalidates, marks saved, appends, acknowledges: each after other processes can see the step before', async () => {
    const all = items(20)
    const ids = all.map(({ id }) => id)
    const version = await parts.cache.version(['Content'])
    const at: Record<string, unknown> = {}
    const spied = observed(async (step) => {
      const [rows, now, events, { depth }, standings] = await Promise.all([
        stored.store.find(Content, ids),
        parts.cache.version(['Content']),
        published(),
        parts.queue.status(),
        parts.queue.find(ids),
      ])
      const saved = standings.filter((saveState) => statusOf(saveState) === 'SAVED').length
      at[step] = { rows: rows.length, invalidated: now !== version, saved, events: events.length, depth }
    })
    const worker = new Worker(
      { consumer: spied.consumer, store: spied.store, cache: spied.cache, events: spied.events },
      { models, batch: 100, concurrency: 2, maxAttempts: 3, cacheTtlMs: 1_000, log: quiet() },
    )
    await enqueue(all)
    worker.start()
    closers.push(() => worker.stop())
    await holds(async () => expect((await parts.queue.status()).depth).toBe(0))
    expect(at).toEqual({
      insert: { rows: 0, invalidated: false, saved: 0, events: 0, depth: 20 },
      invalidate: { rows: 20, invalidated: false, saved: 0, events: 0, depth: 20 },
      markSaved: { rows: 20, invalidated: true, saved: 0, events: 0, depth: 20 },
      append: { rows: 20, invalidated: true, saved: 20, events: 0, depth: 20 },
      ack: { rows: 20, invalidated: true, saved: 20, events: 20, depth: 20 },
    })
    const steps = ['insert', 'invalidate', 'markSaved', 'append', 'ack']
    await holds(() => expect(spied.seen).toEqual(steps.flatMap((step) => [`${step} begins`, `${step} is done`])))
    expect(await published()).toEqual(ids)
    expect((await parts.queue.find(ids)).map(statusOf)).toEqual(ids.map(() => 'SAVED'))
  })

  test('Worker receives saves that come one by one at an even pace, not with a statement for each', async () => {
    const spied = observed()
    const worker = new Worker(
      { consumer: spied.consumer, store: spied.store, cache: spied.cache, events: spied.events },
      { models, batch: 100, concurrency: 2, maxAttempts: 3, cacheTtlMs: 1_000, log: quiet() },
    )
    worker.start()
    closers.push(() => worker.stop())
    const began = performance.now()
    // Each save as soon as the one before is enqueued.
    for (const one of items(300)) await holds(() => enqueue([one]))
    const elapsed = performance.now() - began
    const statements = spied.seen.filter((step) => step === 'insert begins').length
    expect(statements).toBeGreaterThan(0)
    // 5 ms between two calls of receive, and a timer may fire a millisecond early; the first call was waiting already.
    expect(statements).toBeLessThanOrEqual(elapsed / 4 + 2)
    await holds(async () => expect((await parts.queue.status()).depth).toBe(0))
  })

  test('Worker gathers saves while a statement runs, and not for long where one does not end', async () => {
    let ends: Promise<unknown> | undefined
    const spied = observed(async (step) => {
      if (step === 'insert') await (ends ?? new Promise((resolve) => setTimeout(resolve, 12)))
    })
    const count = (step: string) => spied.seen.filter((one) => one === step).length
    /** Since the call before, where a statement was running. */
    const gaps: number[] = []
    let calledAt = Number.NEGATIVE_INFINITY
    const receive: Consumer['receive'] = (limits, waitMs) => {
      const now = performance.now()
      if (count('insert begins') > count('insert is done')) gaps.push(now - calledAt)
      calledAt = now
      return spied.consumer.receive(limits, waitMs)
    }
    const worker = new Worker(
      { consumer: { ...spied.consumer, receive }, store: spied.store, cache: spied.cache, events: spied.events },
      { models, batch: 100, concurrency: 2, maxAttempts: 3, cacheTtlMs: 1_000, log: quiet() },
    )
    worker.start()
    closers.push(() => worker.stop())
    for (const one of items(200)) await holds(() => enqueue([one]))
    await holds(async () => expect((await parts.queue.status()).depth).toBe(0))
    // 25 ms, and a timer may fire early.
    for (const gap of gaps) expect(gap).toBeGreaterThan(22)
    const ending = Promise.withResolvers<void>()
    ends = ending.promise
    for (const one of items(2)) {
      const before = count('insert begins')
      await enqueue([one])
      await holds(() => expect(count('insert begins')).toBe(before + 1))
    }
    expect(count('insert begins') - count('insert is done')).toBe(2)
    ending.resolve()
    await holds(async () => expect((await parts.queue.status()).depth).toBe(0))
  })

  test('Publisher writes a dead letter before the event of it, and does not invalidate the cache where no row is saved', async () => {
    const [good, bad] = [item(randomUUID(), 'good'), item(randomUUID(), '\ud800')]
    const standings: unknown[] = []
    const spied = observed(async (step) => {
      if (step === 'append') standings.push(statusOf((await parts.queue.find([bad.id]))[0]))
    })
    const publisher = new Publisher(spied, options())
    const outcome = await persistEntries(persister(), await received([bad]))
    expect(outcome.deadLetters).toHaveLength(1)
    await publisher.publish(outcome)
    expect(standings).toEqual(['FAILED'])
    expect(spied.seen.filter((step) => step.endsWith('begins'))).toEqual(['deadLetter begins', 'append begins'])
    await publisher.publish(await persistEntries(persister(), await received([good])))
    expect(await published()).toEqual([`failed ${bad.id}`, good.id])
    expect(await parts.queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
  })

  test('Publisher dead-letters a message, and appends the event of it with the id and the model that it is given', async () => {
    const spied = observed()
    const [entry] = (await received(items(1))) as [Entry]
    const failure = { code: 'UNDECODABLE' as const, message: 'no message', attempts: 1, failedAt: new Date() }
    await new Publisher(spied, options()).publish({
      saved: [],
      entries: [],
      deadLetters: [
        { entry, id: entry.handle, model: undefined, failure },
        { entry, id: entry.id!, model: 'Content', failure },
      ],
    })
    expect(spied.seen.filter((step) => !step.startsWith('deadLetter'))).toEqual(['append begins', 'append is done'])
    expect((await log()).map(({ events }) => events)).toEqual([
      [
        { type: 'failed', id: entry.handle, failure },
        { type: 'failed', id: entry.id, model: 'Content', failure },
      ],
    ])
  })

  test('Publisher publishes together what comes while it publishes', async () => {
    const gate = Promise.withResolvers<void>()
    const spied = observed(async (step) => {
      if (step === 'invalidate') await gate.promise
    })
    const publisher = new Publisher(spied, options())
    const entries = await received(items(12))
    const outcomes = await Promise.all(
      [0, 1, 2, 3, 4, 5].map((n) => persistEntries(persister(), entries.slice(n * 2, n * 2 + 2))),
    )
    const done = outcomes.map((outcome) => publisher.publish(outcome))
    await holds(() => expect(spied.seen).toEqual(['invalidate begins']))
    gate.resolve()
    await Promise.all(done)
    expect(spied.seen.filter((step) => step === 'append begins')).toHaveLength(2)
    expect((await log()).map(({ events }) => events.length)).toEqual([2, 10])
    expect(await published()).toEqual(entries.map(({ id }) => id))
    expect((await parts.queue.status()).depth).toBe(0)
  })

  test('Publisher appends a large batch as several entries of the log, in order', async () => {
    const publisher = new Publisher({ ...parts, consumer }, options())
    const small = await received(items(1_000))
    const more = await received(items(1_000))
    await publisher.publish(await persistEntries(persister(), [...small, ...more, ...(await received(items(200)))]))
    const sizes = (await log()).map(({ events }) => events.length)
    expect(sizes).toEqual([1_000, 1_000, 200])
    const large = await received(items(40, 'x'.repeat(60_000)))
    await publisher.publish(await persistEntries(persister(), large))
    const entries = (await log()).slice(3)
    expect(entries.map(({ events }) => events.length)).toEqual([8, 8, 8, 8, 8])
    expect((await published()).slice(2_200)).toEqual(large.map(({ id }) => id))
  })

  test('Publisher acknowledges nothing while the events log is unavailable, and appends the event afterwards', async () => {
    const spied = observed(async (step) => {
      if (step === 'append' && !spied.seen.slice(0, -1).includes('append begins')) await parts.queueAway()
    })
    const outcome = await persistEntries(persister(), await received(items(5)))
    const done = new Publisher(spied, options()).publish(outcome)
    await holds(() => expect(spied.seen.filter((step) => step === 'append begins').length).toBeGreaterThan(2))
    expect(spied.seen).not.toContain('ack begins')
    await parts.queueBack()
    await done
    // ack has a connection of its own, which may need one attempt more.
    const from = spied.seen.indexOf('append is done')
    expect(from).toBeGreaterThan(0)
    expect(spied.seen.indexOf('ack begins')).toBe(from + 1)
    expect(spied.seen.at(-1)).toBe('ack is done')
    // At least once: an append whose reply was lost is repeated.
    expect(new Set(await published())).toEqual(new Set(outcome.saved.map(({ row }) => row.id)))
    await holds(async () => expect((await parts.queue.status()).depth).toBe(0))
  })

  test('Publisher appends the events again before it repeats an acknowledgement, which may reach a server without them', async () => {
    const begun = (step: string) => spied.seen.filter((one) => one === `${step} begins`).length
    const spied = observed(async (step) => {
      if (step === 'ack' && begun('ack') === 1) await parts.queueAway()
      if (step === 'append' && begun('append') === 2) await parts.queueBack()
    })
    const outcome = await persistEntries(persister(), await received(items(5)))
    await new Publisher(spied, options()).publish(outcome)
    expect(spied.seen.at(-1)).toBe('ack is done')
    for (const [i, step] of spied.seen.entries()) {
      if (step === 'ack begins') expect(spied.seen[i - 1]).toBe('append is done')
    }
    const ids = outcome.saved.map(({ row }) => row.id)
    expect((await published()).slice(0, 10)).toEqual([...ids, ...ids])
    expect((await parts.queue.status()).depth).toBe(0)
  })

  describe('a second worker', () => {
    test('publishes the rows of a worker that died after the commit, as the store has them', async () => {
      const all = items(10)
      const outcome = await persistEntries(persister(), await received(all))
      await consumer.close()
      expect(await published()).toEqual([])
      const next = parts.queue.consumer('next')
      const again = await receiveAll(10, next)
      expect(again.every(({ deliveries }) => deliveries === 1)).toBe(true)
      const second = await persistEntries(persister(), again)
      expect(second.saved).toEqual(outcome.saved)
      await new Publisher({ ...parts, consumer: next }, options()).publish(second)
      expect((await log()).flatMap(({ events }) => events)).toEqual(
        outcome.saved.map((one) => ({ type: 'saved', ...one })),
      )
      expect((await parts.queue.status()).depth).toBe(0)
    })

    test('publishes the same event again for a worker that died after the event and before ack', async () => {
      const all = items(10)
      const outcome = await persistEntries(persister(), await received(all))
      const spied = observed(async (step) => {
        if (step === 'ack') {
          stopping.abort()
          throw new Error('the end')
        }
      })
      await expect(new Publisher(spied, options()).publish(outcome)).rejects.toMatchObject({ name: 'Stopped' })
      await consumer.close()
      expect((await parts.queue.status()).depth).toBe(10)
      stopping = new AbortController()
      const next = parts.queue.consumer('next')
      await new Publisher({ ...parts, consumer: next }, options()).publish(
        await persistEntries(persister(), await receiveAll(10, next)),
      )
      const events = (await log()).flatMap(({ events }) => events)
      expect(events).toEqual([...outcome.saved, ...outcome.saved].map((one) => ({ type: 'saved', ...one })))
      expect((await parts.queue.status()).depth).toBe(0)
    })
  })
})

describe('Publisher, while the cache is unavailable,', () => {
  let parts: RedisParts
  let stored: TestStore
  let stopping: AbortController
  let outcome: Outcome
  let start: Position
  let consumer: Consumer

  beforeEach(async () => {
    parts = await redisParts()
    stored = await sqliteStore()
    stopping = new AbortController()
    start = await parts.events.tail()
    consumer = parts.queue.consumer('w')
    await parts.queue.enqueue([items(5)])
    const entries = await eventually(async () => {
      const found = await consumer.receive({ rows: 5, bytes: 1_000_000 }, 200)
      return found.length > 0 && found
    })
    const persister = new Persister(
      { store: stored.store },
      { model: Content, maxAttempts: 3, log: quiet(), signal: stopping.signal },
    )
    outcome = await persistEntries(persister, entries as Entry[])
    expect(outcome.saved).toHaveLength(5)
  })
  afterEach(async () => {
    stopping.abort()
    await parts.cleanup()
    await stored.cleanup()
  })

  function publish(cacheTtlMs: number) {
    let calls = 0
    const invalidate = async (keys: readonly string[]) => {
      calls += 1
      await parts.cache.invalidate(keys)
    }
    const log = quiet()
    const publisher = new Publisher(
      { cache: { invalidate }, events: parts.events, consumer },
      { cacheTtlMs, log, signal: stopping.signal },
    )
    return { done: publisher.publish(outcome), calls: () => calls, log }
  }

  test('appends no event until the cache is invalidated', async () => {
    const before = await parts.cache.version(['Content'])
    parts.cacheProxy.set('cut')
    const { done, calls } = publish(60_000)
    await holds(() => expect(calls()).toBeGreaterThan(3))
    expect(await parts.events.read(start, 1)).toEqual([])
    expect((await parts.queue.status()).depth).toBe(5)
    parts.cacheProxy.set('pass')
    await done
    expect(await parts.events.read(start, 10)).toHaveLength(1)
    expect((await parts.queue.status()).depth).toBe(0)
    const after = await eventually(() => parts.cache.version(['Content']))
    expect(after).not.toBe(before)
  })

  test('appends the event once every page of before has expired, and 5 s later for reads that were running', {
    timeout: 40_000,
  }, async () => {
    parts.cacheProxy.set('cut')
    const since = performance.now()
    const { done, log } = publish(1_000)
    await done
    // The test is about the time: the life of a page, and five seconds for a running read.
    expect(performance.now() - since).toBeGreaterThan(6_000)
    expect(log.said).toContain('the cache is unavailable and its old pages have expired; publishing without it')
    expect(await parts.events.read(start, 10)).toHaveLength(1)
    expect((await parts.queue.status()).depth).toBe(0)
  })

  test('leaves the entries in the queue without an event when the worker stops', async () => {
    parts.cacheProxy.set('cut')
    const { done, calls } = publish(60_000)
    const stopped = expect(done).rejects.toMatchObject({ name: 'Stopped' })
    await holds(() => expect(calls()).toBeGreaterThan(1))
    stopping.abort()
    await stopped
    expect(await parts.events.read(start, 1)).toEqual([])
    expect((await parts.queue.status()).depth).toBe(5)
  })
})
