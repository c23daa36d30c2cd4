/**
 * What can be put into a request to take the server down, or past its rules: each gets its answer, soon, and the server is none the worse.
 * Tokens that are forged: test/server/auth.test.ts. Text that is no text: test/e2e/bad-input.test.ts.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually, holds } from '../harness/eventually.ts'
import { type Inspected, inspect } from '../harness/inspected.ts'
import { exchange } from '../harness/raw.ts'
import { Target } from '../harness/target.ts'
import { WsClient } from '../harness/ws.ts'

let target: Target
beforeAll(async () => {
  target = await Target.start()
})
afterAll(() => target?.stop())
beforeEach(() => target.mark())
afterEach(() => target.expectSound())

interface Answer {
  status: number
  headers: Headers
  text: string
}

async function post(body: string | Buffer, headers: Record<string, string> = {}, path = '/graphql'): Promise<Answer> {
  const response = await fetch(`${target.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json', ...headers },
    body: body as string,
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

const times = (n: number, text: (i: number) => string) => Array.from({ length: n }, (_, i) => text(i)).join(' ')
const nested = (n: number, open: string, close: string) => open.repeat(n) + close.repeat(n)
const json = (query: string, variables?: unknown) => JSON.stringify({ query, variables })
const page = 'ContentConnection'

describe('a document', () => {
  const documents: [string, string, RegExp][] = [
    [
      'of 50 saves by alias',
      `mutation { ${times(50, (i) => `a${i}: save(content: "x") { saveId }`)} }`,
      /Aliases limit/,
    ],
    [
      'of 50 aliases in a fragment',
      `{ ...F } fragment F on Query { ${times(50, (i) => `a${i}: __typename`)} }`,
      /Aliases limit/,
    ],
    ['of 10,000 aliases', `{ ${times(10_000, (i) => `a${i}: __typename`)} }`, /Token limit/],
    ['of a million tokens', `{ ${'a '.repeat(1_000_000)} }`, /Token limit/],
    ['nested 20 deep', `{ contents { edges { node { ${nested(20, '... on Content { id ', '}')} } } } }`, /depth limit/],
    ['nested 100,000 deep', nested(100_000, '{a', '}'), /Token limit/],
    [
      'with a list nested 700 deep',
      `{ contents(first: ${nested(700, '[', ']')}) { edges { cursor } } }`,
      /Int cannot represent/,
    ],
    ['of 200 directives', `{ __typename ${'@skip(if: false) '.repeat(200)} }`, /Directives limit/],
    ['of 20,000 directives', `{ __typename ${'@a'.repeat(20_000)} }`, /Token limit/],
    [
      'of fragments in a circle',
      `{ contents { ...A } } fragment A on ${page} { ...B } fragment B on ${page} { ...A }`,
      /within itself/,
    ],
    ['of a fragment in itself', '{ ...A } fragment A on Query { ...A }', /within itself/],
    [
      'of fragments that double 60 times',
      `{ ...F0 } ${times(60, (i) => `fragment F${i} on Query { ...F${i + 1} ...F${i + 1} }`)} fragment F60 on Query { __typename }`,
      /depth limit/,
    ],
    ['of fields that hardly differ', `{ ${'contents { edges { node { id content } } } '.repeat(200)} }`, /Token limit/],
    ['of fields that conflict', `{ ${times(15, (i) => `contents(first: ${i}) { edges { cursor } }`)} }`, /conflict/],
  ]

  test.each(documents)('%s is refused', async (_what, query, message) => {
    const before = performance.now()
    const { status, text } = await post(json(query))
    expect({ status, text }).toEqual({ status: 400, text: expect.stringMatching(message) })
    expect(JSON.parse(text).data).toBeUndefined()
    // Some tens of milliseconds on a machine that is doing nothing else.
    expect(performance.now() - before).toBeLessThan(500)
  })

  test('is refused alike by GET, and over WebSocket', async () => {
    const client = await WsClient.connect(target.url)
    for (const [what, query, message] of documents.filter(([, text]) => text.length < 8_000)) {
      const response = await fetch(
        `${target.url}/graphql?query=${encodeURIComponent(query.replace(/^mutation /, ''))}`,
        {
          headers: { accept: 'application/graphql-response+json' },
        },
      )
      expect(response.status, what).toBe(400)
      client.subscribe(what, query)
      const answer = await eventually(() => client.of(what)[0])
      expect(answer.type, what).toBe('error')
      expect(answer.payload[0].message, what).toMatch(message)
    }
    client.close()
  })

  test('of two megabytes of comment costs no more than its bytes', async () => {
    const before = performance.now()
    expect((await post(json(`#${'x'.repeat(2_000_000)}\n{ __typename }`))).status).toBe(200)
    expect(performance.now() - before).toBeLessThan(400)
  })

  test('of a batch of a thousand is refused', async () => {
    const batch = Array.from({ length: 1_000 }, () => ({ query: 'mutation { save(content: "x") { saveId } }' }))
    expect(await post(JSON.stringify(batch))).toMatchObject({ status: 400, text: expect.stringContaining('Batching') })
  })

  test('that is a mutation is refused by GET', async () => {
    const mutation = encodeURIComponent('mutation { save(content: "x") { saveId } }')
    for (const accept of ['application/json', 'text/event-stream', '*/*'])
      expect((await fetch(`${target.url}/graphql?query=${mutation}`, { headers: { accept } })).status).toBe(405)
  })
})

