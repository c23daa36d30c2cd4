/** Rolling upgrades: a worker of an older release and messages that only a newer one can decode, on the real queues. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import { PrismaStore } from '../../src/db/prisma.ts'
import type { EventLog } from '../../src/events/events.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import type { Model, Models } from '../../src/model/model.ts'
import type { Item, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { NewerEntries } from '../../worker/newer.ts'
import { Worker } from '../../worker/worker.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { type Library, libraryTables, openLibrary } from '../harness/library.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { statusOf } from '../harness/states.ts'

const leaseMs = 1_000
const retention = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }

interface Parts {
  queue: Queue
  events: EventLog
  cleanup(): Promise<unknown>
}

async function redisParts(models: Models): Promise<Parts> {
  const address = parseRedisUrl(freshRedisUrl())
  const queue = new RedisQueue(address, { capacity: 10_000, log: quiet(), reclaimMs: leaseMs })
  const events = new RedisEventLog(address, { ...retention, models, log: quiet() })
  await holds(() => Promise.all([queue.status(), events.tail()]))
  return { queue, events, cleanup: () => Promise.all([queue.close(), events.close()]) }
}

async function sqliteParts(models: Models): Promise<Parts> {
  const sqlite = await testSqlite({ leaseMs })
  const events = new SqliteEventLog((await sqlite.file()).connect(), { models })
  return {
    queue: await sqlite.queue(),
    events,
    async cleanup() {
      await events.close()
      await sqlite.cleanup()
    },
  }
}

let library: Library
beforeAll(async () => {
  library = await openLibrary()
}, 120_000)
afterAll(() => library?.[Symbol.asyncDispose]())

const older = (names: string[] = ['Author']): Models =>
  new Map([...library.models].filter(([name]) => names.includes(name)))
const waits = (log: ReturnType<typeof quiet>) =>
  holds(() => expect(log.said.join()).toContain('wait for a worker of a newer release'))
const items = (name: 'Loan' | 'Author', n: number) => Array.from({ length: n }, () => library.item(name))

/** A queue, an events log and a database of a test's own, which are closed when it is done. */
async function open(make: (models: Models) => Promise<Parts>, { onTestFinished }: TestContext) {
  const { models, clients } = library
  const parts = await make(models)
  const database = await freshDatabase()
  const store = await PrismaStore.open({ url: database.url, concurrency: 2, models, clients, log: quiet() })
  const closers: (() => Promise<unknown>)[] = [() => parts.cleanup(), () => store.close()]
  onTestFinished(async () => {
    for (const close of closers.reverse()) await close()
  })
  await store.prepare(AbortSignal.timeout(30_000))
  for (const statement of libraryTables('mysql')) await database.sql(statement)

  function start(models: Models, deadLetterAfterMs: number) {
    const log = quiet()
    const worker = new Worker(
      {
        consumer: parts.queue.consumer(`w-${randomUUID()}`),
        store,
        cache: { invalidate: async () => {} },
        events: parts.events,
      },
      {
        models,
        batch: 100,
        concurrency: 1,
        maxAttempts: 2,
        cacheTtlMs: 1_000,
        log,
        deadLetterAfterMs,
        extendLeaseEveryMs: 300,
      },
    )
    worker.start()
    closers.push(() => worker.stop())
    return { worker, log }
  }
  const enqueue = async (items: readonly Item[]) => void (await parts.queue.enqueue(items.map((one) => [one])))
  const statuses = async (items: readonly Item[]) => [
    ...new Set((await parts.queue.find(items.map(({ id }) => id))).map(statusOf)),
  ]
  return { parts, database, start, enqueue, statuses }
}

