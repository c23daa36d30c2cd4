/** What a user sends by mistake, or worse: a clear error with the right status and code, over GraphQL and REST alike, and life goes on. */
import { request } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'

const save = 'mutation ($content: String!, $id: ID) { save(content: $content, id: $id) { saveId } }'

describe.each(setUps)('Spillway (%s)', (setUp) => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot(setUp, { env: { CONTENT_MAX_BYTES: '65536' }, workers: 1 })
  })
  afterAll(() => system?.stop())
  afterEach(async () => {
    expect((await fetch(`${system.url}/livez`)).status).toBe(200)
  })

  const post = async (body: string | Uint8Array<ArrayBuffer>, path = '/save', headers: Record<string, string> = {}) => {
    const response = await fetch(`${system.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as { errors?: Problem[] },
    }
  }
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`${system.url}${path}`, { method })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as { errors?: Problem[] },
    }
  }
  interface Problem {
    message: string
    extensions: { code: string }
  }
  const refused = (message: string | RegExp, code = 'BAD_USER_INPUT') => ({
    errors: [{ message: expect.stringMatching(message), extensions: { code } }],
  })

  describe('POST /save', () => {
    test.each([
      ['an empty body', '', /the body is empty/],
      ['no JSON', 'content=something', /the body is not JSON/],
      ['JSON that is no object', '["something"]', /not a JSON object/],
      ['null', 'null', /not a JSON object/],
      ['no content', '{"contents":"something"}', /content of Content is missing/],
      ['content that is a number', '{"content":5}', /content of Content must be a string, got number/],
      ['content that is null', '{"content":null}', /content of Content must not be null/],
      [
        'content one byte too long',
        JSON.stringify({ content: `${'é'.repeat(32_768)}x` }),
        /65537 bytes of UTF-8; at most 65536/,
      ],
      ['a lone surrogate', '{"content":"\\ud800"}', /lone surrogate/],
      ['an id that is no UUID', '{"content":"x","id":"42"}', /id must be a UUID/],
      ['an id that is a number', '{"content":"x","id":42}', /id must be a UUID/],
    ])('refuses %s', async (_what, body, message) => {
      expect(await post(body)).toMatchObject({ status: 400, body: refused(message) })
    })

    test('refuses bytes that are not UTF-8, which would be stored as something else', async () => {
      const body = Buffer.concat([Buffer.from('{"content":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')])
      expect(await post(body)).toMatchObject({ status: 400, body: refused(/not well-formed UTF-8/) })
    })

    test('refuses a body of 10 MB before reading it, and one of unknown length while reading it', async () => {
      expect(await rawPost(system.url, '/save', { 'content-length': String(10_000_000) }, [])).toBe(413)
      expect(
        await rawPost(
          system.url,
          '/save',
          {},
          Array.from({ length: 160 }, () => 'x'.repeat(65_536)),
        ),
      ).toBe(413)
    })

    test.each(['/save', '/graphql'])('refuses a charset other than UTF-8, at %s', async (path) => {
      const body = '{"content":"x","query":"{__typename}"}'
      for (const type of ['application/json;charset=latin1', 'Application/JSON; Charset="UTF-16"'])
        expect(await post(body, path, { 'content-type': type })).toMatchObject({
          status: 415,
          body: refused(/charset "\S+" is not supported; send UTF-8/),
        })
    })

    test('refuses a page of another site', async () => {
      expect(await post('{"content":"x"}', '/save', { 'sec-fetch-site': 'cross-site' })).toMatchObject({
        status: 403,
        body: refused(/other sites/, 'FORBIDDEN'),
      })
    })
  })

  describe('GET /', () => {
    test.each([
      ['first=-1', /first must not be negative, got -1/],
      ['first=1000', /first must be at most 100, got 1000/],
      ['first=many', /first must be a whole number/],
      ['first=', /first must be a whole number/],
      ['after=unknown', /after is not a cursor/],
      [`after=${btoa('GPC:S:00000000-0000-7000-8000-000000000000')}`, /the cursor names no row of contents/],
      ['first=1&first=2', /parameter "first" is given twice/],
      ['after=x&after=x', /parameter "after" is given twice/],
      ['last=5', /there is no parameter "last"/],
    ])('refuses ?%s', async (query, message) => {
      expect(await get(`/?${query}`)).toMatchObject({ status: 400, body: refused(message) })
    })
  })

  test('answers an unknown path with 404 and the paths there are', async () => {
    expect(await get('/nowhere')).toMatchObject({
      status: 404,
      body: refused(/There is nothing at \/nowhere/, 'NOT_FOUND'),
    })
  })

  test('answers a wrong method with the methods there are', async () => {
    const answer = await get('/save', 'DELETE')
    expect(answer).toMatchObject({ status: 405, body: refused(/\/save takes POST, not DELETE/) })
    expect(answer.headers.get('allow')).toBe('POST')
    expect((await get('/', 'PUT')).status).toBe(405)
  })

  test('answers an unknown receipt with 404 and a malformed id with 400', async () => {
    const none = await get('/receipts/00000000-0000-7000-8000-000000000000')
    expect(none).toMatchObject({ status: 404, body: refused(/No save with the id/, 'NOT_FOUND') })
    expect(await get('/receipts/42')).toMatchObject({ status: 400, body: refused(/id must be a UUID/) })
  })

  describe('GraphQL', () => {
    const fail = async (query: string, variables: Record<string, unknown> = {}) => {
      const answer = await system.client.graphql(query, variables)
      return { status: answer.status, body: answer.body }
    }

    test.each([
      ['content one byte too long', { content: `${'é'.repeat(32_768)}x` }, /65537 bytes of UTF-8; at most 65536/],
      ['a lone surrogate', { content: '\ud800' }, /lone surrogate/],
      ['an id that is no UUID', { content: 'x', id: '42' }, /id must be a UUID/],
    ])('refuses %s', async (_what, variables, message) => {
      expect(await fail(save, variables)).toMatchObject({
        status: 400,
        body: { data: { save: null }, ...refused(message) },
      })
    })

    test.each([
      ['first: -1', /"?first"? must (not be negative|be a non-negative)/],
      ['first: 1000', /first must be at most 100, got 1000/],
      ['last: 1000', /last must be at most 100, got 1000/],
      ['first: 1, last: 1', /first and last cannot be used together/],
      ['after: "unknown"', /Invalid cursor: unknown/],
      [`after: "${btoa('GPC:S:00000000-0000-7000-8000-000000000000')}"`, /the cursor names no row of contents/],
    ])('refuses contents(%s)', async (args, message) => {
      expect(await fail(`{ contents(${args}) { edges { node { id } } } }`)).toMatchObject({
        status: 400,
        body: { data: { contents: null }, ...refused(message) },
      })
    })

    test.each([
      ['content missing', 'mutation { save { id } }', {}],
      ['content that is no string', save, { content: { a: 1 } }],
      ['a field that is not there', '{ contetns { edges { cursor } } }', {}],
      ['no GraphQL', 'save something', {}],
    ])('refuses %s', async (_what, query, variables) => {
      const { status, body } = await fail(query, variables)
      expect([200, 400, 422]).toContain(status)
      expect(body.errors[0].message).toMatch(/\w/)
      expect(body.data).toBeUndefined()
    })

    test('refuses an invalid cursor and an invalid waitMs', async () => {
      expect(await fail('mutation { save(content: "x", waitMs: -1) { saveId } }')).toMatchObject({
        status: 400,
        body: refused(/waitMs must be from 0 to 60000/),
      })
      const answer = await post(
        JSON.stringify({ query: 'subscription { saved(after: "yesterday") { cursor } }' }),
        '/graphql',
        { accept: 'application/json' },
      )
      expect(answer.body.errors![0]).toBeDefined()
    })

    test('refuses a body that is not JSON, or that a form could send', async () => {
      expect((await post('{"query":', '/graphql')).status).toBe(400)
      expect((await post('', '/graphql')).status).toBe(400)
      for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
        expect((await post('query={__typename}', '/graphql', { 'content-type': type })).status).toBe(415)
      }
    })

    test('refuses a mutation by GET', async () => {
      const response = await fetch(
        `${system.url}/graphql?query=${encodeURIComponent('mutation { save(content: "x") { saveId } }')}`,
      )
      expect(response.status).toBe(405)
    })

    test('refuses a body of 10 MB', async () => {
      expect(
        await rawPost(
          system.url,
          '/graphql',
          { 'content-length': String(10_000_000), 'content-type': 'application/json' },
          [],
        ),
      ).toBe(413)
    })

    test('discloses nothing of its implementation', async () => {
      const { body } = await fail(save, { content: 'x', id: "'; DROP TABLE Content; --" })
      expect(JSON.stringify(body)).not.toMatch(/at \w+ \(|node_modules|\.ts:|SELECT|INSERT/)
    })
  })

  test('stores what it accepts, code unit for code unit (P8)', async () => {
    const contents = [
      'NUL \0 in the middle',
      '\'single\' "double" `back` \\ % _ -- ; /* */',
      'emoji 🙂👩‍👩‍👧‍👦 and ﷽, العربية, עברית, combining e\u0301, non-character \uffff',
      ' leading, trailing and \r\n lines \t ',
      '{"content":"looks like JSON"}',
      '',
      '\u{1f642}'.repeat(16_384),
      '\0'.repeat(65_536),
      '"'.repeat(65_536),
    ]
    const ids: string[] = []
    for (const content of contents) {
      const { body } = await system.client.graphql(save, { content })
      ids.push(body.data.save.saveId)
    }
    await holds(async () => expect((await system.client.queue()).depth).toBe(0))
    for (const [i, id] of ids.entries()) {
      const { body } = await system.client.graphql('query ($id: ID!) { content(id: $id) { content } }', { id })
      expect(body.data.content?.content === contents[i], `content ${i}`).toBe(true)
    }
  })
})

/** Sends headers and chunks as they are, reads the status, and hangs up. */
function rawPost(url: string, path: string, headers: Record<string, string>, chunks: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const sending = request(`${url}${path}`, { method: 'POST', headers }, (response) => {
      resolve(response.statusCode!)
      sending.destroy()
    })
    sending.on('error', reject)
    sending.flushHeaders()
    for (const chunk of chunks) sending.write(chunk)
  })
}
