/**
 * What can happen to the processes of Spillway's own while saves go on (FAULTS.md, A): killed at each step, frozen, told to stop, started
 * with half the house missing. After each fault every acknowledged id is one row, or a dead letter, and everything was announced.
 */
import { randomInt, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { engine } from '../harness/engine.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { connect } from '../harness/mariadb.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { startProxy } from '../harness/proxy.ts'
import { SseClient } from '../harness/sse.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

const clients = 4
/** In place of the 10 s, 3 s and 5 s that users have: most of these faults wait for it. */
const intervals = { reclaimMs: 3_000, defaultExtendLeaseEveryMs: 750, maxBackoffMs: 1_000 }
/** From the death of a worker to another one that has what it left: idle for 3 s, looked for every second, and a busy machine. */
const reclaimedWithinMs = 20_000

let stack: Stack

beforeAll(async () => {
  stack = await Stack.start({ intervals })
})
afterAll(() => stack?.stop())

/** Two processes of each role, where a test has left fewer: a start costs the most of all. */
async function atFullStrength(): Promise<void> {
  const missing = (present: readonly SpillwayProcess[]) => Array.from({ length: Math.max(0, 2 - present.length) })
  await Promise.all([
    ...missing(stack.apis).map(() => stack.startApi()),
    ...missing(stack.workers).map(() => stack.startWorker()),
  ])
}

/** Injects a fault, and judges. */
function fault(id: string, name: string, inject: () => Promise<void>, timeoutMs = 60_000): void {
  test(`${id}: ${name}`, { timeout: timeoutMs }, async () => {
    try {
      await inject()
      const verdict = await stack.verdict(name)
      record(id, 'redis + mariadb', verdict)
      expectSound(verdict)
      expect(await inFlight()).toBe(0)
    } finally {
      await stack.stopWriting()
    }
  })
}

/** Entries that some worker holds, a dead one included. */
async function inFlight(): Promise<number> {
  const [pending] = (await stack.redis.cli('XPENDING', '{spillway:0}:queue', 'workers')) as [number]
  return pending
}

/** Entries that this worker holds; the name of its consumer has its process id. */
async function heldBy({ pid }: SpillwayProcess): Promise<number> {
  const [, , , consumers] = (await stack.redis.cli('XPENDING', '{spillway:0}:queue', 'workers')) as [
    number,
    string,
    string,
    [name: string, entries: string][] | null,
  ]
  return Number(consumers?.find(([name]) => name.includes(`-${pid}-`))?.[1] ?? 0)
}

/** Whether the row is there, without Spillway being asked. */
async function hasRow(id: string): Promise<boolean> {
  const rows = await stack.mariadb.sql(
    `SELECT id FROM Content WHERE id = '${id}'`,
    new URL(stack.database).pathname.slice(1),
  )
  return rows.length === 1
}

/** What a client of the HTTP API is told of a save, once. */
async function save(
  api: SpillwayProcess,
  id: string,
  content: string,
): Promise<{ status: string; duplicate: boolean }> {
  const { data } = await api.client.graphql(
    'mutation ($id: ID, $content: String!) { save(id: $id, content: $content) { status duplicate } }',
    { id, content },
  )
  return data.save
}

/** Nobody else writes to it until `work` is done; then it is as before. */
async function withTableLocked(work: () => Promise<void>): Promise<void> {
  const other = await connect(stack.database)
  try {
    await other.query('LOCK TABLES Content WRITE')
    await work()
  } finally {
    await other.end()
  }
}

/** INSERTs that the database is at, as it tells. */
async function insertsUnderWay(): Promise<number> {
  const rows = await stack.mariadb.sql(
    `SELECT id FROM ${engine.processlist} WHERE info LIKE 'INSERT INTO \`Content\`%'`,
  )
  return rows.length
}

test('A4, A6, A7, A8, A9: workers killed at each step from Consumer.receive to Consumer.ack', async () => {
  const steps = [
    ['A4', 'received', 'after Consumer.receive, before the INSERT'],
    ['A6', 'committed', 'after the commit, before Cache.invalidate'],
    ['A7', 'invalidated', 'after Cache.invalidate, before Consumer.markSaved'],
    ['A7', 'marked-saved', 'after Consumer.markSaved, before EventLog.append'],
    ['A8', 'published', 'after EventLog.append, before Consumer.ack'],
    ['A9', 'acked', 'right after Consumer.ack'],
  ] as const
  try {
    stack.write(clients)
    const held: number[] = []
    // Three side by side: more would hold each other up for longer than a lease. Each takes batches of its own.
    for (const some of [steps.slice(0, 3), steps.slice(3)]) {
      const killed = some.map(async ([, place]) => {
        const doomed = await stack.startWorker({ SPILLWAY_FAILPOINT: `${place}:3` })
        expect(await doomed.exited, place).toBe('SIGKILL')
        const entries = await heldBy(doomed)
        await stack.kill(doomed)
        return entries
      })
      held.push(...(await Promise.all(killed)))
    }
    // Consumer.ack is one step: a worker killed after it leaves nothing of that batch. And a busy machine may hold up one of so many workers
    // for longer than its lease: then another worker has its entries already.
    expect(held.filter((entries) => entries > 0).length, `held: ${held}`).toBeGreaterThanOrEqual(3)
    const diedAt = performance.now()
    await stack.stopWriting()
    await stack.drained()
    expect(performance.now() - diedAt).toBeLessThan(reclaimedWithinMs)
    const verdict = await stack.verdict('workers killed at each step')
    for (const [id, , what] of steps) record(id, 'redis + mariadb', { ...verdict, fault: `a worker killed ${what}` })
    expectSound(verdict)
    expect(await inFlight()).toBe(0)
  } finally {
    await stack.stopWriting()
  }
}, 120_000)
test('A9: between XACK and XDEL', () => {
  notRun(
    'A9',
    'redis + mariadb',
    'a worker killed between XACK and XDEL',
    'Consumer.ack is one script, which has no such moment',
  )
})

fault('A5', 'a worker killed while its INSERT is under way', async () => {
  stack.write(clients)
  await withTableLocked(async () => {
    await holds(async () => expect(await insertsUnderWay()).toBe(4))
    await stack.kill(stack.workers[0]!)
  })
  await stack.startWorker()
  await stack.more(100)
})

fault('A11', 'a worker frozen until another one receives its entries, then continued', async () => {
  stack.write(clients)
  const [zombie] = stack.workers
  try {
    await withTableLocked(async () => {
      await holds(async () => expect(await insertsUnderWay()).toBe(4))
      expect(await heldBy(zombie!)).toBeGreaterThan(0)
      zombie!.kill('SIGSTOP')
    })
    await stack.more(100)
    await stack.stopWriting()
    // The other one has to wait until the frozen one is taken for dead.
    await stack.drained()
  } finally {
    zombie!.kill('SIGCONT')
  }
  stack.write(clients)
  await stack.more(200)
  // What it thought it had to do it has done once more, to no effect.
  expect(zombie!.logs()).not.toContain('a batch failed; its entries stay in the queue')
})

for (const [id, place, name] of [
  ['A1', 'enqueueing', 'an API killed before Queue.enqueue'],
  ['A3', 'enqueued', 'an API killed after Queue.enqueue, before it answered'],
] as const) {
  fault(id, name, async () => {
    stack.write(clients)
    await stack.more(50)
    const doomed = await spawnSpillway('api', { ...stack.env, SPILLWAY_FAILPOINT: place })
    const id = randomUUID()
    const content = `an API died over this at ${place}`
    await expect(stack.once(content, { id, api: doomed })).rejects.toThrow()
    expect(await doomed.exited).toBe('SIGKILL')
    if (place === 'enqueued') await eventually(() => hasRow(id))
    else expect(await hasRow(id)).toBe(false)
    expect(await save(stack.apis[0]!, id, content)).toMatchObject({ duplicate: place === 'enqueued' })
    stack.acknowledged.add(id)
  })
}

fault('A2', 'an API killed between asking the queue and its answer', async () => {
  stack.write(clients)
  const proxy = await startProxy(stack.redis.url)
  onTestFinished(() => proxy.close())
  const doomed = await spawnSpillway('api', { ...stack.env, QUEUE_URL: proxy.url(stack.redis.url) })
  const [id, content] = [randomUUID(), 'an API died over this, asking']
  // The first save makes the server know the script.
  await stack.once('the way there is free', { api: doomed })
  proxy.set({ kind: 'delay', ms: 1_500 })
  const answer = stack.once(content, { id, api: doomed }).catch((error: Error) => error)
  await eventually(() => hasRow(id))
  doomed.kill('SIGKILL')
  expect(await answer).toBeInstanceOf(Error)
  expect(await save(stack.apis[0]!, id, content)).toMatchObject({ duplicate: true })
  stack.acknowledged.add(id)
})

fault('A1-3', 'APIs killed during saves, one after the other', async () => {
  stack.write(8)
  for (let i = 0; i < 2; i++) {
    await stack.more(100)
    await stack.kill(stack.apis[0]!)
    await stack.startApi()
  }
})

fault('A12', 'SIGTERM to a worker and an API under load', async () => {
  stack.write(8)
  await stack.more(300)
  const [api, worker] = [stack.apis[0]!, stack.workers[0]!]
  const subscriber = await SseClient.open(api.url!, 'subscription { saved { cursor } }')
  await eventually(() => subscriber.results.length > 0)
  await Promise.all(
    [api, worker].map(async (process) => {
      // A stop that is not complete within its bound ends with 1.
      expect(await stack.kill(process, 'SIGTERM')).toBe(0)
    }),
  )
  await subscriber.ended
  // What the worker had in hand it finished: nothing has to wait until another worker reclaims it.
  expect(await heldBy(worker)).toBe(0)
  await stack.stopWriting()
  await stack.drained()
})

for (const missing of ['redis', 'mariadb'] as const) {
  fault('A14', `started without ${missing === 'redis' ? 'Redis' : 'MariaDB'}, which comes later`, async () => {
    await Promise.all([...stack.apis, ...stack.workers].map((process) => stack.kill(process)))
    await stack[missing].stop('SIGKILL')
    const [api, worker] = await Promise.all([stack.startApi(), stack.startWorker()])
    const ask = (path: string) => fetch(`${api.url}${path}`)
    // Each connection is tried again after 1 s at the most, and an answer is shared for 1 s: it is right within 3 s, and a busy machine.
    const isReady = () => holds(async () => expect((await ask('/readyz')).status).toBe(200), { timeoutMs: 15_000 })
    expect((await ask('/livez')).status).toBe(200)
    // The database is nothing that accepting saves depends on.
    if (missing === 'redis') expect((await ask('/readyz')).status).toBe(503)
    else await isReady()
    if (missing === 'redis') expect((await stack.once('too early')).code).toBe('QUEUE_UNAVAILABLE')
    else for (let i = 0; i < 30; i++) expect((await stack.once(`early ${i}`)).status).toBe(202)

    await stack[missing].restart()
    stack.write(clients)
    await stack.more(200)
    await stack.stopWriting()
    await stack.drained()
    await isReady()
    expect(await Promise.race([api.exited, worker.exited, 'alive'])).toBe('alive')
  })
}

fault(
  'S4',
  'a message that kills its worker again and again',
  async () => {
    for (const worker of [...stack.workers]) await stack.kill(worker)
    // Nobody is there to take it before those who die of it; what is saved meanwhile are its neighbours.
    const [poison, content] = [randomUUID(), 'what lives on this kills']
    stack.write(clients)
    await stack.more(100)
    await stack.once(content, { id: poison })
    await stack.more(100)
    await stack.stopWriting()

    const buried = new AbortController()
    let deaths = 0
    const env = { SPILLWAY_FAILPOINT: `inserting:${content}`, WORKER_MAX_ATTEMPTS: '1' }
    const startOver = async () => {
      while (!buried.signal.aborted) {
        const worker = await stack.startWorker(env)
        await Promise.race([worker.exited, new Promise((resolve) => buried.signal.addEventListener('abort', resolve))])
        if (buried.signal.aborted) return
        deaths += 1
        await stack.kill(worker)
      }
    }
    const keepers = [startOver(), startOver()]
    try {
      stack.write(1)
      await holds(async () => expect(await stack.client.deadLetters()).toHaveLength(1), {
        timeoutMs: 60_000,
        intervalMs: 200,
      })
    } finally {
      buried.abort()
      await Promise.all(keepers)
    }
    const [letter] = await stack.client.deadLetters()
    expect(letter).toMatchObject({ id: poison, content, failure: { code: 'CRASHED', attempts: 1 } })
    // Twice among others, and once alone. More deaths, and its neighbours would have been in danger; fewer, and it was not the cause.
    expect(deaths).toBe(3)

    // Where it kills nobody, it is saved: a retry keeps the id.
    for (const worker of [...stack.workers]) await stack.kill(worker, 'SIGTERM')
    await stack.startWorker()
    expect(await stack.client.changeDeadLetters('retry', { ids: [poison] })).toEqual({ count: 1, saveIds: [poison] })
    await eventually(() => hasRow(poison))
  },
  220_000,
)

fault('A10', 'a worker killed after Consumer.deadLetter, before EventLog.append', async () => {
  const database = new URL(stack.database).pathname.slice(1)
  stack.write(clients)
  await stack.more(50)
  await stack.stopWriting()
  await stack.drained()
  await stack.mariadb.sql("ALTER TABLE Content ADD CONSTRAINT polite CHECK (content <> 'rude')", database)
  try {
    for (const worker of [...stack.workers]) await stack.kill(worker)
    const id = randomUUID()
    expect((await stack.once('rude', { id })).status).toBe(202)
    const receipt = await SseClient.open(
      stack.apis[0]!.url!,
      'subscription ($id: ID!) { receipt(id: $id) { status } }',
      { id },
    )
    const told = () => receipt.results.map(({ data }) => data.receipt.status)
    await eventually(() => told().length > 0)
    const doomed = await stack.startWorker({ SPILLWAY_FAILPOINT: 'dead-lettered' })
    expect(await doomed.exited).toBe('SIGKILL')
    await stack.kill(doomed)
    // In exactly one of the two places.
    expect(await stack.redis.cli('XLEN', '{spillway:0}:queue')).toBe(0)
    expect(await stack.client.deadLetters()).toMatchObject([{ id, failure: { code: 'REJECTED' } }])
    // Nobody is left to announce it: who waits hears of it all the same.
    await holds(() => expect(told()).toEqual(['QUEUED', 'FAILED']))
    receipt.close()
  } finally {
    await stack.mariadb.sql('ALTER TABLE Content DROP CONSTRAINT polite', database)
    if (stack.workers.length === 0) await stack.startWorker()
  }
})

fault(
  'A13',
  'twelve kills at random: API, worker, Redis, MariaDB',
  async () => {
    const seed = Number(process.env.SPILLWAY_SEED ?? randomInt(2 ** 31))
    console.log(`the nemesis: SPILLWAY_SEED=${seed} does it again`)
    const random = mulberry32(seed)
    const victims = {
      api: async () => {
        await stack.kill(stack.apis[Math.floor(random() * stack.apis.length)]!)
        await stack.startApi()
      },
      worker: async () => {
        await stack.kill(stack.workers[Math.floor(random() * stack.workers.length)]!)
        await stack.startWorker()
      },
      redis: async () => {
        await stack.redis.stop('SIGKILL')
        await stack.redis.restart()
      },
      mariadb: async () => {
        await stack.mariadb.stop('SIGKILL')
        await stack.mariadb.restart()
      },
    }
    const names = Object.keys(victims) as (keyof typeof victims)[]
    await atFullStrength()
    stack.write(clients)
    for (let i = 0; i < 12; i++) {
      await victims[names[Math.floor(random() * names.length)]!]()
      await stack.more(20)
      // When it strikes is part of what is random.
      await new Promise((resolve) => setTimeout(resolve, random() * 1_000))
    }
  },
  180_000,
)

fault(
  'A17',
  'persisting paused under load, a worker killed meanwhile, and resumed',
  async () => {
    stack.write(clients)
    await stack.more(50)
    await stack.client.graphql('mutation { pausePersisting { depth } }')
    const isIdle = ({ pid }: SpillwayProcess, workers: { pid: number; state: string; held: unknown[] }[]) =>
      workers.some((worker) => worker.pid === pid && worker.state === 'PAUSED' && worker.held.length === 0)
    await holds(async () => {
      const { data } = await stack.client.graphql('{ workers: queueWorkers { pid state held { inFlight } } }')
      for (const worker of stack.workers) expect(isIdle(worker, data.workers)).toBe(true)
    })
    const { size } = await stack.rows()
    await stack.more(50)
    await stack.kill(stack.workers[0]!)
    await stack.startWorker()
    await stack.more(50)
    expect((await stack.rows()).size).toBe(size)
    const { data } = await stack.client.graphql('mutation { resumePersisting { paused { since } } }')
    expect(data.resumePersisting.paused).toBeNull()
    await stack.more(50)
  },
  120_000,
)

/** The same numbers for the same seed, from 0 to 1. */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