// All at once: they wait for leases to end.
describe.concurrent.each([
  ['Redis', redisParts],
  ['SQLite', sqliteParts],
] as const)('A worker of an older release on %s', (_, make) => {
  test('hands messages of an unknown model back, goes on saving others, and a newer worker saves them once', async (context) => {
    const { parts, database, start, enqueue, statuses } = await open(make, context)
    const [loans, authors] = [items('Loan', 30), items('Author', 30)]
    const { log } = start(older(), 600_000)
    await enqueue(loans.flatMap((loan, i) => [loan, authors[i]!]))
    await waits(log)
    await holds(async () => expect(await statuses(authors)).toEqual(['SAVED']))
    expect(await statuses(loans)).toEqual(['QUEUED'])
    start(library.models, 600_000)
    await holds(async () => expect(await statuses(loans)).toEqual(['SAVED']), { timeoutMs: 40_000 })
    const [row] = await database.sql('SELECT COUNT(*) AS n FROM Loan')
    expect(Number(row!.n)).toBe(30)
    await holds(async () => expect(await parts.queue.status()).toMatchObject({ depth: 0, deadLetters: 0 }))
  })

  test('hands messages with an unknown column back, and a newer worker saves them', async (context) => {
    const { start, enqueue, statuses } = await open(make, context)
    const loan = library.model('Loan')
    const narrower: Model = { ...loan, columns: loan.columns.filter(({ name }) => name !== 'name') }
    const [one] = items('Loan', 1) as [Item]
    const { log } = start(new Map([['Loan', narrower]]), 600_000)
    await enqueue([one])
    await waits(log)
    expect(await statuses([one])).toEqual(['QUEUED'])
    start(library.models, 600_000)
    await holds(async () => expect(await statuses([one])).toEqual(['SAVED']), { timeoutMs: 40_000 })
  })

  test('dead-letters a message that no worker can decode, and only after its time', async (context) => {
    const { parts, start, enqueue, statuses } = await open(make, context)
    const since = performance.now()
    const loans = items('Loan', 5)
    start(older(), 4_000)
    start(older(), 4_000)
    await enqueue(loans)
    await holds(async () => expect(await statuses(loans)).toEqual(['FAILED']), { timeoutMs: 40_000 })
    expect(performance.now() - since).toBeGreaterThan(4_000)
    const [state] = await parts.queue.find([loans[0]!.id])
    expect(state).toMatchObject({ failure: { code: 'UNDECODABLE', message: expect.stringContaining('"Loan"') } })
    expect((await parts.queue.status()).deadLetters).toBe(5)
  })

  test('dead-letters no message that a newer worker is saving, however long that takes', async (context) => {
    const { parts, database, start, enqueue, statuses } = await open(make, context)
    // Both workers compete for them, once a lease: long enough for the newer one to be first some time.
    const deadLetterAfterMs = 12_000
    const loans = items('Loan', 5)
    const { log } = start(older(), deadLetterAfterMs)
    await enqueue(loans)
    await waits(log)
    await database.sql('RENAME TABLE Loan TO Elsewhere')
    // It receives them when their lease has ended, and waits for the table.
    const newer = start(library.models, 600_000)
    await holds(() => expect(newer.log.said.join()).toContain('the database takes no rows'), { timeoutMs: 40_000 })
    // The test is about the time: that of the older worker is over.
    await new Promise((resolve) => setTimeout(resolve, deadLetterAfterMs + 2_000))
    expect(await statuses(loans)).toEqual(['QUEUED'])
    await database.sql('RENAME TABLE Elsewhere TO Loan')
    await holds(async () => expect(await statuses(loans)).toEqual(['SAVED']), { timeoutMs: 40_000 })
    expect((await parts.queue.status()).deadLetters).toBe(0)
  })

  test('hands a message back also while the table of its own model takes no rows', async (context) => {
    const { database, start, enqueue, statuses } = await open(make, context)
    await database.sql('RENAME TABLE Author TO Elsewhere')
    const [loans, authors] = [items('Loan', 5), items('Author', 5)]
    const { log } = start(older(), 600_000)
    await enqueue(authors)
    await holds(() => expect(log.said.join()).toContain('the database takes no rows'))
    await enqueue(loans)
    await waits(log)
    // Long enough for the older worker to receive them again.
    await new Promise((resolve) => setTimeout(resolve, 3 * leaseMs))
    start(library.models, 600_000)
    await holds(async () => expect(await statuses(loans)).toEqual(['SAVED']), { timeoutMs: 40_000 })
    expect(await statuses(authors)).toEqual(['QUEUED'])
    await database.sql('RENAME TABLE Elsewhere TO Author')
    await holds(async () => expect(await statuses(authors)).toEqual(['SAVED']), { timeoutMs: 40_000 })
  })
})

describe('NewerEntries', () => {
  const entry = (handle: number) => ({ handle: String(handle), id: undefined, body: 'x', deliveries: 2 })
  const received = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({ entry: entry(from + i), problem: 'of a newer release' }))

  test('remembers a bounded number of entries, and returns each of the others to be released', () => {
    const newer = new NewerEntries({ log: quiet(), deadLetterAfterMs: 0 })
    const waiting = new NewerEntries({ log: quiet() })
    for (let from = 0; from < 60_000; from += 1_000)
      expect(waiting.add(received(from, 1_000))).toMatchObject({ due: [], released: { length: 1_000 } })
    expect(waiting.has(entry(49_999))).toBe(true)
    expect(waiting.has(entry(50_000))).toBe(false)
    expect(newer.add(received(0, 1)).due).toHaveLength(1)
  })

  test('returns the dead letter of an entry at the first delivery after its time', async () => {
    const newer = new NewerEntries({ log: quiet(), deadLetterAfterMs: 200 })
    const since = performance.now()
    let due: unknown[] = []
    while (due.length === 0) {
      due = newer.add(received(0, 1)).due
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    expect(performance.now() - since).toBeGreaterThanOrEqual(200)
    expect(due).toMatchObject([{ entry: entry(0), failure: { code: 'UNDECODABLE', message: 'of a newer release' } }])
    expect(newer.has(entry(0))).toBe(false)
  })
})
