/** QUEUE_SHARDS changes from 1 to 4, to 2 and back to 1 between restarts, with messages, dead letters and cursors in between: nothing is lost. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { boot, type Spillway } from '../harness/boot.ts'
import { client } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { putRows } from '../harness/rows.ts'
import type { SseClient } from '../harness/sse.ts'

const saved = 'subscription ($after: String) { saved(after: $after) { cursor content { id content } } }'

let system: Spillway
/** What was acknowledged: id -> content. */
const sent = new Map<string, string>()

beforeAll(async () => {
  system = await boot('redis + mariadb', { workers: 1 })
})
afterAll(() => system?.stop())

/** Stops all processes and starts others, as a deployment with another setting does. */
async function restart(shards: number, workers: number): Promise<void> {
  await Promise.all([...system.apis, ...system.workers].map((process) => system.kill(process, 'SIGTERM')))
  system.env = { ...system.env, QUEUE_SHARDS: String(shards) }
  await system.start(1, workers)
}

/** Half of them with ids of the client, and as many again in one request. */
async function save(count: number, name: string): Promise<string[]> {
  const ids = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const content = `${name} ${n}`
      const answer = await system.client.save(content, n % 2 === 0 ? { id: randomUUID() } : {})
      expect(answer.status).toBe(202)
      sent.set(answer.id, content)
      return answer.id
    }),
  )
  const inputs = Array.from({ length: count }, (_, n) => ({ id: randomUUID(), content: `${name} together ${n}` }))
  const { data } = await system.client.saveMany(inputs)
  expect(data.saveMany).toHaveLength(count)
  for (const { id, content } of inputs) sent.set(id, content)
  return [...ids, ...inputs.map(({ id }) => id)]
}

/** Saves other content under the id of a row that the queue does not know: it becomes a dead letter. */
async function saveConflict(): Promise<string> {
  const id = randomUUID()
  await putRows(system.env.DATABASE_URL!, [id], 'in the way')
  expect((await system.client.save('too late', { id })).status).toBe(202)
  return id
}

const contentsOf = ({ results }: SseClient): { id: string; content: string }[] =>
  results.map(({ data }) => data.saved.content)
const cursorOf = (client: SseClient): string => client.results.at(-1).data.saved.cursor

/** Subscribes from a cursor until everything since then has come, and returns the ids in their order. */
async function read(after: string, known: ReadonlySet<string>): Promise<string[]> {
  const client = await system.client.sse(saved, { after })
  try {
    await holds(() => {
      const came = new Set(contentsOf(client).map(({ id }) => id))
      expect([...sent.keys()].filter((id) => !known.has(id) && !came.has(id))).toEqual([])
    })
    return contentsOf(client).map(({ id }) => id)
  } finally {
    client.close()
  }
}

const drained = () =>
  holds(async () => expect(await system.client.queue()).toMatchObject({ depth: 0 }), { timeoutMs: 30_000 })

