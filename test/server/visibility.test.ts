/** Who sees which rows of a model with `visibleTo`, over every way to a row; and what of it is shared between clients. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { Memo, resolved } from '../harness/models.ts'
import { openStream } from '../harness/ways.ts'

const red = { sub: 'ann', tenant: 'red' }
const redToo = { sub: 'rob', tenant: 'red' }
const blue = { sub: 'bea', tenant: 'blue' }
const none = { sub: 'carl' }
const admin = { sub: 'root', scope: 'read write admin' }
const numeric = { sub: 'num', tenant: 7 }

let server: ModelServer
beforeAll(async () => {
  server = await serveModels()
})
afterAll(() => server?.close())

async function ask(claims: object, query: string, variables = {}, url = server.fast): Promise<Json> {
  return (await (await server.as({ ...claims }, url)).graphql(query, variables)).body
}

/** Over both servers, by POST and GET, often enough to be compiled and cached. */
async function everywhere(claims: object, query: string): Promise<Json> {
  const answers: Json[] = []
  for (const url of [server.fast, server.plain]) {
    const client = await server.as({ ...claims }, url)
    for (let i = 0; i < 4; i++) answers.push((await client.graphql(query)).body)
    const got = await client.fetch(`/graphql?query=${encodeURIComponent(query)}`)
    answers.push(await got.json())
  }
  for (const answer of answers) expect(answer).toEqual(answers[0])
  return answers[0]
}

async function save(claims: object, text: string, topic = 1): Promise<string> {
  const query = 'mutation ($input: MemoInput!) { saveMemo(input: $input, waitMs: 20000) { saveId status } }'
  const answer = await ask(claims, query, { input: { text, topic } })
  expect(answer.data?.saveMemo?.status, JSON.stringify(answer)).toBe('SAVED')
  return answer.data.saveMemo.saveId
}

const forbidden = (errors: Json) => errors.map(({ extensions }: Json) => extensions.code)

