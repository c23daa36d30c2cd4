/**
 * Requests that are odd or malformed (FC9): each gets an answer of the server's own table, in JSON, or a plain status of Node's and the end of the
 * connection; in production and in development, no stack, path or library reaches a client.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { exchange } from '../harness/raw.ts'

const query = '/graphql?query={__typename}'
const get = (target: string, ...headers: string[]) =>
  `GET ${target} HTTP/1.1\r\nConnection: close\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`
const post = (body: string, ...headers: string[]) =>
  `POST /graphql HTTP/1.1\r\nConnection: close\r\nHost: a.example\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body, 'latin1')}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n${body}`
const host = 'Host: a.example'
/** Which tells the status of a request that is wrong, where application/json has 200. */
const strict = 'Accept: application/graphql-response+json'
const upgrade = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
]

/** What is sent, the status, and whether the answer is of the table (json) or a status alone (bare). */
const requests: [string, string, number, 'json' | 'bare'][] = [
  ...[
    'a b',
    'a/b',
    'a?b',
    'a#b',
    'a@b',
    'a:b',
    'a:1:2',
    'a:99999',
    'a\\b',
    '[::1',
    '[zz]',
    '<script>',
    'a%20b',
    '"a"',
    'a,b',
    '\xe9.example',
    ':80',
    '999.999.999.999',
    'http://a.example',
  ].flatMap((name): [string, string, number, 'json'][] => [
    [
      `for the host ${JSON.stringify(name)} by GraphQL`,
      get(query, `Host: ${name}`, 'Accept: application/json'),
      400,
      'json',
    ],
    [`for the host ${JSON.stringify(name)} by REST`, get('/', `Host: ${name}`), 400, 'json'],
  ]),
  ['for two hosts', get(query, host, 'Host: b.example'), 400, 'json'],
  ['for two hosts that are one', get(query, host, host), 400, 'json'],
  ['for a host with a control character', get(query, 'Host: a\x7fb'), 400, 'bare'],
  ['for no host', get(query), 400, 'bare'],
  ['of HTTP/1.0 for no host', `GET ${query} HTTP/1.0\r\n\r\n`, 200, 'json'],
  [
    'for an odd host by a stream',
    get('/graphql?query=subscription{saved{cursor}}', 'Host: a b', 'Accept: text/event-stream'),
    400,
    'json',
  ],
  [
    'for an odd host by WebSocket',
    `GET /graphql HTTP/1.1\r\nHost: a b\r\n${upgrade.join('\r\n')}\r\n\r\n`,
    400,
    'bare',
  ],
  [
    'with an expectation',
    `POST /save HTTP/1.1\r\n${host}\r\nExpect: something\r\nContent-Length: 3\r\n\r\n`,
    417,
    'json',
  ],
  ['by TRACE', `TRACE /graphql HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`, 405, 'json'],
  ['by PROPFIND', `PROPFIND / HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`, 405, 'json'],
  ['by DELETE', `DELETE /graphql HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`, 405, 'json'],
  ['by HEAD', `HEAD ${query} HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`, 405, 'bare'],
  ['by a method that is none', `NONSENSE / HTTP/1.1\r\n${host}\r\n\r\n`, 400, 'bare'],
  ['of another protocol', 'nonsense\r\n\r\n', 400, 'bare'],
  ['of HTTP/9.9', `GET / HTTP/9.9\r\n${host}\r\n\r\n`, 400, 'bare'],
  ['with a header that is none', get(query, host, 'no header'), 400, 'bare'],
  ['with a header of a control character', get(query, host, 'X-A: a\x01b'), 400, 'bare'],
  ['with headers of 20 KB', get(query, host, `X-A: ${'x'.repeat(20_000)}`), 431, 'bare'],
  [
    'with two lengths',
    `POST /save HTTP/1.1\r\n${host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx`,
    400,
    'bare',
  ],
  [
    'with a length and chunks',
    `POST /save HTTP/1.1\r\n${host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    'bare',
  ],
  [
    'with a chunk that is none',
    `POST /graphql HTTP/1.1\r\n${host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
    400,
    'bare',
  ],
  ['for a path of broken escapes', get('/%', host), 404, 'json'],
  ['for a receipt of broken escapes', get('/receipts/%E0%A4%A', host), 400, 'json'],
  ['for a path that looks like a host', get('//evil.example/graphql', host), 404, 'json'],
  ['for a file', get('/../../etc/passwd', host), 404, 'json'],
  ['for a file of the console', get('/console/assets/..%2f..%2fpackage.json', host), 404, 'json'],
  ['for a query of broken escapes', get('/graphql?query=%E0%A4%A', host, strict), 400, 'json'],
  ['for variables of broken escapes', get(`${query}&variables=%`, host), 400, 'json'],
  ['for extensions that are no object', get(`${query}&extensions=5`, host), 400, 'json'],
  ['for no query', get('/graphql', host, strict), 400, 'json'],
  ['for a type that is not there', get(query, host, 'Accept: image/png'), 406, 'json'],
  ['for an Accept of nonsense', get(query, host, 'Accept: ,;=/"'), 406, 'json'],
  [
    'for a subscription as JSON',
    post('{"query":"subscription { saved { cursor } }"}', 'Accept: application/json'),
    406,
    'json',
  ],
  ['for a mutation by GET', get('/graphql?query=mutation{save(content:"x"){saveId}}', host), 405, 'json'],
  ['with a body of half a character', post('{"query":"\xff"}'), 400, 'json'],
  ['with a body of nothing', post(''), 400, 'json'],
  ['with an Accept-Encoding of nonsense', get(query, host, 'Accept-Encoding: nonsense;q=x'), 200, 'json'],
  [
    'with a Content-Type of nonsense',
    `POST /graphql HTTP/1.1\r\n${host}\r\nConnection: close\r\nContent-Type: ;;;\r\nContent-Length: 2\r\n\r\n{}`,
    415,
    'json',
  ],
  ['with an origin of nonsense', get(query, host, 'Origin: ::'), 403, 'json'],
  ['with a token of nonsense', get(query, host, 'Authorization: Bearer \xe9'), 200, 'json'],
]

describe.each(['production', 'development'])('in %s, a request', (environment) => {
  let dir: string
  let api: SpillwayProcess
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'spillway-requests-'))
    const files = { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` }
    // On loopback alone there would be a list of hosts.
    const env = { ...files, HOST: '0.0.0.0', AUTH: 'none', NODE_ENV: environment }
    api = await spawnSpillway('api', env, { timeoutMs: 60_000 })
  }, 90_000)
  afterAll(async () => {
    api?.kill('SIGKILL')
    await api?.exited
    await rm(dir, { recursive: true, force: true })
  })

  const local = () => api.url!.replace('0.0.0.0', '127.0.0.1')

  test.each(requests)(
    '%s has the status of the table and discloses nothing of the server',
    async (_what, sent, status, kind) => {
      const answer = await exchange(local(), Buffer.from(sent, 'latin1'))
      expect(answer.split('\r\n', 1)[0]).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
      expect(answer).not.toMatch(/node_modules|\.[jt]s:\d|\bat (async )?\w+ ?\(|TypeError|ERR_[A-Z]/)
      if (kind === 'bare') {
        // Nothing, or nothing in chunks.
        expect(answer.slice(answer.indexOf('\r\n\r\n') + 4)).toMatch(/^(0\r\n\r\n)?$/)
        return
      }
      expect(answer).toMatch(/\r\ncontent-type: application\/[\w+-]*json/i)
      expect(answer).toMatch(/\r\nx-content-type-options: nosniff\r\n/i)
      const body = answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1)
      if (status === 200) expect(JSON.parse(body)).toEqual({ data: { __typename: 'Query' } })
      else
        expect(JSON.parse(body).errors[0]).toMatchObject({
          message: expect.any(String),
          extensions: { code: expect.any(String) },
        })
    },
  )

  test('writes no error of the server to the log', () => {
    expect(api.logs()).not.toMatch(/unexpected|"level":50/)
  })
})
