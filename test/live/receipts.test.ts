/** `receipts(ids:)`: the saves of a form with many rows, of an import or of an outbox, in one answer and in one subscription. */
import { randomUUID } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps, shared, unique } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { SseClient } from '../harness/sse.ts'
import { beforeExpiry, secret, tokenOf } from '../harness/tenants.ts'
import type { WsClient } from '../harness/ws.ts'

const fields =
  'saveId model status duplicate conflicts failure { code } ... on ContentReceipt { content { id content } }'
const ask = `query ($ids: [ID!]!) { receipts(ids: $ids) { ${fields} } }`
const follow = `subscription ($ids: [ID!]!) { receipts(ids: $ids) { ${fields} } }`

let system: Spillway | undefined
const open: { close(): void }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) each.close()
  await system?.stop()
  system = undefined
})

const newIds = (count: number) => Array.from({ length: count }, () => randomUUID() as string)

/** Enqueues one content for each id. */
async function saveAll({ client }: Spillway, ids: readonly string[], content: string): Promise<void> {
  for (let i = 0; i < ids.length; i += 1_000) {
    const inputs = ids.slice(i, i + 1_000).map((id) => ({ id, content: `${content} ${id}` }))
    const { errors } = await client.saveMany(inputs)
    expect(errors).toBeUndefined()
  }
}

/** The messages of a subscription, and whether it is complete. */
interface Followed {
  messages(): Json[]
  completes(): number
}

async function overSse({ client }: Spillway, ids: readonly string[]): Promise<Followed> {
  const sse = await client.sse(follow, { ids })
  open.push(sse)
  return {
    messages: () => sse.results,
    completes: () => sse.frames.filter(({ event }) => event === 'complete').length,
  }
}

async function overWs({ client }: Spillway, ids: readonly string[]): Promise<Followed> {
  const ws: WsClient = await client.ws()
  open.push(ws)
  ws.subscribe('1', follow, { ids })
  return {
    messages: () => ws.of('1').flatMap(({ type, payload }) => (type === 'next' ? [payload] : [])),
    completes: () => ws.of('1').filter(({ type }) => type === 'complete').length,
  }
}

/** The statuses that were sent of each id, in order. */
function statusesOf(messages: readonly Json[]): Map<string, string[]> {
  const statuses = new Map<string, string[]>()
  for (const { data, errors } of messages) {
    expect(errors).toBeUndefined()
    for (const { saveId, status } of data.receipts) statuses.set(saveId, [...(statuses.get(saveId) ?? []), status])
  }
  return statuses
}

const refusals: [string, unknown, RegExp][] = [
  ['no id', [], /ids is empty; give the id of at least one save/],
  ['more than 1,000 ids', newIds(1_001), /at most 1,000 ids may be given at once, got 1001/],
  ['a text that is no UUID', [randomUUID(), 'x', 'y'], /ids\[1\] must be a UUID, got "x"/],
]

