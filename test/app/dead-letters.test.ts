/** Dead letters by ids and by filters, on both queues: exactly those that match are listed, counted, retried and discarded. */

import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DeadLetterFilter } from '../../src/app/dead-letter-filter.ts'
import { DeadLetters, saveIdsLimit } from '../../src/app/dead-letters.ts'
import { type Failure, SpillwayError } from '../../src/model/error.ts'
import type { Consumer, Entry, Item, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis } from '../harness/redis.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { item } from '../suites/queue.ts'

const close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.splice(0).reverse()) await closing()
})

async function redis(): Promise<Queue> {
  const queue = new RedisQueue(parseRedisUrl(freshRedisUrl()), { capacity: 100_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  return queue
}

async function sharded(): Promise<Queue> {
  const address = parseRedisUrl(freshRedisUrl())
  const log = quiet()
  const open = (shard: number) => new RedisQueue(address, { capacity: 100_000, log, shard })
  const queue = new ShardedQueue(open, { shards: 3, log })
  close.push(() => queue.close())
  await queue.whenReady(5_000)
  return queue
}

async function sqlite(): Promise<Queue> {
  const made = await testSqlite({ capacity: 100_000 })
  close.push(() => made.cleanup())
  return await made.queue()
}

const time = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second))
const undecodable = (id: string): Item => ({ id, digest: 'digest', at: 5, body: 'no message' })

