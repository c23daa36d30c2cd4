/**
 * The contract of a Queue, for each implementation: each test proves one sentence of src/queue/queue.ts. `make` opens connections to one
 * set of data. A consumer that a test does not close is one of a worker that has ended.
 */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Failure, SpillwayError } from '../../src/model/error.ts'
import type { Consumer, DeadLetterRange, Entry, Item, Queue } from '../../src/queue/queue.ts'
import { contentMessage } from '../harness/contents.ts'
import { discardIds, retryIds } from '../harness/dead-letters.ts'
import { eventually } from '../harness/eventually.ts'
import { statusOf } from '../harness/states.ts'

export interface QueueBench {
  /** Opens a connection of its own to the same data, as another process has it; it is ready. */
  open(): Promise<Queue>
  /** The lease: how long the entries of a consumer that has ended are kept from consumers of other names. */
  reclaimMs: number
  /** Closes every connection (closing one twice is harmless) and removes the data. */
  cleanup(): Promise<void>
}

const lots = { rows: 1_000, bytes: 64_000_000 }

/** An item as the API makes it. */
export function item(id: string, content: string, digest = `digest-of-${content.slice(0, 20)}`, at = Date.now()): Item {
  return { id, digest, at, body: contentMessage(id, content, at) }
}

const failure: Failure = {
  code: 'REJECTED',
  message: 'the database rejected it: “é” 😀\n\0',
  attempts: 3,
  failedAt: new Date('2026-11-25T12:34:56.789Z'),
}

const conflict: Failure = { ...failure, code: 'ID_CONFLICT' }

/** Receives until there is nothing more, and at least `count` entries: a new consumer may not be connected at its first call. */
async function receiveAll(consumer: Consumer, count = 0): Promise<Entry[]> {
  const all: Entry[] = []
  const until = performance.now() + 5_000
  for (;;) {
    const entries = await consumer.receive(lots, 50)
    if (entries.length === 0 && (all.length >= count || performance.now() > until)) return all
    all.push(...entries)
  }
}

/** Receives once there is something. */
const receiveSome = (consumer: Consumer, limit = lots): Promise<Entry[]> =>
  eventually(
    async () => {
      const entries = await consumer.receive(limit, 100)
      return entries.length > 0 && entries
    },
    { timeoutMs: 20_000 },
  ) as Promise<Entry[]>

const ids = (entries: readonly Entry[]) => entries.map(({ id }) => id)

/**
 * `foreign` adds something to the queue as another program may; undefined where none can. Of a queue made of several shards, `newId` makes the
 * ids of messages whose order or common capacity is tested: ids of one shard. What its shards alone do is not tested again.
 */
