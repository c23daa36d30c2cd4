/** Connections that are opened to be a burden: too slow, too large, too many, cut to pieces. They end, and others are served meanwhile. */

import { readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually, holds } from '../harness/eventually.ts'
import { exchange, Raw } from '../harness/raw.ts'
import { Target } from '../harness/target.ts'
import { serveTwoWays } from '../harness/two-ways.ts'

let target: Target
/** They last, and take nothing from the others: begun before them, awaited behind them. */
let slow: Dripping[]
beforeAll(async () => {
  target = await Target.start()
  slow = await dripAll()
})
afterAll(() => target?.stop())
beforeEach(() => target.mark())
afterEach(() => target.expectSound())

const post = (path: string, ...headers: string[]) =>
  [`POST ${path} HTTP/1.1`, 'Host: 127.0.0.1', 'Content-Type: application/json', ...headers, '', ''].join('\r\n')

interface Dripping {
  raw: Raw
  /** Until it is closed by the other end. */
  tookMs: Promise<number>
}

/** Requests that never end: of headers, of a body, of a chunk; a byte now and then, for as long as it is taken. */
async function dripAll(): Promise<Dripping[]> {
  const begun = [
    'POST /save HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ',
    post('/save', 'Content-Length: 1000000'),
    `${post('/graphql', 'Transfer-Encoding: chunked')}fffff\r\n`,
  ]
  return await Promise.all(
    begun.map(async (text) => {
      const raw = await Raw.open(target.url)
      await raw.send(text)
      const before = performance.now()
      const timer = setInterval(() => void raw.send('x'), 200)
      const tookMs = raw.closed.then(() => {
        clearInterval(timer)
        return performance.now() - before
      })
      return { raw, tookMs }
    }),
  )
}

