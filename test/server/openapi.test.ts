/**
 * GET /openapi.json is valid OpenAPI 3.1, and says of the REST routes what they do: of each model of models.ts, the values that its schemas
 * take and refuse are those that the server takes and refuses, and every answer has the form that the document gives it.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Served, serveAll } from '../console/consoles.ts'
import { type Client, client, type Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { models } from '../harness/models.ts'
import { checkDocument, OpenApi } from '../harness/openapi.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const origin = 'https://app.example'
let server: ModelServer
/** Open to every client, and to tokens only. */
let open: Served
let locked: Served
let hidden: Served
beforeAll(async () => {
  server = await serveModels()
  const devClaims = { sub: 'dev', tenant: 'a' }
  open = await serveAll(server, { auth: { devClaims }, origins: [origin] })
  locked = await serveAll(server, { auth: { secret } })
  hidden = await serveAll(server, { auth: { secret }, introspection: false })
})
afterAll(async () => {
  for (const each of [open, locked, hidden, server]) await each?.close()
})

const as = async (claims: Json, url = locked.url): Promise<Client> => client(url, await tokenOf(claims))

describe('/openapi.json', () => {
  test('is valid OpenAPI 3.1, with and without tokens', async () => {
    const without = await OpenApi.of(client(open.url))
    const withTokens = await OpenApi.of(await as({}))
    await checkDocument(without.document)
    await checkDocument(withTokens.document)
    expect(without.document.components.securitySchemes).toBeUndefined()
    expect(JSON.stringify(without.document)).not.toContain('"security"')
    expect(withTokens.document.components.securitySchemes.bearer).toMatchObject({ type: 'http', scheme: 'bearer' })
    const needs = Object.entries<Json>(withTokens.document.paths).flatMap(([path, methods]) =>
      Object.entries<Json>(methods).map(([method, { security }]) => [`${method} ${path}`, security[0].bearer]),
    )
    expect(Object.fromEntries(needs)).toEqual({
      'post /contents': ['write'],
      'get /contents': ['read'],
      'post /comments': ['write'],
      'get /comments': ['read'],
      'post /memos': ['write'],
      'get /memos': ['read'],
      'post /everything': ['write'],
      'get /everything': ['read'],
      'get /receipts/{id}': ['read'],
    })
  })

  test('is given to any valid token, as introspection is, and to no one where introspection is off', async () => {
    expect((await fetch(`${locked.url}/openapi.json`)).status).toBe(401)
    const introspection = '{ __schema { queryType { name } } }'
    for (const scope of ['', 'read', 'write', 'admin']) {
      const one = await as({ scope })
      expect((await one.graphql(introspection)).errors).toBeUndefined()
      expect((await one.fetch('/openapi.json')).status).toBe(200)
      const none = await as({ scope }, hidden.url)
      expect((await none.graphql(introspection)).errors).toBeDefined()
      const refused = await none.fetch('/openapi.json')
      expect([refused.status, (await refused.json()).errors[0].message]).toEqual([
        404,
        'There is no /openapi.json where introspection is off (INTROSPECTION, NODE_ENV).',
      ])
    }
  })

  test('has an ETag, answers HEAD, and is readable by pages of listed origins alone', async () => {
    const url = `${open.url}/openapi.json`
    const first = await fetch(url, { headers: { origin } })
    const etag = first.headers.get('etag')!
    expect(first.headers.get('access-control-allow-origin')).toBe(origin)
    expect(first.headers.get('vary')).toContain('Origin')
    expect(first.headers.get('cache-control')).toBe('private, no-cache')
    for (const tag of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await fetch(url, { headers: { origin, 'if-none-match': tag } })
      expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag])
      expect(again.headers.get('access-control-allow-origin')).toBe(origin)
    }
    expect((await fetch(url, { headers: { 'if-none-match': '"other"' } })).status).toBe(200)
    const head = await fetch(url, { method: 'HEAD' })
    expect([head.status, head.headers.get('etag'), await head.text()]).toEqual([200, etag, ''])
    expect(Number(head.headers.get('content-length'))).toBe((await first.arrayBuffer()).byteLength)
    expect((await fetch(url, { method: 'POST' })).headers.get('allow')).toBe('GET')
    expect((await fetch(url, { headers: { origin: 'https://other.example' } })).status).toBe(403)
    const asked = { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' }
    const preflight = await fetch(url, { method: 'OPTIONS', headers: asked })
    expect([preflight.status, preflight.headers.get('access-control-allow-headers')]).toEqual([204, 'authorization'])
  })

  test('names no claim, no table and no column that is set from the token as an input', async () => {
    const { document } = await OpenApi.of(client(open.url))
    const { CommentInput, Comment, MemoInput, Memo } = document.components.schemas
    expect(Object.keys(CommentInput.properties)).toEqual(['id', 'postId', 'body', 'rating', 'mood'])
    expect(CommentInput.required).toEqual(['postId', 'body'])
    expect(Object.keys(Comment.properties)).toContain('author')
    expect(Object.keys(MemoInput.properties)).toEqual(['id', 'topic', 'text'])
    expect(Object.keys(Memo.properties)).toContain('tenantId')
    expect(JSON.stringify(document)).not.toMatch(/"sub"|"tenant"/)
  })
})

