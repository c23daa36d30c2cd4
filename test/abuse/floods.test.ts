/**
 * One connection, or a few hundred, that make the process do very much at once: pieces of one byte, requests and frames without end.
 * Each turn of the event loop stays short, and an honest client is answered meanwhile.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually, holds } from '../harness/eventually.ts'
import { type Probe, probe } from '../harness/probe.ts'
import { exchange, Raw } from '../harness/raw.ts'
import { Target } from '../harness/target.ts'
import { cpuMs, Turns } from '../harness/turns-of.ts'
import { WsClient } from '../harness/ws.ts'

/** CPU time of one turn of the event loop. A busy machine changes it little, but by its caches: 120 ms were seen alone, 360 beside other work. */
const mostMs = 400

let target: Target
let turns: Turns
let others: Probe
beforeAll(async () => {
  turns = await Turns.make()
  target = await Target.start(turns.env(512))
}, 60_000)
afterAll(async () => {
  await target?.stop()
  await turns?.remove()
})
beforeEach(() => {
  target.mark()
  turns.mark(target.system.api)
  others = probe(target.url)
})
afterEach(async ({ task }) => {
  const { failed, p95 } = await others.stop()
  const longestMs = await turns.longestMs()
  console.log(
    `${task.name}: peak ${target.peakMb.toFixed(0)} MB, longest turn ${longestMs.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms`,
  )
  expect(failed).toEqual([])
  expect(longestMs).toBeLessThan(mostMs)
  expect(target.peakMb).toBeLessThan(512 + 256)
  await target.work()
}, 60_000)

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`
const chunked = (line: string) => `${line} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n`
const upgrade = get('/graphql').replace(
  '\r\n\r\n',
  '\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n',
)
/** A masked frame of no bytes. */
const frame = (first: number) => Buffer.from([first, 0x80, 0, 0, 0, 0])
const frames = (first: number) => Buffer.concat(Array(11_000).fill(frame(first)))

async function begin(start: string): Promise<Raw> {
  const raw = await Raw.open(target.url)
  await raw.send(start)
  if (start.startsWith('GET')) await holds(() => expect(raw.text.length).toBeGreaterThan(0), { timeoutMs: 30_000 })
  return raw
}

/** Sends without end, for a while. */
async function flood(raw: Raw, blob: string | Buffer, ms: number): Promise<void> {
  const later = () => new Promise<false>((resolve) => setTimeout(() => resolve(false), ms).unref())
  const ends = performance.now() + ms
  while (performance.now() < ends && (await Promise.race([raw.send(blob), raw.closed.then(() => false), later()])));
}

describe('one connection', () => {
  test.each<[string, string, string | Buffer]>([
    ['requests without end', '', get('/livez').repeat(4_000)],
    ['requests of nobody without end', '', get('/nothing').repeat(4_000)],
    ['a body for GET in pieces of one byte', chunked('GET /livez'), '1\r\nA\r\n'.repeat(22_000)],
    ['a body for nothing in pieces of one byte', chunked('POST /nothing'), '1\r\nA\r\n'.repeat(22_000)],
    ['a body in pieces of one byte', chunked('POST /save'), '1\r\nA\r\n'.repeat(22_000)],
    ['WebSocket pings without end', upgrade, frames(0x89)],
    ['WebSocket pongs without end', upgrade, frames(0x8a)],
    ['WebSocket messages of no bytes without end', upgrade, frames(0x81)],
  ])(
    'that sends %s does not hold others up',
    async (_what, start, blob) => {
      const raw = await begin(start)
      await flood(raw, blob, 1_000)
      raw.close()
    },
    30_000,
  )

  test('that pipelines a hundred requests is answered a hundred times', async () => {
    const raw = await Raw.open(target.url)
    for (let round = 1; round <= 3; round++) {
      await raw.send(get('/livez').repeat(100))
      await holds(() => expect(raw.statuses).toEqual(Array(100 * round).fill(200)))
    }
    raw.close()
  })

  test('that sends a hundred operations and pings at once is answered all of them', async () => {
    const client = await WsClient.connect(target.url)
    for (let i = 0; i < 90; i++) client.subscribe(`${i}`, '{ __typename }')
    for (let i = 0; i < 50; i++) client.send({ type: 'ping' })
    await holds(() => {
      expect(client.messages.filter(({ type }) => type === 'next')).toHaveLength(90)
      expect(client.messages.filter(({ type }) => type === 'pong')).toHaveLength(50)
    })
    client.close()
  })

  test('whose body comes in two hundred small pieces is answered', async () => {
    const body = JSON.stringify({ content: 'x'.repeat(180) })
    const pieces = [...body].map((one) => `1\r\n${one}\r\n`).join('')
    const answer = await exchange(
      target.url,
      `POST /save HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${pieces}0\r\n\r\n`,
    )
    expect(answer).toMatch(/^HTTP\/1\.1 202 /)
  })

  test('whose body comes in more pieces than that is refused and closed', async () => {
    const answer = await exchange(target.url, chunked('POST /save') + '1\r\nA\r\n'.repeat(230))
    expect(answer).toMatch(/^HTTP\/1\.1 413 .*connection: close.*too many pieces/is)
  })
})

/** Waits until the process has worked off what a flood left in the sockets. */
async function calm(): Promise<void> {
  const used = () => cpuMs(target.system.api.pid)
  await holds(
    async () => {
      const before = used()
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(used() - before).toBeLessThan(60)
    },
    { timeoutMs: 60_000 },
  )
}

describe('three hundred connections', () => {
  afterEach(calm, 60_000)
  const fragment = Buffer.from([0x01, 0x81, 0, 0, 0, 0, 0x20])
  const continued = Buffer.from([0x00, 0x81, 0, 0, 0, 0, 0x20])
  test.each<[string, string, string | Buffer]>([
    ['bodies in pieces of one byte', chunked('POST /save'), '1\r\nA\r\n'.repeat(5_000)],
    ['bodies in pieces of twenty bytes', chunked('POST /save'), `14\r\n${'A'.repeat(20)}\r\n`.repeat(1_000)],
    ['bodies for GET in pieces of one byte', chunked('GET /livez'), '1\r\nA\r\n'.repeat(5_000)],
    ['pieces with chunk extensions', chunked('POST /save'), `1;${'a=b;'.repeat(5)}\r\nA\r\n`.repeat(1_000)],
    ['headers without end', 'POST /save HTTP/1.1\r\n', 'a:b\r\n'.repeat(500)],
    ['requests without end', '', get('/livez').repeat(500)],
    ['requests of nobody without end', '', get('/nothing').repeat(500)],
    ['WebSocket pings without end', upgrade, frames(0x89)],
    ['WebSocket pongs without end', upgrade, frames(0x8a)],
    ['WebSocket messages of no bytes without end', upgrade, frames(0x81)],
    ['WebSocket fragments of one byte', upgrade, Buffer.concat([fragment, ...Array(9_000).fill(continued)])],
  ])(
    'that send %s do not hold others up',
    async (_what, start, blob) => {
      const opened = await Promise.all(Array.from({ length: 300 }, () => begin(start)))
      // The process works off for seconds what three hundred send in this time.
      await Promise.all(opened.map((raw) => flood(raw, blob, 300)))
      for (const raw of opened) raw.close()
    },
    60_000,
  )

  test('that send a request byte by byte are answered, and do not hold others up', async () => {
    const opened = await Promise.all(Array.from({ length: 300 }, () => Raw.open(target.url)))
    for (const byte of get('/livez')) await Promise.all(opened.map((raw) => raw.send(byte)))
    await holds(() => expect(opened.flatMap(({ statuses }) => statuses)).toEqual(Array(300).fill(200)))
    for (const raw of opened) raw.close()
  }, 60_000)

  test('that pipeline fifty requests each are answered all of them', async () => {
    const opened = await Promise.all(Array.from({ length: 300 }, () => Raw.open(target.url)))
    await Promise.all(opened.map((raw) => raw.send(get('/livez').repeat(50))))
    await holds(
      () => {
        for (const { statuses } of opened) expect(statuses).toEqual(Array(50).fill(200))
      },
      { timeoutMs: 30_000, intervalMs: 200 },
    )
    for (const raw of opened) raw.close()
  }, 60_000)
})

describe('a body of two megabytes', () => {
  const numbered = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, 1]))
  const query = '{ __typename }'
  test.each([
    ['150,000 parameters', JSON.stringify({ query, ...numbered(150_000) })],
    ['150,000 extensions', JSON.stringify({ query, extensions: numbered(150_000) })],
    ['150,000 variables', JSON.stringify({ query, variables: numbered(150_000) })],
    ['1,000,000 brackets', `{"query":"${query}","extensions":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`],
  ])('of %s is refused, and over WebSocket its operation alone', async (_what, body) => {
    const response = await fetch(`${target.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    expect(response.status).toBe(400)
    expect(await response.text()).toMatch(/more than 100000 values/)
    const client = await WsClient.connect(target.url)
    const refused = [
      expect.objectContaining({
        message: expect.stringContaining('more than 100000 values'),
        extensions: { code: 'BAD_USER_INPUT' },
      }),
    ]
    for (const [id, message] of [
      ['first', `{"id":"first","type":"subscribe","payload":${body}}`],
      ['l"ast', ` {"payload" : ${body}, "type" : "subscribe" , "id" : "l\\"ast"}`],
    ] as const) {
      client.send(message)
      expect(await eventually(() => client.of(id)[0])).toEqual({ id, type: 'error', payload: refused })
    }
    client.subscribe('other', query)
    expect(await eventually(() => client.of('other')[0])).toMatchObject({ type: 'next' })
    client.send(`{"type":"ping","payload":${body}}`)
    expect(await client.closed).toBe(4400)
  })

  test('of too many values, for an operation that is under way, is closed with 4409', async () => {
    const client = await WsClient.connect(target.url)
    client.subscribe('1', 'subscription { saved { cursor } }')
    client.send(`{"id":"1","type":"subscribe","payload":{"query":"","variables":{"v":[${'1,'.repeat(200_000)}1]}}}`)
    expect(await client.closed).toBe(4409)
  })

  test('of a thousand inputs is taken', async () => {
    const inputs = Array.from({ length: 1_000 }, () => ({
      id: crypto.randomUUID(),
      content: '{"a":[1,"\\\\"]}'.repeat(60),
    }))
    const { body } = await target.client.graphql(
      'mutation ($i: [ContentInput!]!) { saveMany(inputs: $i) { status } }',
      {
        i: inputs,
      },
    )
    expect(body.errors).toBeUndefined()
    expect(body.data.saveMany).toHaveLength(1_000)
  })

  test('of 60,000 values, as a thousand inputs of thirty columns have, is taken', async () => {
    const columns = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`column${i}`, 'x'.repeat(20)]))
    const variables = { unused: Array(1_000).fill(columns) }
    const { body } = await target.client.graphql('{ __typename }', variables)
    expect(body).toEqual({ data: { __typename: 'Query' } })
    const client = await WsClient.connect(target.url)
    client.subscribe('1', '{ __typename }', variables)
    expect(await eventually(() => client.of('1')[0])).toMatchObject({ payload: { data: { __typename: 'Query' } } })
    client.close()
  })
})