describe('A model with visibleTo', () => {
  test('sets the column from the claim, and its input has no such field', async () => {
    const id = await save(red, 'mine')
    expect(await everywhere(red, `{ memo(id: "${id}") { tenantId text } }`)).toEqual({
      data: { memo: { tenantId: 'red', text: 'mine' } },
    })
    const query = 'mutation ($input: MemoInput!) { saveMemo(input: $input) { saveId } }'
    const answer = await ask(red, query, { input: { text: 'x', topic: 1, tenantId: 'blue' } })
    expect(answer.errors[0].message).toContain('Field "tenantId" is not defined by type "MemoInput"')
    const claimless = await ask(none, query, { input: { text: 'x', topic: 1 } })
    expect(claimless.errors[0]).toMatchObject({
      message: 'tenantId of Memo is set from the claim "tenant", which this token lacks.',
      extensions: { code: 'FORBIDDEN' },
    })
  })

  test('shows each tenant its own rows in pages, before and after they are cached', async () => {
    const topic = 10
    await save(red, 'red 1', topic)
    await save(blue, 'blue 1', topic)
    const list = `{ memos(topic: ${topic}) { edges { node { tenantId text } } } }`
    const rowsOf = (answer: Json) => answer.data.memos.edges.map(({ node }: Json) => node.text)
    expect(rowsOf(await everywhere(red, list))).toEqual(['red 1'])
    expect(rowsOf(await everywhere(blue, list))).toEqual(['blue 1'])
    expect(rowsOf(await everywhere(redToo, list))).toEqual(['red 1'])
    expect(rowsOf(await everywhere(admin, list))).toEqual(['blue 1', 'red 1'])
    const answer = await everywhere(none, list)
    expect(answer.data.memos).toBeNull()
    expect(forbidden(answer.errors)).toEqual(['FORBIDDEN'])
    await save(red, 'red 2', topic)
    expect(rowsOf(await everywhere(red, list))).toEqual(['red 2', 'red 1'])
    expect(rowsOf(await everywhere(blue, list))).toEqual(['blue 1'])
    expect(rowsOf(await everywhere(admin, list))).toEqual(['red 2', 'blue 1', 'red 1'])
  })

  test('reads a page once for all clients that see the same rows, and not again for a row that they do not see', async () => {
    const topic = 11
    const list = `{ memos(topic: ${topic}) { edges { node { text } } } }`
    const times = async (claims: object) => {
      const before = server.store.pages
      for (let i = 0; i < 3; i++) await ask(claims, list)
      return server.store.pages - before
    }
    await save(red, 'first', topic)
    expect(await times(red)).toBe(1)
    expect(await times(redToo)).toBe(0)
    expect(await times(blue)).toBe(1)
    // Of another tenant, and of another topic.
    await save(blue, 'other tenant', topic)
    await save(red, 'other topic', topic + 1)
    expect(await times(red)).toBe(0)
    expect(await times(blue)).toBe(1)
    await save(red, 'second', topic)
    expect(await times(redToo)).toBe(1)
  })

  test('refuses a narrowing to another tenant, and takes one to its own', async () => {
    await save(red, 'own', 12)
    const own = await everywhere(red, '{ memos(tenantId: "red", first: 1) { edges { node { tenantId } } } }')
    expect(own).toEqual({ data: { memos: { edges: [{ node: { tenantId: 'red' } }] } } })
    for (const other of ['blue', 'Red', 'red ']) {
      const answer = await everywhere(red, `{ memos(tenantId: ${JSON.stringify(other)}) { edges { node { text } } } }`)
      expect(answer.data.memos).toBeNull()
      expect(['FORBIDDEN', 'BAD_USER_INPUT']).toContain(answer.errors[0].extensions.code)
    }
    const byAdmin = await everywhere(admin, '{ memos(tenantId: "red", first: 1) { edges { node { tenantId } } } }')
    expect(byAdmin).toEqual(own)
  })

  test('does not page on from the row of another tenant', async () => {
    await save(red, 'a', 13)
    await save(blue, 'b', 13)
    const page = await everywhere(blue, '{ memos(topic: 13) { edges { cursor } } }')
    const cursor = page.data.memos.edges[0].cursor
    const answer = await everywhere(red, `{ memos(topic: 13, after: "${cursor}") { edges { node { text } } } }`)
    expect(answer.data.memos).toBeNull()
    expect(answer.errors[0].message).toContain('the cursor names no row of memos')
  })

  test('hides the row of another tenant from memo(id) and node(id) as if there were none', async () => {
    const id = await save(red, 'hidden')
    for (const [claims, seen] of [
      [red, true],
      [redToo, true],
      [admin, true],
      [blue, false],
      [numeric, false],
    ] as const) {
      const row = seen ? { text: 'hidden' } : null
      expect(await everywhere(claims, `{ memo(id: "${id}") { text } }`)).toEqual({ data: { memo: row } })
      const node = await everywhere(claims, `{ node(id: "${id}") { __typename id ... on Memo { text } } }`)
      expect(node).toEqual({ data: { node: seen ? { __typename: 'Memo', id, text: 'hidden' } : null } })
    }
    for (const asked of [id, randomUUID()]) {
      expect(await everywhere(none, `{ node(id: "${asked}") { id } }`)).toEqual({ data: { node: null } })
      expect(forbidden((await everywhere(none, `{ memo(id: "${asked}") { id } }`)).errors)).toEqual(['FORBIDDEN'])
    }
  })

  test('leaves out the row from the receipt of a client that may not see it', async () => {
    const id = await save(red, 'receipt')
    const query = `{ receipt(id: "${id}") { __typename saveId model status ... on MemoReceipt { memo { text } } } }`
    const receipt = { __typename: 'MemoReceipt', saveId: id, model: 'Memo', status: 'SAVED' }
    expect(await everywhere(red, query)).toEqual({ data: { receipt: { ...receipt, memo: { text: 'receipt' } } } })
    expect(await everywhere(blue, query)).toEqual({ data: { receipt: { ...receipt, memo: null } } })
    expect(await everywhere(none, query)).toEqual({ data: { receipt: { ...receipt, memo: null } } })
    // A retry by another tenant is another save: it has another tenantId.
    const mutation = 'mutation ($input: MemoInput!, $id: ID) { saveMemo(input: $input, id: $id) { memo { text } } }'
    const retry = await ask(blue, mutation, { input: { text: 'receipt', topic: 1 }, id })
    expect(retry.data).toEqual({ saveMemo: null })
    expect(forbidden(retry.errors)).toEqual(['ID_CONFLICT'])
    const subscription = `subscription ${query}`
    for (const wire of ['POST', 'WebSocket'] as const) {
      const stream = await open(blue, subscription, wire)
      expect(await eventually(() => stream.results()[0])).toEqual({ data: { ...receipt, memo: null } })
      stream.close()
    }
  })

  test.each(['POST', 'GET', 'WebSocket'] as const)(
    'streams to each client the rows that it sees, by %s',
    async (wire) => {
      const query = 'subscription { memoSaved { memo { tenantId text } } }'
      const narrowed = 'subscription { memoSaved(topic: 21) { memo { text } } }'
      const [ofRed, ofRedToo, ofBlue, ofAdmin, ofTopic] = await Promise.all([
        open(red, query, wire),
        open(redToo, query, wire),
        open(blue, query, wire),
        open(admin, query, wire),
        open(red, narrowed, wire),
      ])
      await save(red, 'one', 20)
      await save(blue, 'two', 21)
      await save(red, 'three', 21)
      await save(blue, 'four', 20)
      const texts = (stream: Stream) => stream.results().map(({ data }) => data.memo.text)
      await holds(() => {
        expect(texts(ofAdmin!)).toEqual(['one', 'two', 'three', 'four'])
        expect(texts(ofRed!)).toEqual(['one', 'three'])
        expect(texts(ofRedToo!)).toEqual(['one', 'three'])
        expect(texts(ofBlue!)).toEqual(['two', 'four'])
        expect(texts(ofTopic!)).toEqual(['three'])
      })
      for (const stream of [ofRed, ofRedToo, ofBlue, ofAdmin, ofTopic]) stream!.close()
    },
  )

  test.each(['POST', 'GET', 'WebSocket'] as const)(
    'refuses a stream that the client may not see, by %s',
    async (wire) => {
      for (const [claims, args, code] of [
        [none, '', 'FORBIDDEN'],
        [red, '(tenantId: "blue")', 'FORBIDDEN'],
        [red, '(tenantId: "red", topic: 1)', 'BAD_USER_INPUT'],
      ] as const) {
        const stream = await open(claims, `subscription { memoSaved${args} { cursor } }`, wire)
        const result = await eventually(() => stream.results()[0])
        expect(result.errors[0].extensions.code).toBe(code)
        stream.close()
      }
    },
  )
})