export function queueSuite<B extends QueueBench>(
  name: string,
  make: (options: { capacity: number }) => Promise<B>,
  foreign?: (bench: B) => Promise<void>,
  { newId = randomUUID, ofShards = false }: { newId?: () => string; ofShards?: boolean } = {},
): void {
  const items = (count: number, content = 'something'): Item[] =>
    Array.from({ length: count }, () => item(newId(), content))

  describe(`${name}, by the contract of a queue,`, () => {
    const capacity = 100_000
    let bench: B
    let queue: Queue

    beforeEach(async () => {
      bench = await make({ capacity })
      queue = await bench.open()
    })
    afterEach(() => bench.cleanup())

    async function enqueue(...request: Item[]): Promise<void> {
      const [reply] = await queue.enqueue([request])
      expect(reply).toEqual(
        request.map(({ digest, at }) => ({ status: 'QUEUED', digest, at, conflicts: 0, duplicate: false })),
      )
    }

    /** Enqueues, receives and dead-letters it. */
    async function deadLettered(one: Item, consumer: Consumer, why = failure): Promise<void> {
      expect(await queue.enqueue([[one]])).toMatchObject([[{ status: 'QUEUED', duplicate: false }]])
      const [entry] = await receiveSome(consumer)
      expect(entry?.id).toBe(one.id)
      await consumer.deadLetter([{ entry: entry!, failure: why }])
    }

    /** Makes an ID_CONFLICT dead letter, as a worker does for an id that the database has and the queue has forgotten. */
    const conflicting = (one: Item, consumer: Consumer) => deadLettered(one, consumer, conflict)

    describe('enqueue', () => {
      test('returns a result per request and item, in order', async () => {
        const [a, b, c] = items(3) as [Item, Item, Item]
        await enqueue(b)
        const replies = await queue.enqueue([[a, b], [], [c]])
        expect(replies).toEqual([
          [
            { status: 'QUEUED', digest: a.digest, at: a.at, conflicts: 0, duplicate: false },
            { status: 'QUEUED', digest: b.digest, at: b.at, conflicts: 0, duplicate: true },
          ],
          [],
          [{ status: 'QUEUED', digest: c.digest, at: c.at, conflicts: 0, duplicate: false }],
        ])
        expect((await queue.status()).depth).toBe(3)
        expect(await queue.enqueue([])).toEqual([])
      })

      test('does not add a pending id with the same digest again', async () => {
        const first = item(randomUUID(), 'one', 'same', 1_000_000)
        await enqueue(first)
        const [reply] = await queue.enqueue([[{ ...first, at: 2_000_000 }]])
        expect(reply).toEqual([{ status: 'QUEUED', digest: 'same', at: 1_000_000, conflicts: 0, duplicate: true }])
        expect((await queue.status()).depth).toBe(1)
      })

      test('does not add an id twice in one call, in one request or in two', async () => {
        const [one] = items(1) as [Item]
        const replies = (await queue.enqueue([[one, one], [one]])) as { duplicate: boolean }[][]
        expect(replies.map((reply) => reply.map(({ duplicate }) => duplicate))).toEqual([[false, true], [true]])
        expect((await queue.status()).depth).toBe(1)
      })

      test('returns a SAVED duplicate for an acknowledged id with the same digest', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one)
        const consumer = queue.consumer('w')
        await consumer.ack(await receiveSome(consumer))
        const [reply] = await queue.enqueue([[{ ...one, at: one.at + 5 }]])
        expect(reply).toEqual([{ status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0, duplicate: true }])
        expect((await queue.status()).depth).toBe(0)
      })

      test('returns a FAILED duplicate with the reason for a dead letter with the same digest', async () => {
        const [one] = items(1) as [Item]
        await deadLettered(one, queue.consumer('w'))
        const [reply] = await queue.enqueue([[one]])
        expect(reply).toEqual([
          { status: 'FAILED', digest: one.digest, at: one.at, conflicts: 0, failure, duplicate: true },
        ])
        expect((await queue.status()).depth).toBe(0)
      })

      test('refuses another digest of a pending id, with its whole request and no other', async () => {
        const first = item(randomUUID(), 'one')
        const [a, b] = items(2) as [Item, Item]
        await enqueue(first)
        const [refused, enqueued] = await queue.enqueue([[a, item(first.id, 'two')], [b]])
        expect(refused).toBeInstanceOf(SpillwayError)
        expect(refused).toMatchObject({ code: 'ID_CONFLICT', message: expect.stringContaining(first.id) })
        expect(enqueued).toMatchObject([{ status: 'QUEUED', duplicate: false }])
        expect(await queue.find([a.id, b.id])).toMatchObject([undefined, { status: 'QUEUED' }])
        expect((await queue.status()).depth).toBe(2)
      })

      test('refuses another digest of an id in flight', async () => {
        const first = item(randomUUID(), 'one')
        await enqueue(first)
        await receiveSome(queue.consumer('w'))
        expect(await queue.enqueue([[item(first.id, 'two')]])).toMatchObject([{ code: 'ID_CONFLICT' }])
      })

      test('refuses another digest of an id of the same request, or of an earlier one of the call', async () => {
        const id = randomUUID()
        const other = randomUUID()
        const replies = await queue.enqueue([
          [item(id, 'one'), item(id, 'two')],
          [item(other, 'one')],
          [item(other, 'two')],
          [item(id, 'two')],
        ])
        expect(replies).toMatchObject([
          { code: 'ID_CONFLICT' },
          [{ duplicate: false }],
          { code: 'ID_CONFLICT' },
          [{ duplicate: false }],
        ])
        expect((await queue.status()).depth).toBe(2)
      })

      test('refuses another digest of an id that is remembered as saved, or has a dead letter', async () => {
        const consumer = queue.consumer('w')
        const saved = item(randomUUID(), 'one')
        await enqueue(saved)
        await consumer.ack(await receiveSome(consumer))
        const dead = item(randomUUID(), 'one')
        await deadLettered(dead, consumer)
        for (const { id } of [saved, dead])
          expect(await queue.enqueue([[item(id, 'two')]])).toMatchObject([{ code: 'ID_CONFLICT' }])
        expect(await queue.find([saved.id, dead.id])).toMatchObject([
          { status: 'SAVED', digest: saved.digest, conflicts: 0 },
          { status: 'FAILED', digest: dead.digest, conflicts: 0 },
        ])
        expect((await queue.status()).depth).toBe(0)
      })

      test('adds other content of an id with ID_CONFLICT dead letters only, and returns the dead letter for its own content', async () => {
        const consumer = queue.consumer('w')
        const late = item(randomUUID(), 'late')
        await conflicting(late, consumer)
        const [retried] = await queue.enqueue([[late]])
        const saveState = { status: 'FAILED', digest: late.digest, at: late.at, conflicts: 1, failure: conflict }
        expect(retried).toEqual([{ ...saveState, duplicate: true }])
        const first = item(late.id, 'first')
        expect(await queue.enqueue([[first]])).toEqual([
          [{ status: 'QUEUED', digest: first.digest, at: first.at, conflicts: 1, duplicate: false }],
        ])
        expect(await queue.enqueue([[late], [first], [item(late.id, 'third')]])).toMatchObject([
          [{ status: 'FAILED', duplicate: true, conflicts: 1 }],
          [{ status: 'QUEUED', duplicate: true, conflicts: 1 }],
          { code: 'ID_CONFLICT' },
        ])
      })

      test('adds a request of 1,000 items, and 1,000 requests of one', async () => {
        const request = items(1_000)
        const single = items(1_000)
        await enqueue(...request)
        const replies = await queue.enqueue(single.map((one) => [one]))
        expect(replies).toHaveLength(1_000)
        expect(replies.every((reply) => Array.isArray(reply) && reply[0]!.duplicate === false)).toBe(true)
        expect(ids(await receiveAll(queue.consumer('w'), 2_000))).toEqual([...request, ...single].map(({ id }) => id))
      })

      test('has an exact capacity, and adds a request whole or not at all', async () => {
        const small = await make({ capacity: 10 })
        try {
          const queue = await small.open()
          const [six, five, four, one] = [items(6), items(5), items(4), items(1)]
          const replies = await queue.enqueue([six, five, four, one])
          expect(replies[0]).toHaveLength(6)
          expect(replies[1]).toBeInstanceOf(SpillwayError)
          expect(replies[1]).toMatchObject({ code: 'QUEUE_FULL', retryAfterMs: expect.any(Number) })
          expect(replies[2]).toHaveLength(4)
          expect(replies[3]).toMatchObject({ code: 'QUEUE_FULL' })
          expect(await queue.find(five.map(({ id }) => id))).toEqual(five.map(() => undefined))
          expect(await queue.status()).toMatchObject({ depth: 10, capacity: 10 })
          // A retry of what is in the queue adds nothing, so that it is not refused.
          expect(await queue.enqueue([six])).toMatchObject([six.map(() => ({ status: 'QUEUED', duplicate: true }))])
          // What is in flight counts.
          const consumer = queue.consumer('w')
          const entries = await receiveSome(consumer, { rows: 2, bytes: 1_000_000 })
          expect(await queue.enqueue([one])).toMatchObject([{ code: 'QUEUE_FULL' }])
          await consumer.ack(entries.slice(0, 1))
          expect(await queue.enqueue([one])).toMatchObject([[{ duplicate: false }]])
          expect(await queue.enqueue([items(1)])).toMatchObject([{ code: 'QUEUE_FULL' }])
        } finally {
          await small.cleanup()
        }
      })

      test('adds fresh ids beside others in one call: they are counted, found, and known to a retry', async () => {
        const small = await make({ capacity: 10 })
        try {
          const queue = await small.open()
          const made = (n: number) => items(n).map((one) => ({ ...one, fresh: true }))
          const [old, first, second, third, tooMany] = [items(2), made(1), made(3), items(2), made(3)]
          expect(await queue.enqueue([old])).toMatchObject([[{ duplicate: false }, { duplicate: false }]])
          const replies = await queue.enqueue([first, old, second, tooMany.concat(made(2)), third])
          const whether = (reply: unknown) => (reply as { duplicate: boolean }[]).map(({ duplicate }) => duplicate)
          expect([0, 1, 2, 4].map((i) => whether(replies[i]))).toEqual([
            [false],
            [true, true],
            [false, false, false],
            [false, false],
          ])
          expect(replies[3]).toMatchObject({ code: 'QUEUE_FULL' })
          const known = [...old, ...first, ...second, ...third]
          expect(await queue.status()).toMatchObject({ depth: known.length })
          expect(await queue.find(known.map(({ id }) => id))).toMatchObject(
            known.map(({ digest, at }) => ({ status: 'QUEUED', digest, at })),
          )
          // A retry has the id, and is not fresh.
          const again = known.map(({ fresh: _, ...one }: Item) => one)
          expect((await queue.enqueue(again.map((one) => [one]))).map(whether)).toEqual(known.map(() => [true]))
          const entries = await receiveAll(queue.consumer('w'), known.length)
          expect(ids(entries)).toEqual(known.map(({ id }) => id))
        } finally {
          await small.cleanup()
        }
      })

      test('adds an id once when two connections enqueue it at the same time', async () => {
        const other = await bench.open()
        const all = items(300)
        const calls = all.flatMap((one) => [queue.enqueue([[one]]), other.enqueue([[one]])])
        const replies = (await Promise.all(calls)).map(([reply]) => (reply as { duplicate: boolean }[])[0]!.duplicate)
        for (let i = 0; i < replies.length; i += 2) expect([replies[i], replies[i + 1]].sort()).toEqual([false, true])
        expect((await queue.status()).depth).toBe(300)
      })

      test('refuses one of two contents of an id that two connections enqueue at the same time', async () => {
        const other = await bench.open()
        const all = items(100)
        const calls = all.flatMap((one) => [queue.enqueue([[one]]), other.enqueue([[item(one.id, 'else')]])])
        const refused = (await Promise.all(calls)).map(([reply]) => reply instanceof SpillwayError && reply.code)
        for (let i = 0; i < refused.length; i += 2) {
          expect([refused[i], refused[i + 1]].filter(Boolean)).toEqual(['ID_CONFLICT'])
        }
        expect((await queue.status()).depth).toBe(100)
      })

      const testOfShard = ofShards ? () => {} : test
      testOfShard('remembers the last 50,000 acknowledged ids', { timeout: 120_000 }, async () => {
        const consumer = queue.consumer('w')
        const first = items(1_000)
        await enqueue(...first)
        for (let i = 1; i < 50; i++) {
          await queue.enqueue([items(1_000)])
          await consumer.ack(await receiveSome(consumer))
        }
        await consumer.ack(await receiveAll(consumer))
        expect((await queue.status()).depth).toBe(0)
        const states = await queue.find(first.map(({ id }) => id))
        expect(states.map(statusOf)).toEqual(first.map(() => 'SAVED'))
      })
    })

    describe('markSaved', () => {
      async function markedSaved(one: Item, consumer: Consumer): Promise<Entry[]> {
        await enqueue(one)
        const entries = await receiveSome(consumer)
        await consumer.markSaved(entries)
        return entries
      }

      test('makes an id SAVED for enqueue and find, while its entry is in the queue until ack', async () => {
        const consumer = queue.consumer('w')
        const [one] = items(1) as [Item]
        const entries = await markedSaved(one, consumer)
        const saved = { status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0 }
        for (let n = 0; n < 2; n++) {
          expect(await queue.find([one.id])).toEqual([saved])
          expect(await queue.enqueue([[{ ...one, at: one.at + 5 }]])).toEqual([[{ ...saved, duplicate: true }]])
          expect((await queue.status()).depth).toBe(1)
          await consumer.markSaved(entries)
        }
        await consumer.ack(entries)
        expect(await queue.find([one.id])).toEqual([saved])
        expect((await queue.status()).depth).toBe(0)
      })

      test('does not touch a retried dead letter under the same id, and neither does ack', async () => {
        const consumer = queue.consumer('w')
        const two = item(randomUUID(), 'two')
        await conflicting(two, consumer)
        const one = item(two.id, 'one')
        expect(await queue.enqueue([[one]])).toMatchObject([[{ status: 'QUEUED', conflicts: 1 }]])
        const entries = await receiveSome(consumer)
        await consumer.markSaved(entries)
        expect(await retryIds(queue, [two.id])).toBe(1)
        await consumer.markSaved(entries)
        await consumer.ack(entries)
        const saveState = { status: 'QUEUED', digest: two.digest, at: two.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saveState])
        const saved = { status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0 }
        expect(await queue.find([one.id], one.digest)).toEqual([saved])
        // Each of the two contents has its own state; a third one is refused.
        expect(await queue.enqueue([[one], [two], [item(one.id, 'three')]])).toMatchObject([
          [{ ...saved, duplicate: true }],
          [{ ...saveState, duplicate: true }],
          { code: 'ID_CONFLICT' },
        ])
        expect(await receiveSome(consumer)).toMatchObject([{ id: two.id, body: two.body }])
      })

      test('leaves an entry to be received again after a close; dead-lettered then, its id stays SAVED', async () => {
        const [one] = items(1) as [Item]
        const dead = queue.consumer('dead')
        await markedSaved(one, dead)
        await dead.close()
        const consumer = queue.consumer('w')
        const [entry] = await receiveSome(consumer)
        expect(entry).toMatchObject({ id: one.id, body: one.body, deliveries: 1 })
        await consumer.deadLetter([{ entry: entry!, failure }])
        const saved = { status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saved])
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('lets an entry be dead-lettered with its own digest and time, though its id was saved with other content (FA9)', async () => {
        const consumer = queue.consumer('w')
        const two = item(randomUUID(), 'two')
        await conflicting(two, consumer)
        const one = item(two.id, 'one')
        await queue.enqueue([[one]])
        const [first] = await receiveSome(consumer)
        await consumer.markSaved([first!])
        await retryIds(queue, [one.id])
        const [second] = await receiveSome(consumer)
        await consumer.ack([second!])
        await consumer.deadLetter([{ entry: first!, failure }])
        const saved = { status: 'SAVED', digest: two.digest, at: two.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saved])
        const dead = { status: 'FAILED', digest: one.digest, at: one.at, conflicts: 0, failure }
        expect(await queue.find([one.id], one.digest)).toEqual([dead])
      })
    })

    describe('find', () => {
      test('returns states in order, and undefined for an unknown id', async () => {
        const consumer = queue.consumer('w')
        const [dead, saved, pending] = items(3) as [Item, Item, Item]
        await deadLettered(dead, consumer)
        await enqueue(saved)
        await consumer.ack(await receiveSome(consumer))
        await enqueue(pending)
        expect(await queue.find([pending.id, randomUUID(), saved.id, '__proto__', dead.id, pending.id])).toEqual([
          { status: 'QUEUED', digest: pending.digest, at: pending.at, conflicts: 0 },
          undefined,
          { status: 'SAVED', digest: saved.digest, at: saved.at, conflicts: 0 },
          undefined,
          { status: 'FAILED', digest: dead.digest, at: dead.at, conflicts: 0, failure },
          { status: 'QUEUED', digest: pending.digest, at: pending.at, conflicts: 0 },
        ])
        expect(await queue.find([])).toEqual([])
      })

      test('prefers a pending content to a saved one, that to a dead letter, and that to an ID_CONFLICT', async () => {
        const consumer = queue.consumer('w')
        const id = randomUUID()
        const contents = ['conflict', 'dead', 'saved'] as const
        const [late, dead, saved] = contents.map((content) => item(id, content)) as [Item, Item, Item]
        const find = async () => (await queue.find([id]))[0]
        await conflicting(late, consumer)
        expect(await find()).toMatchObject({ status: 'FAILED', digest: late.digest, failure: conflict, conflicts: 1 })
        await queue.enqueue([[dead]])
        const [entry] = await receiveSome(consumer)
        await consumer.deadLetter([{ entry: entry!, failure }])
        expect(await find()).toMatchObject({ status: 'FAILED', digest: dead.digest, failure, conflicts: 1 })
        // The row that a worker found in the database.
        await retryIds(queue, [id])
        const [again] = await receiveSome(consumer)
        await consumer.deadLetter([
          { entry: again!, failure: conflict, existing: { digest: saved.digest, at: saved.at } },
        ])
        expect(await find()).toEqual({ status: 'SAVED', digest: saved.digest, at: saved.at, conflicts: 2 })
        await retryIds(queue, [id])
        expect(await find()).toMatchObject({ status: 'QUEUED', conflicts: 1 })
        expect(await queue.find([id], saved.digest)).toMatchObject([{ status: 'SAVED', conflicts: 1 }])
      })

      test('returns the state of one content, with a digest', async () => {
        const consumer = queue.consumer('w')
        const [late, one] = [item(randomUUID(), 'late'), items(1)[0]!]
        await conflicting(late, consumer)
        await enqueue(one)
        const first = item(late.id, 'first')
        await queue.enqueue([[first]])
        expect(await queue.find([late.id, one.id], late.digest)).toMatchObject([{ status: 'FAILED' }, undefined])
        expect(await queue.find([late.id, one.id], first.digest)).toMatchObject([{ status: 'QUEUED' }, undefined])
        expect(await queue.find([late.id], 'none')).toEqual([undefined])
      })

      test('finds 1,000 ids, dead letters among them', async () => {
        const consumer = queue.consumer('w')
        const all = items(1_000)
        await enqueue(...all)
        const entries = await receiveAll(consumer, 1_000)
        await consumer.deadLetter(entries.slice(0, 500).map((entry) => ({ entry, failure })))
        const states = await queue.find(all.map(({ id }) => id))
        expect(states.map(statusOf)).toEqual(all.map((_, i) => (i < 500 ? 'FAILED' : 'QUEUED')))
      })
    })

    test('deadLetter with the existing row of the id makes enqueue refuse the next conflict', async () => {
      const consumer = queue.consumer('w')
      const [late, first] = [item(randomUUID(), 'late'), item('', 'first')]
      await enqueue(late)
      const [entry] = await receiveSome(consumer)
      await consumer.deadLetter([{ entry: entry!, failure: conflict, existing: { digest: first.digest, at: 12_345 } }])
      expect(await queue.enqueue([[item(late.id, 'third')], [item(late.id, 'first')], [late]])).toMatchObject([
        { code: 'ID_CONFLICT' },
        [{ status: 'SAVED', at: 12_345, duplicate: true, conflicts: 1 }],
        [{ status: 'FAILED', duplicate: true, failure: { code: 'ID_CONFLICT' } }],
      ])
    })

    test('status returns depth, entries in flight, the age of the oldest, dead letters, capacity and durability', async () => {
      const consumer = queue.consumer('w')
      expect(await queue.status()).toMatchObject({
        depth: 0,
        inFlight: 0,
        oldestAgeMs: 0,
        deadLetters: 0,
        capacity,
        durability: 'FSYNC',
      })
      await deadLettered(item(newId(), 'dead'), consumer)
      await enqueue(item(newId(), 'old', 'd', Date.now() - 60_000), ...items(4))
      const entries = await receiveSome(consumer, { rows: 2, bytes: 1_000_000 })
      expect(entries).toHaveLength(2)
      const status = await queue.status()
      expect(status).toMatchObject({ depth: 5, inFlight: 2, deadLetters: 1 })
      expect(status.oldestAgeMs).toBeGreaterThanOrEqual(60_000)
      expect(status.oldestAgeMs).toBeLessThan(120_000)
      await consumer.ack(entries)
      const rest = await queue.status()
      expect(rest).toMatchObject({ depth: 3, inFlight: 0 })
      expect(rest.oldestAgeMs).toBeLessThan(60_000)
    })

    describe('receive', () => {
      test('returns the oldest first, at most `rows`, and each entry once', async () => {
        const all = items(25)
        await enqueue(...all)
        const consumer = queue.consumer('w')
        const received: Entry[] = []
        while (received.length < 25) {
          const entries = await receiveSome(consumer, { rows: 10, bytes: 1_000_000 })
          expect(entries.length).toBeLessThanOrEqual(10)
          received.push(...entries)
        }
        expect(ids(received)).toEqual(all.map(({ id }) => id))
        expect(received.map(({ body }) => body)).toEqual(all.map(({ body }) => body))
        expect(new Set(received.map(({ handle }) => handle)).size).toBe(25)
        expect(received.every(({ deliveries }) => deliveries === 1)).toBe(true)
        expect(await consumer.receive(lots, 0)).toEqual([])
      })

      test('returns about `bytes` at most, and always one entry', async () => {
        const all = items(20, 'x'.repeat(10_000))
        await enqueue(...all)
        const consumer = queue.consumer('w')
        const received = await receiveSome(consumer, { rows: 1_000, bytes: 1 })
        expect(received).toHaveLength(1)
        while (received.length < 20) {
          const entries = await receiveSome(consumer, { rows: 1_000, bytes: 35_000 })
          expect(entries.reduce((bytes, { body }) => bytes + Buffer.byteLength(body), 0)).toBeLessThanOrEqual(70_000)
          received.push(...entries)
        }
        expect(ids(received)).toEqual(all.map(({ id }) => id))
      })

      test('waits, and returns a message of any connection as soon as it is enqueued', async () => {
        const other = await bench.open()
        for (const sender of [queue, other]) {
          const consumer = queue.consumer(`w-${sender === other}`)
          const receiving = consumer.receive(lots, 30_000)
          // This call came after the receive, so that the receive is waiting by now, or nearly.
          await sender.status()
          const since = performance.now()
          const [one] = items(1) as [Item]
          await sender.enqueue([[one]])
          const entries = await receiving
          expect(ids(entries)).toEqual([one.id])
          expect(performance.now() - since).toBeLessThan(5_000)
          await consumer.ack(entries)
        }
      })

      test('returns [] from an empty queue about when its time is over, so that a loop does not run hot', async () => {
        const since = performance.now()
        expect(await queue.consumer('w').receive(lots, 400)).toEqual([])
        expect(performance.now() - since).toBeGreaterThan(100)
        expect(performance.now() - since).toBeLessThan(5_000)
      })

      test('never returns the same entry to two consumers on two connections', async () => {
        const other = await bench.open()
        const all = items(2_000)
        await queue.enqueue([all.slice(0, 1_000)])
        await queue.enqueue([all.slice(1_000)])
        const received: Entry[] = []
        const until = performance.now() + 20_000
        await Promise.all(
          [queue.consumer('a'), other.consumer('b')].map(async (consumer) => {
            while (received.length < all.length && performance.now() < until)
              received.push(...(await consumer.receive({ rows: 50, bytes: 1_000_000 }, 50)))
          }),
        )
        expect(ids(received).sort()).toEqual(all.map(({ id }) => id).sort())
      })

      test('returns first what a closed consumer had not acknowledged, without counting that delivery', async () => {
        const other = await bench.open()
        const all = items(5)
        await enqueue(...all.slice(0, 3))
        const a = queue.consumer('a')
        const [first] = await receiveSome(a)
        await a.ack([first!])
        await enqueue(...all.slice(3))
        await a.close()
        await a.close()
        expect((await queue.status()).depth).toBe(4)
        const b = other.consumer('b')
        const received = await receiveSome(b)
        received.push(...(await receiveAll(b)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(all.slice(1).map(({ id }) => [id, 1]))
      })

      test('counts deliveries from one ended consumer to the next, and none for a close', async () => {
        await enqueue(...items(1))
        for (let n = 1; n <= 3; n++) {
          const queue = await bench.open()
          expect(await receiveSome(queue.consumer('w'))).toMatchObject([{ deliveries: n }])
        }
        for (let n = 0; n < 2; n++) {
          const consumer = (await bench.open()).consumer('w')
          expect(await receiveSome(consumer)).toMatchObject([{ deliveries: 4 }])
          await consumer.close()
        }
      })

      test('returns the entries of an ended consumer first to the next one of its name', async () => {
        const all = items(4)
        await enqueue(...all.slice(0, 2))
        await receiveSome(queue.consumer('w'))
        await enqueue(...all.slice(2))
        const next = (await bench.open()).consumer('w')
        const received = await receiveSome(next)
        received.push(...(await receiveAll(next)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(
          all.map(({ id }, i) => [id, i < 2 ? 2 : 1]),
        )
      })

      test('returns the entries of an ended consumer to one of another name when the lease has ended', {
        timeout: 60_000,
      }, async () => {
        const other = await bench.open()
        const all = items(3)
        await enqueue(...all)
        await receiveSome(queue.consumer('dead'))
        const alive = other.consumer('alive')
        expect(await alive.receive(lots, 0)).toEqual([])
        const received = await receiveSome(alive)
        received.push(...(await receiveAll(alive)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(all.map(({ id }) => [id, 2]))
      })

      test('returns no entry of another consumer that extends its lease', { timeout: 60_000 }, async () => {
        const slow = queue.consumer('slow')
        const quick = (await bench.open()).consumer('quick')
        /** Returns false if the machine stood still for as long as a lease, so that the lease has ended and nothing is proved. */
        const keeps = async (entries: Entry[], since: number) => {
          const until = performance.now() + bench.reclaimMs * 2.5
          let extended = since
          while (performance.now() < until) {
            const asked = performance.now()
            await slow.extendLease(entries)
            const received = await quick.receive(lots, bench.reclaimMs / 5)
            if (performance.now() - extended >= bench.reclaimMs) return false
            extended = asked
            expect(received).toEqual([])
          }
          return true
        }
        for (let proved = false; !proved; ) {
          const since = performance.now()
          await enqueue(...items(3))
          const entries = await receiveSome(slow)
          proved = await keeps(entries, since)
          await slow.ack(entries)
        }
        expect((await queue.status()).depth).toBe(0)
      })

      test('returns released entries again when their lease has ended, to the same consumer or to another one', {
        timeout: 60_000,
      }, async () => {
        const all = items(3)
        await enqueue(...all)
        const consumer = queue.consumer('a')
        let entries = await receiveSome(consumer)
        for (const deliveries of [2, 3]) {
          await consumer.release(entries)
          expect(await consumer.receive(lots, 0)).toEqual([])
          entries = await receiveSome(consumer)
          entries.push(...(await receiveAll(consumer)))
          expect(entries.map((one) => [one.id, one.deliveries])).toEqual(all.map(({ id }) => [id, deliveries]))
        }
        await consumer.release(entries)
        const other = (await bench.open()).consumer('b')
        const received = await receiveSome(other)
        received.push(...(await receiveAll(other)))
        expect(received.map((one) => [one.id, one.deliveries])).toEqual(all.map(({ id }) => [id, 4]))
        await other.ack(received)
        expect(await queue.status()).toMatchObject({ depth: 0, inFlight: 0 })
      })

      test('resolves when its consumer closes', async () => {
        const consumer = queue.consumer('w')
        const since = performance.now()
        const receiving = consumer.receive(lots, 60_000)
        await queue.status()
        await consumer.close()
        expect(await receiving).toEqual([])
        expect(performance.now() - since).toBeLessThan(10_000)
        expect(await consumer.receive(lots, 0)).toEqual([])
      })
    })

    describe('ack', () => {
      test('may be called twice, and with nothing', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one, ...items(1))
        const consumer = queue.consumer('w')
        const entries = await receiveSome(consumer, { rows: 1, bytes: 1_000_000 })
        await consumer.ack(entries)
        await consumer.ack(entries)
        await consumer.ack([])
        await consumer.deadLetter([])
        await consumer.extendLease([])
        expect(await queue.find([one.id])).toMatchObject([{ status: 'SAVED' }])
        expect((await queue.status()).depth).toBe(1)
      })

      test('ignores an entry that another consumer dead-lettered, and does not touch a later message of its id', async () => {
        const id = randomUUID()
        await enqueue(item(id, 'one'))
        const late = queue.consumer('late')
        const entries = await receiveSome(late)
        await late.close()
        const other = queue.consumer('other')
        const [received] = await receiveSome(other)
        await other.deadLetter([{ entry: received!, failure }])
        await retryIds(queue, [id])
        await other.ack(entries)
        await other.deadLetter(entries.map((entry) => ({ entry, failure })))
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: item(id, 'one').digest }])
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 0 })
        expect(ids(await receiveSome(other))).toEqual([id])
      })
    })

    test('countAttempt counts the attempts of one entry by all consumers', async () => {
      const all = items(2)
      await enqueue(...all)
      const a = queue.consumer('a')
      const [first, second] = await receiveSome(a)
      expect(await a.countAttempt(first!)).toBe(1)
      expect(await a.countAttempt(first!)).toBe(2)
      expect(await a.countAttempt(second!)).toBe(1)
      await a.close()
      const b = (await bench.open()).consumer('b')
      const again = await receiveSome(b)
      expect(await b.countAttempt(again.find(({ id }) => id === all[0]!.id)!)).toBe(3)
    })

    test('withdrawAttempt subtracts an attempt of any consumer, never below 0, and ignores an acknowledged entry', async () => {
      await enqueue(...items(2))
      const consumer = queue.consumer('a')
      const [entry, gone] = await receiveSome(consumer)
      await consumer.countAttempt(entry!)
      await consumer.countAttempt(entry!)
      const other = (await bench.open()).consumer('b')
      await eventually(() => other.withdrawAttempt(entry!).then(() => true))
      expect(await consumer.countAttempt(entry!)).toBe(2)
      for (let n = 0; n < 4; n++) await consumer.withdrawAttempt(entry!)
      expect(await consumer.countAttempt(entry!)).toBe(1)
      await consumer.ack([gone!])
      await consumer.withdrawAttempt(gone!)
      expect(await consumer.countAttempt(gone!)).toBe(1)
      expect(await consumer.countAttempt(gone!)).toBe(1)
    })

    describe('dead letters', () => {
      test('have their message and reason, oldest first, page by page', async () => {
        const consumer = queue.consumer('w')
        const all = items(5)
        for (const one of all) await deadLettered(one, consumer)
        expect(await queue.status()).toMatchObject({ depth: 0, inFlight: 0, deadLetters: 5 })
        const other = await bench.open()
        const pages = []
        let after: string | undefined
        for (;;) {
          const page = await other.deadLetters(2, { newerThan: after })
          pages.push(page)
          if (!page.more) break
          after = page.deadLetters.at(-1)!.handle
        }
        expect(pages.map(({ deadLetters }) => deadLetters.length)).toEqual([2, 2, 1])
        const deadLetters = pages.flatMap((page) => page.deadLetters)
        expect(deadLetters).toEqual(all.map(({ id, body }) => ({ handle: expect.any(String), id, body, failure })))
        expect(await other.deadLetters(5)).toMatchObject({ more: false })
        expect(await other.deadLetters(0)).toEqual({ deadLetters: [], more: true })
      })

      test('are read in both directions, between two bounds', async () => {
        const consumer = queue.consumer('w')
        const all = items(6)
        for (const one of all) await deadLettered(one, consumer)
        const read = async (limit: number, range: DeadLetterRange) => {
          const { deadLetters, more } = await queue.deadLetters(limit, range)
          return [deadLetters.map(({ id }) => all.findIndex((one) => one.id === id)).join(''), more]
        }
        const h = (await queue.deadLetters(10)).deadLetters.map(({ handle }) => handle)
        expect(await read(10, { newestFirst: true })).toEqual(['543210', false])
        expect(await read(6, { newestFirst: true })).toEqual(['543210', false])
        expect(await read(4, { newestFirst: true })).toEqual(['5432', true])
        expect(await read(4, { newestFirst: true, olderThan: h[2]! })).toEqual(['10', false])
        expect(await read(2, { newestFirst: true, olderThan: h[5]!, newerThan: h[1]! })).toEqual(['43', true])
        expect(await read(3, { newestFirst: true, olderThan: h[5]!, newerThan: h[1]! })).toEqual(['432', false])
        expect(await read(2, { olderThan: h[5]!, newerThan: h[1]! })).toEqual(['23', true])
        expect(await read(3, { olderThan: h[5]!, newerThan: h[1]! })).toEqual(['234', false])
        for (const newestFirst of [true, false]) {
          expect(await read(9, { newestFirst, olderThan: h[0]! })).toEqual(['', false])
          expect(await read(9, { newestFirst, newerThan: h[5]! })).toEqual(['', false])
          expect(await read(9, { newestFirst, olderThan: h[3]!, newerThan: h[3]! })).toEqual(['', false])
          expect(await read(9, { newestFirst, olderThan: h[1]!, newerThan: h[4]! })).toEqual(['', false])
          expect(await read(0, { newestFirst, newerThan: h[2]! })).toEqual(['', true])
        }
        // A bound may be the handle of a dead letter that exists no more.
        await queue.discard([h[2]!, h[5]!])
        expect(await read(2, { newestFirst: true, olderThan: h[5]! })).toEqual(['43', true])
        expect(await read(9, { newerThan: h[2]! })).toEqual(['34', false])
      })

      test('refuse a bound that is no handle, and changes of unknown handles do nothing', async () => {
        const consumer = queue.consumer('w')
        await deadLettered(items(1)[0]!, consumer)
        for (const bound of [
          '',
          'x',
          '-',
          '+',
          '(5-5',
          '1 1',
          '99999999999999999999-1',
          '1-99999999999999999999',
          '-1',
        ]) {
          for (const range of [{ newerThan: bound }, { olderThan: bound }])
            await expect(queue.deadLetters(1, range), bound).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
        }
        const [one] = (await queue.deadLetters(1)).deadLetters
        const other = one!.handle.includes('-') ? '5-5' : '500'
        for (const step of [queue.retry([other]), queue.retry([other], { dryRun: true }), queue.discard([other])])
          expect(await step).toEqual({ done: 1, changed: [] })
        expect(await queue.retry([])).toEqual({ done: 0, changed: [] })
        expect(await queue.discard([])).toEqual({ done: 0, changed: [] })
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('of large size are returned about 4 MB a page, newest first, too', async () => {
        const consumer = queue.consumer('w')
        const all = items(6, 'x'.repeat(1_500_000))
        for (const one of all) await deadLettered(one, consumer)
        const seen: string[] = []
        for (let olderThan: string | undefined; ; ) {
          const { deadLetters, more } = await queue.deadLetters(100, { olderThan, newestFirst: true })
          expect(deadLetters.length).toBeLessThanOrEqual(3)
          seen.push(...deadLetters.map(({ id }) => id))
          olderThan = deadLetters.at(-1)?.handle
          if (!more) break
        }
        expect(seen).toEqual(all.map(({ id }) => id).reverse())
        // A step moves about as much.
        const handles: string[] = []
        for (const id of seen) handles.push(...(await queue.deadLettersOf([id]))[0]!.handles)
        const { done, changed } = await queue.retry(handles)
        expect(done).toBeGreaterThan(0)
        expect(done).toBeLessThanOrEqual(3)
        expect(changed).toEqual(handles.slice(0, done))
        expect(await queue.status()).toMatchObject({ depth: done, deadLetters: 6 - done })
      })

      test('of one id are found by deadLettersOf, ID_CONFLICTs last, and changed exactly', async () => {
        const consumer = queue.consumer('w')
        const own = item(randomUUID(), 'own')
        const { id } = own
        for (const n of [1, 2, 3]) await conflicting(item(id, `late-${n}`), consumer)
        await deadLettered(own, consumer)
        const inOrder = (await queue.deadLetters(10)).deadLetters.map(({ handle }) => handle)
        const [one, two, three, first] = inOrder as [string, string, string, string]
        expect(await queue.deadLettersOf([id, randomUUID(), id])).toEqual([
          { count: 4, handles: [first, one, two, three] },
          { count: 0, handles: [] },
          { count: 4, handles: [first, one, two, three] },
        ])
        // The id belongs to the content of the first one, so that it goes first, wherever it is named.
        expect(await queue.retry([one, two])).toEqual({ done: 2, changed: [] })
        expect(await queue.discard([two, two])).toEqual({ done: 2, changed: [two] })
        expect(await queue.retry([one, first, three], { dryRun: true })).toEqual({ done: 3, changed: [first] })
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 3 })
        expect(await queue.retry([one, first, three])).toEqual({ done: 3, changed: [first] })
        expect(await queue.retry([one])).toEqual({ done: 1, changed: [] })
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: own.digest, conflicts: 2 }])
        await consumer.ack(await receiveSome(consumer))
        expect(await queue.retry([three, one])).toEqual({ done: 2, changed: [three] })
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: 'digest-of-late-3', conflicts: 1 }])
        expect(await queue.discard([one])).toEqual({ done: 1, changed: [one] })
        expect(await queue.deadLettersOf([id])).toEqual([{ count: 0, handles: [] }])
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', conflicts: 0 }])
      })

      test('have another handle when they fail again', async () => {
        const consumer = queue.consumer('w')
        const [one] = items(1) as [Item]
        await deadLettered(one, consumer)
        const [before] = (await queue.deadLetters(1)).deadLetters
        await queue.retry([before!.handle])
        const entries = await receiveSome(consumer)
        await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
        expect((await queue.deadLetters(2, { newerThan: before!.handle })).deadLetters).toMatchObject([{ id: one.id }])
        expect(await queue.discard([before!.handle])).toEqual({ done: 1, changed: [] })
      })

      test('of large size are returned about 4 MB a page, with `more` set', async () => {
        const consumer = queue.consumer('w')
        const all = items(6, 'x'.repeat(1_500_000))
        for (const one of all) await deadLettered(one, consumer)
        const seen: string[] = []
        for (let after: string | undefined; ; ) {
          const { deadLetters, more } = await queue.deadLetters(100, { newerThan: after })
          expect(deadLetters.length).toBeLessThanOrEqual(3)
          seen.push(...deadLetters.map(({ id }) => id))
          after = deadLetters.at(-1)?.handle
          if (!more) break
        }
        expect(seen).toEqual(all.map(({ id }) => id))
      })

      test('are not doubled by a second deadLetter, nor changed by an ack afterwards', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one)
        const consumer = queue.consumer('w')
        const [entry] = (await receiveSome(consumer)) as [Entry]
        await consumer.deadLetter([{ entry, failure }])
        await consumer.deadLetter([{ entry, failure }])
        await consumer.ack([entry])
        expect((await queue.deadLetters(10)).deadLetters).toHaveLength(1)
        expect(await queue.find([one.id])).toMatchObject([{ status: 'FAILED' }])
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('are enqueued by retry under their ids; it ignores unknown ids', async () => {
        const consumer = queue.consumer('w')
        const [a, b] = items(2) as [Item, Item]
        await deadLettered(a, consumer)
        await deadLettered(b, consumer)
        expect(await retryIds(queue, [a.id, randomUUID()])).toBe(1)
        expect(await queue.find([a.id, b.id])).toMatchObject([
          { status: 'QUEUED', digest: a.digest, at: a.at },
          { status: 'FAILED' },
        ])
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 1 })
        const [entry] = (await receiveSome(consumer)) as [Entry]
        expect(entry).toMatchObject({ id: a.id, body: a.body, deliveries: 1 })
        expect(await consumer.countAttempt(entry)).toBe(1)
        await consumer.ack([entry])
        expect(await queue.find([a.id])).toMatchObject([{ status: 'SAVED' }])
        expect(await retryIds(queue, [])).toBe(0)
      })

      test('of one id are retried one at a time, ID_CONFLICTs last', async () => {
        const consumer = queue.consumer('w')
        const own = item(randomUUID(), 'own')
        const { id } = own
        await conflicting(item(id, 'one'), consumer)
        await conflicting(item(id, 'two'), consumer)
        await deadLettered(own, consumer)
        expect((await queue.deadLetters(10)).deadLetters).toMatchObject(Array(3).fill({ id }))
        expect(await queue.find([id])).toMatchObject([{ status: 'FAILED', digest: own.digest, conflicts: 2 }])
        expect(await retryIds(queue, [id, id])).toBe(1)
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: own.digest, conflicts: 2 }])
        // One of that id is pending now.
        expect(await retryIds(queue, [id])).toBe(0)
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 2 })
        await consumer.ack(await receiveSome(consumer))
        expect(await queue.find([id])).toMatchObject([{ status: 'SAVED', digest: own.digest, conflicts: 2 }])
        for (const left of [1, 0]) {
          expect(await retryIds(queue, [id])).toBe(1)
          expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', conflicts: left }])
          const [entry] = await receiveSome(consumer)
          await consumer.ack([entry!])
        }
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })

      test('with ID_CONFLICT that are retried while the id is SAVED leave it SAVED', async () => {
        const consumer = queue.consumer('w')
        const late = item(randomUUID(), 'late')
        await conflicting(late, consumer)
        const first = item(late.id, 'first')
        await queue.enqueue([[first]])
        await consumer.ack(await receiveSome(consumer))
        expect(await retryIds(queue, [late.id])).toBe(1)
        const [entry] = await receiveSome(consumer)
        await consumer.deadLetter([
          { entry: entry!, failure: conflict, existing: { digest: first.digest, at: first.at } },
        ])
        const saved = { status: 'SAVED', digest: first.digest, at: first.at, conflicts: 1 }
        expect(await queue.find([late.id])).toEqual([saved])
      })

      test('are replaced by other content of their id, in one step, once', async () => {
        const consumer = queue.consumer('w')
        const [one, two] = items(2) as [Item, Item]
        await deadLettered(one, consumer)
        await deadLettered(two, consumer)
        const handle = (await queue.deadLettersOf([one.id]))[0]!.handles[0]!
        const other = item(one.id, 'other', 'other', one.at)
        const another = item(one.id, 'another', 'another', one.at)
        for (const unknown of ['x', '', '5', '5-5', '7/5-5', '1/'])
          expect(await queue.replace(unknown, other), unknown).toBeUndefined()
        expect(await queue.replace(handle, { ...other, id: two.id })).toBeUndefined()
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 2 })
        const states = await Promise.all([queue.replace(handle, other), (await bench.open()).replace(handle, another)])
        const [winner, state] = states[0] ? [other, states[0]] : [another, states[1]]
        expect(states.filter((one) => one === undefined)).toHaveLength(1)
        const queued = { status: 'QUEUED', digest: winner.digest, at: one.at, conflicts: 0 }
        expect(state).toEqual(queued)
        expect(await queue.find([one.id, two.id])).toMatchObject([queued, { status: 'FAILED' }])
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 1 })
        const enqueued = async (one: Item) => (await queue.enqueue([[one]]))[0]
        expect(await enqueued(winner)).toEqual([{ ...queued, duplicate: true }])
        expect(await enqueued(one)).toMatchObject({ code: 'ID_CONFLICT' })
        const [entry] = (await receiveSome(consumer)) as [Entry]
        expect(entry).toMatchObject({ id: one.id, body: winner.body, deliveries: 1 })
        expect(await consumer.countAttempt(entry)).toBe(1)
        await consumer.deadLetter([{ entry, failure }])
        expect(await queue.replace(handle, other)).toBeUndefined()
        expect(await queue.find([one.id])).toMatchObject([{ status: 'FAILED', digest: winner.digest, at: one.at }])
        const again = (await queue.deadLettersOf([one.id]))[0]!.handles[0]!
        expect(await queue.replace(again, other)).toMatchObject({ status: 'QUEUED', digest: 'other' })
        await consumer.ack(await receiveSome(consumer))
        expect(await enqueued(other)).toMatchObject([{ status: 'SAVED', at: one.at, duplicate: true }])
        expect(await enqueued(one)).toMatchObject({ code: 'ID_CONFLICT' })
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('are not replaced while their id is pending, or belongs to another dead letter', async () => {
        const consumer = queue.consumer('w')
        const own = item(newId(), 'own')
        await conflicting(item(own.id, 'late'), consumer)
        const [late] = (await queue.deadLettersOf([own.id]))[0]!.handles as [string]
        const replace = () => queue.replace(late, item(own.id, 'new', 'new', own.at))
        const refused = { code: 'ID_CONFLICT', message: expect.stringContaining('Nothing was changed') }
        await queue.enqueue([[own]])
        await expect(replace()).rejects.toMatchObject(refused)
        const [entry] = (await receiveSome(consumer)) as [Entry]
        await consumer.deadLetter([{ entry, failure }])
        await expect(replace()).rejects.toMatchObject(refused)
        expect(await queue.find([own.id])).toMatchObject([{ status: 'FAILED', digest: own.digest, conflicts: 1 }])
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 2 })
        const [first] = (await queue.deadLettersOf([own.id]))[0]!.handles as [string]
        const edited = item(own.id, 'edited', 'edited', own.at)
        expect(await queue.replace(first, edited)).toEqual({
          status: 'QUEUED',
          digest: 'edited',
          at: own.at,
          conflicts: 1,
        })
        await consumer.ack(await receiveSome(consumer))
        expect(await replace()).toMatchObject({ status: 'QUEUED', conflicts: 0 })
        expect(await queue.find([own.id], 'edited')).toMatchObject([{ status: 'SAVED' }])
      })

      test('are deleted by discard, all of an id, permanently', async () => {
        const consumer = queue.consumer('w')
        const id = randomUUID()
        await conflicting(item(id, 'one'), consumer)
        await conflicting(item(id, 'two'), consumer)
        await deadLettered(item(id, 'own'), consumer)
        await deadLettered(item(randomUUID(), 'three'), consumer)
        expect(await discardIds(queue, [id, randomUUID(), id])).toBe(3)
        expect(await discardIds(queue, [id])).toBe(0)
        expect(await discardIds(queue, [])).toBe(0)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
        expect(await queue.find([id])).toEqual([undefined])
        await enqueue(item(id, 'one'))
      })

      test('are retried and discarded, 1,200 in steps of 100', { timeout: 60_000 }, async () => {
        const consumer = queue.consumer('w')
        const all = items(1_200)
        const deadLetter = async () => {
          const entries = await receiveAll(consumer, 1_200)
          expect(entries).toHaveLength(1_200)
          await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
        }
        await enqueue(...all.slice(0, 600))
        await enqueue(...all.slice(600))
        await deadLetter()
        const ids = all.map(({ id }) => id)
        expect(await retryIds(queue, ids)).toBe(1_200)
        expect(await queue.status()).toMatchObject({ depth: 1_200, deadLetters: 0 })
        await deadLetter()
        // A step takes 100 of them.
        const { deadLetters } = await queue.deadLetters(150)
        const handles = deadLetters.map(({ handle }) => handle)
        expect(await queue.discard(handles)).toEqual({ done: 100, changed: handles.slice(0, 100) })
        expect(await discardIds(queue, ids)).toBe(1_100)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })
    })

    test('returns bodies as they were enqueued', async () => {
      const contents = [
        '',
        '😀👩‍👩‍👧‍👦 é',
        'a\0b',
        `'"\`\\;--`,
        'x'.repeat(65_536),
        '😀'.repeat(16_384),
        '\u2028\r\n\t{"at":1}',
      ]
      const all = [
        ...contents.map((content, i) => item(newId(), content, `digest-${i}`)),
        ...contents.slice(1).map((body, i): Item => ({ id: newId(), digest: `raw-${i}`, at: 1, body })),
      ]
      await enqueue(...all)
      const consumer = queue.consumer('w')
      const entries = await receiveAll(consumer, all.length)
      expect(entries.map(({ body }) => body)).toEqual(all.map(({ body }) => body))
      await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
      expect((await queue.deadLetters(100)).deadLetters.map(({ body }) => body)).toEqual(all.map(({ body }) => body))
    })

    test('has its messages, saved ids and dead letters when it is opened again', async () => {
      const consumer = queue.consumer('w')
      const [dead, saved, pending] = items(3) as [Item, Item, Item]
      await deadLettered(dead, consumer)
      await enqueue(saved)
      await consumer.ack(await receiveSome(consumer))
      await enqueue(pending)
      await queue.close()
      await queue.close()
      const again = await bench.open()
      expect(await again.find([dead.id, saved.id, pending.id])).toMatchObject([
        { status: 'FAILED' },
        { status: 'SAVED' },
        { status: 'QUEUED' },
      ])
      expect(await again.status()).toMatchObject({ depth: 1, deadLetters: 1 })
      expect(ids(await receiveSome(again.consumer('w')))).toEqual([pending.id])
    })

    if (foreign) {
      test('returns an object of another program, which can be dead-lettered and discarded by its handle', async () => {
        await foreign(bench)
        const consumer = queue.consumer('w')
        const [entry] = (await receiveSome(consumer)) as [Entry]
        expect(entry.id).toBeUndefined()
        await consumer.deadLetter([{ entry, failure: { ...failure, code: 'UNDECODABLE' } }])
        const [found] = (await queue.deadLetters(10)).deadLetters
        expect(found).toMatchObject({ body: entry.body, failure: { code: 'UNDECODABLE' } })
        expect(await discardIds(queue, [found!.id])).toBe(1)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })
    }
  })
}
