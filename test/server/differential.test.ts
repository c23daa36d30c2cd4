/** The fast path responds as Yoga does: both get the same requests, on one application, and status, headers and body are compared. */
import { randomUUID } from 'node:crypto'
import { formatPrismaCursor } from '@pothos/plugin-prisma'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { App } from '../../src/app/app.ts'
import { Rows } from '../../src/app/rows.ts'
import { httpStatus } from '../../src/http/errors.ts'
import { codes, SpillwayError } from '../../src/model/error.ts'
import type { Json } from '../harness/client.ts'
import { exchange } from '../harness/raw.ts'
import { serveTwoWays } from '../harness/two-ways.ts'
import { type Asked, unalias, written } from '../harness/ways.ts'

interface Answer {
  status: number
  headers: Record<string, string | null>
  body: string
}

const id = '00000000-0000-7000-8000-00000000000'
/** The extensions of a client that sends the hash of a document first. */
const apq = { persistedQuery: { version: 1, sha256Hash: 'a'.repeat(64) } }

describe('The fast path', () => {
  let app: App
  let fast: string
  let plain: string
  let close: () => Promise<void>
  /** Runs it while the table cannot be read. */
  let unavailable: (act: () => Promise<void>) => Promise<void>
  /** Pages that the store was asked for. */
  let pagesRead = 0

  beforeAll(async () => {
    const ways = await serveTwoWays()
    app = ways.app
    fast = ways.fast
    plain = ways.plain
    close = ways.close
    const sql = (text: string) =>
      (ways.store.prisma as { $executeRawUnsafe(sql: string): Promise<number> }).$executeRawUnsafe(text)
    unavailable = async (act) => {
      await sql('ALTER TABLE Content RENAME TO Elsewhere')
      try {
        await act()
      } finally {
        await sql('ALTER TABLE Elsewhere RENAME TO Content')
      }
    }
    const page = ways.store.page.bind(ways.store)
    ways.store.page = (...args) => {
      pagesRead += 1
      return page(...args)
    }
    await ways.store.insert(
      ways.app.models.get('Content')!,
      Array.from({ length: 5 }, (_, i) => ({
        id: `${id}${i}`,
        content: `content ${i} "é" 🙂`,
        createdAt: new Date(1e12 + i),
        savedAt: new Date(1e12 + 5),
      })),
    )
  })
  afterAll(() => close?.())

  async function send(url: string, body: string, headers: Record<string, string>): Promise<Answer> {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    })
    const shown = ['content-type', 'cache-control', 'retry-after', 'allow', 'access-control-allow-origin']
    return {
      status: response.status,
      headers: Object.fromEntries(shown.map((name) => [name, response.headers.get(name)])),
      body: await response.text(),
    }
  }

  /** Replaces the values that differ from one request to the next. */
  function normalized({ status, headers, body }: Answer): Answer {
    return {
      status,
      headers: { ...headers, 'retry-after': headers['retry-after'] ? 'some' : null },
      body: body
        .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[1-9a-f][0-9a-f]{3}-[89ab][0-9a-f]{3}-(?!0{11})[0-9a-f]{12}/g, 'an id')
        .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'a time')
        .replace(/(?<=")[\w-]{1,32}\.\d{14}\.\d{6}\.\d{6}(?=")/g, 'a cursor of events')
        .replace(/"requestId":"[^"]+"/g, '"requestId":some')
        .replace(/"retryAfterMs":\d+/g, '"retryAfterMs":some')
        .replace(/"(depth|oldestAgeMs)":\d+/g, '"$1":some'),
    }
  }

  async function same(body: string, headers: Record<string, string> = {}): Promise<Answer> {
    const expected = normalized(await send(plain, body, headers))
    // The document is seen the first time, compiled the second time, and cached the third time.
    for (let i = 0; i < 3; i++)
      expect(normalized(await send(fast, body, headers)), `time ${i + 1}: ${body.slice(0, 300)}`).toEqual(expected)
    return expected
  }

  const query = (text: string, variables?: unknown, operationName?: unknown) =>
    JSON.stringify({
      query: text,
      ...(variables === undefined ? {} : { variables }),
      ...(operationName === undefined ? {} : { operationName }),
    })

  test('serves the requests of this file', async () => {
    const first: string[] = []
    const text = '{ contents(first: 2) { edges { node { id } } } }'
    for (let i = 0; i < 3; i++) {
      // Only the fast path writes the Content-Type first.
      const body = query(text)
      const head = `POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`
      const [, name] = (await exchange(fast, `${head}\r\n\r\n${body}`)).split('\r\n')
      first.push(name!.split(':')[0]!)
    }
    expect(first.at(-1)).toBe('content-type')
    expect(first[0]).not.toBe('content-type')
  })

  test('reads a page that cannot be read at most twice: once to cache it, once for the errors', async () => {
    const text = 'query ($n: Int) { contents(first: $n) { edges { node { id content } } } }'
    for (let i = 0; i < 3; i++) await send(fast, query(text, { n: 1 }), {})
    await unavailable(async () => {
      pagesRead = 0
      const { body } = await send(fast, query(text, { n: 4 }), {})
      expect(body).toContain('STORE_UNAVAILABLE')
      expect(pagesRead).toBe(2)
    })
  })

  const saveText =
    'mutation Save($content: String!, $id: ID) { save(content: $content, id: $id) { saveId status duplicate acceptedAt content { id } failure { code } } }'
  const corpus: [string, string][] = [
    ['a save', query(saveText, { content: 'x' })],
    ['a save without variables', query('mutation { save(content: "x") { saveId status } }')],
    ['aliases', query('mutation { a: save(content: "a") { status } b: save(content: "b") { s: status __typename } }')],
    [
      'a fragment',
      query(
        'query { contents(first: 2) { ...Page } } fragment Page on ContentConnection { edges { cursor node { ...Row } } pageInfo { hasNextPage } } fragment Row on Content { id content createdAt savedAt }',
      ),
    ],
    ['an inline fragment', query('{ contents(first: 1) { edges { node { ... on Content { content } } } } }')],
    [
      'directives',
      query(
        'query ($yes: Boolean!, $no: Boolean!) { contents(first: 1) { edges @include(if: $yes) { cursor } pageInfo @skip(if: $no) { hasNextPage } } }',
        { yes: true, no: false },
      ),
    ],
    [
      'directives the other way',
      query(
        'query ($yes: Boolean!, $no: Boolean!) { contents(first: 1) { edges @include(if: $yes) { cursor } pageInfo @skip(if: $no) { hasNextPage } } }',
        { yes: false, no: false },
      ),
    ],
    ['an operation by name', query('query A { __typename } query B { queue { capacity durability } }', {}, 'B')],
    ['another by name', query('query A { __typename } query B { queue { capacity durability } }', {}, 'A')],
    ['a name that is not there', query('query A { __typename }', {}, 'C')],
    ['two operations and no name', query('query A { __typename } query B { __typename }')],
    ['an empty name', query('query A { __typename }', {}, '')],
    ['a name of null', query('query A { __typename }', null, null)],
    ['default values', query('query ($first: Int = 1) { contents(first: $first) { edges { node { id } } } }')],
    ['savedCursor', query('{ contents(first: 2) { savedCursor edges { node { id } } } }')],
    ['savedCursor alone', query('{ contents { savedCursor } }')],
    ['savedCursor of no rows', query('{ contents(first: 0) { edges { cursor } savedCursor } }')],
    [
      'savedCursor after and before a cursor, and of the last rows',
      query(
        `query ($cursor: String) { a: contents(first: 2, after: $cursor) { savedCursor edges { cursor } } b: contents(last: 2, before: $cursor) { edges { cursor } savedCursor } c: contents(last: 1) { savedCursor } }`,
        { cursor: formatPrismaCursor({ id: `${id}2` }, 'id') },
      ),
    ],
    [
      'savedCursor twice in two lists',
      query(
        '{ a: contents(first: 1) { s: savedCursor t: savedCursor } b: contents(first: 2) { ...S ...S } } fragment S on ContentConnection { savedCursor edges { node { content } } }',
      ),
    ],
    [
      'savedCursor by directives',
      query(
        'query ($yes: Boolean!, $no: Boolean!) { contents(first: 1) { a: savedCursor @include(if: $yes) b: savedCursor @skip(if: $yes) ... @include(if: $no) { c: savedCursor } } }',
        { yes: true, no: false },
      ),
    ],
    [
      'savedCursor left out by directives',
      query('query ($no: Boolean!) { contents(first: 1) { savedCursor @include(if: $no) edges { cursor } } }', {
        no: false,
      }),
    ],
    ['savedCursor beside another field', query('{ contents(first: 1) { savedCursor } queue { capacity } }')],
    [
      'savedCursor of a page that fails',
      query('{ contents(first: -1) { savedCursor } b: contents(first: 1) { savedCursor } }'),
    ],
    ['backwards', query('{ contents(last: 2) { edges { node { id } } pageInfo { hasPreviousPage startCursor } } }')],
    ['a node', query(`{ node(id: "${id}1") { __typename id ... on Content { content } } }`)],
    ['no node', query(`{ node(id: "${id}9") { __typename id ... on Content { content } } }`)],
    [
      'a receipt',
      query(
        `{ receipt(id: "${id}1") { __typename saveId model status ... on ContentReceipt { content { content } } } }`,
      ),
    ],
    ['one content', query(`{ content(id: "${id}1") { content } }`)],
    ['no content', query(`{ content(id: "${id}9") { content } }`)],
    ['a nullable field that fails', query('{ content(id: "x") { id } queue { capacity } }')],
    [
      'a nullable field that fails beside one that does not',
      query(`{ a: content(id: "x") { id } b: content(id: "${id}2") { id } }`),
    ],
    ['an unknown receipt', query(`{ receipt(id: "${id}9") { status } }`)],
    ['content too long', query(saveText, { content: 'x'.repeat(1_001) })],
    ['a lone surrogate', query(saveText, { content: '\ud800' })],
    ['an id that is no UUID', query(saveText, { content: 'x', id: 'x' })],
    ['an id that is a number', query(saveText, { content: 'x', id: 42 })],
    ['first: -1', query('{ contents(first: -1) { edges { cursor } } }')],
    ['first: 1000', query('{ contents(first: 1000) { edges { cursor } } }')],
    ['an unknown cursor', query('{ contents(after: "?") { edges { cursor } } }')],
    ['waitMs out of range', query('mutation { save(content: "x", waitMs: -1) { saveId } }')],
    ['an Int that is too large', query('mutation { save(content: "x", waitMs: 99999999999) { saveId } }')],
    ['a missing variable', query(saveText, {})],
    ['a variable of null', query(saveText, { content: null })],
    ['a variable of another type', query(saveText, { content: 5 })],
    ['a variable that is an object', query(saveText, { content: { a: 1 } })],
    ['a variable too many', query(saveText, { content: 'x', other: 1 })],
    [
      'a list with a bad member',
      query('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', {
        inputs: [{ content: 'x' }, { contents: 'y' }],
      }),
    ],
    [
      'a list with a null member',
      query('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { saveId } }', { inputs: [null] }),
    ],
    [
      'one where a list is due',
      query('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }', {
        inputs: { content: 'x' },
      }),
    ],
    ['an empty list', query('mutation { saveMany(inputs: []) { saveId } }')],
    [
      '__proto__ in variables',
      `{"query":${JSON.stringify(saveText)},"variables":{"content":"x","__proto__":{"id":"y"}}}`,
    ],
    ['variables that are a list', query(saveText, ['x'])],
    ['variables that are a text', query(saveText, 'x')],
    ['a field that is not there', query('{ contetns { edges { cursor } } }')],
    ['a syntax error', query('{ contents(')],
    ['an empty document', query('')],
    ['a document of comments', query('# nothing')],
    ['a document that is no text', JSON.stringify({ query: 5 })],
    ['no document', '{}'],
    ['no object', '[]'],
    ['null', 'null'],
    ['no JSON', '{"query":'],
    ['a batch', JSON.stringify([{ query: '{ __typename }' }])],
    ['extensions', JSON.stringify({ query: '{ __typename }', extensions: {} })],
    ['an unknown parameter', JSON.stringify({ query: '{ __typename }', colour: 'red' })],
    ['extensions of null', JSON.stringify({ query: '{ __typename }', extensions: null })],
    ['extensions that are a list', JSON.stringify({ query: '{ __typename }', extensions: [] })],
    ['an unknown parameter of null', JSON.stringify({ query: '{ __typename }', colour: null })],
    ['empty variables of a text', query('{ __typename }', '')],
    ['variables that are a number', query('{ __typename }', 5)],
    ['an operation name that is a number', query('query A { __typename }', {}, 5)],
    ['an empty name for two operations', query('query A { __typename } query B { __typename }', {}, '')],
    ['a document by its hash alone', JSON.stringify({ extensions: apq })],
    ['a document by its hash, and of null', JSON.stringify({ query: null, extensions: apq })],
    ['a document with its hash', JSON.stringify({ query: '{ __typename }', extensions: apq })],
    ['a key twice', '{"query":"{ nothing }","query":"{ __typename }"}'],
    ['variables twice', `{"query":${JSON.stringify(saveText)},"variables":{"content":5},"variables":{"content":"x"}}`],
    ['what a kept page of REST is asked for by', 'GET /?first=2'],
    ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', '__defineGetter__', 'then', 'toJSON'].map(
      (alias): [string, string] => [
        `the alias ${alias}`,
        query(`{ ${alias}: contents(first: 1) { ${alias}: edges { ${alias}: node { ${alias}: id } } } }`),
      ],
    ),
    ['the alias __proto__ of a save', query('mutation { __proto__: save(content: "x") { __proto__: status } }')],
    [
      'the variable __proto__',
      `{"query":"query ($__proto__: Int) { contents(first: $__proto__) { edges { node { id } } } }","variables":{"__proto__":1}}`,
    ],
    ['introspection', query('{ __schema { queryType { name } } __type(name: "Content") { name } }')],
    ['__typename', query('{ __typename contents(first: 0) { __typename } }')],
  ]
  test.each(corpus)('responds to %s as Yoga does', async (_what, body) => {
    await same(body)
    await same(body, { accept: 'application/json' })
    await same(body, { accept: 'application/graphql-response+json' })
  })

  test('returns a field with the alias __proto__ as any other (FC12)', async () => {
    const { body } = await same(query(`{ __proto__: content(id: "${id}1") { __proto__: id } a: __typename }`))
    expect(body).toBe(`{"data":{"__proto__":{"__proto__":"${id}1"},"a":"Query"}}`)
  })

  test('refuses the variable __proto__, whose value would be lost', async () => {
    const text = 'query ($__proto__: Int) { contents(first: $__proto__) { edges { node { id } } } }'
    const { body } = await same(`{"query":${JSON.stringify(text)},"variables":{"__proto__":1}}`)
    expect(JSON.parse(body).errors[0]).toMatchObject({
      message: 'A variable cannot have the name "$__proto__"; give it another one.',
      extensions: { code: 'BAD_USER_INPUT' },
    })
  })

  test('does not share cached pages with REST (FC12)', async () => {
    for (const first of ['', 'first=2']) {
      for (let i = 0; i < 3; i++)
        await (await fetch(`${fast}/?${first}`, { headers: { accept: 'application/json' } })).text()
      for (const body of [`GET /?${first}`, first]) {
        const answer = await same(body)
        expect(answer).toMatchObject({ status: 400, body: expect.stringContaining('"errors"') })
      }
    }
  })

  test('treats an empty operation name as none, by GET too (FE8)', async () => {
    const answer = await same(query('query A { __typename }', {}, ''))
    expect(answer.body).toBe('{"data":{"__typename":"Query"}}')
    const got = await fetch(`${fast}/graphql?query=${encodeURIComponent('query A { __typename }')}&operationName=`)
    expect(await got.text()).toBe(answer.body)
  })

  test('returns PERSISTED_QUERY_NOT_SUPPORTED for a document named by its hash, so that the client sends the document (FE8)', async () => {
    const expected = {
      errors: [{ message: 'PersistedQueryNotSupported', extensions: { code: 'PERSISTED_QUERY_NOT_SUPPORTED' } }],
    }
    const answer = await same(JSON.stringify({ operationName: 'A', variables: {}, extensions: apq }))
    expect({ status: answer.status, body: JSON.parse(answer.body) }).toEqual({ status: 200, body: expected })
    for (const url of [fast, plain]) {
      const got = await fetch(`${url}/graphql?operationName=A&variables={}&extensions=${JSON.stringify(apq)}`)
      expect({ status: got.status, body: await got.json() }).toEqual({ status: 200, body: expected })
    }
  })

  test.each(['variables', 'extensions'])('refuses a GET whose %s are not JSON', async (name) => {
    for (const url of [fast, plain]) {
      const response = await fetch(`${url}/graphql?query={__typename}&${name}=nonsense`)
      expect({ status: response.status, body: await response.text() }).toEqual({
        status: 400,
        body: expect.stringContaining(`the query parameter ${name} is not JSON`),
      })
    }
  })

  const jsonType = 'application/json; charset=utf-8'
  const graphqlType = 'application/graphql-response+json; charset=utf-8'
  test.each<[string, string | 406]>([
    ['application/graphql-response+json;q=0.5, application/json', jsonType],
    ['application/graphql-response+json; Q=0.5 , application/json;q=0.6', jsonType],
    ['application/json;q=0.5, application/graphql-response+json', graphqlType],
    ['application/json, application/graphql-response+json', jsonType],
    ['application/graphql-response+json, application/json', graphqlType],
    ['APPLICATION/GraphQL-Response+JSON', graphqlType],
    ['application/json;charset=latin1', jsonType],
    ['application/json;profile="a,b;q=0"', jsonType],
    ['application/json;q=0, */*', graphqlType],
    ['application/json;q=0.000, application/graphql-response+json;q=0.001', graphqlType],
    ['*/*;q=0.1, application/graphql-response+json', graphqlType],
    ['application/*', jsonType],
    ['text/event-stream;q=0.1, application/json;q=0.9', jsonType],
    ['application/json;q=0', 406],
    ['*/*;q=0', 406],
    ['application/xml', 406],
  ])('Accept: %s gets %s', async (accept, expected) => {
    const { status, headers } = await same(query('{ queue { capacity } }'), { accept })
    expect(status === 200 ? headers['content-type'] : status).toBe(expected)
  })

  test('returns the receipts that the queue knows, and an error for each other one, while a table cannot be read', async () => {
    const pending = randomUUID()
    await send(plain, query('mutation ($id: ID!) { save(id: $id, content: "x") { status } }', { id: pending }), {})
    const ids = [pending, `${id}1`, pending, randomUUID()]
    const text = 'query ($ids: [ID!]!) { receipts(ids: $ids) { status ... on ContentReceipt { content { id } } } }'
    await unavailable(async () => {
      const { status, body } = await same(query(text, { ids }))
      const { data, errors } = JSON.parse(body.replaceAll(':some', ':1'))
      const queued = { status: 'QUEUED', content: null }
      expect([status, data.receipts]).toEqual([200, [queued, null, queued, null]])
      expect(errors.map(({ path, extensions }: Json) => [path, extensions.code])).toEqual([
        [['receipts', 1], 'STORE_UNAVAILABLE'],
        [['receipts', 3], 'STORE_UNAVAILABLE'],
      ])
    })
    const { data } = JSON.parse((await same(query(text, { ids }))).body)
    expect(data.receipts.map((receipt: Json) => receipt?.status)).toEqual(['QUEUED', 'SAVED', 'QUEUED', undefined])
  })

  test('refuses a mutation before it runs if no media type is acceptable', async () => {
    const before = await app.queue.status()
    expect(
      (await send(fast, query('mutation { save(content: "x") { saveId } }'), { accept: 'image/png' })).status,
    ).toBe(406)
    expect((await app.queue.status()).depth).toBe(before.depth)
  })

  test('sends every response with no-store', async () => {
    for (const url of [fast, plain]) {
      for (const text of ['{queue{capacity}}', '{nothing}', '{', 'mutation{save(content:"x"){saveId}}']) {
        const got = await fetch(`${url}/graphql?query=${encodeURIComponent(text)}`)
        expect({ text, cache: got.headers.get('cache-control') }).toEqual({ text, cache: 'no-store' })
        expect((await same(query(text))).headers['cache-control']).toBe('no-store')
      }
    }
  })

  test.each(['query={__typename}', 'variables={}', 'operationName=', 'extensions={}'])(
    'refuses a GET that gives %s twice',
    async (parameter) => {
      for (const url of [fast, plain]) {
        const query = parameter.startsWith('query') ? '' : 'query={__typename}&'
        const response = await fetch(`${url}/graphql?${query}${parameter}&${parameter}`)
        expect(response.status).toBe(400)
        expect(await response.text()).toContain('is given twice')
      }
    },
  )

  test('refuses a subscription without an acceptable event stream as Yoga does', async () => {
    for (const accept of ['application/json', 'application/graphql-response+json']) {
      expect((await same(query('subscription { saved { cursor } }'), { accept })).status).toBe(406)
    }
  })

  test('opens no stream if Accept excludes event streams', async () => {
    for (const accept of [
      'text/event-stream;q=0',
      'text/event-stream;q=0, application/json',
      '*/*, text/event-stream;q=0',
    ])
      expect((await same(query('subscription { saved { cursor } }'), { accept })).status).toBe(406)
  })

  test('opens a stream with no-store if the media type has capitals', async () => {
    for (const url of [fast, plain]) {
      for (const field of ['saved { cursor }', `receipt(id: "${id}1") { saveId }`]) {
        const ending = new AbortController()
        const response = await fetch(`${url}/graphql`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', accept: 'Text/Event-Stream' },
          body: query(`subscription { ${field} }`),
          signal: ending.signal,
        })
        expect(response.headers.get('content-type')).toContain('text/event-stream')
        expect(response.headers.get('cache-control')).toContain('no-store')
        ending.abort()
      }
    }
  })

  test.each([
    '*/*',
    'application/json, */*;q=0.1',
    'application/graphql-response+json, application/json;q=0.9',
    'application/json;charset=utf-8',
    'text/html',
    'application/xml',
    'text/event-stream',
    'text/event-stream, application/json',
    'multipart/mixed, application/json',
    'nonsense',
  ])('responds to Accept: %s as Yoga does', async (accept) => {
    await same(query('{ queue { capacity } }'), { accept })
  })

  test.each([
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'APPLICATION/JSON',
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'application/graphql+json',
  ])('responds to Content-Type: %s as Yoga does', async (type) => {
    await same(query('{ queue { capacity } }'), { 'content-type': type })
  })

  test('returns every error code as Yoga does', async () => {
    // INTERNAL_SERVER_ERROR is never thrown; unexpected errors become it, below.
    const known = codes.filter((code) => code !== 'INTERNAL_SERVER_ERROR')
    const { saves, rows } = app
    try {
      for (const code of known) {
        const error = new SpillwayError(code, `this is ${code}`, { retryAfterMs: 1_000, ids: [`${id}1`] })
        app.saves = Object.assign(Object.create(saves), { save: async () => Promise.reject(error) })
        app.rows = Object.assign(Object.create(Rows.prototype), { find: async () => Promise.reject(error) })
        const save = query('mutation { save(content: "x") { saveId } }')
        // Execution has begun: a client of application/json reads the message, other clients the status (FE3).
        for (const accept of ['application/json', '*/*', 'application/json; charset=utf-8']) {
          const answer = await same(save, { accept })
          expect(answer).toMatchObject({ status: 200, headers: { 'retry-after': 'some' } })
          expect(answer.body).toContain(code)
        }
        const whole = await same(save, { accept: 'application/graphql-response+json' })
        expect(whole).toMatchObject({ status: httpStatus[code], headers: { 'retry-after': 'some' } })
        expect(whole.body).toContain(code)
        await same(query(`{ content(id: "${id}1") { id } }`))
        await same(query(`{ content(id: "${id}1") { id } queue { capacity } }`))
      }
      app.saves = Object.assign(Object.create(saves), {
        save: async () => Promise.reject(new TypeError('SELECT secrets FROM host')),
      })
      expect((await same(query('mutation { save(content: "x") { saveId } }'))).body).not.toContain('secrets')
    } finally {
      app.saves = saves
      app.rows = rows
    }
  })

  test('responds to generated fields, arguments and variables as Yoga does', async () => {
    const leaf = fc.constantFrom('id', 'content', 'createdAt', 'savedAt', '__typename', 'nonsense')
    const row = fc
      .array(fc.tuple(fc.constantFrom('', 'a: ', 'b: '), leaf), { minLength: 1, maxLength: 4 })
      .map((fields) => fields.map((f) => f.join('')).join(' '))
    const value = fc.oneof(
      fc.integer({ min: -2, max: 6 }),
      fc.constant(null),
      fc.string({ maxLength: 4 }),
      fc.double(),
      fc.boolean(),
      fc.constant({}),
      fc.constant([]),
    )
    const page = fc.tuple(row, value, value).map(([fields, first, last]) => ({
      query: `query ($first: Int, $last: Int) { contents(first: $first, last: $last) { edges { node { ${fields} } } savedCursor pageInfo { hasNextPage hasPreviousPage } } }`,
      variables: { first, last },
    }))
    const save = fc
      .tuple(fc.string({ unit: 'binary', maxLength: 40 }), value)
      .map(([content, saveId]) => ({ query: saveText, variables: { content, id: saveId } }))
    await fc.assert(
      fc.asyncProperty(fc.oneof(page, save), async (params) => {
        await same(JSON.stringify(params))
      }),
      { numRuns: 150 },
    )
  }, 60_000)

  test('returns the same result for an operation however it is written', async () => {
    const asked: Asked = {
      kind: 'query',
      field: 'contents',
      argument: { name: 'first', type: 'Int', value: 2 },
      type: 'ContentConnection',
      selection: ['edges { cursor node { id content } }', 'pageInfo { hasNextPage }'],
    }
    const usual = '{ contents(first: 2) { edges { cursor node { id content } } pageInfo { hasNextPage } } }'
    const expected = unalias(JSON.parse((await same(query(usual))).body))
    await fc.assert(
      fc.asyncProperty(
        written(asked),
        fc.constantFrom({}, { extensions: {} }, { colour: null }),
        async (way, extra) => {
          const { status, body } = await same(JSON.stringify({ ...way, ...extra }))
          expect({ status, answer: unalias(JSON.parse(body)) }).toEqual({ status: 200, answer: expected })
          const search = new URLSearchParams({ ...way, variables: JSON.stringify(way.variables), utm_source: 'x' })
          if (way.query.length > 8_000) return
          for (const url of [fast, plain]) {
            const got = await fetch(`${url}/graphql?${search}`)
            expect(unalias((await got.json()) as object)).toEqual(expected)
          }
        },
      ),
      { numRuns: 40, endOnFailure: true },
    )
  }, 60_000)

  test('caches a bounded number of documents', async () => {
    for (let i = 0; i < 1_500; i++) await send(fast, query(`{ a${i}: __typename }`), {})
    await same(query('{ queue { capacity } }'))
  }, 60_000)
})