describe.each([
  ['RedisQueue', redis],
  ['SqliteQueue', sqlite],
])('DeadLetters on %s', (_, make) => {
  let queue: Queue
  let consumer: Consumer
  let deadLetters: DeadLetters
  beforeEach(async () => {
    queue = await make()
    consumer = queue.consumer('w')
    deadLetters = new DeadLetters({ models, queue })
  })

  const receive = () =>
    eventually(async () => {
      const entries = await consumer.receive({ rows: 1_000, bytes: 64_000_000 }, 100)
      return entries.length > 0 && entries
    }) as Promise<Entry[]>

  /** Enqueues the items and dead-letters them, in the order in which they are given. */
  async function fail(items: readonly Item[], code: Failure['code'] = 'REJECTED', failedAt = time(0)): Promise<void> {
    expect((await queue.enqueue([items])).flat()).toMatchObject(items.map(() => ({ duplicate: false })))
    for (let left = items.length; left > 0; ) {
      const entries = await receive()
      await consumer.deadLetter(
        entries.map((entry) => ({ entry, failure: { code, message: `No, ${code}`, attempts: 1, failedAt } })),
      )
      left -= entries.length
    }
  }

  const some = (count: number) => Array.from({ length: count }, (_, n) => item(randomUUID(), `content ${n}`, 'digest'))

  /** Three kinds, mixed: REJECTED at even seconds and CRASHED at odd ones, and every fifth undecodable. */
  async function mixed(count: number): Promise<Item[]> {
    const items = some(count).map((one, n) => (n % 5 === 4 ? undecodable(one.id) : one))
    for (const [n, one] of items.entries()) {
      await fail([one], n % 5 === 4 ? 'UNDECODABLE' : n % 2 === 0 ? 'REJECTED' : 'CRASHED', time(n))
    }
    return items
  }

  const filters: [string, DeadLetterFilter, number[]][] = [
    ['nothing', {}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ['a code', { code: 'REJECTED' }, [0, 2, 6, 8, 10]],
    ['a code that none has', { code: 'GAVE_UP' }, []],
    ['a model', { model: 'Content' }, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]],
    ['a part of the reason', { reason: 'nO, CR' }, [1, 3, 5, 7, 11]],
    ['a reason that none has', { reason: 'No, CR.*' }, []],
    ['a time from which on', { failedAfter: time(9) }, [9, 10, 11]],
    ['a time before', { failedBefore: time(2) }, [0, 1]],
    ['all of it', { model: 'Content', code: 'CRASHED', failedAfter: time(3), failedBefore: time(11) }, [3, 5, 7]],
  ]

  test('lists exactly what matches, in both directions, page by page, and counts it', async () => {
    const items = await mixed(12)
    const indexOf = ({ id }: { id: string }) => items.findIndex((one) => one.id === id)
    for (const [what, filter, matching] of filters) {
      const { total, byCode, byModel } = await deadLetters.counts(filter)
      expect(total, what).toBe(matching.length)
      const kind = (n: number) => (n % 5 === 4 ? 'UNDECODABLE' : n % 2 === 0 ? 'REJECTED' : 'CRASHED')
      const counted = (of: (n: number) => unknown) =>
        [...Map.groupBy(matching, of)].map(([key, all]) => [key, all.length])
      expect(new Set(byCode.map(({ code, count }) => [code, count])), what).toEqual(new Set(counted(kind)))
      expect(new Set(byModel.map(({ model, count }) => [model, count])), what).toEqual(
        new Set(counted((n) => (n % 5 === 4 ? null : 'Content'))),
      )
      for (const counts of [byCode, byModel])
        expect(counts, what).toEqual([...counts].sort((a, b) => b.count - a.count))
      for (const newestFirst of [false, true]) {
        const wanted = newestFirst ? matching.toReversed() : matching
        for (const limit of [1, 2, 3, 100]) {
          const pages: number[][] = []
          for (let last: string | undefined; ; ) {
            const range = newestFirst ? { newestFirst, olderThan: last } : { newerThan: last }
            const page = await deadLetters.page(limit, range, filter)
            pages.push(page.deadLetters.map(indexOf))
            last = page.deadLetters.at(-1)?.handle
            if (!page.more) break
          }
          expect(pages.flat(), what).toEqual(wanted)
          // A page that is not the last one is full, and the last one is not empty.
          expect(pages.length, `pages of ${limit} for ${what}`).toBe(Math.max(1, Math.ceil(wanted.length / limit)))
        }
      }
    }
    const [, second] = (await deadLetters.page(9, {})).deadLetters
    expect(second!.save).toEqual({
      model: 'Content',
      input: { content: 'content 1' },
      acceptedAt: new Date(items[1]!.at),
    })
    expect((await deadLetters.page(1, {}, { code: 'UNDECODABLE' })).deadLetters).toMatchObject([{ save: undefined }])
  })

  test.each(filters)(
    'discards what %s matches, and nothing else, after a dry run that changed nothing',
    async (_, filter, matching) => {
      const items = await mixed(12)
      const saveIds = matching.map((n) => items[n]!.id)
      const expected = { count: matching.length, saveIds }
      expect(await deadLetters.discard({ filter }, { dryRun: true })).toEqual(expected)
      expect(await queue.status()).toMatchObject({ deadLetters: 12 })
      expect(await deadLetters.discard({ filter })).toEqual(expected)
      const left = (await queue.deadLetters(100)).deadLetters.map(({ id }) => id)
      expect(left).toEqual(items.map(({ id }) => id).filter((id) => !saveIds.includes(id)))
      expect(await deadLetters.discard({ filter })).toEqual({ count: 0, saveIds: [] })
    },
  )

  test.each(filters)(
    'retries what %s matches, and nothing else, oldest first, after a dry run',
    async (_, filter, matching) => {
      const items = await mixed(12)
      const saveIds = matching.map((n) => items[n]!.id)
      const expected = { count: matching.length, saveIds }
      expect(await deadLetters.retry({ filter }, { dryRun: true })).toEqual(expected)
      expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 12 })
      expect(await deadLetters.retry({ filter })).toEqual(expected)
      expect(await queue.status()).toMatchObject({ depth: matching.length, deadLetters: 12 - matching.length })
      const left = (await queue.deadLetters(100)).deadLetters.map(({ id }) => id)
      expect(left).toEqual(items.map(({ id }) => id).filter((id) => !saveIds.includes(id)))
      if (matching.length > 0) expect((await receive()).map(({ id }) => id)).toEqual(saveIds)
    },
  )

  test('changes only the dead letters of an id that match', async () => {
    const id = randomUUID()
    for (const n of [1, 2, 3]) await fail([item(id, 'late', `late-${n}`)], 'ID_CONFLICT', time(n))
    await fail([item(id, 'own', 'own')], 'REJECTED', time(4))
    const codes = async () => (await queue.deadLetters(10)).deadLetters.map(({ failure }) => failure.code)
    expect(await deadLetters.discard({ filter: { code: 'ID_CONFLICT', failedBefore: time(2) } })).toEqual({
      count: 1,
      saveIds: [id],
    })
    expect(await codes()).toEqual(['ID_CONFLICT', 'ID_CONFLICT', 'REJECTED'])
    // The id belongs to the content of the rejected one.
    for (const dryRun of [true, false])
      expect(await deadLetters.retry({ filter: { code: 'ID_CONFLICT' } }, { dryRun })).toMatchObject({ count: 0 })
    for (const dryRun of [true, false])
      expect(await deadLetters.retry({ filter: {} }, { dryRun })).toEqual({ count: 1, saveIds: [id] })
    expect(await codes()).toEqual(['ID_CONFLICT', 'ID_CONFLICT'])
    expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: 'own' }])
    expect(await deadLetters.discard({ filter: { code: 'ID_CONFLICT' } })).toEqual({ count: 2, saveIds: [id] })
    expect(await queue.find([id])).toMatchObject([{ status: 'QUEUED', digest: 'own' }])
  })

  test('retries by ids one dead letter of each, and discards all of each', async () => {
    const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()]
    for (let n = 100; n < 350; n++) await fail([item(a, 'late', `late-${n}`)], 'ID_CONFLICT')
    await fail([item(b, 'b')])
    const ids = [a, b, c, a]
    expect(await deadLetters.discard({ ids: [a, c] }, { dryRun: true })).toEqual({ count: 250, saveIds: [a] })
    for (const dryRun of [true, false])
      expect(await deadLetters.retry({ ids }, { dryRun })).toEqual({ count: 2, saveIds: [a, b] })
    expect(await deadLetters.retry({ ids })).toEqual({ count: 0, saveIds: [] })
    expect(await deadLetters.discard({ ids })).toEqual({ count: 249, saveIds: [a] })
    expect(await queue.status()).toMatchObject({ depth: 2, deadLetters: 0 })
  })

  test('finds the dead letters of an id, those without ID_CONFLICT first, and at most twenty', async () => {
    const [id, other] = [randomUUID(), randomUUID()]
    await fail(some(1))
    for (let n = 100; n < 125; n++) await fail([item(id, 'late', `late-${n}`)], 'ID_CONFLICT', time(n - 100))
    await fail([item(id, 'own', 'own')], 'REJECTED', time(59))
    const { count, deadLetters: found } = await deadLetters.of(id)
    expect([count, found.length]).toEqual([26, 20])
    expect(found.map(({ failure }) => failure.code)).toEqual(['REJECTED', ...Array(19).fill('ID_CONFLICT')])
    expect(found[0]).toMatchObject({ id, save: { input: { content: 'own' } }, failure: { failedAt: time(59) } })
    const listed = await queue.deadLetters(100)
    for (const { handle, save: _, ...rest } of found)
      expect(listed.deadLetters.find((one) => one.handle === handle)).toMatchObject({ handle, ...rest })
    for (const unknown of [other, 'x', '5', '5-5', '99/5-5', ''])
      expect(await deadLetters.of(unknown), unknown).toEqual({ count: 0, deadLetters: [] })
  })

  test('logs each retry and discard with its subject, count and first ids, and no part of a content', async () => {
    const lines: [fields: Record<string, unknown>, message: string][] = []
    const info = (fields: object, message: string) => void lines.push([fields as Record<string, unknown>, message])
    const logged = new DeadLetters({ models, queue, log: { info, warn: info, error: info } })
    const items = some(30)
    await fail(items)
    const by = 'ann'
    const filter = { reason: 'rejected', model: 'Content' }
    await logged.discard({ filter }, { dryRun: true, by })
    await logged.retry({ ids: [items[0]!.id] }, { dryRun: true, by })
    await expect(logged.retry({ filter: { code: 'x' } }, { by })).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
    expect(lines).toEqual([])
    await logged.retry({ ids: [items[0]!.id, randomUUID()] }, { by })
    await logged.discard({ filter }, { by })
    const ids = items.map(({ id }) => id)
    expect(lines).toEqual([
      [{ subject: by, count: 1, saveIds: ids.slice(0, 1), code: undefined }, 'dead letters were retried'],
      [
        {
          subject: by,
          filter: { model: 'Content', reason: 'left out' },
          count: 29,
          saveIds: expect.arrayContaining([expect.any(String)]),
          code: undefined,
        },
        'dead letters were discarded',
      ],
    ])
    expect(lines[1]![0].saveIds).toHaveLength(20)
  })

  test('edits a dead letter of an id with an ID_CONFLICT, and logs who, which and which columns, and no part of a content', async () => {
    const lines: [fields: object, message: string][] = []
    const info = (fields: object, message: string) => void lines.push([fields, message])
    const logged = new DeadLetters({ models, queue, log: { info, warn: info, error: info } })
    const [one, late] = [item(randomUUID(), 'one', 'one', 5), 'late'] as const
    const { id } = one
    await fail([item(id, late, late)], 'ID_CONFLICT')
    await fail([one])
    const ann = { subject: 'ann', scopes: new Set<string>(), expiresAt: undefined, claims: {} }
    const edit = (content: string) => logged.edit({ id, input: { content } }, ann)
    const gone = { code: 'NOT_FOUND', message: expect.stringContaining('may have been edited, retried or discarded') }
    await expect(logged.edit({ id: randomUUID(), input: {} }, ann)).rejects.toMatchObject(gone)
    expect(lines).toEqual([])
    const [first, second] = await Promise.allSettled([edit('edited'), edit('edited')])
    const [receipt, lost] = first.status === 'fulfilled' ? [first, second] : [second, first]
    expect(receipt).toMatchObject({
      value: { id, status: 'QUEUED', duplicate: false, acceptedAt: new Date(5), conflicts: 1 },
    })
    // The ID_CONFLICT is left: where the second edit finds that one, the id is pending.
    expect(lost).toMatchObject({ reason: { code: expect.stringMatching(/^(NOT_FOUND|ID_CONFLICT)$/) } })
    const fields = { subject: 'ann', saveId: id, model: 'Content', columns: ['content'] }
    expect(lines).toEqual([[fields, 'an operator edited a dead letter']])
    const [entry] = await receive()
    expect(JSON.parse(entry!.body)).toEqual({ v: 2, model: 'Content', id, at: 5, data: { content: 'edited' } })
    await consumer.deadLetter([
      { entry: entry!, failure: { code: 'REJECTED', message: 'No', attempts: 1, failedAt: time(1) } },
    ])
    await edit('edited')
    expect(lines[1]).toEqual([{ ...fields, columns: [] }, 'an operator edited a dead letter'])
  })

  test('edits no dead letter that cannot be decoded, or of an id with several of a kind', async () => {
    const [odd, id] = [randomUUID(), randomUUID()]
    await fail([undecodable(odd)], 'UNDECODABLE')
    const grant = { subject: undefined, scopes: new Set<string>(), expiresAt: undefined, claims: {} }
    const edit = (id: string) => deadLetters.edit({ id, input: { content: 'x' } }, grant)
    await expect(edit(odd)).rejects.toMatchObject({
      code: 'BAD_USER_INPUT',
      message: expect.stringMatching(
        /cannot be edited, because this release cannot decode it: the message is not JSON/,
      ),
    })
    await fail([{ ...item(randomUUID(), 'of another id'), id }], 'UNDECODABLE')
    await expect(edit(id)).rejects.toMatchObject({ message: expect.stringContaining('the message has another id') })
    await deadLetters.discard({ ids: [id] })
    for (const content of ['one', 'two']) await fail([item(id, content, content)], 'ID_CONFLICT')
    await expect(edit(id)).rejects.toMatchObject({
      code: 'BAD_USER_INPUT',
      message: expect.stringMatching(/has 2 dead letters.*Discard the others, by a filter/),
    })
    expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 3 })
    await deadLetters.discard({ filter: { failedAfter: time(0), code: 'ID_CONFLICT' } })
    await fail([item(id, 'one', 'one')], 'ID_CONFLICT')
    expect(await edit(id)).toMatchObject({ status: 'QUEUED', conflicts: 0 })
  })

  test('touches nothing twice in a run: what fails again meanwhile stays as it is, and what is added meanwhile, too', {
    timeout: 60_000,
  }, async () => {
    const items = some(450)
    await fail(items)
    let steps = 0
    // Between two steps, all that was retried fails again, and another message fails.
    const between = async () => {
      if (steps++ === 0) return
      await queue.enqueue([some(1)])
      const entries = await receive()
      await consumer.deadLetter(
        entries.map((entry) => ({
          entry,
          failure: { code: 'REJECTED', message: 'again', attempts: 1, failedAt: time(9) },
        })),
      )
    }
    const disturbed = new DeadLetters({ models, queue, within: (_, read) => between().then(read) })
    expect((await disturbed.retry({ filter: { code: 'REJECTED' } })).count).toBe(450)
    expect(steps).toBeGreaterThanOrEqual(5)
    const added = steps - 1
    const { depth, deadLetters: left } = await queue.status()
    expect(depth + left).toBe(450 + added)
    steps = 0
    expect((await disturbed.discard({ filter: { code: 'REJECTED' } })).count).toBe(left)
    expect(await queue.status()).toMatchObject({ deadLetters: depth + steps - 1 })
  })

  test('returns 1,000 ids at most, and the count of all', { timeout: 60_000 }, async () => {
    const items = some(1_000)
    const more = some(200)
    await fail(items)
    await fail(more)
    const filter = { model: 'Content' }
    const { count, saveIds } = await deadLetters.retry({ filter }, { dryRun: true })
    expect([count, saveIds]).toEqual([1_200, items.map(({ id }) => id)])
    expect(saveIds).toHaveLength(saveIdsLimit)
    expect(await deadLetters.discard({ filter })).toEqual({ count, saveIds })
  })

  test('rejects with OUTCOME_UNKNOWN and the number done when a later step fails, and does the rest when repeated', async () => {
    await fail(some(350))
    let steps = 0
    const failing = new DeadLetters({
      models,
      queue,
      within: (_, read) => {
        if (++steps === 4) throw new SpillwayError('OVERLOADED', 'no memory', { retryAfterMs: 5 })
        return read()
      },
    })
    await expect(failing.discard({ filter: { code: 'REJECTED' } })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      message: expect.stringMatching(/^200 dead letters are done; .* OVERLOADED/),
      retryAfterMs: 5,
    })
    expect(await queue.status()).toMatchObject({ deadLetters: 150 })
    expect((await failing.discard({ filter: { code: 'REJECTED' } })).count).toBe(150)
  })

  test('bounds the bytes of a page and of a step, and lists, retries and discards all', {
    timeout: 60_000,
  }, async () => {
    const items = Array.from({ length: 7 }, (_, n) => item(randomUUID(), 'x'.repeat(1_500_000), `digest-${n}`))
    for (const one of items) await fail([one])
    const pages: number[] = []
    const filter = { model: 'Content' }
    for (let olderThan: string | undefined; ; ) {
      const page = await deadLetters.page(100, { newestFirst: true, olderThan }, filter)
      pages.push(page.deadLetters.length)
      olderThan = page.deadLetters.at(-1)!.handle
      if (!page.more) break
    }
    expect(Math.max(...pages)).toBeLessThanOrEqual(3)
    expect(pages.reduce((sum, size) => sum + size, 0)).toBe(7)
    const ids = items.map(({ id }) => id)
    expect(await deadLetters.retry({ ids: ids.slice(0, 5) })).toEqual({ count: 5, saveIds: ids.slice(0, 5) })
    expect(await deadLetters.retry({ filter })).toEqual({ count: 2, saveIds: ids.slice(5) })
    for (let left = 7; left > 0; ) {
      const entries = await receive()
      await consumer.deadLetter(
        entries.map((entry) => ({
          entry,
          failure: { code: 'REJECTED', message: 'no', attempts: 1, failedAt: time(0) },
        })),
      )
      left -= entries.length
    }
    expect((await deadLetters.discard({ ids: ids.slice(0, 5) })).count).toBe(5)
    expect((await deadLetters.discard({ filter })).count).toBe(2)
    expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
  })

  test.each<[string, DeadLetterFilter, RegExp]>([
    ['a model that there is not', { model: 'content' }, /^model must be one of Content, got "content"$/],
    ['a code that there is not', { code: 'rejected' }, /^code must be one of ID_CONFLICT, .*, got "rejected"$/],
    ['a blank reason', { reason: ' ' }, /^reason must not be blank/],
    ['a long reason', { reason: 'x'.repeat(201) }, /^reason must have at most 200 characters, got 201$/],
    ['a long code', { code: 'x'.repeat(1_000) }, /^.{1,200}$/],
    [
      'times the wrong way round',
      { failedAfter: time(2), failedBefore: time(1) },
      /^failedAfter must be before failedBefore/,
    ],
    ['equal times', { failedAfter: time(2), failedBefore: time(2) }, /^failedAfter must be before failedBefore/],
  ])('refuses a filter with %s', async (_, filter, message) => {
    const refused = { code: 'BAD_USER_INPUT', message: expect.stringMatching(message) }
    await expect(deadLetters.counts(filter)).rejects.toMatchObject(refused)
    await expect(deadLetters.page(1, {}, filter)).rejects.toMatchObject(refused)
    await expect(deadLetters.retry({ filter })).rejects.toMatchObject(refused)
    await expect(deadLetters.discard({ filter }, { dryRun: true })).rejects.toMatchObject(refused)
  })
})

