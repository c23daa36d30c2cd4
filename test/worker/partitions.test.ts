/** P12: a worker with several models on one database. One table in trouble does not hold up the rows of the others; foreign keys work. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import { PrismaStore } from '../../src/db/prisma.ts'
import type { Writer } from '../../src/db/store.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import type { Item } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Worker, type WorkerOptions } from '../../worker/worker.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { type Library, type LibraryName, libraryTables, openLibrary } from '../harness/library.ts'
import { connect, startMariadb, type TestMariadb } from '../harness/mariadb.ts'
import { quiet } from '../harness/quiet.ts'

let library: Library
let server: TestMariadb
beforeAll(async () => {
  ;[library, server] = await Promise.all([openLibrary(), startMariadb()])
  // REVOKE and read_only stop this user, unlike root.
  await server.sql("CREATE USER app@'%'")
}, 120_000)
afterAll(async () => {
  await library?.[Symbol.asyncDispose]()
  await server?.cleanup()
})

const tableNames: readonly LibraryName[] = ['Author', 'Book', 'Chapter', 'Loan', 'Egg', 'Hen']
let databases = 0
/** A database, a queue and an events log of their own, which are closed after the test. */
async function open({ onTestFinished }: TestContext) {
  const closers: (() => Promise<unknown>)[] = []
  onTestFinished(async () => {
    for (const close of closers.reverse()) await close()
  })
  const name = `lanes_${++databases}`
  await server.createDatabase(name)
  const sql = (statement: string) => server.sql(statement, name)
  const { models, clients } = library
  const log = quiet()
  const root = await PrismaStore.open({ url: `${server.url}${name}`, concurrency: 1, models, clients, log: quiet() })
  await root.prepare(AbortSignal.timeout(30_000))
  await root.close()
  for (const statement of libraryTables('mysql')) await sql(statement)
  await sql(`GRANT SELECT ON ${name}.* TO app@'%'`)
  for (const table of tableNames) await sql(`GRANT INSERT ON ${name}.${table} TO app@'%'`)
  const url = `mysql://app@127.0.0.1:${server.port}/${name}`
  const store = await PrismaStore.open({ url, concurrency: 2, models, clients, log })
  await store.prepare(AbortSignal.timeout(30_000))
  const address = parseRedisUrl(freshRedisUrl())
  const queue = new RedisQueue(address, { capacity: 100_000, log })
  const events = new RedisEventLog(address, { retentionMs: 3_600_000, retentionBytes: 268_435_456, models, log })
  await holds(() => Promise.all([queue.status(), events.tail()]))
  closers.push(
    () => queue.close(),
    () => events.close(),
    () => store.close(),
  )

  function startWorker(options: Partial<WorkerOptions> = {}) {
    const { writer, statements } = counted(store)
    const worker = new Worker(
      { consumer: queue.consumer(`w-${randomUUID()}`), store: writer, cache: { invalidate: async () => {} }, events },
      { models, batch: 10, concurrency: 1, maxAttempts: 2, cacheTtlMs: 1_000, log, ...options },
    )
    worker.start()
    closers.push(() => worker.stop())
    return { worker, statements }
  }
  const enqueue = async (...items: Item[]) => {
    for (const reply of await queue.enqueue(items.map((one) => [one]))) expect(reply).toHaveLength(1)
  }
  const statuses = async (items: readonly Item[]) =>
    (await queue.find(items.map(({ id }) => id))).map((state) => state?.status)
  const areSaved = (items: readonly Item[], timeoutMs = 30_000) =>
    holds(async () => expect(new Set(await statuses(items))).toEqual(new Set(['SAVED'])), { timeoutMs })
  const count = async (table: LibraryName) => Number((await sql(`SELECT COUNT(*) AS n FROM ${table}`))[0]!.n)

  /** Milliseconds from enqueueing to SAVED, of one save after the other, until `ms` have passed. */
  async function delays(table: LibraryName, ms: number): Promise<number[]> {
    const measured: number[] = []
    const until = performance.now() + ms
    while (performance.now() < until) {
      const one = library.item(table)
      const since = performance.now()
      await enqueue(one)
      await areSaved([one])
      measured.push(performance.now() - since)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return measured
  }

  return { name, sql, log, queue, events, startWorker, enqueue, statuses, areSaved, count, delays }
}
type Opened = Awaited<ReturnType<typeof open>>

/** The store, with an account of the statements that run at once. */
function counted(store: Writer) {
  const statements = { running: 0, most: 0, inserts: [] as { model: string; rows: number }[] }
  const count = async <T>(act: () => Promise<T>): Promise<T> => {
    statements.running += 1
    statements.most = Math.max(statements.most, statements.running)
    try {
      return await act()
    } finally {
      statements.running -= 1
    }
  }
  const writer: Writer = {
    limits: (model) => store.limits(model),
    existing: (model, ids) => count(() => store.existing(model, ids)),
    probe: (model) => count(() => store.probe(model)),
    insert: (model, rows) => {
      statements.inserts.push({ model: model.name, rows: rows.length })
      return count(() => store.insert(model, rows))
    },
  }
  return { writer, statements }
}

const items = (table: LibraryName, n: number) => Array.from({ length: n }, () => library.item(table))

interface Trouble {
  is: string
  /** How long a statement may wait before it fails. */
  failsAfterMs: number
  make(opened: Opened): Promise<() => Promise<unknown>>
}

const troubles: Trouble[] = [
  {
    is: 'locked by another session',
    failsAfterMs: 5_000,
    async make({ name }) {
      const other = await connect(server.url, { database: name })
      await other.query('LOCK TABLES Author WRITE')
      return () => other.end()
    },
  },
  {
    is: 'missing',
    failsAfterMs: 0,
    async make({ sql }) {
      await sql('RENAME TABLE Author TO Elsewhere')
      return () => sql('RENAME TABLE Elsewhere TO Author')
    },
  },
  {
    is: 'read-only for its user',
    failsAfterMs: 0,
    async make({ name }) {
      await server.sql(`REVOKE INSERT ON ${name}.Author FROM app@'%'`)
      return () => server.sql(`GRANT INSERT ON ${name}.Author TO app@'%'`)
    },
  },
  {
    is: 'full',
    failsAfterMs: 0,
    async make({ sql }) {
      await sql(
        "CREATE TRIGGER full BEFORE INSERT ON Author FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'full'",
      )
      return () => sql('DROP TRIGGER full')
    },
  },
]

// All troubles and workers at once: most of the time passes while they wait.
test.concurrent.for(troubles)(
  'P12: workers with 1 and with 2 statements at once save rows of other models while one table is $is, and its own rows afterwards',
  async (trouble, context) => {
    await Promise.all([1, 2].map((concurrency) => prove(trouble, concurrency, context)))
  },
)

async function prove(trouble: Trouble, concurrency: number, context: TestContext): Promise<void> {
  const opened = await open(context)
  const { log, queue, startWorker, enqueue, areSaved, count, delays } = opened
  const { statements } = startWorker({ concurrency })
  const before = [...items('Author', 3), ...items('Loan', 3)]
  await enqueue(...before)
  await areSaved(before)
  const end = await trouble.make(opened)
  // Many batches, each with a first attempt of its own.
  const authors = items('Author', 300)
  await enqueue(...authors)
  await holds(() => expect(log.said.join()).toContain('the database takes no rows'), { timeoutMs: 20_000 })
  const measured = (await delays('Loan', trouble.failsAfterMs * 4 || 3_000)).toSorted((a, b) => a - b)
  const [median, most] = [measured[Math.floor(measured.length / 2)]!, measured.at(-1)!]
  const longer = measured.filter((ms) => ms > 1_000)
  expect(median).toBeLessThan(1_000)
  // Of one slot, a statement that waits for a lock leaves it only when it fails.
  expect(most).toBeLessThan(concurrency === 1 ? trouble.failsAfterMs + 4_500 : 4_500)
  expect(longer.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(12_000)
  expect(await queue.find(authors.slice(0, 1).map(({ id }) => id))).toMatchObject([{ status: 'QUEUED' }])
  await end()
  await areSaved(authors)
  expect(await count('Author')).toBe(303)
  expect((await queue.status()).deadLetters).toBe(0)
  expect(statements.most).toBeLessThanOrEqual(concurrency)
}

describe.concurrent('A worker with models that refer to each other', () => {
  test('inserts the parents of one delivery first, and parks no child', async (context) => {
    const { log, startWorker, enqueue, areSaved } = await open(context)
    const author = library.item('Author')
    const book = library.item('Book', { parentId: author.id })
    const chapters = Array.from({ length: 20 }, () => library.item('Chapter', { parentId: book.id }))
    await enqueue(...chapters, book, author)
    const { statements } = startWorker({ batch: 100, concurrency: 2 })
    await areSaved([author, book, ...chapters])
    expect(statements.inserts).toEqual([
      { model: 'Author', rows: 1 },
      { model: 'Book', rows: 1 },
      { model: 'Chapter', rows: 20 },
    ])
    expect(log.said.join()).not.toContain('failed alone')
  })

  test('publishes the event of a parent before those of its children', async (context) => {
    const { events, startWorker, enqueue, areSaved } = await open(context)
    const start = await events.tail()
    const author = library.item('Author')
    const book = library.item('Book', { parentId: author.id })
    await enqueue(book, author)
    startWorker({ batch: 100 })
    await areSaved([author, book])
    await holds(async () => {
      const published = (await events.read(start, 10)).flatMap((entry) => entry.events)
      expect(published.map((event) => event.type === 'saved' && event.row.id)).toEqual([author.id, book.id])
    })
  })

  test('waits for a parent that is enqueued later, and saves other rows meanwhile', async (context) => {
    const { log, startWorker, enqueue, statuses, areSaved } = await open(context)
    startWorker({ retryForMs: 60_000 })
    const author = library.item('Author')
    const book = library.item('Book', { parentId: author.id })
    const others = [...items('Book', 5), ...items('Loan', 5)]
    await enqueue(book, ...others)
    await areSaved(others)
    await holds(() => expect(log.said.join()).toContain('failed alone'))
    expect(await statuses([book])).toEqual(['QUEUED'])
    await enqueue(author)
    await areSaved([author, book])
  })

  test('dead-letters a row whose parent does not come in time, and names the model that it refers to', async (context) => {
    const { queue, startWorker, enqueue, statuses, areSaved } = await open(context)
    startWorker({ retryForMs: 500 })
    const book = library.item('Book', { parentId: randomUUID() })
    const others = items('Book', 5)
    await enqueue(book, ...others)
    await areSaved(others)
    await holds(async () => expect(await statuses([book])).toEqual(['FAILED']), { timeoutMs: 20_000 })
    const [state] = await queue.find([book.id])
    expect(state?.failure).toMatchObject({
      code: 'REJECTED',
      message: expect.stringContaining('the Author of its parentId'),
    })
  })

  test('saves rows of two models that refer to each other, in any order', async (context) => {
    const { startWorker, enqueue, areSaved } = await open(context)
    const [egg, hen] = [randomUUID(), randomUUID()]
    const all = [
      library.item('Egg', { id: egg, parentId: hen }),
      library.item('Hen', { id: hen }),
      library.item('Hen', { parentId: egg }),
      library.item('Egg'),
    ]
    await enqueue(...all)
    startWorker({ batch: 100, concurrency: 2 })
    await areSaved(all)
  })

  test('does not make children wait for parents whose table takes no rows, where their own parents exist', async (context) => {
    const { name, startWorker, enqueue, statuses, areSaved } = await open(context)
    startWorker({ batch: 100, concurrency: 2 })
    const author = library.item('Author')
    await enqueue(author)
    await areSaved([author])
    await server.sql(`REVOKE INSERT ON ${name}.Author FROM app@'%'`)
    const late = library.item('Author')
    const [book, orphan] = [library.item('Book', { parentId: author.id }), library.item('Book', { parentId: late.id })]
    await enqueue(late, book, orphan)
    await areSaved([book])
    expect(await statuses([late, orphan])).toEqual(['QUEUED', 'QUEUED'])
    await server.sql(`GRANT INSERT ON ${name}.Author TO app@'%'`)
    await areSaved([late, orphan])
  })
})
