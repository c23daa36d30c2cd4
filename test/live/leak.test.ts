/**
 * P9: what subscribers cost is given back when they go, however they go: sockets, timers and heap return to where they were. So does
 * what a whole API holds, when it is closed.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { type Child, launch } from '../harness/child.ts'
import { client } from '../harness/client.ts'
import { models } from '../harness/contents.ts'
import { largeEvent } from '../harness/events.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { type Holding, type Inspected, inspect } from '../harness/inspected.ts'
import { quiet } from '../harness/quiet.ts'
import { treeWithRooms } from '../harness/rooms.ts'

/** What a heap may be larger by, from one look to the next, without anything being kept: compiled code, pools that fill. */
const noise = 3 * 1024 * 1024

let dir: string
let api: Inspected | undefined
let crowds: Child[] = []

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-leak-'))
})

afterEach(async () => {
  for (const crowd of crowds) crowd.kill('SIGKILL')
  await Promise.all(crowds.map(({ exited }) => exited))
  crowds = []
  await api?.stop()
  await rm(dir, { recursive: true, force: true })
})

const embedded = () => ({ DATABASE_URL: `file:${dir}/spillway.db`, QUEUE_URL: `file:${dir}/queue.db` })

async function crowd(url: string, sse: number, webSockets: number, document?: string): Promise<Child> {
  const script = fileURLToPath(new URL('../harness/crowd.ts', import.meta.url))
  const child = launch(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    script,
    url,
    `${sse}`,
    `${webSockets}`,
    ...(document === undefined ? [] : [document]),
  ])
  crowds.push(child)
  await said(child, 'open')
  return child
}

async function leave(crowd: Child): Promise<void> {
  crowd.kill('SIGUSR2')
  await said(crowd, 'gone')
  crowd.kill('SIGKILL')
  await crowd.exited
}

async function said(crowd: Child, word: string): Promise<void> {
  await eventually(() => crowd.logs().includes(word) || !crowd.running(), { timeoutMs: 180_000 })
  expect(crowd.logs()).toContain(word)
}

async function kill(crowd: Child): Promise<void> {
  crowd.kill('SIGKILL')
  await crowd.exited
}

/** What it holds when all subscribers have left, which it notices a moment later. A look stops its event loop, so looks are apart. */
async function empty(api: Inspected): Promise<Holding> {
  const look = async () => {
    const now = await api.holding()
    expect(now.webSockets).toBe(0)
    return now
  }
  return await holds(look, { timeoutMs: 60_000, intervalMs: 500 })
}

/** It has the connections of all subscribers. Before it may have had some of the test's own. */
function expectOpen(open: Holding, before: Holding, count: number): void {
  expect(open.sockets - before.sockets).toBeGreaterThan(count - 20)
}

/** Waits until it holds no more than before. */
async function expectGivenBack(api: Inspected, before: Holding, timeoutMs: number, intervalMs = 500): Promise<void> {
  await holds(
    async () => {
      const after = await api.holding()
      const { sockets, responses, webSockets, resources } = after
      // It may have had a connection of the test's own then.
      const had: Record<string, number> = { ...before, ...before.resources, resources: 0 }
      // Pools of connections have timers of their own; the clients here are hundreds.
      had.Timeout = (had.Timeout ?? 0) + 10
      const more = Object.entries({ sockets, responses, webSockets, ...resources }).filter(
        ([kind, count]) => count > (had[kind] ?? 0),
      )
      expect(more, JSON.stringify(before)).toEqual([])
      expect(after.bytes - before.bytes).toBeLessThan(noise)
    },
    { timeoutMs, intervalMs },
  )
}

test('an API keeps nothing of 1,600 subscribers that close, disconnect or die', async () => {
  api = await inspect(embedded())
  // Once, so that what is made at first use is there.
  await leave(await crowd(api.url, 50, 50))
  await client(api.url).saveUntilAcknowledged('before')
  const before = await empty(api)

  const first = await crowd(api.url, 400, 400)
  const open = await api.holding()
  expectOpen(open, before, 800)
  expect(open.webSockets).toBe(400)
  const each = Math.round((open.bytes - before.bytes) / 800)
  console.log(`${each} bytes of heap and buffers for each of 800 subscribers`)
  // Or the heap would not show that they stayed.
  expect(each * 800).toBeGreaterThan(noise)
  await client(api.url).saveUntilAcknowledged('to all')
  await leave(first)
  const second = await crowd(api.url, 400, 400)
  await client(api.url).saveUntilAcknowledged('to all')
  await kill(second)
  await expectGivenBack(api, before, 60_000)
}, 600_000)

