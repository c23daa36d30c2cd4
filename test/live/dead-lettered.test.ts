/** `deadLettered`: an operator's tool hears of each dead letter, resumes where it stopped, and needs no poll; on both set-ups. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, test } from 'vitest'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { boot, type Spillway, setUps, shared } from '../harness/boot.ts'
import { type Client, client, type Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { putRows } from '../harness/rows.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const document =
  'subscription ($after: String) { deadLettered(after: $after) { cursor saveId model failure { code message attempts failedAt } } }'
const save = 'mutation ($id: ID!, $content: String!) { save(id: $id, content: $content, waitMs: 20000) { status } }'

let system: Spillway | undefined
const open: { close(): void }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) each.close()
  await system?.stop()
  system = undefined
})

const newIds = (count: number) => Array.from({ length: count }, () => randomUUID() as string)

/** Enqueues other content under ids that have rows: each becomes a dead letter. */
async function fail(system: Spillway, ids: readonly string[], token?: string): Promise<void> {
  await putRows(system.env.DATABASE_URL!, ids, 'in the way')
  for (const id of ids) {
    const { data } = await client(system.url, token).graphql(save, { id, content: 'other' })
    expect(data.save).toEqual({ status: 'FAILED' })
  }
}

async function subscribe(from: Client, after?: string, headers: Record<string, string> = {}) {
  const sse = await from.sse(document, { after }, headers)
  open.push(sse)
  return sse
}

const eventsOf = (results: readonly Json[]) => results.map(({ data }) => data.deadLettered)
const idsOf = (results: readonly Json[]) => eventsOf(results).map(({ saveId }) => saveId)

describe.each(setUps)('Spillway (%s):', (setUp) => {
  test('deadLettered sends each dead letter once deadLetters lists it, over SSE and WebSocket alike', async () => {
    const system = await shared(setUp)
    const { client } = system
    const list = async (): Promise<Json[]> =>
      (
        await client.graphql(
          '{ deadLetters(first: 100) { edges { node { saveId model failure { code message attempts failedAt } } } } }',
        )
      ).data.deadLetters.edges.map(({ node }: Json) => node)
    const sse = await subscribe(client)
    const ws = await client.ws()
    open.push(ws)
    const listed: Promise<void>[] = []
    ws.onMessage = ({ type, payload }) => {
      if (type !== 'next') return
      const { cursor: _, ...letter } = payload.data.deadLettered
      listed.push(list().then((all) => expect(all).toContainEqual(letter)))
    }
    ws.subscribe('1', document)
    const ids = newIds(5)
    // A saved row beside them is no event of this feed.
    await client.saveAndWait('saved')
    await fail(system, ids)
    await holds(() => expect([idsOf(sse.results), ws.of('1')]).toEqual([ids, expect.objectContaining({ length: 5 })]))
    expect(ws.of('1').map(({ payload }) => payload)).toEqual(sse.results)
    for (const event of eventsOf(sse.results))
      expect(event).toMatchObject({ model: 'Content', failure: { code: 'ID_CONFLICT', attempts: 1 } })
    expect(listed).toHaveLength(5)
    await Promise.all(listed)
  })

  test('deadLettered resumes after a cursor, by its argument and by Last-Event-ID, and from the cursor of an open stream', async () => {
    const system = await shared(setUp)
    const { client } = system
    const first = await subscribe(client)
    const start = await eventually(() => first.frames[0]?.id)
    const ids = newIds(6)
    await fail(system, ids)
    await holds(() => expect(idsOf(first.results)).toEqual(ids))
    const cursors = eventsOf(first.results).map(({ cursor }) => cursor)
    expect(first.frames.filter(({ event }) => event === 'next').map(({ id }) => id)).toEqual(cursors)
    const later = await subscribe(client, cursors[2])
    const back = await subscribe(client, undefined, { 'last-event-id': cursors[3] })
    const all = await subscribe(client, start)
    const { data } = await client.graphql('{ contents(first: 1) { savedCursor } }')
    const after = await subscribe(client, data.contents.savedCursor)
    const [more] = newIds(1) as [string]
    await fail(system, [more])
    await holds(() => {
      expect(idsOf(later.results)).toEqual([...ids.slice(3), more])
      expect(idsOf(back.results)).toEqual([...ids.slice(4), more])
      expect(idsOf(all.results)).toEqual([...ids, more])
      expect(idsOf(after.results)).toEqual([more])
    })
    const wrong = await subscribe(client, `other.${cursors[0]!.split('.').slice(1).join('.')}`)
    await wrong.ended
    expect(wrong.results).toMatchObject([{ errors: [{ extensions: { code: 'CURSOR_EXPIRED' } }] }])
  })
})

test('deadLettered needs the scope admin, over SSE and WebSocket', async () => {
  system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret } })
  const [reader, admin] = [await tokenOf({ scope: 'read write' }), await tokenOf({ scope: 'read write admin' })]
  const refused = await subscribe(client(system.url, reader))
  await refused.ended
  expect(refused.results).toMatchObject([
    { errors: [{ message: expect.stringContaining('"admin"'), extensions: { code: 'FORBIDDEN' } }] },
  ])
  const ws = await client(system.url, reader).ws()
  open.push(ws)
  ws.subscribe('1', document)
  await holds(() =>
    expect(ws.of('1')).toMatchObject([{ type: 'error', payload: [{ extensions: { code: 'FORBIDDEN' } }] }]),
  )
  const allowed = await subscribe(client(system.url, admin))
  const ids = newIds(1)
  await fail(system, ids, admin)
  await holds(() => expect(idsOf(allowed.results)).toEqual(ids))
})

test('deadLettered names a message without an id, and one that is no message, as deadLetters does', async () => {
  const system = await shared('redis + mariadb')
  const sse = await subscribe(system.client)
  const address = parseRedisUrl(system.env.QUEUE_URL!)
  const redis = new Redis(system.env.QUEUE_URL!)
  try {
    const { stream } = queueKeys(hashTag(address, '0'))
    await redis.xadd(stream, '*', 'm', 'of another program')
    await redis.xadd(stream, '*', 'something', 'else')
  } finally {
    redis.disconnect()
  }
  await holds(() => expect(sse.results).toHaveLength(2))
  const { data } = await system.client.graphql('{ deadLetters { edges { node { saveId model failure { code } } } } }')
  const nodes: Json[] = data.deadLetters.edges.map(({ node }: Json) => node)
  const listed = nodes.filter(({ failure }) => failure.code === 'UNDECODABLE')
  expect(listed).toHaveLength(2)
  const announced = eventsOf(sse.results).map(({ saveId, model, failure: { code } }) => ({
    saveId,
    model,
    failure: { code },
  }))
  // Each may have been received by another worker, so that its event comes earlier than its turn in the list.
  const byId = (a: Json, b: Json) => a.saveId.localeCompare(b.saveId)
  expect(announced.toSorted(byId)).toEqual(listed.toSorted(byId))
  for (const { model, failure } of eventsOf(sse.results)) expect([model, failure.code]).toEqual([null, 'UNDECODABLE'])
})