test('DeadLetters on three shards lists, counts, finds, retries and discards exactly what matches', async () => {
  const queue = await sharded()
  const deadLetters = new DeadLetters({ models, queue })
  const consumer = queue.consumer('w')
  const ids = Array.from({ length: 60 }, () => randomUUID() as string)
  await queue.enqueue(ids.map((id) => [item(id, `content of ${id}`, 'digest')]))
  const codeOf = (id: string) => (ids.indexOf(id) % 3 === 0 ? 'CRASHED' : 'REJECTED')
  let failed = 0
  await eventually(async () => {
    const entries = await consumer.receive({ rows: 1_000, bytes: 64_000_000 }, 100)
    failed += entries.length
    await consumer.deadLetter(
      entries.map((entry) => {
        const code = codeOf(entry.id!)
        return { entry, failure: { code, message: `No, ${code}`, attempts: 1, failedAt: time(0) } }
      }),
    )
    return failed === ids.length
  })
  const crashed = ids.filter((id) => codeOf(id) === 'CRASHED').sort()
  const filter = { reason: 'crashed' }
  const listed: string[] = []
  for (let olderThan: string | undefined, more = true; more; ) {
    const page = await deadLetters.page(7, { newestFirst: true, olderThan }, filter)
    listed.push(...page.deadLetters.map(({ id }) => id))
    olderThan = page.deadLetters.at(-1)?.handle
    more = page.more
  }
  expect(listed.toSorted()).toEqual(crashed)
  expect(await deadLetters.counts()).toEqual({
    total: 60,
    byCode: [
      { code: 'REJECTED', count: 40 },
      { code: 'CRASHED', count: 20 },
    ],
    byModel: [{ model: 'Content', count: 60 }],
  })
  for (const id of ids)
    expect(await deadLetters.of(id)).toMatchObject({ count: 1, deadLetters: [{ id, failure: { code: codeOf(id) } }] })
  for (const unknown of [randomUUID(), '5-5', '2/5-5', '99/5-5', 'x'])
    expect(await deadLetters.of(unknown), unknown).toEqual({ count: 0, deadLetters: [] })
  for (const dryRun of [true, false]) {
    const { count, saveIds } = await deadLetters.discard({ filter }, { dryRun })
    expect([count, saveIds.toSorted()]).toEqual([20, crashed])
  }
  expect((await deadLetters.retry({ filter: { reason: 'NO' } })).count).toBe(40)
  expect(await queue.status()).toMatchObject({ depth: 40, deadLetters: 0 })
})

