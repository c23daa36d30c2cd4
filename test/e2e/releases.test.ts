/**
 * Two releases side by side on Redis and MariaDB, under load: this one, and a newer one with one more model and one more nullable column. In
 * any order of their starts nothing is lost and nothing is dead-lettered, no process ends by itself, and streams miss no event that they
 * know.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import type { Intervals } from '../harness/intervals.ts'
import { query } from '../harness/mariadb.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { cursorNow, Subscriber } from '../harness/subscriber.ts'
import { copyTree, type Tree } from '../harness/tree.ts'

let newer: Tree
beforeAll(async () => {
  newer = await copyTree(`
model Memo {
  id        String   @id @db.Char(36)
  text      String   @db.VarChar(100)
  createdAt DateTime @db.DateTime(3)
  savedAt   DateTime @db.DateTime(3)

  @@index([createdAt, id])
}
`)
  const content = '  content   String   @db.MediumText\n'
  await newer.replace('prisma/schema.prisma', content, `${content}  note      String?  @db.VarChar(100)\n`)
  await newer.write(
    'src/models/memo.ts',
    "import { defineModel } from './prisma.ts'\n\nexport const Memo = defineModel('Memo', {})\n",
  )
  await newer.replace('src/models/index.ts', 'models = [', 'models = [Memo, ')
  await newer.replace('src/models/index.ts', 'import ', "import { Memo } from './memo.ts'\nimport ")
  await newer.node(['src/commands/migration.ts', 'memo'])
}, 300_000)
afterAll(() => newer?.[Symbol.asyncDispose]())

const intervals: Intervals = { reclaimMs: 2_000, defaultExtendLeaseEveryMs: 400 }
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function bootNothing(more: Intervals = {}): Promise<Spillway> {
  const system = await boot('redis + mariadb', { apis: 0, workers: 0, intervals: { ...intervals, ...more } })
  cleanups.push(() => system.stop())
  return system
}

/** What the requests of a load save. Only an API of the newer release takes the last two. */
const kinds = {
  content: { path: '/save', values: (n: number) => ({ content: `content ${n}` }) },
  note: { path: '/save', values: (n: number) => ({ content: `content ${n}`, note: `note ${n} 🙂` }) },
  memo: { path: '/memos', values: (n: number) => ({ text: `memo ${n}` }) },
}
type Kind = keyof typeof kinds

/** Clients that save without pause, each id until it is acknowledged. */
class Load {
  /** Acknowledged saves: id -> values. */
  readonly saved: Record<Kind, Map<string, object>> = { content: new Map(), note: new Map(), memo: new Map() }
  readonly #stopping = new AbortController()
  readonly #clients: Promise<void>[] = []

