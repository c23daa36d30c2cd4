/**
 * What every Queue keeps, whatever it is made of: each test holds one sentence of src/queue/queue.ts. A maker gives connections to one
 * set of data; a consumer that is left alone, never closed, is a dead worker's.
 */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Failure, SpillwayError } from '../../src/model/error.ts'
import { encode } from '../../src/model/message.ts'
import type { Consumer, Entry, Item, Queue } from '../../src/queue/queue.ts'
import { eventually } from '../harness/eventually.ts'

export interface QueueBench {
  /** A connection of its own to the same data, ready to be asked: another process' view. */
  open(): Promise<Queue>
  /** For how long a dead consumer keeps what it took from consumers of other names. */
  reclaimMs: number
  /** Closes every connection (closing one twice is harmless) and removes the data. */
  cleanup(): Promise<void>
}

const lots = { rows: 1_000, bytes: 64_000_000 }

/** An item as the API makes it. */
export function item(id: string, content: string, digest = `digest-of-${content.slice(0, 20)}`, at = Date.now()): Item {
  return { id, digest, at, body: encode({ v: 1, type: 'content', id, at, content }) }
}

const items = (count: number, content = 'something'): Item[] =>
  Array.from({ length: count }, () => item(randomUUID(), content))

const failure: Failure = {
  code: 'REJECTED',
  message: 'the database will not have it: “é” 😀\n\0',
  attempts: 3,
  failedAt: new Date('2026-11-25T12:34:56.789Z'),
}

const conflict: Failure = { ...failure, code: 'ID_CONFLICT' }

/** Takes until there is nothing more. */
async function takeAll(consumer: Consumer): Promise<Entry[]> {
  const all: Entry[] = []
  for (;;) {
    const entries = await consumer.receive(lots, 50)
    if (entries.length === 0) return all
    all.push(...entries)
  }
}

/** One take that is not empty. */
const takeSome = (consumer: Consumer, limit = lots): Promise<Entry[]> =>
  eventually(
    async () => {
      const entries = await consumer.receive(limit, 100)
      return entries.length > 0 && entries
    },
    { timeoutMs: 20_000 },
  ) as Promise<Entry[]>

const ids = (entries: readonly Entry[]) => entries.map(({ id }) => id)