test('DeadLetters on RedisQueue loses and doubles nothing when replies are lost during runs that are then repeated', {
  timeout: 120_000,
}, async () => {
  const url = freshRedisUrl()
  const proxy = await startProxy(url)
  const queue = new RedisQueue(parseRedisUrl(proxy.url(url)), { capacity: 100_000, log: quiet() })
  close.push(
    () => proxy.close(),
    () => queue.close(),
  )
  await queue.connection.whenReady(5_000)
  const deadLetters = new DeadLetters({ models, queue })
  const consumer = queue.consumer('w')
  const ids = Array.from({ length: 2_000 }, () => randomUUID() as string)
  const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: time(0) }
  const receiveAll = async () => {
    const entries: Entry[] = []
    await eventually(
      async () => {
        entries.push(...(await consumer.receive({ rows: 1_000, bytes: 64_000_000 }, 100)))
        return entries.length >= ids.length
      },
      { timeoutMs: 30_000 },
    )
    return entries
  }
  await queue.enqueue([ids.map((id) => item(id, `content of ${id}`, 'digest'))])
  await consumer.deadLetter((await receiveAll()).map((entry) => ({ entry, failure })))
  const filter = { model: 'Content' }

  /** Repeats it until it succeeds; of each run but the last, the server executes a step whose reply is lost. */
  const repeated = async (how: 'retry' | 'discard') => {
    let count = 0
    for (const lost of [2, 3, 5, 4]) {
      let scripts = 0
      const when = (request: Buffer) => request.includes('evalsha') && ++scripts === lost
      proxy.set({ kind: 'cut-before-reply', times: 1, when })
      const error = (await deadLetters[how]({ filter }).catch((error: unknown) => error)) as SpillwayError
      expect(error).toMatchObject({ code: expect.stringMatching(/OUTCOME_UNKNOWN|QUEUE_UNAVAILABLE/) })
      count += Number(/^\d+/.exec(error.message)?.[0] ?? 0)
      await queue.connection.whenReady(10_000)
    }
    return count + (await deadLetters[how]({ filter })).count
  }
  expect(await repeated('retry')).toBeLessThanOrEqual(ids.length)
  expect(await queue.status()).toMatchObject({ depth: ids.length, deadLetters: 0 })
  const entries = await receiveAll()
  expect(entries.map(({ id }) => id).sort()).toEqual(ids.toSorted())
  await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
  // An edit whose reply is lost is done once, too.
  const [{ id, handle } = { id: '', handle: '' }] = (await queue.deadLetters(1)).deadLetters
  const grant = { subject: undefined, scopes: new Set<string>(), expiresAt: undefined, claims: {} }
  const edit = () => deadLetters.edit({ id, input: { content: 'edited' } }, grant)
  proxy.set({
    kind: 'cut-before-reply',
    times: 1,
    when: (request: Buffer) => request.includes(handle) && request.includes('eval'),
  })
  await expect(edit()).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' })
  await queue.connection.whenReady(10_000)
  await expect(edit()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  const edited = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 5_000)
  expect(edited).toMatchObject([{ id, body: expect.stringContaining('"edited"') }])
  await consumer.deadLetter(edited.map((entry) => ({ entry, failure })))
  expect(await repeated('discard')).toBeLessThanOrEqual(ids.length)
  expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 })
})