describe.each(setUps)('Spillway (%s):', (setUp) => {
  test('receipts returns 1,000 receipts in the order of the ids, each at each of its places, and null for unknown ids', async () => {
    const system = await shared(setUp)
    const { client } = system
    const content = unique()
    const saved = newIds(996)
    await saveAll(system, saved, content)
    await holds(async () => expect((await client.queue()).depth).toBe(0), { timeoutMs: 30_000 })
    const ids = [randomUUID(), ...saved.toReversed(), saved[0]!.toUpperCase(), saved[0]!, randomUUID()]
    expect(ids).toHaveLength(1_000)
    const expected = ids.map((given, i) => {
      const id = given.toLowerCase()
      if (i === 0 || i === ids.length - 1) return null
      return {
        ...{ saveId: id, model: 'Content', status: 'SAVED', duplicate: false, conflicts: 0, failure: null },
        content: { id, content: `${content} ${id}` },
      }
    })
    // The first time Yoga executes the document, then the fast path.
    for (let i = 0; i < 3; i++) {
      const { data, errors } = await client.graphql(ask, { ids })
      expect(errors).toBeUndefined()
      expect(data.receipts).toEqual(expected)
    }
  })

  test('receipts follows the 1,000 saves of saveMany in a few messages, and completes when all are SAVED', async () => {
    const system = await shared(setUp)
    const ids = newIds(1_000)
    const content = unique()
    await saveAll(system, ids, content)
    const given = [randomUUID(), ...ids.slice(1)]
    const known = new Set(given.slice(1))
    for (const followed of [await overSse(system, given), await overWs(system, given)]) {
      await holds(() => expect(followed.completes()).toBe(1), { timeoutMs: 30_000 })
      const statuses = statusesOf(followed.messages())
      expect(new Set(statuses.keys())).toEqual(known)
      for (const [id, all] of statuses) expect(['SAVED', 'QUEUED SAVED'], id).toContain(all.join(' '))
      // The first message has all that are known, and a worker publishes many rows together.
      expect(followed.messages()[0].data.receipts).toHaveLength(known.size)
      expect(followed.messages().length).toBeLessThan(50)
      const rows = followed
        .messages()
        .flatMap(({ data }) => data.receipts.flatMap((receipt: Json) => receipt.content ?? []))
      expect(rows.map((row: Json) => row.content).sort()).toEqual([...known].map((id) => `${content} ${id}`).sort())
    }
  })

  test('receipts sends nothing for ids that were never enqueued, and completes', async () => {
    const system = await shared(setUp)
    for (const followed of [await overSse(system, newIds(3)), await overWs(system, newIds(1))]) {
      await holds(() => expect(followed.completes()).toBe(1))
      expect(followed.messages()).toEqual([])
    }
  })

  test.each(refusals)('receipts of %s is refused with BAD_USER_INPUT', async (_, ids, message) => {
    const system = await shared(setUp)
    const expected = { message: expect.stringMatching(message), extensions: { code: 'BAD_USER_INPUT' } }
    const { data, errors } = await system.client.graphql(ask, { ids })
    expect({ data, errors }).toMatchObject({ data: { receipts: null }, errors: [{ ...expected, path: ['receipts'] }] })
    const sse = await system.client.sse(follow, { ids })
    await sse.ended
    expect(sse.results).toMatchObject([{ errors: [expected] }])
    const ws = await system.client.ws()
    open.push(ws)
    ws.subscribe('1', follow, { ids })
    await holds(() => expect(ws.of('1')).toMatchObject([{ type: 'error', payload: [expected] }]))
  })
})

test('receipts sends each change of a pending save, and nothing between them', async () => {
  system = await boot('redis + mariadb', { workers: 0 })
  const ids = newIds(1_000)
  await saveAll(system, ids.slice(0, 999), 'pending')
  const all = [await overSse(system, ids), await overWs(system, ids)]
  for (const { messages } of all) {
    await holds(() => expect(messages()).toHaveLength(1))
    expect(messages()[0].data.receipts.map((receipt: Json) => [receipt.saveId, receipt.status])).toEqual(
      ids.slice(0, 999).map((id) => [id, 'QUEUED']),
    )
  }
  await system.startWorker()
  for (const { messages, completes } of all) {
    await holds(() => expect(completes()).toBe(1), { timeoutMs: 30_000 })
    expect(new Set([...statusesOf(messages()).values()].map(String))).toEqual(new Set(['QUEUED,SAVED']))
  }
  // The last id is unknown when the subscription begins.
  expect(statusesOf(all[0]!.messages()).has(ids[999]!)).toBe(false)
})

test('receipts of pending saves ends without complete when the server stops', async () => {
  system = await boot('redis + mariadb', { workers: 0 })
  const ids = newIds(10)
  await saveAll(system, ids, 'pending')
  const sse = await system.client.sse(follow, { ids })
  const ws = await system.client.ws()
  ws.subscribe('1', follow, { ids })
  await holds(() => expect([sse.results.length, ws.of('1').length]).toEqual([1, 1]))
  system.api.kill('SIGTERM')
  await sse.ended
  expect(await ws.closed).toBe(1012)
  expect([sse.frames.map(({ event }) => event), ws.of('1').map(({ type }) => type)]).toEqual([['next'], ['next']])
})

test('receipts of pending saves ends with the token that opened it', async () => {
  system = await boot('redis + mariadb', { workers: 0, env: { AUTH_JWT_SECRET: secret } })
  const ids = newIds(10)
  const writer = await tokenOf({})
  const inputs = ids.map((id) => ({ id, content: 'pending' }))
  const saved = await system.client.graphql(
    'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }',
    { inputs },
    { authorization: `Bearer ${writer}` },
  )
  expect(saved.errors).toBeUndefined()
  const { url } = system
  const sse = await beforeExpiry(async (authorization) => {
    const opened = await SseClient.open(url, follow, { ids }, { authorization })
    await Promise.race([opened.ended, holds(() => expect(opened.results).toHaveLength(1))])
    return opened.results.length > 0 ? opened : undefined
  })
  await sse.ended
  expect(sse.frames.map(({ event }) => event)).toEqual(['next'])
})