test('Spillway loses nothing and keeps its cursors while QUEUE_SHARDS changes from 1 to 4, 2 and 1', {
  timeout: 120_000,
}, async () => {
  const live = await system.client.sse(saved)
  await save(10, 'of one shard')
  await holds(() => expect(contentsOf(live)).toHaveLength(sent.size))
  const first = cursorOf(live)
  const beforeFirst = new Set(sent.keys())
  live.close()

  // Left in the queue of one shard: messages, and one that will be a dead letter.
  await Promise.all(system.workers.map((worker) => system.kill(worker)))
  const left = await save(10, 'left by one shard')
  const dead = [await saveConflict()]

  await restart(4, 0)
  for (const id of left) expect(await system.client.receipt(id)).toMatchObject({ status: 'QUEUED' })
  const [given] = left as [string]
  const again = await system.client.saveAndWait(sent.get(given)!, 0, given)
  expect(again.data.save).toMatchObject({ saveId: given, duplicate: true, status: 'QUEUED' })
  expect((await system.client.save('other', { id: given })).code).toBe('ID_CONFLICT')
  await system.startWorker()
  await save(30, 'of four shards')
  await drained()
  expect(await system.client.deadLetters()).toMatchObject([{ id: dead[0], failure: { code: 'ID_CONFLICT' } }])
  const order = await read(first, beforeFirst)
  const reader = await system.client.sse(saved, { after: first })
  await holds(() => expect(contentsOf(reader)).toHaveLength(order.length))
  const second = cursorOf(reader)
  const beforeSecond = new Set(sent.keys())
  reader.close()

  await Promise.all(system.workers.map((worker) => system.kill(worker)))
  const leftByFour = await save(15, 'left by four shards')
  for (let n = 0; n < 3; n += 1) dead.push(await saveConflict())

  await restart(2, 1)
  await save(15, 'of two shards')
  await drained()
  for (const id of leftByFour) expect(await system.client.receipt(id)).toMatchObject({ status: 'SAVED' })
  expect((await system.client.deadLetters()).map(({ id }) => id).sort()).toEqual(dead.toSorted())
  // Sent again, the content of a dead letter is a duplicate, wherever the number of shards puts its id now.
  for (const id of dead) {
    const { data } = await system.client.saveAndWait('too late', 0, id)
    expect(data?.save).toMatchObject({ saveId: id, duplicate: true, status: 'FAILED' })
  }
  // A dead letter of a shard that gets no more messages is retried there, and fails again; another one is discarded.
  expect(await system.client.changeDeadLetters('discard', { ids: dead.slice(0, 2) })).toMatchObject({ count: 2 })
  expect(await system.client.changeDeadLetters('retry', { filter: { model: 'Content' } })).toMatchObject({ count: 2 })
  await drained()
  await holds(async () =>
    expect((await system.client.deadLetters()).map(({ id }) => id).sort()).toEqual(dead.slice(2).sort()),
  )
  await read(second, beforeSecond)

  await restart(1, 1)
  await save(5, 'of one shard again')
  await drained()
  // One order for everybody, from every cursor: what was read before comes again, in the same order, then the rest.
  const all = await read(first, beforeFirst)
  expect(all.slice(0, order.length)).toEqual(order)
  expect(await read(second, beforeSecond)).toEqual(all.slice(order.length))
  expect(await system.client.deadLetters()).toHaveLength(2)

  const rows = new Map((await system.client.contents()).map(({ id, content }) => [id, content]))
  expect([...sent].filter(([id, content]) => rows.get(id) !== content)).toEqual([])
  expect(rows.size).toBe(sent.size + dead.length)
})

test('an API of one shard knows at its first request what others enqueued in four, and a process that only reads records no number', {
  timeout: 60_000,
}, async () => {
  await restart(4, 0)
  const messages = Array.from({ length: 20 }, (_, n) => ({ id: randomUUID(), content: `pending ${n}` }))
  for (const { id, content } of messages) expect((await system.client.save(content, { id })).status).toBe(202)
  await restart(1, 0)
  const answers = await Promise.all(messages.map(({ id }) => system.client.save('other', { id })))
  expect(answers.map(({ code }) => code)).toEqual(messages.map(() => 'ID_CONFLICT'))
  const again = await Promise.all(messages.map(({ id, content }) => system.client.saveAndWait(content, 0, id)))
  expect(again.map(({ data }) => data.save.duplicate)).toEqual(messages.map(() => true))

  system.env = { ...system.env, QUEUE_SHARDS: '7' }
  await system.startWorker()
  await drained()
  const { hosts, db, prefix } = parseRedisUrl(system.env.QUEUE_URL!)
  const redis = new Redis({ ...hosts[0]!, db })
  const layouts = await redis.hkeys(`{${prefix}:0}:layouts`).finally(() => redis.disconnect())
  expect(layouts.sort()).toEqual(['1', '2', '4'])
})

test('a worker and an API of one shard find the messages of an API that is the first to use three', {
  timeout: 60_000,
}, async () => {
  await restart(1, 1)
  const [former] = system.apis
  system.env = { ...system.env, QUEUE_SHARDS: '3' }
  const api = await system.startApi()
  const messages = Array.from({ length: 20 }, (_, n) => ({ id: randomUUID(), content: `rolling ${n}` }))
  const send = client(api.url!)
  for (const { id, content } of messages) expect((await send.save(content, { id })).status).toBe(202)
  // Before a worker has them, too: the other one knows where to look from the first save on.
  const others = await Promise.all(messages.map(({ id }) => client(former!.url!).save('other', { id })))
  expect(others.map(({ code }) => code)).toEqual(messages.map(() => 'ID_CONFLICT'))
  await drained()
  for (const { id } of messages) expect(await client(former!.url!).receipt(id)).toMatchObject({ status: 'SAVED' })
  const [{ id, content } = expect.unreachable()] = messages
  const again = await client(former!.url!).saveAndWait(content, 0, id)
  expect(again.data.save).toMatchObject({ saveId: id, duplicate: true, status: 'SAVED' })
  expect((await client(former!.url!).save('other', { id })).code).toBe('ID_CONFLICT')
})
