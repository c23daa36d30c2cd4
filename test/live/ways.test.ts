/**
 * A stream does what it promises however its request is written (FB1, FB2, FB3, FB5): on real processes, with the forms that were
 * seen to lose a promise. Generated forms: test/server/streams.test.ts.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps, shared, unique } from '../harness/boot.ts'
import { holds } from '../harness/eventually.ts'
import { startNginx } from '../harness/nginx.ts'
import { SseClient } from '../harness/sse.ts'
import { beforeExpiry, secret } from '../harness/tenants.ts'

let system: Spillway | undefined
afterEach(async () => {
  await system?.stop()
  system = undefined
})

const json = { 'content-type': 'application/json' }
type Open = (url: string, headers?: Record<string, string>) => Promise<SseClient>
const get =
  (query: string, extra = '', accept = 'text/event-stream'): Open =>
  (url, headers) =>
    SseClient.fetch(`${url}/graphql?query=${encodeURIComponent(query)}${extra}`, { headers: { accept, ...headers } })
const post =
  (body: Record<string, unknown>, accept = 'text/event-stream'): Open =>
  (url, headers) =>
    SseClient.fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { ...json, accept, ...headers },
      body: JSON.stringify(body),
    })

const plain = 'subscription { saved { cursor content { content } } }'
const fragment = 'subscription { ...F } fragment F on Subscription { saved { cursor content { content } } }'
const feeds: [string, Open][] = [
  ['as usual', get(plain)],
  ['with its field in a fragment', get(fragment)],
  ['with @include', get('subscription { saved @include(if: true) { cursor content { content } } }')],
  ['with the alias __proto__', get('subscription { __proto__: saved { cursor content { content } } }')],
  ['with extensions', get(plain, '&extensions={}')],
  ['with a parameter of another program', get(plain, '&utm_source=x')],
  ['with Accept: */*', get(plain, '', '*/*')],
  ['with Accept of urql', post({ query: plain }, 'application/json, text/event-stream, multipart/mixed')],
  ['with a long document', post({ query: `# ${'x'.repeat(12_000)}\n${plain}` })],
  [
    'with a hash beside its document',
    post({ query: plain, extensions: { persistedQuery: { version: 1, sha256Hash: 'a'.repeat(64) } } }),
  ],
  ['beside a query', post({ query: `query Q { __typename } ${fragment.replace('n {', 'n S {')}`, operationName: 'S' })],
]
const others: [string, Open][] = [
  ['of the queue', get('subscription { queue { depth } }')],
  ['of the queue with Accept: */*', post({ query: 'subscription { queue { depth } }' }, '*/*')],
  ['of a receipt', get(`subscription { receipt(id: "00000000-0000-7000-8000-000000000001") { status } }`)],
]

async function save(system: Spillway, content: string): Promise<void> {
  expect((await system.client.saveAndWait(content)).data.save.status).toBe('SAVED')
}

const contentsOf = (stream: SseClient): string[] =>
  stream.results.flatMap(({ data }) => Object.values(data ?? {}).map((saved) => (saved as Saved).content.content))
interface Saved {
  content: { content: string }
}

describe.each(setUps)('Spillway (%s):', (setUp) => {
  test('a stream resumes with Last-Event-ID however it is asked for (FB1)', async () => {
    const system = await shared(setUp)
    const ids = new Map<string, string>()
    for (const [how, open] of feeds) {
      const stream = await open(system.url)
      await holds(() => expect(stream.frames[0]?.id, how).toMatch(/^\S+\.\d{14}\.\d{6}\.\d{6}$/))
      ids.set(how, stream.frames[0]!.id!)
      stream.close()
    }
    const missed = [unique(), unique()]
    for (const content of missed) await save(system, content)
    for (const [how, open] of feeds) {
      const back = await open(system.url, { 'last-event-id': ids.get(how)! })
      await holds(() => expect(contentsOf(back), how).toEqual(missed))
      const events = back.frames.filter(({ event }) => event === 'next')
      const cursors = events.map(({ data }) => (Object.values(JSON.parse(data).data)[0] as { cursor: string }).cursor)
      expect(events.map(({ id }) => id)).toEqual(cursors)
      back.close()
    }
  })
})

test('a stream ends without complete when the server stops, however it is asked for (FB2)', async () => {
  system = await boot('embedded')
  const { api, url } = system
  // A receipt that stays as it is would complete: one whose save is not accepted yet cannot be followed.
  const all = [...feeds, ...others.slice(0, 2)]
  const streams = await Promise.all(all.map(async ([how, open]) => ({ how, stream: await open(url) })))
  for (const { how, stream } of streams.slice(feeds.length))
    await holds(() => expect(stream.results.length, how).toBeGreaterThan(0))
  api.kill('SIGTERM')
  for (const { stream } of streams) await stream.ended
  for (const { how, stream } of streams) {
    expect(stream.status, how).toBe(200)
    expect(
      stream.frames.filter(({ event }) => event === 'complete'),
      how,
    ).toEqual([])
  }
})

test('a stream ends with the token that opened it, however it is asked for (FB3)', async () => {
  system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret } })
  const { url } = system
  const streams = await beforeExpiry(async (authorization) => {
    const opened = await Promise.all(
      [...feeds, ...others.slice(0, 2)].map(async ([how, open]) => ({
        how,
        stream: await open(url, { authorization }),
      })),
    )
    const isLate = opened.some(({ stream }) => stream.status === 401)
    if (isLate) for (const { stream } of opened) stream.close()
    return isLate ? undefined : opened
  })
  const open = new Set(streams.map(({ how }) => how))
  for (const { how, stream } of streams) {
    expect(stream.status, how).toBe(200)
    void stream.ended.then(() => open.delete(how))
  }
  await holds(() => expect([...open]).toEqual([]), { timeoutMs: 40_000 })
  for (const { how, stream } of streams)
    expect(
      stream.frames.filter(({ event }) => event === 'complete'),
      how,
    ).toEqual([])
})

test('a stream comes at once through nginx with nothing but proxy_pass, however it is asked for (FB5)', async () => {
  const system = await shared('embedded')
  const nginx = await startNginx(system.url)
  try {
    const streams = await Promise.all(
      // EventSource sees a server's answer with its first bytes: fetch resolves no earlier.
      [...feeds, ...others.slice(0, 2)].map(async ([how, open]) => {
        const stream = await within(10_000, open(nginx.url), `${how}: no answer`)
        return { how, stream }
      }),
    )
    const content = unique()
    await save(system, content)
    for (const { how, stream } of streams.slice(0, feeds.length))
      await holds(() => expect(contentsOf(stream), how).toEqual([content]))
    for (const { how, stream } of streams.slice(feeds.length))
      await holds(() => expect(stream.results[0]?.data.queue.depth, how).toEqual(expect.any(Number)))
    for (const { how, stream } of streams) {
      expect(stream.headers.get('cache-control'), how).toContain('no-transform')
      expect(stream.headers.get('content-encoding'), how).toBeNull()
      stream.close()
    }
  } finally {
    await nginx.cleanup()
  }
})

async function within<T>(ms: number, promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${ms} ms`)), ms)
  })
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