test('DeadLetters.retry says how many are done and to repeat it when Redis is restarted in its midst, and the repetition loses and doubles nothing', async () => {
  const server = await startRedis()
  close.push(() => server.stop())
  const queue = new RedisQueue(parseRedisUrl(server.url), { capacity: 100_000, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  const consumer = queue.consumer('w')
  const ids = Array.from({ length: 450 }, () => randomUUID() as string)
  await queue.enqueue([ids.map((id) => item(id, 'content', 'digest'))])
  const receive = async (): Promise<Entry[]> => {
    const entries: Entry[] = []
    await eventually(async () => {
      entries.push(...(await consumer.receive({ rows: 1_000, bytes: 64_000_000 }, 100)))
      return entries.length >= ids.length
    })
    return entries
  }
  const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: time(0) }
  await consumer.deadLetter((await receive()).map((entry) => ({ entry, failure })))
  let pages = 0
  let restarting = Promise.resolve()
  const within = async <T>(_: number, read: () => Promise<T>): Promise<T> => {
    const page = await read()
    pages += 1
    // The page of the newest one, and two steps: the third is under way.
    if (pages === 4) restarting = server.stop('SIGKILL').then(() => server.restart())
    return page
  }
  const filter = { code: 'REJECTED' }
  const error = await new DeadLetters({ models, queue, within }).retry({ filter }).catch((reason) => reason)
  expect(error).toMatchObject({
    code: 'OUTCOME_UNKNOWN',
    message: expect.stringMatching(/^[23]00 dead letters are done; .*Repeat the call for the others\.$/),
  })
  await restarting
  await eventually(() => queue.connection.ready)
  const left = ids.length - Number.parseInt(error.message, 10)
  // The step under way may have been done, without an answer.
  expect([left, left - 100]).toContain((await new DeadLetters({ models, queue }).retry({ filter })).count)
  expect(await queue.status()).toMatchObject({ depth: ids.length, deadLetters: 0 })
  expect((await receive()).map(({ id }) => id).sort()).toEqual(ids.toSorted())
})
