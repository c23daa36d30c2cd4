/**
 * Streams and sockets that are opened to be a burden. What breaks the protocol of WebSockets: test/live/websocket.test.ts; subscribers that
 * do not read what they asked for: test/live/slow.test.ts.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { boot, type Spillway } from '../harness/boot.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { Raw } from '../harness/raw.ts'
import { SseClient } from '../harness/sse.ts'
import { Target } from '../harness/target.ts'
import { secret, tokenOf } from '../harness/tenants.ts'
import { WsClient } from '../harness/ws.ts'

const saved = 'subscription { saved { cursor } }'

let target: Target
beforeAll(async () => {
  target = await Target.start()
})
afterAll(() => target?.stop())
beforeEach(() => target.mark())
afterEach(() => target.expectSound(150))

/** The socket is good for another operation, as soon as those before it are over. */
async function answers(client: WsClient): Promise<void> {
  let tries = 0
  // Thousands of messages may be before it.
  const patience = { timeoutMs: 30_000 }
  await eventually(async () => {
    tries += 1
    const id = `again ${tries}`
    client.subscribe(id, '{ __typename }')
    const answer = await eventually(() => client.of(id)[0], patience)
    return answer.type === 'next'
  }, patience)
}

describe('a WebSocket', () => {
  test('that sends nothing is closed, however many there are', async () => {
    const clients = await Promise.all(Array.from({ length: 200 }, () => WsClient.open(target.url)))
    for (const { socket } of clients) socket.ping()
    await target.work()
    expect(new Set(await Promise.all(clients.map(({ closed }) => closed)))).toEqual(new Set([4408]))
  })

  test('has a hundred operations at once; each above them is refused by itself', async () => {
    const client = await WsClient.connect(target.url)
    for (let i = 0; i < 1_000; i++) client.subscribe(`${i}`, saved)
    await holds(() => expect(client.messages.filter(({ type }) => type === 'error')).toHaveLength(900))
    expect(client.of('100')).toMatchObject([{ payload: [{ extensions: { code: 'RATE_LIMITED' } }] }])
    client.send({ id: '0', type: 'complete' })
    await answers(client)
    await target.work()
    await holds(() => expect(client.messages.filter(({ type }) => type === 'next')).toHaveLength(100))
    client.close()
  })

  test('that starts and ends operations without pause stays open', async () => {
    const client = await WsClient.connect(target.url)
    for (let i = 0; i < 5_000; i++) {
      client.subscribe('1', `subscription { saved { cursor } } # ${i % 500}`)
      client.send({ id: '1', type: 'complete' })
    }
    await answers(client)
    client.close()
  })

  test('that reads no answers is not read from', async () => {
    const client = await WsClient.connect(target.url)
    client.socket.pause()
    // An answer is as long as its question.
    const ping = JSON.stringify({ type: 'ping', payload: { x: 'x'.repeat(500) } })
    for (let i = 0; i < 200_000; i++) client.socket.send(ping)
    await target.work()
    let left = 0
    await eventually(
      () => {
        const before = left
        left = client.socket.bufferedAmount
        return left === before
      },
      { intervalMs: 300 },
    )
    // Some megabytes are on their way, in the kernel; the rest was not let in.
    expect(left).toBeGreaterThan(50_000_000)
    client.close()
  })

  test('that reads no pongs is sent none', async () => {
    const client = await WsClient.connect(target.url)
    client.socket.pause()
    const data = 'x'.repeat(125)
    for (let i = 0; i < 300_000; i++) client.socket.ping(data)
    await holds(() => expect(client.socket.bufferedAmount).toBe(0), { timeoutMs: 20_000 })
    await target.work()
    expect(target.grownMb).toBeLessThan(100)
    client.socket.resume()
    const pong = new Promise((resolve) => client.socket.on('pong', (got) => String(got) === 'last' && resolve(got)))
    // Whoever reads again is answered again.
    await eventually(async () => {
      client.socket.ping('last')
      return await Promise.race([pong, new Promise((resolve) => setTimeout(resolve, 100))])
    })
    client.close()
  })

  test('cannot be sent compressed, nor a message in pieces without end', async () => {
    expect((await WsClient.open(target.url)).socket.extensions).toBe('')
    const raw = await Raw.open(target.url)
    await raw.send(
      'GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n',
    )
    // Masked with zeros: a text of one byte, not the last; then more of it.
    await raw.send(Buffer.from([0x01, 0x81, 0, 0, 0, 0, 0x78]))
    const more = Buffer.alloc(7 * 10_000, Buffer.from([0x00, 0x81, 0, 0, 0, 0, 0x78]))
    for (let i = 0; i < 200; i++) if (!(await raw.send(more))) break
    await raw.closed
    expect(target.grownMb).toBeLessThan(100)
  })

  test('keeps no long request for as long as a subscription lasts', async () => {
    const client = await WsClient.connect(target.url)
    client.subscribe('1', saved, { x: 'x'.repeat(100_000) })
    const refused = await eventually(() => client.of('1')[0])
    expect(refused).toMatchObject({ type: 'error', payload: [{ extensions: { code: 'BAD_USER_INPUT' } }] })
    client.subscribe('2', '{ __typename }', { x: 'x'.repeat(100_000) })
    await holds(() => expect(client.of('2').at(-1)?.type).toBe('complete'))
    client.close()
  })
})