/** `foreign` puts something into the queue that no `accept` has put there; left out where that cannot be done. */
export function queueSuite<B extends QueueBench>(
  name: string,
  make: (options: { capacity: number }) => Promise<B>,
  foreign?: (bench: B) => Promise<void>,
): void {
  describe(`${name} keeps the contract of a queue`, () => {
    const capacity = 100_000
    let bench: B
    let queue: Queue

    beforeEach(async () => {
      bench = await make({ capacity })
      queue = await bench.open()
    })
    afterEach(() => bench.cleanup())

    async function enqueue(...group: Item[]): Promise<void> {
      const [reply] = await queue.enqueue([group])
      expect(reply).toEqual(
        group.map(({ digest, at }) => ({ status: 'QUEUED', digest, at, conflicts: 0, duplicate: false })),
      )
    }

    /** Accepts, takes and buries it. */
    async function deadLettered(one: Item, consumer: Consumer, why = failure): Promise<void> {
      expect(await queue.enqueue([[one]])).toMatchObject([[{ status: 'QUEUED', duplicate: false }]])
      const [entry] = await takeSome(consumer)
      expect(entry?.id).toBe(one.id)
      await consumer.deadLetter([{ entry: entry!, failure: why }])
    }

    /** A later sender's letter, as a worker makes it of an id that the queue has forgotten and the store has. */
    const conflicting = (one: Item, consumer: Consumer) => deadLettered(one, consumer, conflict)

    describe('accept', () => {
      test('answers per group and item, in order', async () => {
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

      test('an id that is pending, with the same digest, is not added again', async () => {
        const first = item(randomUUID(), 'one', 'same', 1_000_000)
        await enqueue(first)
        const [reply] = await queue.enqueue([[{ ...first, at: 2_000_000 }]])
        expect(reply).toEqual([{ status: 'QUEUED', digest: 'same', at: 1_000_000, conflicts: 0, duplicate: true }])
        expect((await queue.status()).depth).toBe(1)
      })

      test('nor twice within one call, in one group or in two', async () => {
        const [one] = items(1) as [Item]
        const replies = (await queue.enqueue([[one, one], [one]])) as { duplicate: boolean }[][]
        expect(replies.map((group) => group.map(({ duplicate }) => duplicate))).toEqual([[false, true], [true]])
        expect((await queue.status()).depth).toBe(1)
      })

      test('an id that was settled, with the same digest, is a duplicate that is SAVED', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one)
        const consumer = queue.consumer('w')
        await consumer.ack(await takeSome(consumer))
        const [reply] = await queue.enqueue([[{ ...one, at: one.at + 5 }]])
        expect(reply).toEqual([{ status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0, duplicate: true }])
        expect((await queue.status()).depth).toBe(0)
      })

      test('an id that was buried, with the same digest, is a duplicate that is FAILED, and says why', async () => {
        const [one] = items(1) as [Item]
        await deadLettered(one, queue.consumer('w'))
        const [reply] = await queue.enqueue([[one]])
        expect(reply).toEqual([
          { status: 'FAILED', digest: one.digest, at: one.at, conflicts: 0, failure, duplicate: true },
        ])
        expect((await queue.status()).depth).toBe(0)
      })

      test('another digest is refused while the first is pending: the whole group, and no other', async () => {
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

      test('and while the first is in flight', async () => {
        const first = item(randomUUID(), 'one')
        await enqueue(first)
        await takeSome(queue.consumer('w'))
        expect(await queue.enqueue([[item(first.id, 'two')]])).toMatchObject([{ code: 'ID_CONFLICT' }])
      })

      test('another digest within the same group, or in an earlier one of the call, is refused', async () => {
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

      test('another digest is refused of an id that is remembered as saved, or has a dead letter', async () => {
        const consumer = queue.consumer('w')
        const settled = item(randomUUID(), 'one')
        await enqueue(settled)
        await consumer.ack(await takeSome(consumer))
        const dead = item(randomUUID(), 'one')
        await deadLettered(dead, consumer)
        for (const { id } of [settled, dead])
          expect(await queue.enqueue([[item(id, 'two')]])).toMatchObject([{ code: 'ID_CONFLICT' }])
        expect(await queue.find([settled.id, dead.id])).toMatchObject([
          { status: 'SAVED', digest: settled.digest, conflicts: 0 },
          { status: 'FAILED', digest: dead.digest, conflicts: 0 },
        ])
        expect((await queue.status()).depth).toBe(0)
      })

      test('an ID_CONFLICT letter takes an id for nobody but its own sender, who is told of it', async () => {
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

      test('a group of 1,000, and 1,000 groups of one', async () => {
        const group = items(1_000)
        const single = items(1_000)
        await enqueue(...group)
        const replies = await queue.enqueue(single.map((one) => [one]))
        expect(replies).toHaveLength(1_000)
        expect(replies.every((reply) => Array.isArray(reply) && reply[0]!.duplicate === false)).toBe(true)
        expect(ids(await takeAll(queue.consumer('w')))).toEqual([...group, ...single].map(({ id }) => id))
      })

      test('capacity is exact, and a group is accepted whole or not at all', async () => {
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
          // A retry of what is in the queue adds nothing, so that it is answered.
          expect(await queue.enqueue([six])).toMatchObject([six.map(() => ({ status: 'QUEUED', duplicate: true }))])
          // What is in flight counts.
          const consumer = queue.consumer('w')
          const entries = await takeSome(consumer, { rows: 2, bytes: 1_000_000 })
          expect(await queue.enqueue([one])).toMatchObject([{ code: 'QUEUE_FULL' }])
          await consumer.ack(entries.slice(0, 1))
          expect(await queue.enqueue([one])).toMatchObject([[{ duplicate: false }]])
          expect(await queue.enqueue([items(1)])).toMatchObject([{ code: 'QUEUE_FULL' }])
        } finally {
          await small.cleanup()
        }
      })

      test('ids made just now, beside others in one call: counted, found, and known to who retries', async () => {
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
          // Whoever retries brings the id along.
          const again = known.map(({ fresh: _, ...one }: Item) => one)
          expect((await queue.enqueue(again.map((one) => [one]))).map(whether)).toEqual(known.map(() => [true]))
          const entries = await takeAll(queue.consumer('w'))
          expect(ids(entries)).toEqual(known.map(({ id }) => id))
        } finally {
          await small.cleanup()
        }
      })

      test('of two connections that bring the same ids at once, one is first', async () => {
        const other = await bench.open()
        const all = items(300)
        const calls = all.flatMap((one) => [queue.enqueue([[one]]), other.enqueue([[one]])])
        const replies = (await Promise.all(calls)).map(([reply]) => (reply as { duplicate: boolean }[])[0]!.duplicate)
        for (let i = 0; i < replies.length; i += 2) expect([replies[i], replies[i + 1]].sort()).toEqual([false, true])
        expect((await queue.status()).depth).toBe(300)
      })

      test('and of two different contents, one is refused', async () => {
        const other = await bench.open()
        const all = items(100)
        const calls = all.flatMap((one) => [queue.enqueue([[one]]), other.enqueue([[item(one.id, 'else')]])])
        const refused = (await Promise.all(calls)).map(([reply]) => reply instanceof SpillwayError && reply.code)
        for (let i = 0; i < refused.length; i += 2) {
          expect([refused[i], refused[i + 1]].filter(Boolean)).toEqual(['ID_CONFLICT'])
        }
        expect((await queue.status()).depth).toBe(100)
      })

      test('remembers the last 50,000 settled ids', { timeout: 120_000 }, async () => {
        const consumer = queue.consumer('w')
        const first = items(1_000)
        await enqueue(...first)
        for (let i = 1; i < 50; i++) {
          await queue.enqueue([items(1_000)])
          await consumer.ack(await takeSome(consumer))
        }
        await consumer.ack(await takeAll(consumer))
        expect((await queue.status()).depth).toBe(0)
        const standings = await queue.find(first.map(({ id }) => id))
        expect(standings.map((saveState) => saveState?.status)).toEqual(first.map(() => 'SAVED'))
      })
    })

    describe('confirm', () => {
      async function confirmed(one: Item, consumer: Consumer): Promise<Entry[]> {
        await enqueue(one)
        const entries = await takeSome(consumer)
        await consumer.markSaved(entries)
        return entries
      }

      test('makes an id SAVED, for a retry and for who asks; its entry is in the queue until it is settled', async () => {
        const consumer = queue.consumer('w')
        const [one] = items(1) as [Item]
        const entries = await confirmed(one, consumer)
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

      test('a message that is redriven under an id that is saved is another one, which neither step touches', async () => {
        const consumer = queue.consumer('w')
        const two = item(randomUUID(), 'two')
        await conflicting(two, consumer)
        const one = item(two.id, 'one')
        expect(await queue.enqueue([[one]])).toMatchObject([[{ status: 'QUEUED', conflicts: 1 }]])
        const entries = await takeSome(consumer)
        await consumer.markSaved(entries)
        expect(await queue.retry([two.id])).toBe(1)
        await consumer.markSaved(entries)
        await consumer.ack(entries)
        const saveState = { status: 'QUEUED', digest: two.digest, at: two.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saveState])
        const saved = { status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0 }
        expect(await queue.find([one.id], one.digest)).toEqual([saved])
        // Each of the two senders is told of its own content; a third is refused.
        expect(await queue.enqueue([[one], [two], [item(one.id, 'three')]])).toMatchObject([
          [{ ...saved, duplicate: true }],
          [{ ...saveState, duplicate: true }],
          { code: 'ID_CONFLICT' },
        ])
        expect(await takeSome(consumer)).toMatchObject([{ id: two.id, body: two.body }])
      })

      test('an entry that was confirmed comes back when its consumer closes; buried, it leaves its id SAVED', async () => {
        const [one] = items(1) as [Item]
        const dead = queue.consumer('dead')
        await confirmed(one, dead)
        await dead.close()
        const consumer = queue.consumer('w')
        const [entry] = await takeSome(consumer)
        expect(entry).toMatchObject({ id: one.id, body: one.body, deliveries: 1 })
        await consumer.deadLetter([{ entry: entry!, failure }])
        const saved = { status: 'SAVED', digest: one.digest, at: one.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saved])
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('an entry is buried as what it was, whatever its id has come to mean (FA9)', async () => {
        const consumer = queue.consumer('w')
        const two = item(randomUUID(), 'two')
        await conflicting(two, consumer)
        const one = item(two.id, 'one')
        await queue.enqueue([[one]])
        const [first] = await takeSome(consumer)
        await consumer.markSaved([first!])
        await queue.retry([one.id])
        const [second] = await takeSome(consumer)
        await consumer.ack([second!])
        await consumer.deadLetter([{ entry: first!, failure }])
        const saved = { status: 'SAVED', digest: two.digest, at: two.at, conflicts: 0 }
        expect(await queue.find([one.id])).toEqual([saved])
        const dead = { status: 'FAILED', digest: one.digest, at: one.at, conflicts: 0, failure }
        expect(await queue.find([one.id], one.digest)).toEqual([dead])
      })
    })

    describe('find', () => {
      test('answers in order; undefined for an id that is unknown', async () => {
        const consumer = queue.consumer('w')
        const [dead, settled, pending] = items(3) as [Item, Item, Item]
        await deadLettered(dead, consumer)
        await enqueue(settled)
        await consumer.ack(await takeSome(consumer))
        await enqueue(pending)
        expect(await queue.find([pending.id, randomUUID(), settled.id, '__proto__', dead.id, pending.id])).toEqual([
          { status: 'QUEUED', digest: pending.digest, at: pending.at, conflicts: 0 },
          undefined,
          { status: 'SAVED', digest: settled.digest, at: settled.at, conflicts: 0 },
          undefined,
          { status: 'FAILED', digest: dead.digest, at: dead.at, conflicts: 0, failure },
          { status: 'QUEUED', digest: pending.digest, at: pending.at, conflicts: 0 },
        ])
        expect(await queue.find([])).toEqual([])
      })

      test('a pending one wins over a saved one, that over a dead letter, and that over an ID_CONFLICT', async () => {
        const consumer = queue.consumer('w')
        const id = randomUUID()
        const contents = ['conflict', 'dead', 'saved'] as const
        const [late, dead, saved] = contents.map((content) => item(id, content)) as [Item, Item, Item]
        const find = async () => (await queue.find([id]))[0]
        await conflicting(late, consumer)
        expect(await find()).toMatchObject({ status: 'FAILED', digest: late.digest, failure: conflict, conflicts: 1 })
        await queue.enqueue([[dead]])
        const [entry] = await takeSome(consumer)
        await consumer.deadLetter([{ entry: entry!, failure }])
        expect(await find()).toMatchObject({ status: 'FAILED', digest: dead.digest, failure, conflicts: 1 })
        // The row that somebody else's conflict is with.
        await queue.retry([id])
        const [again] = await takeSome(consumer)
        await consumer.deadLetter([
          { entry: again!, failure: conflict, existing: { digest: saved.digest, at: saved.at } },
        ])
        expect(await find()).toEqual({ status: 'SAVED', digest: saved.digest, at: saved.at, conflicts: 2 })
        await queue.retry([id])
        expect(await find()).toMatchObject({ status: 'QUEUED', conflicts: 1 })
        expect(await queue.find([id], saved.digest)).toMatchObject([{ status: 'SAVED', conflicts: 1 }])
      })

      test('with a digest, tells where that content stands', async () => {
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

      test('1,000 ids, dead letters among them', async () => {
        const consumer = queue.consumer('w')
        const all = items(1_000)
        await enqueue(...all)
        const entries = await takeAll(consumer)
        await consumer.deadLetter(entries.slice(0, 500).map((entry) => ({ entry, failure })))
        const standings = await queue.find(all.map(({ id }) => id))
        expect(standings.map((saveState) => saveState?.status)).toEqual(
          all.map((_, i) => (i < 500 ? 'FAILED' : 'QUEUED')),
        )
      })
    })

    test('bury with the row that stands under the id makes the queue know it: the next conflict is refused', async () => {
      const consumer = queue.consumer('w')
      const [late, first] = [item(randomUUID(), 'late'), item('', 'first')]
      await enqueue(late)
      const [entry] = await takeSome(consumer)
      await consumer.deadLetter([{ entry: entry!, failure: conflict, existing: { digest: first.digest, at: 12_345 } }])
      expect(await queue.enqueue([[item(late.id, 'third')], [item(late.id, 'first')], [late]])).toMatchObject([
        { code: 'ID_CONFLICT' },
        [{ status: 'SAVED', at: 12_345, duplicate: true, conflicts: 1 }],
        [{ status: 'FAILED', duplicate: true, failure: { code: 'ID_CONFLICT' } }],
      ])
    })

    test('status tells depth, what is in flight, the age of the oldest, dead letters, capacity and durability', async () => {
      const consumer = queue.consumer('w')
      expect(await queue.status()).toEqual({
        depth: 0,
        inFlight: 0,
        oldestAgeMs: 0,
        deadLetters: 0,
        capacity,
        durability: 'FSYNC',
      })
      await deadLettered(item(randomUUID(), 'dead'), consumer)
      await enqueue(item(randomUUID(), 'old', 'd', Date.now() - 60_000), ...items(4))
      const entries = await takeSome(consumer, { rows: 2, bytes: 1_000_000 })
      expect(entries).toHaveLength(2)
      const status = await queue.status()
      expect(status).toMatchObject({ depth: 5, inFlight: 2, deadLetters: 1 })
      expect(status.oldestAgeMs).toBeGreaterThanOrEqual(60_000)
      expect(status.oldestAgeMs).toBeLessThan(120_000)
      await consumer.ack(entries)
      const settled = await queue.status()
      expect(settled).toMatchObject({ depth: 3, inFlight: 0 })
      expect(settled.oldestAgeMs).toBeLessThan(60_000)
    })

    describe('take', () => {
      test('oldest first, within `rows`; each entry once', async () => {
        const all = items(25)
        await enqueue(...all)
        const consumer = queue.consumer('w')
        const received: Entry[] = []
        while (received.length < 25) {
          const entries = await takeSome(consumer, { rows: 10, bytes: 1_000_000 })
          expect(entries.length).toBeLessThanOrEqual(10)
          received.push(...entries)
        }
        expect(ids(received)).toEqual(all.map(({ id }) => id))
        expect(received.map(({ body }) => body)).toEqual(all.map(({ body }) => body))
        expect(new Set(received.map(({ handle }) => handle)).size).toBe(25)
        expect(received.every(({ deliveries }) => deliveries === 1)).toBe(true)
        expect(await consumer.receive(lots, 0)).toEqual([])
      })

      test('within `bytes`, roughly; and one entry always fits', async () => {
        const all = items(20, 'x'.repeat(10_000))
        await enqueue(...all)
        const consumer = queue.consumer('w')
        const received = await takeSome(consumer, { rows: 1_000, bytes: 1 })
        expect(received).toHaveLength(1)
        while (received.length < 20) {
          const entries = await takeSome(consumer, { rows: 1_000, bytes: 35_000 })
          expect(entries.reduce((bytes, { body }) => bytes + Buffer.byteLength(body), 0)).toBeLessThanOrEqual(70_000)
          received.push(...entries)
        }
        expect(ids(received)).toEqual(all.map(({ id }) => id))
      })

      test('waits, and has a message of any connection as soon as it is accepted', async () => {
        const other = await bench.open()
        for (const accepting of [queue, other]) {
          const consumer = queue.consumer(`w-${accepting === other}`)
          const receiving = consumer.receive(lots, 30_000)
          // The question behind the take has been answered: the take is waiting by now, or nearly.
          await accepting.status()
          const since = performance.now()
          const [one] = items(1) as [Item]
          await accepting.enqueue([[one]])
          const entries = await receiving
          expect(ids(entries)).toEqual([one.id])
          expect(performance.now() - since).toBeLessThan(5_000)
          await consumer.ack(entries)
        }
      })

      test('[] when there is nothing; not so soon that a loop of takes would run hot, nor much after its time', async () => {
        const since = performance.now()
        expect(await queue.consumer('w').receive(lots, 400)).toEqual([])
        expect(performance.now() - since).toBeGreaterThan(100)
        expect(performance.now() - since).toBeLessThan(5_000)
      })

      test('two consumers on two connections never hold the same entry', async () => {
        const other = await bench.open()
        const all = items(2_000)
        await queue.enqueue([all.slice(0, 1_000)])
        await queue.enqueue([all.slice(1_000)])
        const received = await Promise.all(
          [queue.consumer('a'), other.consumer('b')].map(async (consumer) => {
            const mine: Entry[] = []
            for (;;) {
              const entries = await consumer.receive({ rows: 50, bytes: 1_000_000 }, 50)
              if (entries.length === 0) return mine
              mine.push(...entries)
            }
          }),
        )
        expect(ids(received.flat()).sort()).toEqual(all.map(({ id }) => id).sort())
      })

      test('what a consumer gave back by closing comes first, and counts as if it had not been handed out', async () => {
        const other = await bench.open()
        const all = items(5)
        await enqueue(...all.slice(0, 3))
        const a = queue.consumer('a')
        const [first] = await takeSome(a)
        await a.ack([first!])
        await enqueue(...all.slice(3))
        await a.close()
        await a.close()
        expect((await queue.status()).depth).toBe(4)
        const b = other.consumer('b')
        const received = await takeSome(b)
        received.push(...(await takeAll(b)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(all.slice(1).map(({ id }) => [id, 1]))
      })

      test('deliveries go on being counted from one dead consumer to the next; a close counts none', async () => {
        await enqueue(...items(1))
        for (let n = 1; n <= 3; n++) {
          const queue = await bench.open()
          expect(await takeSome(queue.consumer('w'))).toMatchObject([{ deliveries: n }])
        }
        for (let n = 0; n < 2; n++) {
          const consumer = (await bench.open()).consumer('w')
          expect(await takeSome(consumer)).toMatchObject([{ deliveries: 4 }])
          await consumer.close()
        }
      })

      test('what a dead consumer took goes to the next one of its name first', async () => {
        const all = items(4)
        await enqueue(...all.slice(0, 2))
        await takeSome(queue.consumer('w'))
        await enqueue(...all.slice(2))
        const next = (await bench.open()).consumer('w')
        const received = await takeSome(next)
        received.push(...(await takeAll(next)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(
          all.map(({ id }, i) => [id, i < 2 ? 2 : 1]),
        )
      })

      test('and to one of another name after a while', { timeout: 60_000 }, async () => {
        const other = await bench.open()
        const all = items(3)
        await enqueue(...all)
        await takeSome(queue.consumer('dead'))
        const alive = other.consumer('alive')
        expect(await alive.receive(lots, 0)).toEqual([])
        const received = await takeSome(alive)
        received.push(...(await takeAll(alive)))
        expect(received.map(({ id, deliveries }) => [id, deliveries])).toEqual(all.map(({ id }) => [id, 2]))
      })

      test('but not while it is held', { timeout: 60_000 }, async () => {
        const slow = queue.consumer('slow')
        const quick = (await bench.open()).consumer('quick')
        /** False where the machine stood still for as long as a hold lasts: then the entries are free, and nothing is proved. */
        const holds = async (entries: Entry[]) => {
          const until = performance.now() + bench.reclaimMs * 2.5
          while (performance.now() < until) {
            const asked = performance.now()
            await slow.extendLease(entries)
            const received = await quick.receive(lots, bench.reclaimMs / 5)
            if (performance.now() - asked >= bench.reclaimMs) return false
            expect(received).toEqual([])
          }
          return true
        }
        for (let proved = false; !proved; ) {
          await enqueue(...items(3))
          const entries = await takeSome(slow)
          proved = await holds(entries)
          await slow.ack(entries)
        }
        expect((await queue.status()).depth).toBe(0)
      })

      test('a take under way resolves when its consumer closes', async () => {
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

    describe('settle', () => {
      test('may be called twice, and with nothing', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one, ...items(1))
        const consumer = queue.consumer('w')
        const entries = await takeSome(consumer, { rows: 1, bytes: 1_000_000 })
        await consumer.ack(entries)
        await consumer.ack(entries)
        await consumer.ack([])
        await consumer.deadLetter([])
        await consumer.extendLease([])
        expect(await queue.find([one.id])).toMatchObject([{ status: 'SAVED' }])
        expect((await queue.status()).depth).toBe(1)
      })

      test('passes over what somebody else buried, and leaves a later message of the same id alone', async () => {
        const id = randomUUID()
        await enqueue(item(id, 'one'))
        const late = queue.consumer('late')
        const entries = await takeSome(late)
        await late.close()
        const other = queue.consumer('other')
        const [received] = await takeSome(other)
        await other.deadLetter([{ entry: received!, failure }])
        await queue.retry([id])
        await other.ack(entries)
        await other.deadLetter(entries.map((entry) => ({ entry, failure })))
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: item(id, 'one').digest }])
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 0 })
        expect(ids(await takeSome(other))).toEqual([id])
      })
    })

    test('attempt counts the tries of one entry, whoever makes them', async () => {
      const all = items(2)
      await enqueue(...all)
      const a = queue.consumer('a')
      const [first, second] = await takeSome(a)
      expect(await a.countAttempt(first!)).toBe(1)
      expect(await a.countAttempt(first!)).toBe(2)
      expect(await a.countAttempt(second!)).toBe(1)
      await a.close()
      const b = (await bench.open()).consumer('b')
      const again = await takeSome(b)
      expect(await b.countAttempt(again.find(({ id }) => id === all[0]!.id)!)).toBe(3)
    })

    test('forgive takes one try back, whoever counted it; never below none, and of nothing that is gone', async () => {
      await enqueue(...items(2))
      const consumer = queue.consumer('a')
      const [entry, gone] = await takeSome(consumer)
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
      test('say what and why, oldest first, page by page', async () => {
        const consumer = queue.consumer('w')
        const all = items(5)
        for (const one of all) await deadLettered(one, consumer)
        expect(await queue.status()).toMatchObject({ depth: 0, inFlight: 0, deadLetters: 5 })
        const other = await bench.open()
        const pages = []
        let after: string | undefined
        for (;;) {
          const page = await other.deadLetters(2, after)
          pages.push(page)
          if (!page.more) break
          after = page.deadLetters.at(-1)!.handle
        }
        expect(pages.map(({ deadLetters }) => deadLetters.length)).toEqual([2, 2, 1])
        const deadLetters = pages.flatMap((page) => page.deadLetters.map(({ deadLetter }) => deadLetter))
        expect(deadLetters).toEqual(all.map(({ id, body }) => ({ id, body, failure })))
        expect(await other.deadLetters(5)).toMatchObject({ more: false })
        expect(await other.deadLetters(0)).toEqual({ deadLetters: [], more: true })
      })

      test('a page of large ones ends after some 4 MB, and says that there are more', async () => {
        const consumer = queue.consumer('w')
        const all = items(6, 'x'.repeat(1_500_000))
        for (const one of all) await deadLettered(one, consumer)
        const seen: string[] = []
        for (let after: string | undefined; ; ) {
          const { deadLetters, more } = await queue.deadLetters(100, after)
          expect(deadLetters.length).toBeLessThanOrEqual(3)
          seen.push(...deadLetters.map(({ deadLetter }) => deadLetter.id))
          after = deadLetters.at(-1)?.handle
          if (!more) break
        }
        expect(seen).toEqual(all.map(({ id }) => id))
      })

      test('burying twice makes one letter; settling it afterwards changes nothing', async () => {
        const [one] = items(1) as [Item]
        await enqueue(one)
        const consumer = queue.consumer('w')
        const [entry] = (await takeSome(consumer)) as [Entry]
        await consumer.deadLetter([{ entry, failure }])
        await consumer.deadLetter([{ entry, failure }])
        await consumer.ack([entry])
        expect((await queue.deadLetters(10)).deadLetters).toHaveLength(1)
        expect(await queue.find([one.id])).toMatchObject([{ status: 'FAILED' }])
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
      })

      test('retry puts them back under the ids they had; unknown ids are passed over', async () => {
        const consumer = queue.consumer('w')
        const [a, b] = items(2) as [Item, Item]
        await deadLettered(a, consumer)
        await deadLettered(b, consumer)
        expect(await queue.retry([a.id, randomUUID()])).toBe(1)
        expect(await queue.find([a.id, b.id])).toMatchObject([
          { status: 'QUEUED', digest: a.digest, at: a.at },
          { status: 'FAILED' },
        ])
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 1 })
        const [entry] = (await takeSome(consumer)) as [Entry]
        expect(entry).toMatchObject({ id: a.id, body: a.body, deliveries: 1 })
        expect(await consumer.countAttempt(entry)).toBe(1)
        await consumer.ack([entry])
        expect(await queue.find([a.id])).toMatchObject([{ status: 'SAVED' }])
        expect(await queue.retry([])).toBe(0)
      })

      test('one id may have several; they go back one at a time, its own first', async () => {
        const consumer = queue.consumer('w')
        const own = item(randomUUID(), 'own')
        const { id } = own
        await conflicting(item(id, 'one'), consumer)
        await conflicting(item(id, 'two'), consumer)
        await deadLettered(own, consumer)
        expect((await queue.deadLetters(10)).deadLetters).toMatchObject(Array(3).fill({ deadLetter: { id } }))
        expect(await queue.find([id])).toMatchObject([{ status: 'FAILED', digest: own.digest, conflicts: 2 }])
        expect(await queue.retry([id, id])).toBe(1)
        expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: own.digest, conflicts: 2 }])
        // One of that id is pending now.
        expect(await queue.retry([id])).toBe(0)
        expect(await queue.status()).toMatchObject({ depth: 1, deadLetters: 2 })
        await consumer.ack(await takeSome(consumer))
        expect(await queue.find([id])).toMatchObject([{ status: 'SAVED', digest: own.digest, conflicts: 2 }])
        for (const left of [1, 0]) {
          expect(await queue.retry([id])).toBe(1)
          expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', conflicts: left }])
          const [entry] = await takeSome(consumer)
          await consumer.ack([entry!])
        }
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })

      test('an ID_CONFLICT that is retried while its id is SAVED becomes one again, and changes nothing', async () => {
        const consumer = queue.consumer('w')
        const late = item(randomUUID(), 'late')
        await conflicting(late, consumer)
        const first = item(late.id, 'first')
        await queue.enqueue([[first]])
        await consumer.ack(await takeSome(consumer))
        expect(await queue.retry([late.id])).toBe(1)
        const [entry] = await takeSome(consumer)
        await consumer.deadLetter([
          { entry: entry!, failure: conflict, existing: { digest: first.digest, at: first.at } },
        ])
        const saved = { status: 'SAVED', digest: first.digest, at: first.at, conflicts: 1 }
        expect(await queue.find([late.id])).toEqual([saved])
      })

      test('discard removes them, all of an id, for good', async () => {
        const consumer = queue.consumer('w')
        const id = randomUUID()
        await conflicting(item(id, 'one'), consumer)
        await conflicting(item(id, 'two'), consumer)
        await deadLettered(item(id, 'own'), consumer)
        await deadLettered(item(randomUUID(), 'three'), consumer)
        expect(await queue.discard([id, randomUUID(), id])).toBe(3)
        expect(await queue.discard([id])).toBe(0)
        expect(await queue.discard([])).toBe(0)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 1 })
        expect(await queue.find([id])).toEqual([undefined])
        await enqueue(item(id, 'one'))
      })

      test('1,200 are retried and discarded in one call', { timeout: 60_000 }, async () => {
        const consumer = queue.consumer('w')
        const all = items(1_200)
        const deadLetter = async () => {
          const entries = await takeAll(consumer)
          expect(entries).toHaveLength(1_200)
          await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
        }
        await enqueue(...all.slice(0, 600))
        await enqueue(...all.slice(600))
        await deadLetter()
        const ids = all.map(({ id }) => id)
        expect(await queue.retry(ids)).toBe(1_200)
        expect(await queue.status()).toMatchObject({ depth: 1_200, deadLetters: 0 })
        await deadLetter()
        expect(await queue.discard(ids)).toBe(1_200)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })
    })

    test('bodies come back as they were', async () => {
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
        ...contents.map((content, i) => item(randomUUID(), content, `digest-${i}`)),
        ...contents.slice(1).map((body, i): Item => ({ id: randomUUID(), digest: `raw-${i}`, at: 1, body })),
      ]
      await enqueue(...all)
      const consumer = queue.consumer('w')
      const entries = await takeAll(consumer)
      expect(entries.map(({ body }) => body)).toEqual(all.map(({ body }) => body))
      await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
      expect((await queue.deadLetters(100)).deadLetters.map(({ deadLetter }) => deadLetter.body)).toEqual(
        all.map(({ body }) => body),
      )
    })

    test('what was accepted, settled and buried is there for who opens it anew', async () => {
      const consumer = queue.consumer('w')
      const [dead, settled, pending] = items(3) as [Item, Item, Item]
      await deadLettered(dead, consumer)
      await enqueue(settled)
      await consumer.ack(await takeSome(consumer))
      await enqueue(pending)
      await queue.close()
      await queue.close()
      const again = await bench.open()
      expect(await again.find([dead.id, settled.id, pending.id])).toMatchObject([
        { status: 'FAILED' },
        { status: 'SAVED' },
        { status: 'QUEUED' },
      ])
      expect(await again.status()).toMatchObject({ depth: 1, deadLetters: 1 })
      expect(ids(await takeSome(again.consumer('w')))).toEqual([pending.id])
    })

    if (foreign) {
      test('a foreign object is taken, can be buried, and is discarded by its handle', async () => {
        await foreign(bench)
        const consumer = queue.consumer('w')
        const [entry] = (await takeSome(consumer)) as [Entry]
        expect(entry.id).toBeUndefined()
        await consumer.deadLetter([{ entry, failure: { ...failure, code: 'UNDECODABLE' } }])
        const [found] = (await queue.deadLetters(10)).deadLetters
        expect(found!.deadLetter).toMatchObject({ body: entry.body, failure: { code: 'UNDECODABLE' } })
        expect(await queue.discard([found!.deadLetter.id])).toBe(1)
        expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
      })
    }
  })
}
