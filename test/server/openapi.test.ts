/**
 * GET /openapi.json is valid OpenAPI 3.1, and says of the REST routes what they do: of each model of models.ts, the values that its schemas
 * take and refuse are those that the server takes and refuses, and every answer has the form that the document gives it.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Served, serveAll } from '../console/consoles.ts'
import { bootInProcess } from '../harness/boot.ts'
import { type Client, client, type Json } from '../harness/client.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { type ModelServer, serveModels } from '../harness/model-server.ts'
import { checkDocument, OpenApi } from '../harness/openapi.ts'
import { statement } from '../harness/rows.ts'
import { temporary } from '../harness/temporary.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { all, datamodel, inputs, isBeyondSchemas, values } from './openapi-values.ts'

const origin = 'https://app.example'
let server: ModelServer
/** Open to every client, and to tokens only. */
let open: Served
let locked: Served
let hidden: Served
beforeAll(async () => {
  server = await serveModels({ models: all, datamodel })
  const devClaims = { sub: 'dev', tenant: 'a' }
  open = await serveAll(server, { auth: { devClaims }, origins: [origin] }, datamodel)
  locked = await serveAll(server, { auth: { secret } }, datamodel)
  hidden = await serveAll(server, { auth: { secret }, introspection: false }, datamodel)
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
      'post /ruleds': ['write'],
      'get /ruleds': ['read'],
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

describe.each([...all.values()].map((model) => [model.name, model] as const))('the document of %s', (name, model) => {
  let api: OpenApi
  let input: Json
  beforeAll(async () => {
    api = await OpenApi.of(client(open.url))
    input = api.document.components.schemas[`${name}Input`]
  })
  const valid = () => inputs[name]!
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
      const some = column === 'id' ? [] : values.filter((_, i) => !/^(maybe|usual|seldom)/.test(column) || i % 7 === 0)
      await Promise.all(
        some.map((value) =>
          compare({ ...valid(), [column]: value }, `${column}: ${JSON.stringify(value)?.slice(0, 60)}`, column, value),
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
    const [text] = Object.keys(valid()).filter((column) => ['content', 'body', 'text', 'short'].includes(column))
    const other = await api.send('post', savePath, { body: { ...body, [text!]: 'ba' } })
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
})

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

test('the document describes what too many requests of one client are answered, with Retry-After', async () => {
  const busy = await serveAll(server, { requestsPerSecond: 1 }, datamodel)
  try {
    const { document } = await OpenApi.of(client(open.url))
    const api = new OpenApi(document, client(busy.url))
    const refused = await eventually(async () => {
      const answer = await api.send('get', '/contents')
      return answer.status === 429 ? answer : undefined
    })
    expect(refused).toMatchObject({ described: true, body: { errors: [{ extensions: { code: 'RATE_LIMITED' } }] } })
    expect(refused.body.errors[0].extensions.retryAfterMs).toBeGreaterThan(0)
  } finally {
    await busy.close()
  }
})

test('the document describes the receipt of a save that became a dead letter', async () => {
  const folder = await temporary('spillway-openapi-')
  const databaseUrl = `file:${folder}/store.db`
  const embedded = await bootInProcess({ DATABASE_URL: databaseUrl })
  try {
    const api = await OpenApi.of(embedded.client)
    const saved = async (content: string, status: string) => {
      const { id } = (await api.send('post', '/save', { body: { content } })).body
      return await holds(async () => {
        const { body } = await api.send('get', '/receipts/{id}', { at: `/receipts/${id}` })
        expect(body.status).toBe(status)
        return body
      })
    }
    await saved('good', 'SAVED')
    const refusal = "BEFORE INSERT ON Content WHEN NEW.content = 'bad' BEGIN SELECT RAISE(ABORT, 'bad'); END"
    await statement(databaseUrl, `CREATE TRIGGER refuse ${refusal}`)
    expect(await saved('bad', 'FAILED')).toMatchObject({ content: null, failure: { code: 'REJECTED' } })
  } finally {
    await embedded.stop()
    await rm(folder, { recursive: true })
  }
})
