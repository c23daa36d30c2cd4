/** The main job, end to end, as its users see it: save, event, contents; on both set-ups, in real processes. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { putRows } from '../harness/rows.ts'
import { SseClient } from '../harness/sse.ts'

const saved = 'subscription { saved { cursor content { id content } } }'

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot(setUp)
  })
  afterAll(() => system?.stop())

  test('answers POST /save and GET /', async () => {
    const response = await fetch(`${system.url}/save`, {
      method: 'POST',
      // What curl -d sends.
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: '{"content":"something"}',
    })
    expect(response.status).toBe(202)
    const { id, ...rest } = (await response.json()) as { id: string; status: string }
    expect(rest).toEqual({ status: 'QUEUED' })
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/)
    const page = await holds(async () => {
      const body = await (await fetch(system.url)).json()
      expect(body).toMatchObject({ results: [{ id, content: 'something' }] })
      return body as { results: { created_at: string }[]; next: unknown }
    })
    expect(page.next).toBeNull()
    expect(page.results[0]!.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    const receipt = await holds(async () => {
      const found = await system.client.receipt(id.toUpperCase())
      expect(found).toMatchObject({ id, status: 'SAVED', duplicate: false, failure: null })
      return found as { content: { content: string } }
    })
    expect(receipt.content.content).toBe('something')
  })

  test('saves over GraphQL, sends the event, and returns the row in contents (P5)', async () => {
    const subscriber = await SseClient.open(system.url, saved)
    const { body } = await system.client.graphql(
      'mutation { save(content: "over GraphQL") { saveId status duplicate failure { code } content { id } } }',
    )
    expect(body.data.save).toEqual({
      saveId: expect.any(String),
      status: 'QUEUED',
      duplicate: false,
      failure: null,
      content: null,
    })
    const { saveId: id } = body.data.save
    await holds(() =>
      expect(subscriber.results.map(({ data }) => data.saved.content)).toContainEqual({ id, content: 'over GraphQL' }),
    )
    const now = await system.client.graphql(
      'query ($id: ID!) { contents(first: 1) { edges { node { id } } } content(id: $id) { content } receipt(id: $id) { status } }',
      { id },
    )
    expect(now.body.data).toEqual({
      contents: { edges: [{ node: { id } }] },
      content: { content: 'over GraphQL' },
      receipt: { status: 'SAVED' },
    })
    subscriber.close()
  })

  test('answers a save with waitMs SAVED', async () => {
    const { body } = await system.client.graphql(
      'mutation { save(content: "wait", waitMs: 20000) { saveId status content { content createdAt savedAt } acceptedAt } }',
    )
    expect(body.data.save).toMatchObject({
      status: 'SAVED',
      content: { content: 'wait', createdAt: body.data.save.acceptedAt },
    })
    expect(Date.parse(body.data.save.content.savedAt)).toBeGreaterThanOrEqual(Date.parse(body.data.save.acceptedAt))
  })

  test('sends a receipt subscription SAVED and completes it', async () => {
    const id = randomUUID()
    await system.client.graphql('mutation ($id: ID!) { save(content: "followed", id: $id) { saveId } }', { id })
    const subscriber = await SseClient.open(
      system.url,
      'subscription ($id: ID!) { receipt(id: $id) { status ... on ContentReceipt { content { content } } } }',
      { id },
    )
    await subscriber.ended
    expect(subscriber.results.at(-1)).toEqual({
      data: { receipt: { status: 'SAVED', content: { content: 'followed' } } },
    })
    expect(subscriber.frames.at(-1)!.event).toBe('complete')
  })

  test('answers a retry as a duplicate and other content ID_CONFLICT (P3)', async () => {
    const id = randomUUID()
    const save =
      'mutation ($id: ID!, $content: String!) { save(content: $content, id: $id, waitMs: 20000) { status duplicate failure { code } } }'
    const first = await system.client.graphql(save, { id, content: 'once' })
    expect(first.body.data.save).toEqual({ status: 'SAVED', duplicate: false, failure: null })
    const again = await system.client.graphql(save, { id: id.toUpperCase(), content: 'once' })
    expect(again.body.data.save).toEqual({ status: 'SAVED', duplicate: true, failure: null })
    const other = { id, content: 'something else' }
    const refused = await system.client.graphql(save, other)
    expect(refused.body.errors[0].extensions.code).toBe('ID_CONFLICT')
    expect((await system.client.save(other.content, { id })).status).toBe(409)
    const ask =
      'query ($id: ID!) { receipt(id: $id) { status conflicts failure { code } ... on ContentReceipt { content { content } } } }'
    const saved = { status: 'SAVED', conflicts: 0, failure: null, content: { content: 'once' } }
    expect((await system.client.graphql(ask, { id })).body.data.receipt).toEqual(saved)
  })

  test('fails the later of two saves under an id that the queue has forgotten, and the first stays SAVED (P3)', async () => {
    const id = randomUUID()
    await putRows(system.env.DATABASE_URL!, [id], 'long ago')
    const ask =
      'query ($id: ID!) { receipt(id: $id) { status duplicate conflicts failure { code } ... on ContentReceipt { content { content } } } }'
    const receipt = async () => (await system.client.graphql(ask, { id })).body.data.receipt
    const first = { status: 'SAVED', duplicate: false, conflicts: 0, failure: null, content: { content: 'long ago' } }
    expect(await receipt()).toEqual(first)
    const save =
      'mutation ($id: ID!, $content: String!) { save(content: $content, id: $id, waitMs: 20000) { status duplicate conflicts failure { code } } }'
    const failed = { status: 'FAILED', conflicts: 1, failure: { code: 'ID_CONFLICT' } }
    for (const duplicate of [false, true]) {
      const { body } = await system.client.graphql(save, { id, content: 'something else' })
      expect(body.data.save).toEqual({ ...failed, duplicate })
      expect(await receipt()).toEqual({ ...first, conflicts: 1 })
      const rest = await system.client.receipt(id)
      expect(rest).toMatchObject({ status: 'SAVED', conflicts: 1, content: { content: 'long ago' } })
    }
    const subscription = 'subscription ($id: ID!) { receipt(id: $id) { status conflicts } }'
    const subscriber = await SseClient.open(system.url, subscription, { id })
    await subscriber.ended
    expect(subscriber.results).toEqual([{ data: { receipt: { status: 'SAVED', conflicts: 1 } } }])
    // The conflict has told the queue what stands: a third one is refused, and the first one's retry is a duplicate.
    const third = await system.client.graphql(save, { id, content: 'a third' })
    expect(third.body.errors[0].extensions.code).toBe('ID_CONFLICT')
    expect((await system.client.graphql(save, { id, content: 'long ago' })).body.data.save).toMatchObject({
      status: 'SAVED',
      duplicate: true,
    })
    const letters = await system.client.graphql(
      '{ deadLetters { edges { node { saveId model input acceptedAt failure { code attempts } } } } }',
    )
    expect(letters.body.data.deadLetters.edges).toContainEqual({
      node: {
        saveId: id,
        model: 'Content',
        input: { content: 'something else' },
        acceptedAt: expect.stringMatching(/Z$/),
        failure: { code: 'ID_CONFLICT', attempts: 1 },
      },
    })
    const change = (how: 'retry' | 'discard') => system.client.changeDeadLetters(how, { ids: [id] })
    // A retry becomes a conflict again; nobody's receipt goes back.
    expect(await change('retry')).toEqual({ count: 1, saveIds: [id] })
    await holds(async () => {
      const now = await receipt()
      expect(now).toMatchObject({ status: 'SAVED', content: { content: 'long ago' } })
      expect(now.conflicts).toBe(1)
    })
    expect(await change('discard')).toEqual({ count: 1, saveIds: [id] })
    expect(await receipt()).toEqual(first)
  })

  test('saves all inputs of saveMany or none', async () => {
    const many = 'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId status } }'
    const inputs = Array.from({ length: 1_000 }, (_, i) => ({ content: `many ${i}`, id: randomUUID() }))
    const { body } = await system.client.graphql(many, { inputs })
    expect(body.data.saveMany).toEqual(inputs.map(({ id }) => ({ saveId: id, status: 'QUEUED' })))
    const bad = await system.client.graphql(many, {
      inputs: [{ content: 'never saved' }, { content: 'x', id: 'no UUID' }],
    })
    expect(bad.body.errors[0]).toMatchObject({
      message: expect.stringContaining('inputs[1].id must be a UUID'),
      extensions: { code: 'BAD_USER_INPUT' },
    })
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    const contents = await system.client.contents()
    expect(new Set(contents.map(({ id }) => id)).size).toBe(contents.length)
    expect(contents.filter(({ content }) => content.startsWith('many'))).toHaveLength(1_000)
    expect(contents.some(({ content }) => content === 'never saved')).toBe(false)
  })
})

describe.each(setUps)('Spillway (%s) under load', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot(setUp)
  })
  afterAll(() => system?.stop())

  test('writes 1,000 rows and sends 1,000 events for 1,000 saves of 20 clients', async () => {
    const subscriber = await SseClient.open(system.url, saved)
    const ids = (await Promise.all(Array.from({ length: 20 }, (_, client) => saveInTurn(system, client, 50)))).flat()
    await holds(() => expect(subscriber.results).toHaveLength(1_000))
    const events = subscriber.results.map(({ data }) => data.saved)
    expect(events.map(({ content }) => content.id).sort()).toEqual([...ids].sort())
    const cursors = events.map(({ cursor }) => cursor)
    expect([...cursors].sort()).toEqual(cursors)
    expect(new Set(cursors).size).toBe(1_000)
    expect((await system.client.contents()).map(({ id }) => id).sort()).toEqual([...ids].sort())
    subscriber.close()
  })

  test('loses nothing when all its processes are killed (P2)', async () => {
    const before = (await system.client.contents()).length
    const clients = Array.from({ length: 10 }, (_, client) => saveInTurn(system, client, 100))
    const acknowledged = Promise.all(clients)
    await holds(async () => expect((await system.client.contents()).length).toBeGreaterThan(before + 50))
    await system.crash()
    const ids = (await acknowledged).flat()
    await holds(async () => expect((await system.client.queue()).depth).toBe(0), { timeoutMs: 40_000 })
    const rows = new Set((await system.client.contents()).map(({ id }) => id))
    expect(ids.length).toBeGreaterThan(50)
    expect(ids.filter((id) => !rows.has(id))).toEqual([])
  }, 90_000)
})

/** One client's saves, one after another, until one fails; the ids that were acknowledged. */
async function saveInTurn({ client }: Spillway, number: number, count: number): Promise<string[]> {
  const ids: string[] = []
  for (let i = 0; i < count; i++) {
    try {
      const content = `client ${number} says ${i}`
      const { data } = await client.graphql('mutation ($content: String!) { save(content: $content) { saveId } }', {
        content,
      })
      ids.push(data.save.saveId)
    } catch {
      break
    }
  }
  return ids
}