describe('an event stream', () => {
  test.each([
    ['of what is saved', saved],
    ['of anything else', 'subscription { queue { depth } }'],
  ])('keeps no long request for as long as it lasts: %s', async (_what, query) => {
    const response = await fetch(`${target.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ query, variables: { x: 'x'.repeat(1_000_000) } }),
    })
    expect(await response.text()).toMatch(/the request for a subscription has 10000\d\d characters; at most 65536/)
  })
})

describe('a connection', () => {
  const host = 'Host: localhost'
  const subscribe = `GET /graphql?query=${encodeURIComponent(saved)} HTTP/1.1\r\n${host}\r\nAccept: text/event-stream\r\n\r\n`
  const read = `GET / HTTP/1.1\r\n${host}\r\n\r\n`

  test('gets the responses to earlier requests before its event stream, and none to later ones', async () => {
    const raw = await Raw.open(target.url)
    await raw.send(`${read}${read}${subscribe}${read}`)
    await eventually(() => raw.text.includes('\n\nid: ') || raw.text.includes('\r\n\r\nid: '))
    const { body } = await target.client.graphql(
      'mutation { save(content: "after requests", waitMs: 10000) { saveId } }',
    )
    expect(body.errors).toBeUndefined()
    await eventually(() => raw.text.includes('event: next'))
    await raw.send(read)
    await target.client.graphql('mutation { save(content: "and more requests", waitMs: 10000) { saveId } }')
    await eventually(() => raw.text.split('event: next').length === 3)
    expect(raw.statuses).toEqual([200, 200, 200])
    const [, events = ''] = raw.text.split('text/event-stream')
    expect(events).not.toContain('HTTP/1.1')
    raw.close()
  })

  test('with an event stream is closed when its client sends requests without end', async () => {
    const raw = await Raw.open(target.url)
    await raw.send(subscribe)
    await eventually(() => raw.text.includes('text/event-stream'))
    for (let i = 0; i < 100; i++) if (!(await raw.send(read.repeat(100)))) break
    await raw.closed
    expect(raw.statuses).toEqual([200])
  })

  test.each([
    ['a document', subscribe],
    // Compiling it uses up the connection's share, so that the socket is paused when the server takes it over.
    ['a long document', subscribe.replace('?query=', `?query=%23${'x'.repeat(5_000)}%0A`)],
  ])('with an event stream of %s is closed when its client ends its side', async (_, request) => {
    const raw = await Raw.open(target.url)
    await raw.send(request)
    await eventually(() => raw.text.includes('text/event-stream'))
    raw.socket.end()
    await raw.closed
    expect(raw.text).not.toContain('event: complete')
  })
})

describe('one client', () => {
  let system: Spillway
  beforeAll(async () => {
    system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret, STREAM_LIMIT: '5', RATE_LIMIT: '40' } })
  })
  afterAll(() => system?.stop())

  const bearer = async (sub: string) => `Bearer ${await tokenOf({ sub })}`

  test.each([
    ['saved', saved],
    ['queue', 'subscription { queue { depth } }'],
  ])('has so many streams and no more, of %s and by WebSocket together', async (sub, query) => {
    const authorization = await bearer(sub)
    const open = () => SseClient.open(system.url, query, {}, { authorization })
    const socket = await WsClient.open(system.url, { authorization })
    socket.send({ type: 'connection_init' })
    await eventually(() => socket.messages.some(({ type }) => type === 'connection_ack'))
    const streams = await Promise.all(Array.from({ length: 4 }, open))
    for (const { status } of streams) expect(status).toBe(200)
    const refused = await fetch(`${system.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', authorization },
      body: JSON.stringify({ query }),
    })
    expect(await refused.text()).toContain('RATE_LIMITED')
    if (sub === 'saved') {
      expect(refused.status).toBe(429)
      expect(refused.headers.get('retry-after')).toMatch(/^\d+$/)
    }
    const another = await WsClient.open(system.url, { authorization })
    another.send({ type: 'connection_init' })
    expect(await another.closed).toBe(1013)
    // Others have their own.
    const other = await SseClient.open(system.url, query, {}, { authorization: await bearer(`not ${sub}`) })
    expect(other.status).toBe(200)
    await holds(() => expect(JSON.stringify(other.results)).not.toContain('RATE_LIMITED'))
    other.close()
    // What was closed makes room, of whichever kind it was.
    for (const closing of [socket, streams[0]!]) {
      closing.close()
      await eventually(
        async () => {
          const again = await open()
          if (again.status !== 200) return false
          streams.push(again)
          // Yoga says in the stream that it is refused.
          await eventually(() => again.frames.length > 0)
          return !JSON.stringify(again.results).includes('RATE_LIMITED')
        },
        { intervalMs: 200 },
      )
    }
    for (const stream of streams) stream.close()
  })

  test('is limited to RATE_LIMIT over WebSocket, too', async () => {
    const client = await WsClient.open(system.url, { authorization: await bearer('often') })
    client.send({ type: 'connection_init' })
    await eventually(() => client.messages.length > 0)
    for (let i = 0; i < 90; i++) client.subscribe(`${i}`, '{ __typename }')
    await holds(() => expect(new Set(client.messages.map(({ id }) => id)).size).toBe(91))
    const refused = client.messages.filter(({ type }) => type === 'error')
    expect(refused.length).toBeGreaterThanOrEqual(10)
    expect(refused[0]).toMatchObject({ payload: [{ extensions: { code: 'RATE_LIMITED' } }] })
    client.close()
  })
})