  /** `where`: the APIs that take this kind now. */
  start(kind: Kind, where: () => readonly SpillwayProcess[], clients = 2): this {
    const { signal } = this.#stopping
    const client = async (n: number) => {
      for (let count = n; !signal.aborted; count += clients) await this.#save(kind, where, count)
    }
    for (let n = 0; n < clients; n += 1) this.#clients.push(client(n))
    // What goes wrong is thrown by `stop`.
    for (const client of this.#clients) client.catch(() => {})
    return this
  }

  async #save(kind: Kind, where: () => readonly SpillwayProcess[], count: number): Promise<void> {
    const { path, values } = kinds[kind]
    const id = randomUUID()
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      const apis = where()
      const api = apis[(count + attempt) % Math.max(1, apis.length)]
      const body = JSON.stringify({ id, ...values(count) })
      const answer = await api?.client
        .fetch(path, { method: 'POST', body, signal: AbortSignal.timeout(5_000) })
        .catch(() => undefined)
      if (answer?.status === 202) {
        this.saved[kind].set(id, values(count))
        return
      }
      // No API, or one that ends.
      if (answer && answer.status !== 503) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Waits for so many more acknowledged saves of this kind. */
  async more(kind: Kind, saves = 50): Promise<void> {
    const goal = this.saved[kind].size + saves
    const progress = () => this.saved[kind].size
    await holds(() => expect(progress()).toBeGreaterThanOrEqual(goal), { timeoutMs: 30_000, progress })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#clients)
  }
}

async function rowsOf({ env }: Spillway, table: string, columns: string): Promise<Map<string, object>> {
  const rows = (await query(env.DATABASE_URL!, `SELECT id, ${columns} FROM ${table}`)) as Record<string, string>[]
  return new Map(rows.map(({ id, ...values }) => [id!, values]))
}

/** Everything acknowledged is a row with its values, and nothing else is. */
async function expectAllSaved(system: Spillway, { saved }: Load): Promise<void> {
  let queue: unknown
  await holds(
    async () => {
      queue = await system.client.queue()
      expect(queue).toEqual({ depth: 0, inFlight: 0 })
    },
    { timeoutMs: 60_000, intervalMs: 100, progress: () => JSON.stringify(queue) },
  )
  expect(await system.client.deadLetters()).toEqual([])
  const isNewer = saved.note.size + saved.memo.size > 0
  const contents = await rowsOf(system, 'Content', isNewer ? 'content, note' : 'content')
  const memos = isNewer ? await rowsOf(system, 'Memo', 'text') : new Map()
  for (const [id, values] of saved.content) expect(contents.get(id)).toMatchObject(values)
  for (const [id, values] of saved.note) expect(contents.get(id)).toEqual(values)
  for (const [id, values] of saved.memo) expect(memos.get(id)).toEqual(values)
}

function subscribe(wire: 'SSE' | 'WebSocket', after: string, where: () => string | undefined): Subscriber {
  const subscriber = new Subscriber(wire, after, where).start()
  cleanups.push(() => subscriber.stop())
  return subscriber
}

/** Each subscriber has every saved content, in order. */
async function expectAllSeen(subscribers: readonly Subscriber[], { saved }: Load): Promise<void> {
  const ids = [...saved.content.keys(), ...saved.note.keys()]
  expect(ids.length).toBeGreaterThan(100)
  for (const { ids: seen, faults } of subscribers) {
    const missing = () => ids.filter((id) => !seen.has(id)).length
    await holds(() => expect(missing()).toBe(0), { timeoutMs: 30_000, progress: missing })
    expect(faults).toEqual([])
  }
}

/** Ends every process; each one ended only now, and without an error. */
async function expectCleanEnds(system: Spillway, ends: readonly unknown[] = []): Promise<void> {
  const running = [...system.workers, ...system.apis]
  const ended = await Promise.all(running.map((process) => system.kill(process, 'SIGTERM')))
  expect([...ends, ...ended]).toEqual([...ends, ...running].map(() => 0))
}

test('A worker of the last release saves what it can decode, and hands the rest of a newer API back to a newer worker', {
  timeout: 180_000,
}, async () => {
  const system = await bootNothing()
  const worker = await system.startWorker()
  const api = await system.startApi({}, newer.path)
  const load = new Load()
  for (const kind of ['content', 'note', 'memo'] as const) load.start(kind, () => [api])
  await Promise.all([load.more('content', 200), load.more('note', 100), load.more('memo', 100)])
  await load.stop()
  const waiting = load.saved.note.size + load.saved.memo.size
  await holds(async () => expect(await system.client.queue()).toMatchObject({ depth: waiting }), { timeoutMs: 30_000 })
  const contents = await rowsOf(system, 'Content', 'content')
  expect([...load.saved.content.keys()].filter((id) => !contents.has(id))).toEqual([])
  expect(await system.client.deadLetters()).toEqual([])
  await system.startWorker({}, newer.path)
  await expectAllSaved(system, load)
  expect(worker.logs()).toContain('messages wait for a worker of a newer release')
  await expectCleanEnds(system)
})

test('An API of the last release beside a newer one: its streams skip the events of the unknown model, and miss none of their own', {
  timeout: 180_000,
}, async () => {
  const system = await bootNothing()
  const api = await system.startApi()
  const after = await cursorNow(api.url!)
  const subscribers = (['SSE', 'WebSocket'] as const).map((wire) => subscribe(wire, after, () => api.url))
  await system.startWorker({}, newer.path)
  const other = await system.startApi({}, newer.path)
  const load = new Load()
  load.start('content', () => [api, other])
  for (const kind of ['note', 'memo'] as const) load.start(kind, () => [other])
  await Promise.all([load.more('content', 200), load.more('note', 100), load.more('memo', 100)])
  // Also from a cursor behind an event that it does not know.
  for (const subscriber of subscribers) subscriber.drop()
  await Promise.all([load.more('content'), load.more('memo')])
  await load.stop()
  await expectAllSaved(system, load)
  await expectAllSeen(subscribers, load)
  const [id] = load.saved.note.keys()
  const one = '{ content(id: $id) { content } receipt(id: $id) { status } }'
  for (const { client } of [api, other]) {
    const { data } = await client.graphql(`query ($id: ID!) ${one}`, { id })
    expect(data).toEqual({ content: { content: expect.any(String) }, receipt: { status: 'SAVED' } })
  }
  await expectCleanEnds(system)
})

test('Rolling restarts from one release to the next and back, under load, lose nothing and dead-letter nothing', {
  timeout: 240_000,
}, async () => {
  const system = await bootNothing()
  const newApis = new Set<SpillwayProcess>()
  const ends: unknown[] = []
  const startApi = async (tree?: string) => {
    const api = await system.startApi({}, tree)
    if (tree) newApis.add(api)
    return api
  }
  const end = async (process: SpillwayProcess) => void ends.push(await system.kill(process, 'SIGTERM'))

  const oldApi = await startApi()
  const oldWorker = await system.startWorker()
  const after = await cursorNow(oldApi.url!)
  let turn = 0
  const anyUrl = () => system.apis[turn++ % Math.max(1, system.apis.length)]?.url
  const subscribers = (['SSE', 'WebSocket'] as const).map((wire) => subscribe(wire, after, anyUrl))
  const load = new Load().start('content', () => system.apis)
  await load.more('content')

  // Workers first.
  const newWorker = await system.startWorker({}, newer.path)
  await load.more('content')
  await end(oldWorker)
  const newApi = await startApi(newer.path)
  for (const kind of ['note', 'memo'] as const) load.start(kind, () => system.apis.filter((api) => newApis.has(api)))
  await Promise.all([load.more('content'), load.more('memo')])
  await end(oldApi)
  for (const subscriber of subscribers) subscriber.drop()
  await load.more('content')

  // Back, workers first: their messages of the newer API wait.
  const oldApi2 = await startApi()
  const oldWorker2 = await system.startWorker()
  await end(newWorker)
  await Promise.all([load.more('content'), load.more('memo')])
  await end(newApi)
  for (const subscriber of subscribers) subscriber.drop()
  await load.more('content')

  // And forth again, APIs first.
  await startApi(newer.path)
  await load.more('memo')
  await end(oldApi2)
  await system.startWorker({}, newer.path)
  await load.more('content')
  await end(oldWorker2)
  await load.more('content')
  await load.stop()
  await expectAllSaved(system, load)
  await expectAllSeen(subscribers, load)
  await expectCleanEnds(system, ends)
})

test('A worker dead-letters a message that it cannot decode only after it has waited for a newer worker, and a retry saves it', {
  timeout: 120_000,
}, async () => {
  const deadLetterAfterMs = 4_000
  const system = await bootNothing({ defaultDeadLetterAfterMs: deadLetterAfterMs, reclaimMs: 1_000 })
  await system.startWorker()
  const api = await system.startApi({}, newer.path)
  const since = performance.now()
  const load = new Load()
  for (const kind of ['content', 'memo'] as const) load.start(kind, () => [api], 1)
  await load.more('memo', 5)
  await load.stop()
  await holds(async () => expect(await system.client.deadLetters()).toHaveLength(load.saved.memo.size), {
    timeoutMs: 60_000,
  })
  expect(performance.now() - since).toBeGreaterThan(deadLetterAfterMs)
  const failure = { code: 'UNDECODABLE', message: expect.stringContaining('"Memo"') }
  for (const one of await system.client.deadLetters()) expect(one).toMatchObject({ failure })
  await system.startWorker({}, newer.path)
  const ids = [...load.saved.memo.keys()]
  // The newer worker may come second once more, so both are asked until it was first.
  await holds(
    async () => {
      await system.client.changeDeadLetters('retry', { ids })
      expect((await rowsOf(system, 'Memo', 'text')).size).toBe(ids.length)
    },
    { timeoutMs: 60_000, intervalMs: 500 },
  )
  await expectAllSaved(system, load)
  await expectCleanEnds(system)
})
