/** `receipt`, `queue` and `waitMs`: what changes is told when it changes, and nobody polls for it. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually, holds } from '../harness/eventually.ts'
import { query } from '../harness/mariadb.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { SseClient } from '../harness/sse.ts'
import { Stack } from '../harness/stack.ts'
import { WsClient } from '../harness/ws.ts'

let stack: Stack
let worker: SpillwayProcess | undefined

beforeAll(async () => {
  stack = await Stack.start({ apis: 1, workers: 0 })
  // Makes the table, so that receipts can be looked up.
  worker = await stack.startWorker()
})
afterAll(async () => {
  await stack.stop()
})

async function withoutWorker(): Promise<void> {
  if (worker) await stack.kill(worker)
  worker = undefined
}

async function withWorker(): Promise<void> {
  worker ??= await stack.startWorker()
}

test('a receipt subscription sends QUEUED at once, SAVED after the save, and completes', async () => {
  await withoutWorker()
  const id = randomUUID()
  await stack.save(id, 'to follow')
  const query =
    'subscription ($id: ID!) { receipt(id: $id) { status ... on ContentReceipt { content { content } } failure { code } } }'
  const sse = await SseClient.open(stack.apis[0]!.url!, query, { id })
  const ws = await WsClient.connect(stack.apis[0]!.url!)
  ws.subscribe('1', query, { id })
  const queued = { data: { receipt: { status: 'QUEUED', content: null, failure: null } } }
  await holds(() => expect([sse.results, ws.of('1').map(({ payload }) => payload)]).toEqual([[queued], [queued]]))
  await withWorker()
  await sse.ended
  await eventually(() => ws.of('1').at(-1)?.type === 'complete')
  const saved = { data: { receipt: { status: 'SAVED', content: { content: 'to follow' }, failure: null } } }
  expect(sse.results).toEqual([queued, saved])
  expect(ws.of('1').map(({ payload }) => payload)).toEqual([queued, saved, undefined])
  ws.close()
})

test('a receipt subscription sends the reason of FAILED', async () => {
  await withoutWorker()
  const id = randomUUID()
  await query(stack.database, "ALTER TABLE Content ADD CONSTRAINT polite CHECK (content <> 'rude')")
  try {
    await stack.client.graphql('mutation ($id: ID!) { save(content: "rude", id: $id) { saveId } }', { id })
    const ask = 'subscription ($id: ID!) { receipt(id: $id) { status failure { code attempts } } }'
    const sse = await SseClient.open(stack.apis[0]!.url!, ask, { id })
    await eventually(() => sse.results.length > 0)
    await withWorker()
    await sse.ended
    expect(sse.results.map(({ data }) => data.receipt.status)).toEqual(['QUEUED', 'FAILED'])
    expect(sse.results.at(-1).data.receipt.failure.code).toBe('REJECTED')
  } finally {
    await query(stack.database, 'ALTER TABLE Content DROP CONSTRAINT polite')
    await stack.client.changeDeadLetters('discard', { ids: [id] })
  }
})

test('a queue subscription sends once a second while the queue changes, and nothing while it is empty', async () => {
  await withWorker()
  await stack.drained()
  const at: number[] = []
  const client = await SseClient.open(stack.apis[0]!.url!, 'subscription { queue { depth oldestAgeMs } }')
  client.onFrame = ({ event }) => void (event === 'next' && at.push(performance.now()))
  await eventually(() => client.results.length > 0)
  await withoutWorker()
  const [since, before] = [performance.now(), at.length]
  await stack.save(randomUUID(), 'to wait')
  // It grows older all the time.
  await holds(() => expect(at.length - before).toBeGreaterThanOrEqual(5), { timeoutMs: 30_000 })
  expect(client.results.at(-1).data.queue.depth).toBe(1)
  // Over several: a busy machine delivers one late, and the next one in its time.
  expect(at.at(-1)! - since).toBeGreaterThan((at.length - before - 1) * 900)
  await withWorker()
  await eventually(() => client.results.at(-1).data.queue.depth === 0)
  const { length } = client.results
  // That nothing comes can only be seen by waiting.
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  expect(client.results).toHaveLength(length)
  client.close()
})

test('300 saves with waitMs send Redis no command while they wait, and each is answered as soon as it is saved', async () => {
  await withoutWorker()
  const query = 'mutation ($content: String!) { save(content: $content, waitMs: 60000) { status content { content } } }'
  const since = performance.now()
  let answered = 0
  const waiting = Array.from({ length: 300 }, async (_, i) => {
    const answer = await stack.client.graphql(query, { content: `wait ${i}` })
    answered += 1
    return answer
  })
  await holds(async () =>
    expect((await stack.client.graphql('{ queue { depth } }')).data.queue.depth).toBeGreaterThanOrEqual(300),
  )
  // Each looks once after it began to wait, in case it was saved before.
  await holds(async () => {
    const { total } = await commands()
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect((await commands()).total - total).toBeLessThan(30)
  })
  const before = await commands()
  // What is done in this time is what is tested.
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const after = await commands()
  expect(answered).toBe(0)
  // Each asks the queue every 5 s, in case that an event is missing, by a script of some six commands. On a busy machine that may be while they are counted.
  const refreshes = Math.floor((performance.now() - since) / 5_000)
  // The process' own questions each second (INFO, CONFIG), a heartbeat, the history every 5 s, and this very question; one of each waiter would be 300.
  const most = 80 + refreshes * 300 * 8
  expect(after.total - before.total, JSON.stringify({ before: before.by, after: after.by })).toBeLessThan(most)
  await withWorker()
  const answers = await Promise.all(waiting)
  for (const [i, { data }] of answers.entries())
    expect(data.save).toEqual({ status: 'SAVED', content: { content: `wait ${i}` } })
}, 60_000)

test('saves with waitMs under load are all answered SAVED within their time', async () => {
  await withWorker()
  const query = 'mutation ($content: String!) { save(content: $content, waitMs: 20000) { status } }'
  stack.write(4)
  const statuses = new Set<string>()
  const client = async (n: number) => {
    for (let i = 0; i < 40; i++)
      statuses.add((await stack.client.graphql(query, { content: `${n} ${i}` })).data.save.status)
  }
  await Promise.all(Array.from({ length: 16 }, (_, n) => client(n)))
  await stack.stopWriting()
  expect([...statuses]).toEqual(['SAVED'])
}, 60_000)

test('a save whose waitMs ends is answered QUEUED without delay', async () => {
  await withoutWorker()
  const since = performance.now()
  const answer = await stack.client.graphql('mutation { save(content: "nobody works", waitMs: 300) { status } }')
  expect(answer.data.save.status).toBe('QUEUED')
  expect(performance.now() - since).toBeGreaterThan(290)
  expect(performance.now() - since).toBeLessThan(3_000)
  await withWorker()
})

/** How many commands Redis has executed, scripts' own included. */
async function commands(): Promise<{ total: number; by: Record<string, number> }> {
  const info = String(await stack.redis.cli('INFO', 'commandstats'))
  const by = Object.fromEntries(
    [...info.matchAll(/cmdstat_(\S+?):calls=(\d+)/g)].map(([, name, calls]) => [name!, Number(calls)]),
  )
  return { total: Object.values(by).reduce((sum, calls) => sum + calls, 0), by }
}