test('an idle subscriber over SSE takes less than 8 KiB of heap, and no HTTP response of Node', async () => {
  api = await inspect(embedded())
  await crowd(api.url, 200, 0)
  const before = await api.holding()
  await crowd(api.url, 1_000, 0)
  const open = await api.holding()
  const each = Math.round((open.bytes - before.bytes) / 1_000)
  console.log(`${each} bytes of heap and buffers for each of 1,000 subscribers over SSE`)
  expectOpen(open, before, 1_000)
  // 12 to 15 KiB with the parser, the request and the response of Node.
  expect(each).toBeLessThan(8 * 1_024)
  expect(open.responses - before.responses).toBeLessThan(10)
}, 120_000)

test('an API closes the half-open connections of a frozen client, with and without events', async () => {
  const database = await freshDatabase()
  const redis = freshRedisUrl()
  api = await inspect(
    { DATABASE_URL: database.url, QUEUE_URL: redis, CACHE_URL: freshRedisUrl() },
    // In place of the 36 s and 45 s after which users' connections are closed.
    { intervals: { heartbeatMs: 1_500, stuckMs: 5_000 } },
  )
  await leave(await crowd(api.url, 20, 20))
  // The follower keeps what came last, with or without anybody there: that is no leak.
  await fill(api.url, redis)
  const before = await empty(api)
  const frozen = await crowd(api.url, 4, 60)
  frozen.kill('SIGSTOP')
  expect((await api.holding()).webSockets).toBe(60)
  await fill(api.url, redis)
  // Seldom, because each look keeps the API from closing them.
  await expectGivenBack(api, before, 150_000, 2_000)
}, 600_000)

test('an API keeps nothing of 100 subscribers to the receipts of 100 pending saves each', async () => {
  const database = await freshDatabase()
  api = await inspect({ DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl(), CACHE_URL: freshRedisUrl() })
  const ids = Array.from({ length: 100 }, () => randomUUID())
  const saved = await client(api.url).saveMany(ids.map((id) => ({ id, content: 'pending' })))
  expect(saved.errors).toBeUndefined()
  const document = `subscription { receipts(ids: ${JSON.stringify(ids)}) { saveId status } }`
  await leave(await crowd(api.url, 20, 20, document))
  const before = await empty(api)
  const first = await crowd(api.url, 50, 50, document)
  const open = await api.holding()
  expectOpen(open, before, 100)
  expect(open.webSockets).toBe(50)
  const each = Math.round((open.bytes - before.bytes) / 100)
  console.log(`${each} bytes of heap and buffers for each of 100 subscribers to 100 receipts`)
  expect(each).toBeLessThan(100 * 600 + 60_000)
  await leave(first)
  await kill(await crowd(api.url, 50, 50, document))
  await expectGivenBack(api, before, 60_000)
  expect((await api.holding()).resources.Timeout).toBeLessThan((before.resources.Timeout ?? 0) + 20)
}, 600_000)

test('an API keeps nothing of 800 subscribers of 400 rooms that close, disconnect or die', async () => {
  await using tree = await treeWithRooms()
  api = await inspect(embedded(), { tree: tree.path })
  const document = 'subscription ($room: String) { messageSaved(room: $room) { cursor message { id } } }'
  await leave(await crowd(api.url, 50, 50, document))
  const save = async (room: string) => {
    const query =
      'mutation ($room: String!) { saveMessage(input: { room: $room, author: "ann", body: "x" }) { status } }'
    expect((await client(api!.url).graphql(query, { room })).data.saveMessage.status).toBe('QUEUED')
  }
  await save('room 7')
  const before = await empty(api)
  const first = await crowd(api.url, 400, 400, document)
  const open = await api.holding()
  expect(open.webSockets).toBe(400)
  const each = Math.round((open.bytes - before.bytes) / 800)
  console.log(`${each} bytes of heap and buffers for each of 800 subscribers of 400 rooms`)
  // Or the heap would not show that they stayed.
  expect(each * 800).toBeGreaterThan(noise)
  await save('room 7')
  await leave(first)
  await kill(await crowd(api.url, 400, 400, document))
  await expectGivenBack(api, before, 60_000)
}, 600_000)

/** More events than the buffers of two kernels take. */
async function fill(url: string, redis: string): Promise<void> {
  const log = new RedisEventLog(parseRedisUrl(redis), {
    retentionMs: 60_000,
    retentionBytes: 1_048_576,
    models,
    log: quiet(),
  })
  try {
    await holds(() => log.tail())
    for (let i = 0; i < 64; i++) await log.append([Array.from({ length: 5 }, (_, n) => largeEvent(i * 5 + n))])
  } finally {
    await log.close()
  }
  await client(url).saveUntilAcknowledged('behind them')
}

test('a process keeps nothing of six APIs that were started and closed with subscribers', async () => {
  api = await inspect(embedded())
  // Their own files, beside those of the API that stays.
  await api.cycle(4)
  const before = await api.holding()
  await api.cycle(6)
  await expectGivenBack(api, before, 60_000)
}, 600_000)
