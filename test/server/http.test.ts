/** HTTP as clients and proxies send it: forms of the request target, offers of other protocols, and pages of other origins. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { readConfig } from '../../src/config.ts'
import { bootInProcess, type InProcess } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { recorded } from '../harness/quiet.ts'
import { exchange, Raw } from '../harness/raw.ts'
import { secret, tokenOf } from '../harness/tenants.ts'

const app = 'https://app.example'
const log = recorded()
const opened: InProcess[] = []
/** `url` needs no token; `locked` needs one, and accepts one request a second. */
let url: string
let locked: string

async function start(env: Record<string, string> = {}): Promise<string> {
  const api = await bootInProcess({ CORS_ORIGINS: app, ...env }, log)
  opened.push(api)
  return api.url
}

beforeAll(async () => {
  url = await start()
  locked = await start({ AUTH_JWT_SECRET: secret, RATE_LIMIT: '1' })
})

afterAll(() => Promise.all(opened.map((api) => api.stop())))

/** Sends a request line and headers on a connection of its own. */
const ask = (line: string, headers: readonly string[] = [], body = '') =>
  exchange(url, `${[line, 'Host: 127.0.0.1', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n${body}`)

describe('The request target', () => {
  test.each([
    'http://127.0.0.1/livez',
    'HTTP://localhost:8080/livez',
    'http://[::1]:1/livez',
    'https://127.0.0.1/livez?x=1',
  ])('in absolute form (%s) is served', async (target) => {
    expect(await ask(`GET ${target} HTTP/1.1`)).toMatch(/^HTTP\/1\.1 200 [\s\S]*"alive"/)
  })

  test('in absolute form is served by REST and GraphQL alike, with and without a path', async () => {
    expect(await ask('GET http://127.0.0.1 HTTP/1.1')).toMatch(/^HTTP\/1\.1 200 [\s\S]*"results"/)
    expect(await ask('GET http://127.0.0.1?first=1 HTTP/1.1')).toMatch(/^HTTP\/1\.1 200 [\s\S]*"results"/)
    const query = 'query={__typename}'
    expect(await ask(`GET http://127.0.0.1/graphql?${query} HTTP/1.1`)).toMatch(/^HTTP\/1\.1 200 [\s\S]*"Query"/)
    for (const accept of ['*/*', 'application/graphql-response+json, text/event-stream']) {
      const body = '{"query":"{ t: __typename }"}'
      const headers = ['Content-Type: application/json', `Content-Length: ${body.length}`, `Accept: ${accept}`]
      const answer = await ask('POST http://127.0.0.1/graphql HTTP/1.1', headers, body)
      expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*"Query"/)
    }
  })

  test('in absolute form replaces the Host header, for the list of hosts, too', async () => {
    const foreign = 'GET http://evil.example/livez HTTP/1.1'
    expect(await ask(foreign)).toMatch(/^HTTP\/1\.1 403 /)
    expect(
      await exchange(url, 'GET http://127.0.0.1/livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n'),
    ).toMatch(/^HTTP\/1\.1 200 /)
    const upgrade = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13']
    expect(await ask('GET http://evil.example/graphql HTTP/1.1', upgrade)).toMatch(/^HTTP\/1\.1 403 /)
  })

  test.each(['http://a:b@127.0.0.1/livez', 'http:///livez', 'ftp://127.0.0.1/livez'])('%s gets 400', async (target) => {
    expect(await ask(`GET ${target} HTTP/1.1`)).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('* gets 204 for OPTIONS, and 404 for GET', async () => {
    expect(await ask('OPTIONS * HTTP/1.1')).toMatch(/^HTTP\/1\.1 204 [\s\S]*allow: GET, HEAD, POST, OPTIONS/i)
    expect(await ask('GET * HTTP/1.1')).toMatch(/^HTTP\/1\.1 40[04] /)
  })

  test.each(['//livez', '//evil.example/livez', '/%6Civez', '/livez/'])('%s is not /livez', async (target) => {
    expect(await ask(`GET ${target} HTTP/1.1`)).toMatch(/^HTTP\/1\.1 404 /)
  })

  test('CONNECT gets 405, since this server is no proxy', async () => {
    expect(await ask('CONNECT db.example:3306 HTTP/1.1')).toMatch(/^HTTP\/1\.1 405 [\s\S]*Allow: GET/)
  })
})

test.each(['u:p@127.0.0.1:1', '127.0.0.1/x', 'u@127.0.0.1', '127.0.0.1?x', '127.0.0.1#x', 'localhost\\x'])(
  'The Host header %s gets 400 at every path',
  async (host) => {
    for (const path of ['/livez', '/', '/graphql?query={__typename}']) {
      const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
      expect(await exchange(url, request)).toMatch(/^HTTP\/1\.1 400 /)
    }
  },
)

test.each(['gzip, chunked', 'deflate, chunked', 'x-own,Chunked'])(
  'A body in Transfer-Encoding: %s gets 501 with a message',
  async (coding) => {
    const body = '{"content":"x"}'
    const chunks = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
    for (const path of ['/save', '/graphql']) {
      const headers = ['Content-Type: application/json', `Transfer-Encoding: ${coding}`]
      const answer = await ask(`POST ${path} HTTP/1.1`, headers, chunks)
      expect(answer).toMatch(/^HTTP\/1\.1 501 [\s\S]*Transfer-Encoding .* is not supported/)
    }
    expect(await ask('POST /save HTTP/1.1', ['Transfer-Encoding: Chunked'], chunks)).toMatch(/^HTTP\/1\.1 202 /)
  },
)

describe('An offer of another protocol', () => {
  const h2c = ['Upgrade: h2c', 'HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA']
  const offers = {
    'h2c, as curl --http2 sends it': ['Connection: Upgrade, HTTP2-Settings', ...h2c],
    'TLS/1.0': ['Connection: Upgrade', 'Upgrade: TLS/1.0'],
    'h2c, then others': ['Connection: Upgrade', 'Upgrade: h2c, IRC/6.9'],
    'an empty list': ['Connection: Upgrade', 'Upgrade: ,'],
    'websocket without Connection: Upgrade': ['Upgrade: websocket'],
  }
  const last = 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n'

  /** Sends one request, waits for its response, and sends another one on the same connection. */
  async function askTwice(request: string): Promise<string> {
    const raw = await Raw.open(url)
    await raw.send(request)
    await holds(() => expect(raw.statuses).toHaveLength(1))
    await raw.send(last)
    return await raw.closed
  }

  test.each(Object.entries(offers))(
    '(%s) is ignored, and the request is served, its body included',
    async (_name, offer) => {
      const body = '{"content":"offered another protocol"}'
      const post = ['POST /save HTTP/1.1', 'Host: 127.0.0.1', ...offer, `Content-Length: ${body.length}`].join('\r\n')
      expect(await askTwice(`${post}\r\n\r\n${body}`)).toMatch(/^HTTP\/1\.1 202 [\s\S]*"QUEUED"[\s\S]*HTTP\/1\.1 200 /)
      const get = ['GET /readyz HTTP/1.1', 'Host: 127.0.0.1', ...offer].join('\r\n')
      expect(await askTwice(`${get}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 200 /)
    },
  )

  const key = ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==']
  const handshake = (upgrade: string, connection = 'Upgrade') => [
    'GET /graphql HTTP/1.1',
    'Host: 127.0.0.1',
    `Connection: ${connection}`,
    `Upgrade: ${upgrade}`,
    ...key,
    'Sec-WebSocket-Protocol: graphql-transport-ws',
  ]

  test.each([
    ['websocket', 'Upgrade'],
    ['WebSocket', 'keep-alive, upgrade'],
    ['h2c, websocket', 'Upgrade'],
  ])('of "Upgrade: %s", "Connection: %s" is accepted', async (upgrade, connection) => {
    const switched = exchange(url, `${handshake(upgrade, connection).join('\r\n')}\r\n\r\n\x88\x80\x00\x00\x00\x00`)
    expect(await switched).toMatch(/^HTTP\/1\.1 101 /)
  })

  test('of a WebSocket is ignored at paths other than /graphql', async () => {
    const failed = new Promise<string>((resolve) => {
      new WebSocket(`${url.replace('http', 'ws')}/livez`).on('error', (error) => resolve(error.message))
    })
    expect(await failed).toContain('200')
    for (const upgrade of ['websocket', 'h2c, websocket']) {
      const get = `GET /livez?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`
      expect(await askTwice(get)).toMatch(/^HTTP\/1\.1 200 [\s\S]*"alive"[\s\S]*HTTP\/1\.1 200 /)
    }
    const nowhere = ['Connection: Upgrade', 'Upgrade: websocket']
    expect(await ask('GET /nowhere HTTP/1.1', nowhere)).toMatch(/^HTTP\/1\.1 404 [\s\S]*"errors"/)
  })

  test('of a WebSocket is ignored in HTTP/1.0 and by POST', async () => {
    const old = 'GET /livez HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
    expect(await exchange(url, old)).toMatch(/^HTTP\/1\.1 200 [\s\S]*"alive"/)
    const body = '{"content":"x"}'
    const post = `POST /save HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${body.length}\r\n\r\n`
    expect(await askTwice(post + body)).toMatch(/^HTTP\/1\.1 202 /)
  })
})

describe('A page of a listed origin', () => {
  const asked =
    'authorization,content-type,traceparent,tracestate,baggage,x-request-id,last-event-id,apollo-require-preflight,apollographql-client-name,apollographql-client-version,x-apollo-operation-name,idempotency-key'
  const preflight = (origin: string, more: Record<string, string> = {}) =>
    fetch(`${locked}/graphql`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': asked,
        ...more,
      },
    })

  test('may send the headers that clients and tracers send', async () => {
    const { status, headers } = await preflight(app)
    expect(status).toBe(204)
    expect(headers.get('access-control-allow-origin')).toBe(app)
    expect(headers.get('access-control-allow-headers')).toBe(asked)
    expect(headers.get('access-control-allow-methods')).toBe('GET, HEAD, POST')
    expect(Number(headers.get('access-control-max-age'))).toBeGreaterThan(60)
    expect(headers.get('vary')).toBe('Origin, Access-Control-Request-Headers')
    expect(headers.get('access-control-allow-private-network')).toBeNull()
    const reached = await preflight(app, { 'access-control-request-private-network': 'true' })
    expect(reached.headers.get('access-control-allow-private-network')).toBe('true')
  })

  test('may read every response, errors and Retry-After included', async () => {
    const call = (path: string, init: RequestInit = {}) =>
      fetch(`${locked}${path}`, { ...init, headers: { origin: app, ...init.headers } })
    const authorization = `Bearer ${await tokenOf({ scope: 'read write' })}`
    const graphql = {
      method: 'POST',
      body: '{"query":"{ __typename }"}',
      headers: { 'content-type': 'application/json', authorization },
    }
    const answers = [
      await call('/livez'),
      await call('/nothing'),
      await call('/'),
      await call('/save', { method: 'PUT' }),
    ]
    answers.push(await call('/graphql', { ...graphql, headers: { ...graphql.headers, 'content-type': 'text/plain' } }))
    for (let i = 0; i < 5; i++) answers.push(await call('/graphql', graphql))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 404, 401, 405, 415, 429]))
    for (const { status, headers } of answers) {
      expect(headers.get('access-control-allow-origin'), String(status)).toBe(app)
      expect(headers.get('access-control-expose-headers')).toContain('retry-after, x-request-id')
      expect(headers.get('vary')).toContain('Origin')
      expect(headers.get('x-request-id')).toBeTruthy()
    }
    expect(answers.find(({ status }) => status === 429)?.headers.get('retry-after')).toBeTruthy()
  })

  test('gets responses that a shared cache does not serve to other pages', async () => {
    const { headers } = await fetch(url, { headers: { accept: 'application/json' } })
    expect(headers.get('vary')).toBe('Origin, Accept')
    const page = await fetch(url, { headers: { accept: 'text/html' } })
    expect(page.headers.get('vary')).toBe('Origin, Accept, Accept-Encoding')
  })
})

describe('A page behind a proxy that changes the Host header', () => {
  const through = (...headers: string[]) => ask('GET /livez HTTP/1.1', ['Origin: http://localhost:5173', ...headers])

  test('is served where the browser says that both have one origin (Vite: the short form of its proxy)', async () => {
    const answer = await through('Sec-Fetch-Site: same-origin')
    expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    expect(answer).not.toMatch(/access-control-/i)
  })

  test.each(['', 'same-site', 'cross-site', 'none', 'same-origin, same-origin'])(
    'is refused where the browser says %j',
    async (site) => {
      expect(await through(`Sec-Fetch-Site: ${site}`)).toMatch(/^HTTP\/1\.1 403 /)
    },
  )

  test('is refused by a name that the server does not answer for, which a page that rebinds its name has', async () => {
    const headers = ['Origin: http://evil.example', 'Sec-Fetch-Site: same-origin', 'Connection: close']
    expect(await exchange(url, ['GET /livez HTTP/1.1', 'Host: evil.example', ...headers, '', ''].join('\r\n'))).toMatch(
      /^HTTP\/1\.1 403 /,
    )
  })
})

describe('A refused request', () => {
  test('for a stream without a token gets an error that says how a browser can send one (FE6)', async () => {
    const stream = `${locked}/graphql?query=subscription{saved{cursor}}`
    const refused = await fetch(stream, { headers: { accept: 'text/event-stream' } })
    expect(refused.status).toBe(401)
    expect(await refused.text()).toMatch(/EventSource cannot send it.*fetch.*connection_init/)
    expect(await (await fetch(stream)).text()).not.toContain('EventSource')
    // The page of GraphiQL needs no token; its requests do.
    expect((await fetch(`${locked}/graphql`, { headers: { accept: 'text/html' } })).status).toBe(200)
  })

  test('for a foreign host or origin is logged once for each, with what to set, truncated and without control characters', async () => {
    const before = log.entries.length
    const url = await start()
    const ask = (host: string, ...headers: string[]) =>
      exchange(url, [`GET /livez HTTP/1.1\r\nHost: ${host}\r\nConnection: close`, ...headers, '\r\n'].join('\r\n'))
    const lines = () =>
      log.entries
        .slice(before)
        .filter(({ message }) => message.includes('refused'))
        .map(({ message, fields }) => ({ message, ...fields }) as Record<string, string>)
    for (let i = 0; i < 5; i++) {
      await ask('127.0.0.1', 'Origin: http://localhost:5173')
      await ask('127.0.0.1', 'Origin: https://other.example', 'Sec-Fetch-Site: cross-site')
      await ask('127.0.0.1', 'Origin: http://localhost:3000', 'Sec-Fetch-Site: same-site')
      await ask('127.0.0.1', 'Origin: null')
      await ask('127.0.0.1', `Origin: https://evil.example/${'x'.repeat(500)}"{}`)
      await ask('app.example:8080')
    }
    const setting = (message = '') => /ALLOWED_HOSTS|CORS_ORIGINS/.exec(message)?.[0]
    expect(lines().map(({ message, origin, host, set }) => [origin ?? host, setting(message), set])).toEqual([
      ['http://localhost:5173', 'CORS_ORIGINS', `CORS_ORIGINS=${app},http://localhost:5173`],
      ['https://other.example', 'CORS_ORIGINS', `CORS_ORIGINS=${app},https://other.example`],
      ['http://localhost:3000', 'CORS_ORIGINS', `CORS_ORIGINS=${app},http://localhost:3000`],
      ['null', 'CORS_ORIGINS', undefined],
      [`https://evil.example/${'x'.repeat(79)}`, 'CORS_ORIGINS', undefined],
      ['app.example:8080', 'ALLOWED_HOSTS', 'ALLOWED_HOSTS=localhost,127.0.0.1,::1,app.example'],
    ])
    expect(JSON.stringify(lines()[4]).length).toBeLessThan(400)
    // What the log advises, the settings accept.
    for (const { set } of lines().filter((line) => line.set !== undefined)) {
      const [name, value] = String(set).split('=') as [string, string]
      expect(() => readConfig({ [name]: value }, {})).not.toThrow()
    }
    // A client that sends any number of names fills neither the log nor the memory.
    for (let i = 0; i < 200; i++) await ask('127.0.0.1', `Origin: https://page-${i}.example`)
    expect(lines().length).toBeLessThanOrEqual(6 + 96)
  })
})
