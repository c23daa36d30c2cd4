/** Where a save stands, asked of two processes' worth of parts at every moment: never unknown once accepted, and never backwards. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { Contents } from '../../src/app/contents.ts'
import { type Receipt, Receipts, receiptOf } from '../../src/app/receipts.ts'
import { MemoryCache, SharedVersion } from '../../src/cache/memory.ts'
import type { EventLog } from '../../src/events/events.ts'
import { Follower } from '../../src/events/follower.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import type { Failure } from '../../src/model/error.ts'
import { digestOf, type Entry, type Item, type Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Persister } from '../../worker/persist.ts'
import { Worker } from '../../worker/worker.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { sqliteStore, type TestStore } from '../harness/stores.ts'
import { item } from '../suites/queue.ts'

interface Queued {
  open(): Promise<{ queue: Queue; events: EventLog }>
  cleanup(): Promise<void>
}

const retention = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }

async function redis(): Promise<Queued & { away(): void; back(): void }> {
  const proxy = await startProxy(inject('redisUrl'))
  const address = parseRedisUrl(proxy.url(freshRedisUrl()))
  const closers: (() => Promise<void>)[] = []
  return {
    async open() {
      const queue = new RedisQueue(address, { capacity: 10_000, log: quiet() })
      const events = new RedisEventLog(address, { ...retention, log: quiet() })
      closers.push(
        () => queue.close(),
        () => events.close(),
      )
      await holds(() => Promise.all([queue.status(), events.tail()]))
      return { queue, events }
    },
    away: () => proxy.set('cut'),
    back: () => proxy.set('pass'),
    async cleanup() {
      for (const close of closers) await close()
      await proxy.close()
    },
  }
}

async function sqlite(): Promise<Queued> {
  const { file, cleanup } = await testSqlite()
  const opened = await file()
  return {
    open: async () => ({ queue: new SqliteQueue(opened.connect()), events: new SqliteEventLog(opened.connect()) }),
    cleanup,
  }
}

/** As the API makes it: the digest is that of the content. */
const save = (content = 'something', id: string = randomUUID(), at = Date.now()): Item =>
  item(id, content, digestOf(content), at)