test("editDeadLetter keeps the value of a client's token, whoever edits, and refuses another one", async () => {
  const id = randomUUID()
  const row = { id, createdAt: new Date(5), savedAt: new Date(5), tenantId: 'blue', topic: 1, text: 'in the way' }
  await server.store.insert(Memo, [row])
  const query = 'mutation ($input: MemoInput!, $id: ID) { saveMemo(input: $input, id: $id, waitMs: 20000) { status } }'
  const failed = await ask(red, query, { id, input: { topic: 1, text: 'wrong' } })
  expect(failed.data).toEqual({ saveMemo: { status: 'FAILED' } })
  server.store.remove(Memo, id)
  const edit = (input: object) =>
    ask(
      { ...admin, tenant: 'blue' },
      'mutation ($id: ID!, $input: JSON!) { editDeadLetter(id: $id, input: $input) { status } }',
      { id, input },
    )
  for (const tenantId of ['blue', null, 5])
    expect((await edit({ topic: 1, text: 'right', tenantId })).errors[0]).toMatchObject({
      message: 'tenantId of Memo was set from the token of the client, and stays as it is; leave it out',
      extensions: { code: 'BAD_USER_INPUT' },
    })
  expect(await edit({ topic: 1, text: 'right', tenantId: 'red' })).toEqual({
    data: { editDeadLetter: { status: 'QUEUED' } },
  })
  await holds(async () =>
    expect(await ask(red, `{ memo(id: "${id}") { tenantId text } }`)).toEqual({
      data: { memo: { tenantId: 'red', text: 'right' } },
    }),
  )
})

describe('A field of a model with visibleTo that looks at the viewer', () => {
  test('is resolved for each client: in pages, rows, nodes, receipts and streams', async () => {
    const topic = 30
    const id = await save(red, 'seen', topic)
    for (const claims of [red, redToo, admin]) {
      for (const [query, path] of [
        [`{ memos(topic: ${topic}) { edges { node { viewer } } } }`, 'memos'],
        [`{ memo(id: "${id}") { viewer } }`, 'memo'],
        [`{ node(id: "${id}") { ... on Memo { viewer } } }`, 'node'],
        [`{ receipt(id: "${id}") { ... on MemoReceipt { memo { viewer } } } }`, 'receipt'],
      ] as const) {
        expect(JSON.stringify((await everywhere(claims, query)).data[path])).toContain(`"viewer":"${claims.sub}"`)
      }
    }
    const streams = await Promise.all(
      (['POST', 'WebSocket'] as const).flatMap((wire) =>
        [red, redToo, blue].map(async ({ sub, ...claims }) => {
          const stream = await open({ sub, ...claims }, 'subscription { memoSaved { memo { text viewer } } }', wire)
          return { sub, stream }
        }),
      ),
    )
    await save(red, 'an event', topic)
    await save(blue, 'the last', topic)
    for (const { sub, stream } of streams) {
      const text = sub === blue.sub ? 'the last' : 'an event'
      await holds(() => expect(stream.results()).toEqual([{ data: { memo: { text, viewer: sub } } }]))
      stream.close()
    }
  })

  test('is resolved once for all clients that see the row if it says shared: true', async () => {
    const topic = 31
    await save(red, 'shared', topic)
    const list = `{ memos(topic: ${topic}) { edges { node { letters } } } }`
    for (let i = 0; i < 3; i++) await ask(red, list)
    const before = resolved.letters
    for (const claims of [red, redToo]) {
      expect(await ask(claims, list)).toEqual({ data: { memos: { edges: [{ node: { letters: 6 } }] } } })
    }
    expect(resolved.letters).toBe(before)
    expect(await ask(blue, list)).toEqual({ data: { memos: { edges: [] } } })
    const streams = await Promise.all(
      [red, redToo, blue].map((claims) => open(claims, 'subscription { memoSaved { memo { letters } } }', 'POST')),
    )
    const beforeEvents = resolved.letters
    await save(red, 'four', topic)
    await holds(() => {
      expect(streams.map((stream) => stream.results().length)).toEqual([1, 1, 0])
      expect(resolved.letters - beforeEvents).toBe(1)
    })
    for (const stream of streams) stream.close()
  })
})

type Stream = Awaited<ReturnType<typeof openStream>>

async function open(claims: object, query: string, wire: 'POST' | 'GET' | 'WebSocket'): Promise<Stream> {
  const authorization = `Bearer ${await server.token({ ...claims })}`
  const transport = { wire, accept: 'text/event-stream', extra: {} }
  return await openStream(server.fast, { query, variables: {} }, transport, { authorization })
}