/** Values of every type, good and bad: each column gets each of them. */
const values: unknown[] = [
  ...[null, true, false, 0, -0, 1, -1, 5, 6, 127, 128, 1.5, 1e21, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1],
  ...[
    2 ** 53 - 1,
    2 ** 53,
    -(2 ** 53),
    '',
    'x',
    'ends with a space ',
    ' x',
    '0123456789',
    '01234567890',
    '😀'.repeat(10),
  ],
  ...[
    '😀'.repeat(11),
    'x'.repeat(100),
    'x'.repeat(101),
    'x'.repeat(1_001),
    '7',
    '-0',
    '007',
    '1.5',
    '12.50',
    '.5',
    '5.',
  ],
  ...['1e5', '-', `${'9'.repeat(35)}.${'9'.repeat(30)}`, '1'.repeat(36), `0.${'1'.repeat(31)}`, '9223372036854775807'],
  ...[
    '2026-01-31T12:00:00Z',
    '2026-01-31T12:00:00.123+02:00',
    '2026-01-31T12:00:00.123400Z',
    '2026-01-31T12:00:00.1000000Z',
  ],
  ...[
    '2026-02-30T12:00:00Z',
    '2026-01-31',
    '2026-01-31T12:00:00',
    '2026-01-31t12:00:00z',
    'AP8=',
    'AP9=',
    'AP8',
    '-_==',
  ],
  ...[
    'AAAAAAAAAAA=',
    'AAAAAAAAAAAA',
    'AAAAAAAAAAAAAAAA',
    'HAPPY',
    'SAD',
    'Mixed_1',
    'happy',
    'GONE',
    {},
    [],
    { a: [1, null] },
  ],
  ...[randomUUID(), randomUUID().toUpperCase(), `${randomUUID()}0`],
]

/** What JSON Schema cannot say: the server refuses these, and a schema takes them. */
const isBeyondSchemas = (column: string, value: unknown) =>
  (/price$/i.test(column) && typeof value === 'number') ||
  (/data$/i.test(column) && typeof value === 'number' && Math.abs(value) >= 2 ** 53) ||
  (/big$/i.test(column) && typeof value === 'string' && value.length > 18) ||
  // Bytes of the base64 that has no padding are told by its length only to three.
  (/bytes$/i.test(column) && value === 'AAAAAAAAAAAA')