describe('a large request', () => {
  test('of 10 MB is refused, announced or not', async () => {
    for (const path of ['/save', '/graphql']) {
      const announced = await Raw.open(target.url)
      await announced.send(post(path, 'Content-Length: 10000000'))
      await holds(() => expect(announced.statuses).toEqual([413]))
      announced.close()
      const chunked = await Raw.open(target.url)
      await chunked.send(post(path, 'Transfer-Encoding: chunked'))
      for (let i = 0; i < 160; i++) if (!(await chunked.send(`10000\r\n${'x'.repeat(65_536)}\r\n`))) break
      await holds(() => expect(chunked.statuses).toEqual([413]))
      chunked.close()
    }
  })

  test('whose headers have 1 MB, or are 10,000, is refused', async () => {
    expect(
      await exchange(target.url, `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ${'x'.repeat(1_000_000)}\r\n\r\n`),
    ).toMatch(/^HTTP\/1\.1 431 /)
    expect(await exchange(target.url, `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${'a: b\r\n'.repeat(10_000)}\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    )
    expect(await exchange(target.url, `GET /${'x'.repeat(1_000_000)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    )
  })

  test('of two megabytes in pieces of one byte is refused', async () => {
    const raw = await Raw.open(target.url)
    await raw.send(post('/save', 'Transfer-Encoding: chunked'))
    for (let i = 0; i < 200; i++) if (!(await raw.send('1\r\nx\r\n'.repeat(10_000)))) break
    await holds(() => expect(raw.statuses).toEqual([413]))
    raw.close()
    // Each of them would be an object.
    expect(target.grownMb).toBeLessThan(100)
  })

  test('that is one of very many is refused with Retry-After', async () => {
    const half = Buffer.alloc(1_500_000, ' ')
    const opened = await Promise.all(Array.from({ length: 240 }, () => Raw.open(target.url)))
    // 360 MB, none of it complete.
    await Promise.all(opened.map((raw) => raw.send(post('/save', 'Content-Length: 2000000'))))
    for (const raw of opened) await raw.send(half)
    const told = () => opened.filter(({ statuses }) => statuses.length > 0)
    await holds(() => expect(told().length).toBeGreaterThan(40))
    const refused = told()
    for (const { text } of refused) {
      expect(text).toMatch(/^HTTP\/1\.1 503 .*\r\nretry-after: [1-3]\r\n.*"code":"OVERLOADED"/is)
    }
    // A heap of 4 GB has room for 96 MiB of large ones.
    expect(refused.length).toBeLessThan(200)
    for (const raw of opened) raw.close()
    await holds(() => target.work())
    await target.expectSound(500)
    target.mark()
  })
})

describe('very many connections:', () => {
  test('half-open ones leave room for others, and end', async () => {
    const files = Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))![1])
    const count = Math.min(5_000, files - 1_000)
    const opened: Raw[] = []
    for (let i = 0; i < count; i += 500) {
      opened.push(...(await Promise.all(Array.from({ length: 500 }, () => Raw.open(target.url)))))
    }
    // One half says something, the other nothing at all.
    for (const raw of opened.slice(count / 2)) void raw.send('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n')
    await target.work()
    // An answer of the second before is shared, and one that took longer than 800 ms says 503.
    await holds(async () => expect((await fetch(`${target.url}/readyz`)).status).toBe(200))
    await Promise.all(opened.map(({ closed }) => closed))
  })

  test('those above MAX_CONNECTIONS are refused with Retry-After, and probes are not', async () => {
    const few = await Target.start({ MAX_CONNECTIONS: '50' })
    try {
      few.mark()
      const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`
      const held = await Promise.all(Array.from({ length: 60 }, () => Raw.open(few.url)))
      const stream = get('/graphql?query=subscription{saved{cursor}}').replace(
        '\r\n\r\n',
        '\r\nAccept: text/event-stream\r\n\r\n',
      )
      for (const raw of held) await raw.send(stream)
      await holds(() => expect(held.every(({ statuses }) => statuses.length === 1)).toBe(true))
      expect(held.filter(({ statuses }) => statuses[0] === 503).length).toBeGreaterThanOrEqual(10)
      expect(held.filter(({ statuses }) => statuses[0] === 200).length).toBeGreaterThan(40)
      for (const path of ['/', '/metrics', '/graphql?query={__typename}']) {
        const answer = await exchange(few.url, get(path))
        expect(answer).toMatch(/^HTTP\/1\.1 503 .*\r\nretry-after: [1-3]\r\n.*"code":"OVERLOADED"/is)
      }
      const upgrade = get('/graphql').replace('\r\n\r\n', '\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
      expect(await exchange(few.url, upgrade)).toMatch(/^HTTP\/1\.1 503 .*\r\nRetry-After: /is)
      const save = `${post('/save', 'Content-Length: 15')}{"content":"x"}`
      expect(await exchange(few.url, save)).toMatch(/^HTTP\/1\.1 503 /)
      for (const path of ['/livez', '/readyz'])
        await holds(async () => expect((await fetch(`${few.url}${path}`)).status).toBe(200))
      // Beyond the room that is left for that, nobody is heard.
      const flood = await Promise.all(Array.from({ length: 1_000 }, () => Raw.open(few.url)))
      // Sooner than those that say nothing are closed, whoever they are.
      await holds(() => expect(flood.filter(({ socket }) => socket.destroyed).length).toBeGreaterThan(450), {
        timeoutMs: 3_000,
      })
      for (const raw of [...held, ...flood]) raw.close()
      await holds(() => few.work())
      await few.expectSound()
    } finally {
      await few.stop()
    }
  })

  test('requests at once on one of them are delayed', async () => {
    const raw = await Raw.open(target.url)
    raw.socket.pause()
    const body = JSON.stringify({ query: 'mutation { save(content: "x", waitMs: 60000) { status } }' })
    // Each waits for a row; the first of them holds up what all the others are answered.
    const request = `${post('/graphql', `Content-Length: ${body.length}`)}${body}`
    let ended = false
    void raw.send(request.repeat(20_000)).then(() => {
      ended = true
    })
    await target.work()
    raw.socket.resume()
    const progress = () => raw.statuses.length
    await eventually(() => ended, { timeoutMs: 20_000, progress })
    await holds(() => expect(raw.statuses.length).toBe(20_000), { timeoutMs: 20_000, progress })
    expect(raw.statuses.filter((status) => status === 429).length).toBeGreaterThan(100)
    raw.close()
  }, 120_000)
})

describe('an ambiguous request', () => {
  const body = '{"content":"smuggled"}'
  test.each([
    ['with two lengths', `Content-Length: ${body.length}\r\nContent-Length: 0\r\n\r\n${body}`],
    ['with a length and chunks', `Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['with a coding that is not chunked', `Transfer-Encoding: identity\r\n\r\n${body}`],
    ['with a length that is no number', `Content-Length: +5\r\n\r\n${body}`],
    ['with a folded header', `X-A: a\r\n b\r\nContent-Length : 5\r\n\r\n${body}`],
    ['with bare line feeds', `X-A: a\nContent-Length: ${body.length}\n\n${body}`],
    ['with a carriage return in a header', `X-A: a\rb\r\nContent-Length: ${body.length}\r\n\r\n${body}`],
    ['with a chunk that is no size', 'Transfer-Encoding: chunked\r\n\r\nxyz\r\n'],
  ])('%s is refused and closed', async (_what, rest) => {
    const answer = await exchange(target.url, `POST /save HTTP/1.1\r\nHost: 127.0.0.1\r\n${rest}`)
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1)
  })
})

describe('a slow connection', () => {
  test('that never reads its response is closed', async () => {
    const ways = await serveTwoWays({ contentMaxBytes: 65_536, idleTimeoutMs: 1_000 })
    try {
      const now = new Date()
      await ways.store.insert(
        ways.app.models.get('Content')!,
        Array.from({ length: 100 }, (_, i) => ({
          id: `00000000-0000-7000-8000-${String(i).padStart(12, '0')}`,
          content: 'x'.repeat(65_000),
          createdAt: now,
          savedAt: now,
        })),
      )
      const raw = await Raw.open(ways.fast)
      raw.socket.pause()
      // More than any socket buffers by itself.
      await raw.send('GET /?first=100 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(20))
      const { localPort } = raw.socket
      await holds(() => expect(isEstablished(Number(new URL(ways.fast).port), localPort!)).toBe(false))
      raw.close()
      expect((await fetch(`${ways.fast}/?first=100`)).status).toBe(200)
    } finally {
      await ways.close()
    }
  })

  test('that never ends its headers, or its body, is closed', async () => {
    for (const { raw, tookMs } of slow) {
      expect(await tookMs).toBeLessThan(25_000)
      expect(raw.statuses).toEqual([408])
    }
    expect(await slow[0]!.tookMs).toBeLessThan(12_000)
  })
})

/** As the kernel has it: whoever reads nothing is not told when the other end leaves. */
function isEstablished(local: number, remote: number): boolean {
  const hex = (port: number) => `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return readFileSync('/proc/net/tcp', 'utf8').includes(`${hex(local)} ${hex(remote)} 01 `)
}