describe.each([
  ['Redis', redis],
  ['SQLite', sqlite],
] as const)('on %s', (_, make: () => Promise<Queued>) => {
  let queued: Queued
  let stored: TestStore
  /** The worker's. */
  let queue: Queue
  let events: EventLog
  /** Of two API processes. */
  let receipts: [Receipts, Receipts]
  const closers: (() => Promise<void>)[] = []

  beforeEach(async () => {
    queued = await make()
    stored = await sqliteStore()
    const worker = await queued.open()
    queue = worker.queue
    events = worker.events
    receipts = [await api(), await api()]
  })
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
    await queued.cleanup()
    await stored.cleanup()
  })

  async function api(): Promise<Receipts> {
    const { queue, events } = await queued.open()
    const follower = new Follower({ events, log: quiet() })
    follower.start()
    closers.push(() => follower.close())
    await follower.feed()
    const cache = new MemoryCache({ ttlMs: 1_000, version: new SharedVersion() })
    return new Receipts({ queue, contents: new Contents({ store: stored.store, cache }), follower })
  }

  async function enqueue(...items: Item[]): Promise<void> {
    const [reply] = await queue.enqueue([items])
    expect(reply).toMatchObject(items.map(() => ({ status: 'QUEUED', duplicate: false })))
  }

  const consumer = () => queue.consumer(`w-${randomUUID()}`)
  const receive = (from = consumer()): Promise<Entry[]> =>
    eventually(async () => {
      const entries = await from.receive({ rows: 100, bytes: 1_000_000 }, 200)
      return entries.length > 0 && entries
    }) as Promise<Entry[]>
  const persister = new Persister(
    {
      store: {
        insert: (rows) => stored.store.insert(rows),
        existing: (ids) => stored.store.existing(ids),
        probe: () => stored.store.probe(),
        maxRows: 1_000,
        maxBytes: 1e6,
      },
    },
    { maxAttempts: 3, log: quiet(), signal: new AbortController().signal },
  )

  function startWorker(): void {
    const worker = new Worker(
      { consumer: consumer(), store: stored.store, cache: { invalidate: async () => {} }, events },
      { batch: 20, concurrency: 2, maxAttempts: 3, cacheTtlMs: 1_000, log: quiet() },
    )
    worker.start()
    closers.push(() => worker.stop())
  }

  /** What both of them say. */
  async function both(id: string): Promise<Receipt | undefined> {
    const [one, other] = await Promise.all(receipts.map((receipt) => receipt.find(id)))
    expect(other?.status).toBe(one?.status)
    return one
  }

  const never = () => new AbortController().signal

  async function received(changes: AsyncGenerator<Receipt>): Promise<Receipt[]> {
    const all: Receipt[] = []
    for await (const receipt of changes) all.push(receipt)
    return all
  }

  test('an id that was never accepted has none', async () => {
    expect(await both(randomUUID())).toBeUndefined()
  })

  test('each step on the way of one save', async () => {
    const one = save('something')
    const nothing = { failure: undefined, digest: undefined, conflicts: 0 }
    const receipt = { id: one.id, duplicate: false, acceptedAt: new Date(one.at), ...nothing }
    await enqueue(one)
    expect(await both(one.id)).toEqual({ ...receipt, status: 'QUEUED', content: undefined })
    const worker = consumer()
    const entries = await receive(worker)
    expect(await both(one.id)).toMatchObject({ status: 'QUEUED' })
    // Committed: the cache and the subscribers do not know it yet, and a SAVED would send somebody to look.
    const { saved } = await persister.persist(entries)
    expect(await both(one.id)).toMatchObject({ status: 'QUEUED', content: undefined })
    // Before the event is there: who has seen it must not be told QUEUED, whichever process is asked.
    await worker.markSaved(entries)
    expect(await both(one.id)).toEqual({ ...receipt, status: 'SAVED', content: undefined })
    await events.append([saved.map((content) => ({ type: 'saved', content }))])
    expect(await both(one.id)).toMatchObject({ ...receipt, status: 'SAVED' })
    await worker.ack(entries)
    expect(await both(one.id)).toMatchObject({ ...receipt, status: 'SAVED' })
  })

  test('never backwards: once anybody was told SAVED, nobody is told anything else', { timeout: 60_000 }, async () => {
    const total = 300
    const enqueued: Item[] = []
    /** Since when somebody knows, by an event or by a receipt. */
    const savedAt = new Map<string, number>()
    const know = (id: string) => savedAt.has(id) || savedAt.set(id, performance.now())
    const follower = new Follower({ events, log: quiet() })
    follower.start()
    closers.push(() => follower.close())
    const feed = await follower.feed()
    const listening = (async () => {
      for (let events = await feed.next(); events; events = await feed.next()) {
        for (const { event } of events) if (event.type === 'saved') know(event.content.id)
      }
    })()
    const wrong: string[] = []
    const told = { QUEUED: 0, SAVED: 0 }
    const asking = receipts.flatMap((one, process) =>
      [0, 1, 2].map(async (writeQueue) => {
        // Twice past each, so that what is known by now is asked once more.
        for (let round = 0, rest = 2; rest > 0; round++) {
          if (savedAt.size === total) rest -= 1
          for (const { id } of enqueued.slice(-60).filter((_, n) => (n + round + process) % 3 === writeQueue)) {
            const asked = performance.now()
            const receipt = await one.find(id)
            if (receipt?.status === 'SAVED') know(id)
            else if (receipt?.status !== 'QUEUED') wrong.push(`${id} is ${receipt?.status}`)
            else if ((savedAt.get(id) ?? Number.POSITIVE_INFINITY) < asked) wrong.push(`${id} went back to QUEUED`)
            if (receipt?.status === 'SAVED' || receipt?.status === 'QUEUED') told[receipt.status] += 1
          }
          // Where there is nothing to ask, a turn of the event loop.
          await new Promise((resolve) => setImmediate(resolve))
        }
      }),
    )
    while (enqueued.length < total) {
      const some = Array.from({ length: 10 }, (_, n) => save(`content ${n}`))
      await enqueue(...some)
      enqueued.push(...some)
      if (enqueued.length === some.length) {
        await holds(() => expect(told.QUEUED).toBeGreaterThan(10))
        startWorker()
      }
      // So that they are asked for on each step of their way, and not in the crowd of those behind them.
      await holds(() => expect(savedAt.size).toBeGreaterThan(enqueued.length - 30), { intervalMs: 1 })
    }
    await Promise.all(asking)
    feed.close()
    await listening
    expect(wrong).toEqual([])
    expect(told.SAVED).toBeGreaterThan(100)
  })

  describe('a save of long ago that is sent once more', () => {
    /** A row that the queue has forgotten. */
    async function longSaved(content: string): Promise<Item> {
      const old = save(content, randomUUID(), Date.UTC(2025, 0, 1))
      await stored.store.insert([{ id: old.id, content, createdAt: new Date(old.at), savedAt: new Date(old.at + 5) }])
      expect(await both(old.id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(old.at), content: { content } })
      return old
    }

    test('stays SAVED, as it was, while it is in the queue and afterwards', async () => {
      const { id, at } = await longSaved('old')
      await enqueue(save('old', id))
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), content: { content: 'old' } })
      startWorker()
      await holds(async () => expect((await queue.status()).depth).toBe(0))
      expect(await both(id)).toMatchObject({ status: 'SAVED' })
    })

    test('with other content changes neither row nor receipt: its sender is told FAILED (FA8)', async () => {
      const { id, at } = await longSaved('old')
      const late = save('new', id)
      await enqueue(late)
      const saved = { status: 'SAVED', acceptedAt: new Date(at), content: { content: 'old' } }
      expect(await both(id)).toMatchObject({ ...saved, conflicts: 0 })
      const waiting = receipts[0].final(receiptOf(id, { ...late, status: 'QUEUED', conflicts: 0 }), never())
      const following = received(receipts[1].changes(id, never()))
      startWorker()
      expect(await waiting).toMatchObject({ status: 'FAILED', conflicts: 1, failure: { code: 'ID_CONFLICT' } })
      // By the queue, which the conflict has told: the row is looked up by whoever wants it.
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), conflicts: 1 })
      expect(await following).toMatchObject([saved])
      expect(await stored.store.find([id])).toMatchObject([{ content: 'old' }])
    })

    test('whose conflict is retried stays SAVED, while it is in the queue and afterwards', async () => {
      const { id } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = consumer()
      const [entry] = await receive(worker)
      const conflict: Failure = { code: 'ID_CONFLICT', message: 'taken', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter([{ entry: entry!, failure: conflict }])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 1, content: { content: 'old' } })
      await queue.retry([id])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 0, content: { content: 'old' } })
      const [again] = await receive(worker)
      await worker.deadLetter([{ entry: again!, failure: conflict }])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 1 })
      // Whose row is gone is no longer in anybody's way: what there is, is the letter.
      await stored.sql('DELETE FROM Content')
      expect(await both(id)).toMatchObject({ status: 'FAILED', failure: { code: 'ID_CONFLICT' } })
    })

    test('is known as SAVED while the dead letter of a later sender has its id, and others are not (P3)', async () => {
      const { id, at } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = consumer()
      const failure: Failure = { code: 'CRASHED', message: 'no', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter((await receive(worker)).map((entry) => ({ entry, failure })))
      const [retry, third] = [save('old', id), save('third', id)]
      for (const one of [retry, third]) {
        expect(await queue.enqueue([[one]])).toMatchObject([{ code: 'ID_CONFLICT' }])
      }
      const saved = { status: 'SAVED', digest: retry.digest, at, conflicts: 0, duplicate: true }
      expect(await receipts[0].known([third, retry, save()])).toEqual(new Map([[retry, saved]]))
      // Nobody's receipt becomes that of the later sender.
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), content: { content: 'old' } })
      expect(await queue.enqueue([[save('new', id)]])).toMatchObject([[{ status: 'FAILED', duplicate: true, failure }]])
      await stored.sql('ALTER TABLE Content RENAME TO Elsewhere')
      await expect(receipts[0].known([retry])).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryAfterMs: 1_000 })
    })

    test('and meets a conflict while somebody waits for the first content is told of that alone', async () => {
      const { id } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = consumer()
      const [entry] = await receive(worker)
      const conflict: Failure = { code: 'ID_CONFLICT', message: 'taken', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter([{ entry: entry!, failure: conflict }])
      // The first sender's retry, in the queue: the failure of the other content is not its own.
      const retry = save('old', id)
      await enqueue(retry)
      const watch = receipts[0].watch(id)
      await events.append([[{ type: 'failed', id, failure: conflict }]])
      const waiting = receipts[0].final(receiptOf(id, { ...retry, status: 'QUEUED', conflicts: 1 }), never(), watch)
      startWorker()
      expect(await waiting).toMatchObject({ status: 'SAVED' })
    })
  })

  describe('while the store is away', () => {
    beforeEach(async () => {
      await stored.sql('ALTER TABLE Content RENAME TO Elsewhere')
    })

    test('what the queue knows is said all the same', async () => {
      const [pending, dead, done] = [save('a'), save('b'), save('c')]
      const worker = consumer()
      await enqueue(done)
      await worker.ack(await receive(worker))
      await enqueue(dead)
      const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter((await receive(worker)).map((entry) => ({ entry, failure })))
      await enqueue(pending)
      expect(await both(pending.id)).toMatchObject({ status: 'QUEUED' })
      expect(await both(dead.id)).toMatchObject({ status: 'FAILED', failure })
      expect(await both(done.id)).toMatchObject({ status: 'SAVED' })
    })

    test('and of the rest that nobody can tell', async () => {
      for (const one of receipts)
        await expect(one.find(randomUUID())).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    })
  })

  describe('who waits', () => {
    test('has SAVED with the row as soon as it is announced', async () => {
      const one = save()
      await enqueue(one)
      const waiting = receipts.map(async (receipts) =>
        receipts.final((await receipts.find(one.id))!, AbortSignal.timeout(20_000)),
      )
      startWorker()
      for (const { id, status, content } of await Promise.all(waiting)) {
        expect({ id, status }).toEqual({ id: one.id, status: 'SAVED' })
        // It comes with the event; who heard of it from the queue, a moment before, finds it in the store.
        expect(content ?? (await stored.store.find([id]))[0]).toMatchObject({ content: 'something' })
      }
    })

    test('has FAILED with the reason', async () => {
      const one = save('\ud800')
      await enqueue(one)
      startWorker()
      const receipt = await receipts[0].final((await receipts[0].find(one.id))!, AbortSignal.timeout(20_000))
      expect(receipt).toMatchObject({ status: 'FAILED', failure: { code: 'REJECTED' } })
      expect(await both(one.id)).toMatchObject({ status: 'FAILED', failure: { code: 'REJECTED' } })
    })

    test('has what happened before the watch began, too', async () => {
      const one = save()
      await enqueue(one)
      const early = (await receipts[0].find(one.id))!
      startWorker()
      await holds(async () => expect((await queue.status()).depth).toBe(0))
      expect(await receipts[0].final(early, AbortSignal.timeout(20_000))).toMatchObject({ status: 'SAVED' })
    })

    test('gets it as it stands when the time is over', async () => {
      const one = save()
      await enqueue(one)
      const early = (await receipts[0].find(one.id))!
      expect(await receipts[0].final(early, AbortSignal.timeout(100))).toEqual(early)
    })

    test('by subscription: the state, then the change, then the end', async () => {
      const one = save()
      await enqueue(one)
      const seen: string[] = []
      const signal = new AbortController().signal
      for await (const receipt of receipts[1].changes(one.id, signal)) {
        seen.push(receipt.status)
        if (seen.length === 1) startWorker()
      }
      expect(seen).toEqual(['QUEUED', 'SAVED'])
      const again: string[] = []
      for await (const { status } of receipts[0].changes(one.id, signal)) again.push(status)
      expect(again).toEqual(['SAVED'])
      for await (const receipt of receipts[0].changes(randomUUID(), signal)) expect(receipt).toBeUndefined()
    })
  })
})

test('while the queue is away nothing is made up', async () => {
  const queued = await redis()
  const stored = await sqliteStore()
  try {
    const { queue, events } = await queued.open()
    const follower = new Follower({ events, log: quiet() })
    const cache = new MemoryCache({ ttlMs: 1_000, version: new SharedVersion() })
    const receipts = new Receipts({ queue, contents: new Contents({ store: stored.store, cache }), follower })
    const one = save()
    await queue.enqueue([[one]])
    await stored.store.insert([{ id: one.id, content: 'something', createdAt: new Date(one.at), savedAt: new Date() }])
    queued.away()
    await eventually(() =>
      receipts.find(one.id).then(
        () => false,
        (error) => error.code === 'QUEUE_UNAVAILABLE',
      ),
    )
    queued.back()
    await holds(async () => expect(await receipts.find(one.id)).toMatchObject({ status: 'QUEUED' }))
  } finally {
    await queued.cleanup()
    await stored.cleanup()
  }
})
