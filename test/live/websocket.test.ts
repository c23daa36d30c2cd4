/** graphql-transport-ws beyond subscriptions to `saved`: other operations, errors, and what a client may not do. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, unique } from '../harness/boot.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { WsClient } from '../harness/ws.ts'

let system: Spillway

beforeAll(async () => {
  system = await boot('embedded')
})
afterAll(async () => {
  await system.stop()
})

test('a WebSocket answers a mutation and a query at once', async () => {
  const client = await WsClient.connect(system.url)
  const content = unique()
  client.subscribe('m', 'mutation ($c: String!) { save(content: $c, waitMs: 20000) { status content { content } } }', {
    c: content,
  })
  client.subscribe('q', '{ queue { durability } }')
  await holds(() => expect(client.messages.filter(({ type }) => type === 'complete')).toHaveLength(2))
  expect(client.of('m')).toEqual([
    { id: 'm', type: 'next', payload: { data: { save: { status: 'SAVED', content: { content } } } } },
    { id: 'm', type: 'complete' },
  ])
  expect(client.of('q')).toEqual([
    { id: 'q', type: 'next', payload: { data: { queue: { durability: 'FSYNC' } } } },
    { id: 'q', type: 'complete' },
  ])
  client.close()
})

test('a WebSocket sends each of many subscriptions its event once, and takes the id of a completed one again', async () => {
  const client = await WsClient.connect(system.url)
  const ids = Array.from({ length: 20 }, (_, i) => `s${i}`)
  for (const id of ids) client.subscribe(id, `subscription { saved { content { content } cursor } }`)
  client.send({ type: 'ping' })
  await eventually(() => client.messages.some(({ type }) => type === 'pong'))
  client.send({ id: 's0', type: 'complete' })
  const content = unique()
  await system.client.graphql('mutation ($c: String!) { save(content: $c, waitMs: 20000) { status } }', { c: content })
  await holds(() => expect(client.messages.filter(({ type }) => type === 'next')).toHaveLength(19))
  for (const id of ids.slice(1)) expect(client.of(id)[0]!.payload.data.saved.content).toEqual({ content })
  expect(client.of('s0')).toEqual([])
  client.subscribe('s0', '{ queue { depth } }')
  await holds(() => expect(client.of('s0').at(-1)?.type).toBe('complete'))
  client.close()
})

describe('an error over WebSocket has a code and nothing of HTTP:', () => {
  test.each<[string, string | undefined, string, Record<string, unknown>]>([
    ['a document that cannot be parsed', 'GRAPHQL_PARSE_FAILED', 'subscription {', {}],
    ['a field that is not there', 'GRAPHQL_VALIDATION_FAILED', 'subscription { nothing }', {}],
    [
      'a variable that does not fit',
      'BAD_USER_INPUT',
      'subscription ($a: String) { saved(after: $a) { cursor } }',
      { a: 1 },
    ],
    ['an input that is refused', 'BAD_USER_INPUT', 'mutation { save(content: "x", id: "x") { saveId } }', {}],
    ['a cursor that is refused', 'BAD_USER_INPUT', 'subscription { saved(after: "x") { cursor } }', {}],
    [
      'the same behind a fragment',
      'BAD_USER_INPUT',
      'subscription { ...F } fragment F on Subscription { saved(after: "x") { cursor } }',
      {},
    ],
    ['an id that is refused', 'BAD_USER_INPUT', 'subscription { receipt(id: "x") { saveId } }', {}],
    [
      'two operations and no name',
      'OPERATION_RESOLUTION_FAILURE',
      'query A { queue { depth } } query B { queue { depth } }',
      {},
    ],
  ])('%s', async (_, code, query, variables) => {
    const client = await WsClient.connect(system.url)
    client.subscribe('1', query, variables)
    const message = await eventually(() => client.of('1')[0])
    const errors = message.type === 'error' ? message.payload : message.payload.errors
    expect(errors[0].message).not.toBe('')
    expect(errors[0].extensions?.code).toBe(code)
    expect(errors[0].extensions ?? {}).not.toHaveProperty('http')
    // The socket is none the worse for it.
    client.subscribe('2', '{ queue { depth } }')
    await holds(() => expect(client.of('2').at(-1)?.type).toBe('complete'))
    client.close()
  })
})

test('a WebSocket refuses a document of which it cannot tell the operation with the code that HTTP has', async () => {
  const query = 'query A { __typename } query B { __typename }'
  const expected = [
    {
      message: 'Could not determine what operation to execute.',
      extensions: { code: 'OPERATION_RESOLUTION_FAILURE' },
    },
  ]
  const client = await WsClient.connect(system.url)
  for (const [id, operationName] of [['none'], ['unknown', 'C']] as const) {
    const response = await fetch(`${system.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, operationName }),
    })
    expect((await response.json()).errors).toMatchObject(expected)
    client.send({ id, type: 'subscribe', payload: { query, operationName } })
    await holds(() => expect(client.of(id)).toHaveLength(1))
    expect(client.of(id)[0]).toMatchObject({ type: 'error', payload: expected })
  }
  client.send({ id: 'B', type: 'subscribe', payload: { query, operationName: 'B' } })
  await holds(() => expect(client.of('B')[0]).toMatchObject({ type: 'next' }))
  client.close()
})

test('a WebSocket answers a document named by its hash alone as HTTP does', async () => {
  const client = await WsClient.connect(system.url)
  const extensions = { persistedQuery: { version: 1, sha256Hash: 'a'.repeat(64) } }
  for (const payload of [{ extensions }, { query: null, variables: { a: 1 }, operationName: 'A', extensions }]) {
    client.send({ id: '1', type: 'subscribe', payload })
    await holds(() => expect(client.of('1')).toHaveLength(1))
    expect(client.of('1')[0]).toMatchObject({
      type: 'error',
      payload: [{ message: 'PersistedQueryNotSupported', extensions: { code: 'PERSISTED_QUERY_NOT_SUPPORTED' } }],
    })
    client.messages.length = 0
  }
  client.send({ id: '1', type: 'subscribe', payload: { query: '{ queue { depth } }', extensions } })
  await holds(() => expect(client.of('1').at(-1)?.type).toBe('complete'))
  client.close()
})

describe('a WebSocket that breaks the protocol is closed with', () => {
  test('4408: no connection_init', async () => {
    expect(await (await WsClient.open(system.url)).closed).toBe(4408)
  })

  test('4429: connection_init twice', async () => {
    const client = await WsClient.connect(system.url)
    client.send({ type: 'connection_init' })
    expect(await client.closed).toBe(4429)
  })

  test('4401: subscribe before connection_init', async () => {
    const client = await WsClient.open(system.url)
    client.subscribe('1', '{ queue { depth } }')
    expect(await client.closed).toBe(4401)
  })

  test.each(['toString', '__proto__', 'constructor', 'hasOwnProperty', 'length'])(
    'no code for an operation with the id %s, which is answered as any other',
    async (id) => {
      const client = await WsClient.connect(system.url)
      for (let i = 1; i <= 2; i++) {
        client.subscribe(id, '{ __typename }')
        const types = () => client.of(id).map(({ type }) => type)
        await holds(() => expect(types()).toEqual(Array(i).fill(['next', 'complete']).flat()))
      }
      client.close()
    },
  )

  test.each(['garbage', '{}', '[]', '{"type":"start"}', '{"type":"subscribe","id":"1"}'])('4400: %s', async (text) => {
    const client = await WsClient.connect(system.url)
    client.send(text)
    expect(await client.closed).toBe(4400)
  })

  test.each([
    '{"type":"next","id":"1","payload":{"data":{}}}',
    '{"type":"error","id":"1","payload":[{"message":"x"}]}',
    '{"type":"connection_ack"}',
  ])('4400, and no line in the log: %s', async (text) => {
    for (const open of [() => WsClient.connect(system.url), () => WsClient.open(system.url)]) {
      const client = await open()
      client.send(text)
      expect(await client.closed).toBe(4400)
    }
    expect(system.api.logs()).not.toContain('could not be handled')
  })

  test('4409: an id that is in use', async () => {
    const client = await WsClient.connect(system.url)
    for (let i = 0; i < 2; i++) client.subscribe('1', 'subscription { saved { cursor } }')
    expect(await client.closed).toBe(4409)
  })

  test('4406: another protocol', async () => {
    const client = await WsClient.open(system.url, {}, 'graphql-ws').catch((error: Error) => error)
    // ws refuses a protocol that the server did not take before the server can.
    if (client instanceof WsClient) expect(await client.closed).toBe(4406)
    else expect(client.message).not.toBe('')
  })

  test('1009: a message that is too large', async () => {
    const client = await WsClient.connect(system.url)
    client.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: `{ ${' '.repeat(4_000_000)} }` } }))
    expect(await client.closed).toBe(1009)
  })
})

describe('a WebSocket of another origin is refused:', () => {
  test.each(['https://evil.example', 'null', 'http://127.0.0.1:1', 'http://127.0.0.1.evil.example'])(
    '%s',
    async (origin) => {
      await expect(WsClient.open(system.url, { origin })).rejects.toThrow('refused with 403')
    },
  )

  test('its own origin is accepted', async () => {
    const client = await WsClient.open(system.url, { origin: system.url })
    client.close()
  })
})
