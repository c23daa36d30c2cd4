/** Receipts of two API processes, read at every moment of a save: an enqueued save always has one, and its state never goes back. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { Bytes } from '../../src/app/bytes.ts'
import { type Receipt, Receipts, receiptOf } from '../../src/app/receipts.ts'
import { Rows } from '../../src/app/rows.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import type { EventLog } from '../../src/events/events.ts'
import { Follower } from '../../src/events/follower.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import type { Failure } from '../../src/model/error.ts'
import type { Entry, Item, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Persister } from '../../worker/persist.ts'
import { Sorter } from '../../worker/sort.ts'
import { Worker } from '../../worker/worker.ts'
import { Content, contentRow, digestOfContent, models } from '../harness/contents.ts'
import { retryIds } from '../harness/dead-letters.ts'
import { contents } from '../harness/events.ts'
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

async function redis(): Promise<Queued & { disconnect(): void; connect(): void }> {
  const proxy = await startProxy(inject('redisUrl'))
  const address = parseRedisUrl(proxy.url(freshRedisUrl()))
  const closers: (() => Promise<void>)[] = []
  return {
    async open() {
      const queue = new RedisQueue(address, { capacity: 10_000, log: quiet() })
      const events = new RedisEventLog(address, { ...retention, models, log: quiet() })
      closers.push(
        () => queue.close(),
        () => events.close(),
      )
      await holds(() => Promise.all([queue.status(), events.tail()]))
      return { queue, events }
    },
    disconnect: () => proxy.set('cut'),
    connect: () => proxy.set('pass'),
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
    open: async () => ({
      queue: new SqliteQueue(opened.connect()),
      events: new SqliteEventLog(opened.connect(), { models }),
    }),
    cleanup,
  }
}

/** An item as the API makes it, with the digest of the content. */
const save = (content = 'something', id: string = randomUUID(), at = Date.now()): Item =>
  item(id, content, digestOfContent(content), at)

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
    await follower.feed(contents)
    const cache = new MemoryCache({ ttlMs: 1_000, versions: new SharedVersions() })
    return new Receipts({ models, queue, rows: new Rows({ models, store: stored.store, cache }), follower })
  }

  async function enqueue(...items: Item[]): Promise<void> {
    const [reply] = await queue.enqueue([items])
    expect(reply).toMatchObject(items.map(() => ({ status: 'QUEUED', duplicate: false })))
  }

  const newConsumer = () => queue.consumer(`w-${randomUUID()}`)
  const receive = (from = newConsumer()): Promise<Entry[]> =>
    eventually(async () => {
      const entries = await from.receive({ rows: 100, bytes: 1_000_000 }, 200)
      return entries.length > 0 && entries
    }) as Promise<Entry[]>
  const persister = new Persister(
    {
      store: {
        insert: (model, rows) => stored.store.insert(model, rows),
        existing: (model, ids) => stored.store.existing(model, ids),
        probe: (model) => stored.store.probe(model),
        limits: () => ({ rows: 1_000, bytes: 1e6 }),
      },
    },
    { model: Content, maxAttempts: 3, log: quiet(), signal: new AbortController().signal },
  )

  function startWorker(consumer = newConsumer()): void {
    const worker = new Worker(
      { consumer, store: stored.store, cache: { invalidate: async () => {} }, events },
      { models, batch: 20, concurrency: 2, maxAttempts: 3, cacheTtlMs: 1_000, log: quiet() },
    )
    worker.start()
    closers.push(() => worker.stop())
  }

  /** The statuses of both. */
  async function both(id: string): Promise<Receipt | undefined> {
    const [one, other] = await Promise.all(receipts.map((receipt) => receipt.find(id)))
    expect(other?.status).toBe(one?.status)
    return one
  }

  const never = () => new AbortController().signal

  async function received(changes: AsyncGenerator<Receipt[]>): Promise<Receipt[][]> {
    const all: Receipt[][] = []
    for await (const receipts of changes) all.push(receipts)
    return all
  }

  test('Receipts.find returns undefined for an id that was never enqueued', async () => {
    expect(await both(randomUUID())).toBeUndefined()
  })

  test('Receipts.find returns the state of a save after each step of its worker', async () => {
    const one = save('something')
    const nothing = { model: Content, failure: undefined, digest: undefined, conflicts: 0 }
    const receipt = { id: one.id, duplicate: false, acceptedAt: new Date(one.at), ...nothing }
    await enqueue(one)
    expect(await both(one.id)).toEqual({ ...receipt, status: 'QUEUED', row: undefined })
    const worker = newConsumer()
    const entries = await receive(worker)
    expect(await both(one.id)).toMatchObject({ status: 'QUEUED' })
    // Committed: cached pages may still lack the row, so that SAVED would be too early.
    const { saved } = await persister.persist([...new Sorter(models).sort(entries).rows.values()].flat())
    expect(await both(one.id)).toMatchObject({ status: 'QUEUED', row: undefined })
    // Before the event: after it, no process may return QUEUED.
    await worker.markSaved(entries)
    expect(await both(one.id)).toEqual({ ...receipt, status: 'SAVED', row: undefined })
    await events.append([saved.map((row) => ({ type: 'saved' as const, ...row }))])
    expect(await both(one.id)).toMatchObject({ ...receipt, status: 'SAVED' })
    await worker.ack(entries)
    expect(await both(one.id)).toMatchObject({ ...receipt, status: 'SAVED' })
  })

  test('Receipts.find never goes back: after one SAVED, every process returns SAVED', { timeout: 60_000 }, async () => {
    const total = 300
    const enqueued: Item[] = []
    /** When an event or a receipt said SAVED for the first time. */
    const savedAt = new Map<string, number>()
    const know = (id: string) => savedAt.has(id) || savedAt.set(id, performance.now())
    const follower = new Follower({ events, log: quiet() })
    follower.start()
    closers.push(() => follower.close())
    const feed = await follower.feed(contents)
    const listening = (async () => {
      for (let events = await feed.next(); events; events = await feed.next()) {
        for (const { event } of events) if (event.type === 'saved') know(event.row.id)
      }
    })()
    const wrong: string[] = []
    let rounds = 0
    let isDone = false
    const counts = { QUEUED: 0, SAVED: 0 }
    const asking = receipts.flatMap((one, process) =>
      [0, 1, 2].map(async (writeQueue) => {
        // Twice each, so that a SAVED id is read once more.
        for (let round = 0, rest = 2; rest > 0; round++) {
          if (savedAt.size === total) rest -= 1
          for (const { id } of enqueued.slice(-60).filter((_, n) => (n + round + process) % 3 === writeQueue)) {
            const asked = performance.now()
            const receipt = await one.find(id)
            if (receipt?.status === 'SAVED') know(id)
            else if (receipt?.status !== 'QUEUED') wrong.push(`${id} is ${receipt?.status}`)
            else if ((savedAt.get(id) ?? Number.POSITIVE_INFINITY) < asked) wrong.push(`${id} went back to QUEUED`)
            if (receipt?.status === 'SAVED' || receipt?.status === 'QUEUED') counts[receipt.status] += 1
          }
          rounds += 1
          // If there is nothing to read, a turn of the event loop.
          await new Promise((resolve) => setImmediate(resolve))
        }
      }),
    )
    while (enqueued.length < total) {
      const some = Array.from({ length: 10 }, (_, n) => save(`content ${n}`))
      await enqueue(...some)
      enqueued.push(...some)
      if (enqueued.length === some.length) {
        await holds(() => expect(counts.QUEUED).toBeGreaterThan(10))
        const consumer = newConsumer()
        const ack = consumer.ack.bind(consumer)
        consumer.ack = async (entries) => {
          const before = rounds
          // Between the event and this, all receipts are read by each reader.
          await holds(() => expect(isDone || rounds > before + 2 * asking.length).toBe(true), { intervalMs: 1 })
          return await ack(entries)
        }
        startWorker(consumer)
      }
      // In small batches, so that receipts are read after each step.
      await holds(() => expect(savedAt.size).toBeGreaterThan(enqueued.length - 30), { intervalMs: 1 })
    }
    await Promise.all(asking)
    isDone = true
    feed.close()
    await listening
    expect(wrong).toEqual([])
    expect(counts.SAVED).toBeGreaterThan(100)
  })

  describe('Receipts of a save that the queue has forgotten', () => {
    /** A row that the queue has forgotten. */
    async function longSaved(content: string): Promise<Item> {
      const old = save(content, randomUUID(), Date.UTC(2025, 0, 1))
      await stored.store.insert(Content, [
        contentRow(content, { id: old.id, createdAt: new Date(old.at), savedAt: new Date(old.at + 5) }),
      ])
      expect(await both(old.id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(old.at), row: { content } })
      return old
    }

    test('stay SAVED while a retry is in the queue and afterwards', async () => {
      const { id, at } = await longSaved('old')
      await enqueue(save('old', id))
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), row: { content: 'old' } })
      startWorker()
      await holds(async () => expect((await queue.status()).depth).toBe(0))
      expect(await both(id)).toMatchObject({ status: 'SAVED' })
    })

    test('do not change when other content comes under the id, whose sender gets FAILED (FA8)', async () => {
      const { id, at } = await longSaved('old')
      const late = save('new', id)
      await enqueue(late)
      const saved = { status: 'SAVED', acceptedAt: new Date(at), row: { content: 'old' } }
      expect(await both(id)).toMatchObject({ ...saved, conflicts: 0 })
      const waiting = receipts[0].final(receiptOf(id, Content, { ...late, status: 'QUEUED', conflicts: 0 }), never())
      const following = received(receipts[1].changes([id], never()))
      startWorker()
      expect(await waiting).toMatchObject({ status: 'FAILED', conflicts: 1, failure: { code: 'ID_CONFLICT' } })
      // From the queue, which knows of the conflict; the row is not read for that.
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), conflicts: 1 })
      expect(await following).toMatchObject([[saved]])
      expect(await stored.store.find(Content, [id])).toMatchObject([{ content: 'old' }])
    })

    test('stay SAVED while a dead letter ID_CONFLICT is retried and afterwards', async () => {
      const { id } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = newConsumer()
      const [entry] = await receive(worker)
      const conflict: Failure = { code: 'ID_CONFLICT', message: 'taken', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter([{ entry: entry!, failure: conflict }])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 1, row: { content: 'old' } })
      await retryIds(queue, [id])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 0, row: { content: 'old' } })
      const [again] = await receive(worker)
      await worker.deadLetter([{ entry: again!, failure: conflict }])
      expect(await both(id)).toMatchObject({ status: 'SAVED', conflicts: 1 })
      // Without a row, only the dead letter is left.
      await stored.sql('DELETE FROM Content')
      expect(await both(id)).toMatchObject({ status: 'FAILED', failure: { code: 'ID_CONFLICT' } })
    })

    test('known returns SAVED for a retry while a later sender has a dead letter of the id, and nothing for others (P3)', async () => {
      const { id, at } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = newConsumer()
      const failure: Failure = { code: 'CRASHED', message: 'no', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter((await receive(worker)).map((entry) => ({ entry, failure })))
      const [retry, third] = [save('old', id), save('third', id)]
      for (const one of [retry, third]) {
        expect(await queue.enqueue([[one]])).toMatchObject([{ code: 'ID_CONFLICT' }])
      }
      const saved = { status: 'SAVED', digest: retry.digest, at, conflicts: 0, duplicate: true }
      expect(await receipts[0].known(Content, [third, retry, save()])).toEqual(new Map([[retry, saved]]))
      // No receipt becomes that of the later sender.
      expect(await both(id)).toMatchObject({ status: 'SAVED', acceptedAt: new Date(at), row: { content: 'old' } })
      expect(await queue.enqueue([[save('new', id)]])).toMatchObject([[{ status: 'FAILED', duplicate: true, failure }]])
      await stored.sql('ALTER TABLE Content RENAME TO Elsewhere')
      await expect(receipts[0].known(Content, [retry])).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryAfterMs: 1_000,
      })
    })

    test('final returns SAVED for the first content while other content fails under the id', async () => {
      const { id } = await longSaved('old')
      await enqueue(save('new', id))
      const worker = newConsumer()
      const [entry] = await receive(worker)
      const conflict: Failure = { code: 'ID_CONFLICT', message: 'taken', attempts: 1, failedAt: new Date(5) }
      await worker.deadLetter([{ entry: entry!, failure: conflict }])
      // The first sender's retry is in the queue: the failure of the other content is not its own.
      const retry = save('old', id)
      await enqueue(retry)
      const watch = receipts[0].watch([id])
      await events.append([[{ type: 'failed', id, failure: conflict }]])
      const waiting = receipts[0].final(
        receiptOf(id, Content, { ...retry, status: 'QUEUED', conflicts: 1 }),
        never(),
        watch,
      )
      startWorker()
      expect(await waiting).toMatchObject({ status: 'SAVED' })
    })
  })

  describe('Receipts while the store is unavailable', () => {
    beforeEach(async () => {
      await stored.sql('ALTER TABLE Content RENAME TO Elsewhere')
    })

    test('come from the queue for the ids that it knows', async () => {
      const [pending, dead, done] = [save('a'), save('b'), save('c')]
      const worker = newConsumer()
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

    test('reject with STORE_UNAVAILABLE for the ids that the queue does not know', async () => {
      for (const one of receipts)
        await expect(one.find(randomUUID())).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    })
  })

  describe('Receipts.final', () => {
    test('returns SAVED with the row as soon as its event is published', async () => {
      const one = save()
      await enqueue(one)
      const waiting = receipts.map(async (receipts) =>
        receipts.final((await receipts.find(one.id))!, AbortSignal.timeout(20_000)),
      )
      startWorker()
      for (const { id, status, row } of await Promise.all(waiting)) {
        expect({ id, status }).toEqual({ id: one.id, status: 'SAVED' })
        // The event brings the row; a receipt that came from the queue a moment before reads it from the store.
        expect(row ?? (await stored.store.find(Content, [id]))[0]).toMatchObject({ content: 'something' })
      }
    })

    test('returns FAILED with the reason', async () => {
      const one = save('\ud800')
      await enqueue(one)
      startWorker()
      const receipt = await receipts[0].final((await receipts[0].find(one.id))!, AbortSignal.timeout(20_000))
      expect(receipt).toMatchObject({ status: 'FAILED', failure: { code: 'REJECTED' } })
      expect(await both(one.id)).toMatchObject({ status: 'FAILED', failure: { code: 'REJECTED' } })
    })

    test('returns SAVED if the row was saved before the watch began', async () => {
      const one = save()
      await enqueue(one)
      const early = (await receipts[0].find(one.id))!
      startWorker()
      await holds(async () => expect((await queue.status()).depth).toBe(0))
      expect(await receipts[0].final(early, AbortSignal.timeout(20_000))).toMatchObject({ status: 'SAVED' })
    })

    test('returns the receipt unchanged when the signal aborts', async () => {
      const one = save()
      await enqueue(one)
      const early = (await receipts[0].find(one.id))!
      expect(await receipts[0].final(early, AbortSignal.timeout(100))).toEqual(early)
    })

    test('and Receipts.changes yields the state, then the change, then ends', async () => {
      const one = save()
      await enqueue(one)
      const seen: string[][] = []
      for await (const changed of receipts[1].changes([one.id], never())) {
        seen.push(changed.map(({ status }) => status))
        if (seen.length === 1) startWorker()
      }
      expect(seen).toEqual([['QUEUED'], ['SAVED']])
      expect(await received(receipts[0].changes([one.id], never()))).toMatchObject([[{ status: 'SAVED' }]])
      expect(await received(receipts[0].changes([randomUUID()], never()))).toEqual([])
    })
  })

  describe('Receipts of 1,000 ids', () => {
    /** Counts the calls of the queue and of the store, and passes them on. */
    async function counted() {
      const { queue, events } = await queued.open()
      const calls = { find: 0, store: 0, mostAsked: 0 }
      const follower = new Follower({ events, log: quiet() })
      follower.start()
      closers.push(() => follower.close())
      await follower.feed(contents)
      const cache = new MemoryCache({ ttlMs: 1_000, versions: new SharedVersions() })
      const store = {
        hasReplica: stored.store.hasReplica,
        page: stored.store.page.bind(stored.store),
        find: (...args: Parameters<typeof stored.store.find>) => {
          calls.store += 1
          return stored.store.find(...args)
        },
      }
      let asked = 0
      const find: Queue['find'] = async (ids, digest) => {
        calls.find += 1
        asked += ids.length
        calls.mostAsked = Math.max(calls.mostAsked, asked)
        return await queue.find(ids, digest).finally(() => {
          asked -= ids.length
        })
      }
      const bytes = new Bytes()
      const rows = new Rows({ models, store, cache })
      return { calls, bytes, receipts: new Receipts({ models, queue: { find }, rows, follower, bytes }) }
    }
    const items = (count: number) => Array.from({ length: count }, (_, i) => save(`content ${i}`))
    const idsOf = (all: readonly Item[]) => all.map(({ id }) => id)

    test('are found by one call of the queue and a few reads of the store', async () => {
      const { calls, receipts } = await counted()
      const [pending, unknown] = [items(500), items(500)]
      await enqueue(...pending)
      const found = await Promise.all(await receipts.findAll(idsOf([...unknown, ...pending])))
      expect(found.map((receipt) => receipt?.status)).toEqual([
        ...Array<undefined>(500).fill(undefined),
        ...Array<string>(500).fill('QUEUED'),
      ])
      expect(calls.find).toBe(1)
      // A statement reads at most 16 MiB of rows of 64 KiB.
      expect(calls.store).toBeLessThanOrEqual(4)
    })

    test('are at most 10,000 that are looked up at once, whoever asks', async () => {
      const { calls, receipts } = await counted()
      const all = await Promise.all(
        Array.from({ length: 30 }, () => receipts.findAll(Array.from({ length: 1_000 }, () => randomUUID()))),
      )
      for (const found of all) expect(await Promise.all(found)).toEqual(Array(1_000).fill(undefined))
      expect(calls.find).toBe(30)
      expect(calls.mostAsked).toBeLessThanOrEqual(10_000)
    })

    test('change to SAVED or FAILED in a few messages, and cost the queue one call in five seconds meanwhile', async () => {
      const { calls, bytes, receipts } = await counted()
      const all = [...items(997), save('\ud800')]
      await enqueue(...all)
      const messages: Receipt[][] = []
      const done = (async () => {
        for await (const message of receipts.changes([...idsOf(all), randomUUID(), all[0]!.id], never()))
          messages.push(message)
      })()
      await holds(() => expect(messages.map(({ length }) => length)).toEqual([998]))
      expect(messages[0]!.map(({ id, status }) => [id, status])).toEqual(idsOf(all).map((id) => [id, 'QUEUED']))
      expect(bytes.subscriptions.held).toBe(999 * 600)
      expect(calls.find).toBe(1)
      await holds(() => expect(calls.find).toBe(2))
      const { store } = calls
      startWorker()
      await done
      const last = messages.slice(1).flat()
      expect(new Map(last.map(({ id, status }) => [id, status]))).toEqual(
        new Map(idsOf(all).map((id, i) => [id, i < 997 ? 'SAVED' : 'FAILED'])),
      )
      expect(last).toHaveLength(998)
      expect(last.find(({ status }) => status === 'FAILED')).toMatchObject({ failure: { code: 'REJECTED' } })
      // A worker publishes at most 20 rows at once here.
      expect(messages.length).toBeLessThan(120)
      // A failure is looked up, a saved row comes with its event.
      expect(calls.store - store).toBeLessThan(5)
      expect(bytes.subscriptions.held).toBe(0)
    })

    test('are watched until their reader returns, also between two messages', async () => {
      const { bytes, receipts } = await counted()
      const all = items(1_000)
      await enqueue(...all)
      const changes = receipts.changes(idsOf(all), never())
      expect((await changes.next()).value).toHaveLength(1_000)
      await changes.return(undefined)
      expect(bytes.subscriptions.held).toBe(0)
      const stopped = new AbortController()
      const waiting = receipts.changes(idsOf(all), stopped.signal)
      await waiting.next()
      const next = waiting.next()
      stopped.abort()
      expect(await next).toEqual({ done: true, value: undefined })
      expect(bytes.subscriptions.held).toBe(0)
    })

    test('are refused with OVERLOADED where too many ids are watched already', async () => {
      const { bytes, receipts } = await counted()
      const all = items(10)
      await enqueue(...all)
      bytes.subscriptions.force(bytes.subscriptions.most)
      await expect(receipts.changes(idsOf(all), never()).next()).rejects.toMatchObject({ code: 'OVERLOADED' })
      expect(bytes.subscriptions.held).toBe(bytes.subscriptions.most)
    })
  })
})

test('Receipts.find rejects while the queue is unavailable', async () => {
  const queued = await redis()
  const stored = await sqliteStore()
  try {
    const { queue, events } = await queued.open()
    const follower = new Follower({ events, log: quiet() })
    const cache = new MemoryCache({ ttlMs: 1_000, versions: new SharedVersions() })
    const receipts = new Receipts({ models, queue, rows: new Rows({ models, store: stored.store, cache }), follower })
    const one = save()
    await queue.enqueue([[one]])
    await stored.store.insert(Content, [contentRow('something', { id: one.id, createdAt: new Date(one.at) })])
    queued.disconnect()
    await eventually(() =>
      receipts.find(one.id).then(
        () => false,
        (error) => error.code === 'QUEUE_UNAVAILABLE',
      ),
    )
    queued.connect()
    await holds(async () => expect(await receipts.find(one.id)).toMatchObject({ status: 'QUEUED' }))
  } finally {
    await queued.cleanup()
    await stored.cleanup()
  }
})