describe.each([...models.values()].map((model) => [model.name, model] as const))(
  'the document of %s',
  (name, model) => {
    let api: OpenApi
    let input: Json
    beforeAll(async () => {
      api = await OpenApi.of(client(open.url))
      input = api.document.components.schemas[`${name}Input`]
    })
    const valid = (): Json =>
      ({
        Content: { content: 'a text' },
        Comment: { postId: 'a post', body: 'a text' },
        Memo: { topic: 1, text: 'a text' },
        Every: {
          ...{ text: 'a text', whole: 1, big: '1', ratio: 1, price: '1', flag: true, at: '2026-01-31T12:00:00Z' },
          ...{ data: {}, bytes: 'AP8=', mood: 'SAD' },
        },
      })[name]!
    const { savePath, listPath } = model.names

    test('takes and refuses the inputs that the server takes and refuses', async () => {
      const wrong: string[] = []
      let taken = 0
      const compare = async (body: Json, where: string, column = '', value: unknown = undefined) => {
        const { status, described } = await api.send('post', savePath, { body })
        expect([202, 400], where).toContain(status)
        expect(described).toBe(true)
        const says = api.errorsOf(input, body).length === 0
        if (status === 202) taken += 1
        if (says !== (status === 202) && !(says && isBeyondSchemas(column, value)))
          wrong.push(`${where}: the schema ${says ? 'takes' : 'refuses'} it, the server answers ${status}`)
      }
      await compare(valid(), 'valid')
      await compare({ ...valid(), id: randomUUID() }, 'with an id')
      await compare({ ...valid(), id: 'x' }, 'with a wrong id')
      for (const other of ['createdAt', 'savedAt', 'author', 'tenantId', 'nonsense'])
        await compare({ ...valid(), [other]: 'x' }, `with ${other}`)
      for (const column of Object.keys(input.properties)) {
        const { [column]: _, ...rest } = valid()
        await compare(rest, `without ${column}`)
        // Of a nullable column, or one with a default, the values of the required one need no second look.
        const some =
          column === 'id' ? [] : values.filter((_, i) => !/^(maybe|usual|seldom)/.test(column) || i % 7 === 0)
        await Promise.all(
          some.map((value) =>
            compare(
              { ...valid(), [column]: value },
              `${column}: ${JSON.stringify(value)?.slice(0, 60)}`,
              column,
              value,
            ),
          ),
        )
      }
      expect(wrong).toEqual([])
      expect(taken).toBeGreaterThan(20)
      for (const body of ['', '{', '[]', 'null', '"x"'])
        expect((await api.send('post', savePath, { body })).status, body).toBe(400)
    })

    test('describes a save, its receipt, its conflict and its list', async () => {
      const id = randomUUID()
      const body = { ...valid(), id }
      expect((await api.send('post', savePath, { body })).body).toMatchObject({ id })
      const receipt = () => api.send('get', '/receipts/{id}', { at: `/receipts/${id}` })
      await holds(async () => expect((await receipt()).body.status).toBe('SAVED'))
      expect((await receipt()).body[model.names.one]).toMatchObject({ id })
      const again = await api.send('post', savePath, { body })
      expect([again.status, again.body.status]).toEqual([202, 'SAVED'])
      const [text] = Object.keys(valid()).filter((column) => ['content', 'body', 'text'].includes(column))
      const other = await api.send('post', savePath, { body: { ...body, [text!]: 'other' } })
      expect([other.status, other.described]).toEqual([409, true])
      await holds(async () => {
        const { body: page } = await api.send('get', listPath, { query: '?first=1' })
        expect(page.results).toHaveLength(1)
        expect(page.saved_cursor).toEqual(expect.any(String))
      })
      const first = await api.send('get', listPath, { query: '?first=1' })
      const next = await api.send('get', listPath, { query: `?first=100&after=${encodeURIComponent(first.body.next)}` })
      expect(next.status).toBe(200)
      expect(next.body.results.map((row: Json) => row.id)).not.toContain(first.body.results[0].id)
    })

    test('describes the parameters of its list', async () => {
      const { parameters } = api.document.paths[listPath].get
      const columns = [...new Set(model.by.flat())]
      expect(parameters.map((one: Json) => one.name).sort()).toEqual(['after', 'first', ...columns].sort())
      for (const { name: parameter, schema } of parameters) {
        // A parameter is a text, and its schema is of what the text says.
        const isNumber = schema.type === 'integer'
        for (const text of [
          '',
          '0',
          '-1',
          '1',
          '100',
          '101',
          '1.5',
          'x',
          'x'.repeat(36),
          'x'.repeat(201),
          '99999999999',
        ]) {
          const value = isNumber && /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text
          const says = api.errorsOf(schema, value).length === 0
          const { status, described } = await api.send('get', listPath, { query: `?${parameter}=${text}` })
          expect(described).toBe(true)
          // Only texts that the server gave are cursors.
          const expected = says && parameter !== 'after' ? 200 : 400
          expect(status, `${parameter}=${text.slice(0, 20)}`).toBe(expected)
        }
      }
      for (const query of ['?nonsense=1', '?first=1&first=2', '?after=nonsense'])
        expect(await api.send('get', listPath, { query })).toMatchObject({ status: 400, described: true })
    })
  },
)

test('the document describes what a receipt of no save, and a missing token, scope or claim, are answered', async () => {
  const id = randomUUID()
  const ofNone = (api: OpenApi, at: string = id) => api.send('get', '/receipts/{id}', { at: `/receipts/${at}` })
  const anonymous = await OpenApi.of(client(open.url))
  expect(await ofNone(anonymous)).toMatchObject({ status: 404, described: true })
  expect(await ofNone(anonymous, 'x')).toMatchObject({ status: 400, described: true })
  const { document } = await OpenApi.of(await as({}))
  const none = new OpenApi(document, client(locked.url))
  const reader = new OpenApi(document, await as({ scope: 'read' }))
  const writer = new OpenApi(document, await as({ scope: 'write', sub: 'somebody' }))
  for (const [api, status] of [
    [none, 401],
    [reader, 403],
  ] as const)
    expect(await api.send('post', '/contents', { body: { content: 'x' } })).toMatchObject({ status, described: true })
  for (const [api, status] of [
    [none, 401],
    [writer, 403],
  ] as const) {
    expect(await api.send('get', '/comments')).toMatchObject({ status, described: true })
    expect(await ofNone(api)).toMatchObject({ status, described: true })
  }
  // Its token lacks the claim that sets a column, and that narrows a list.
  expect(await writer.send('post', '/memos', { body: { topic: 1, text: 'x' } })).toMatchObject({
    status: 403,
    described: true,
  })
  expect(await reader.send('get', '/memos')).toMatchObject({ status: 403, described: true })
})