describe('JSON', () => {
  test.each([
    ['a variable nobody asks for', 'query { __typename }', 'x', 200],
    ['a number', 'query ($v: Int) { contents(first: $v) { edges { cursor } } }', 'v', 400],
    ['inputs', 'mutation ($v: [ContentInput!]!) { saveMany(inputs: $v) { saveId } }', 'v', 400],
  ])('nested 100,000 deep as %s is answered', async (_what, query, name, status) => {
    const body = `{"query":${JSON.stringify(query)},"variables":{"${name}":${nested(100_000, '[', ']')}}}`
    // By Yoga, and by the fast path.
    for (let i = 0; i < 3; i++) expect((await post(body)).status).toBe(status)
  })

  test('nested 100,000 deep beside a subscription is ignored', async () => {
    const body = `{"query":"subscription { saved { cursor } }","variables":{"x":${nested(10_000, '[', ']')}}}`
    const abort = new AbortController()
    const response = await fetch(`${target.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body,
      signal: abort.signal,
    })
    const { value } = await response.body!.getReader().read()
    expect(Buffer.from(value!).toString()).toMatch(/^id: \S+\n\n$/)
    abort.abort()
  })

  const save = 'mutation ($content: String!, $id: ID) { save(content: $content, id: $id) { saveId } }'
  test.each([
    ['in variables', `{"query":"${save}","variables":{"content":"x","__proto__":{"id":"y"}}}`, 200],
    ['for variables', `{"query":"${save}","variables":{"__proto__":{"content":"x"}}}`, 400],
    [
      'beside the query',
      '{"query":"{ __typename }","__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
      400,
    ],
    ['for the query', '{"__proto__":{"query":"{ __typename }"}}', 400],
    ['as an argument', '{"query":"mutation { save(content: \\"x\\", __proto__: {polluted: 1}) { id } }"}', 400],
    ['as a field', '{"query":"{ __proto__ { polluted } constructor { polluted } }"}', 400],
    ['as an operation', '{"query":"query a { __typename }","operationName":"__proto__"}', 400],
    [
      // To GraphQL it is a name like any other, but its value would be lost.
      'as a variable',
      '{"query":"query ($__proto__: Int) { contents(first: $__proto__) { edges { cursor } } }","variables":{"__proto__":-1}}',
      400,
    ],
    [
      'in an input',
      '{"query":"mutation ($i: [ContentInput!]!) { saveMany(inputs: $i) { saveId } }","variables":{"i":[{"content":"x","constructor":{"prototype":1}}]}}',
      400,
    ],
  ])('with __proto__ or constructor %s pollutes nothing', async (_what, body, status) => {
    for (let i = 0; i < 3; i++) expect(await post(body)).toMatchObject({ status })
    expect(await post('{"query":"{ __typename }"}')).toMatchObject({
      status: 200,
      text: '{"data":{"__typename":"Query"}}',
    })
  })

  test('with __proto__ sets no field of POST /save', async () => {
    expect((await post('{"__proto__":{"content":"x"}}', {}, '/save')).status).toBe(400)
    const id = randomUUID()
    const answer = await post(`{"content":"x","__proto__":{"id":"${id}"}}`, {}, '/save')
    expect(answer).toMatchObject({ status: 400, text: expect.stringContaining('no column of Content') })
    expect((await fetch(`${target.url}/receipts/${id}`)).status).toBe(404)
    for (const name of ['__proto__', 'constructor', 'toString', '']) {
      expect((await post(JSON.stringify({ content: 'x', id: name }), {}, '/save')).status).toBe(400)
      expect([400, 404]).toContain((await fetch(`${target.url}/receipts/${name}`)).status)
    }
  })

  test('that does not parse is answered without the message of a library', async () => {
    const { status, text } = await post('{"query":')
    expect({ status, text }).toEqual({ status: 400, text: expect.not.stringMatching(/originalError|SyntaxError/) })
  })
})

describe('a body', () => {
  const bomb = gzipSync(Buffer.alloc(100_000_000, ' '))
  test.each(['gzip', 'deflate', 'br', 'zstd', 'gzip, gzip', 'x'])('compressed by %s is refused', async (encoding) => {
    for (const path of ['/graphql', '/save'])
      expect((await post(bomb, { 'content-encoding': encoding }, path)).status).toBe(415)
  })

  test.each(['application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'text/plain', ''])(
    'of a form of another site (%s) is refused',
    async (type) => {
      const form = 'query=mutation{save(content:"x"){saveId}}'
      for (const path of ['/graphql', '/save']) {
        const { status } = await post(form, { 'content-type': type, origin: 'https://evil.example' }, path)
        expect(status).toBe(403)
      }
      // Where the browser says nothing, too.
      expect((await post(form, { 'content-type': type })).status).toBe(415)
    },
  )
})

describe('a request', () => {
  test.each(['https://evil.example', 'null', 'http://127.0.0.1:1', 'http://127.0.0.1.evil.example', ''])(
    'from the origin %j is refused everywhere',
    async (origin) => {
      for (const path of ['/', '/graphql', '/save', '/receipts/x', '/metrics', '/readyz']) {
        const { status, headers } = await post('{"query":"{ __typename }"}', { origin }, path)
        expect(status).toBe(403)
        expect([...headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([])
        const preflight = await fetch(`${target.url}${path}`, { method: 'OPTIONS', headers: { origin } })
        expect(preflight.status).toBe(403)
      }
    },
  )

  test.each([
    ['evil.example', 403],
    ['evil.example:8080', 403],
    ['127.0.0.1.evil.example', 403],
    ['169.254.169.254', 403],
    // Not well-formed, whatever it names.
    ['127.0.0.1@evil.example', 400],
    ['', 400],
  ])('for the host %j is refused everywhere, upgrades and streams included', async (host, status) => {
    const refused = new RegExp(`^HTTP/1\\.1 ${status} `)
    const head = `Host: ${host}\r\nConnection: close`
    for (const path of ['/', '/graphql?query={__typename}', '/readyz', '/metrics'])
      expect(await exchange(target.url, `GET ${path} HTTP/1.1\r\n${head}\r\n\r\n`)).toMatch(refused)
    const stream = `GET /graphql?query=subscription{saved{cursor}} HTTP/1.1\r\n${head}\r\nAccept: text/event-stream\r\n\r\n`
    expect(await exchange(target.url, stream)).toMatch(refused)
    const upgrade = `GET /graphql HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n`
    expect(await exchange(target.url, upgrade)).toMatch(refused)
  })

  test('cannot inject a line into the log', async () => {
    const secret = `secret-${randomUUID()}`
    const lines = `${secret}\r\n{"level":60,"msg":"forged"}\n\u2028\u001b[31m`
    await post(json(`query A { nothing }`, { a: lines }))
    await post(JSON.stringify({ query: `query A { __typename }`, operationName: lines }))
    await post(json('mutation ($c: String!) { save(content: $c, id: "x") { saveId } }', { c: lines }))
    await post(json('mutation ($c: String!) { save(content: $c) { saveId } }', { c: lines }))
    await post(lines)
    await post(
      JSON.stringify({ content: lines, id: lines }),
      { 'user-agent': secret, authorization: `Bearer ${secret}` },
      '/save',
    )
    await fetch(`${target.url}/${encodeURIComponent(lines)}`)
    await target.work()
    const log = target.system.api.logs()
    for (const line of log.split('\n').filter(Boolean)) expect(() => JSON.parse(line), line).not.toThrow()
    expect(log).not.toContain(secret)
    expect(log).not.toContain('forged')
  })

  test.each(['a\tb', 'a b', '"x"', 'é', 'x'.repeat(101), '%0d%0aset-cookie:a=b', '<script>'])(
    'cannot set its id to %j',
    async (id) => {
      const { headers } = await post('{"query":"{ __typename }"}', {
        'x-request-id': Buffer.from(id).toString('latin1'),
      })
      expect(headers.get('x-request-id')).toMatch(/^[0-9a-f]{8}-[0-9a-z]+$/)
    },
  )

  test('cannot inject a header or a frame into a response', async () => {
    const smuggled = 'x\r\nset-cookie: a=b\r\n\r\nid: forged\n\n'
    const encoded = encodeURIComponent(smuggled)
    const subscription = encodeURIComponent('subscription ($after: String) { saved(after: $after) { cursor } }')
    const answers = [
      await fetch(`${target.url}/receipts/${encoded}`),
      await fetch(`${target.url}/?after=${encoded}`),
      await fetch(`${target.url}/${encoded}`),
      await fetch(
        `${target.url}/graphql?query=${subscription}&variables=${encodeURIComponent(JSON.stringify({ after: smuggled }))}`,
        { headers: { accept: 'text/event-stream' } },
      ),
    ]
    for (const answer of answers) {
      expect(answer.headers.has('set-cookie')).toBe(false)
      expect(await answer.text()).not.toMatch(/^(id: forged|set-cookie)/m)
    }
    const id = await post(json('mutation ($i: ID) { save(content: "x", id: $i) { saveId } }', { i: smuggled }))
    expect(id.status).toBe(400)
    // On the wire, where no client stands in between.
    for (const name of ['x-request-id', 'last-event-id']) {
      const raw = `GET /graphql?query=${subscription} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nConnection: close\r\n${name}: a\rset-cookie: a=b\r\n\r\n`
      expect(await exchange(target.url, raw)).toMatch(/^HTTP\/1\.1 400 /)
    }
  })
})

describe('documents that are always new', () => {
  let dir: string
  let api: Inspected
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'spillway-new-'))
    api = await inspect({ DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` })
  })
  afterAll(async () => {
    await api?.stop()
    await rm(dir, { recursive: true, force: true })
  })

  let made = 0
  const fields = 'id content createdAt savedAt '.repeat(40)
  /** As much as one may hold. */
  const full = () => `{ ${times(7, (i) => `a${made++}_${i}: contents(first: 1) { edges { node { ${fields} } } }`)} }`
  const empty = () => `# ${made++}${' '.repeat(2_000_000)}\n{ __typename }`
  const wrong = () => `# ${made++}${' '.repeat(2_000_000)}\n{`

  /** The growth of the heap. The first ones may stay; those after them have to take their places. */
  async function grows(document: () => string, each: number, first: number, then: number) {
    const send = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const body = json(document())
        // The second time it is compiled.
        for (let time = 0; time < each; time++) {
          const response = await fetch(`${api.url}/graphql`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body,
          })
          await response.text()
        }
      }
    }
    await send(first)
    const { bytes } = await api.holding()
    await send(then)
    return async () => ((await api.holding()).bytes - bytes) / 1024 / 1024
  }

  test.each([
    ['full ones', full, 2, 30, 40],
    ['large ones of nothing', empty, 1, 2, 15],
    ['large ones that are wrong', wrong, 1, 2, 15],
  ])('are kept in bounded memory: %s', { timeout: 180_000 }, async (_what, document, each, first, then) => {
    const grownMb = await grows(document, each, first, then)
    // What a connection or a timer still holds is given back; what is kept stays.
    await holds(async () => expect(await grownMb()).toBeLessThan(15), { timeoutMs: 90_000 })
  })
})
