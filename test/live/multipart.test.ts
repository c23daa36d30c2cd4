/** Subscriptions as multipart responses (Apollo's `multipart/mixed; subscriptionSpec=1.0`): the bytes, the errors and the ends of them. */
import { randomUUID } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps, shared, unique } from '../harness/boot.ts'
import type { Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { MultipartClient, multipartAccept } from '../harness/multipart.ts'
import { SseClient } from '../harness/sse.ts'
import { beforeExpiry, secret } from '../harness/tenants.ts'

const saved = 'subscription ($after: String) { saved(after: $after) { cursor content { content } } }'

let system: Spillway | undefined
const open: { close(): void }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) each.close()
  await system?.stop()
  system = undefined
})

async function subscribe(
  { url }: Spillway,
  query = saved,
  variables: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<MultipartClient> {
  const client = await MultipartClient.open(url, query, variables, headers)
  open.push(client)
  return client
}

const contentsOf = ({ results }: MultipartClient) =>
  results.map(({ payload }: Json) => payload.data.saved.content.content)

describe.each(setUps)('Spillway (%s):', (setUp) => {
  test('a multipart subscription begins with an empty part, ends each part with a delimiter, and sends what SSE sends', async () => {
    const system = await shared(setUp)
    const { client } = system
    const [one, other] = [await subscribe(system), await subscribe(system)]
    expect(Object.fromEntries(one.response.headers)).toMatchObject({
      'content-type': 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
      'cache-control': expect.stringContaining('no-transform'),
      'x-content-type-options': 'nosniff',
    })
    expect(one.response.status).toBe(200)
    const empty = '\r\n--graphql\r\ncontent-type: application/json\r\n\r\n{}\r\n--graphql'
    await holds(() => expect(one.text).toBe(empty))
    const sse = await client.sse(saved)
    open.push(sse)
    const contents = [unique(), `\r\n--graphql--\r\n "é" 🙂 \u2028 ${unique()}`]
    for (const content of contents) await client.saveAndWait(content)
    for (const each of [one, other]) await holds(() => expect(contentsOf(each)).toEqual(contents))
    await holds(() => expect(sse.results).toHaveLength(2))
    expect(one.results).toEqual(sse.results.map((payload: Json) => ({ payload })))
    expect(one.text).toBe(other.text)
    const part = (payload: Json) =>
      `\r\ncontent-type: application/json\r\n\r\n${JSON.stringify({ payload })}\r\n--graphql`
    expect(one.text).toBe(empty + sse.results.map(part).join(''))
    // It resumes with the cursor of an event.
    const back = await subscribe(system, saved, { after: sse.results[0].data.saved.cursor })
    await holds(() => expect(contentsOf(back)).toEqual(contents.slice(1)))
  })

  test('a multipart subscription of receipts ends with the final delimiter when it is complete', async () => {
    const system = await shared(setUp)
    const id = randomUUID()
    await system.client.saveAndWait('done', 20_000, id)
    const query = 'subscription ($ids: [ID!]!) { receipts(ids: $ids) { saveId status } }'
    const client = await subscribe(system, query, { ids: [id] })
    await client.ended
    expect(client.parts).toEqual([{}, { payload: { data: { receipts: [{ saveId: id, status: 'SAVED' }] } } }])
    expect(client.completed).toBe(true)
  })
})

test('a multipart subscription that is refused gets its errors as payload, and the final delimiter', async () => {
  const system = await shared('embedded')
  const refused = await subscribe(system, saved, { after: 'nonsense' })
  await refused.ended
  expect(refused.parts).toMatchObject([{ payload: { errors: [{ extensions: { code: 'BAD_USER_INPUT' } }] } }])
  expect(refused.completed).toBe(true)
  const expired = await subscribe(system, saved, { after: 'other.00000000000001.000000.000000' })
  await expired.ended
  expect(expired.parts).toMatchObject([{ payload: { errors: [{ extensions: { code: 'CURSOR_EXPIRED' } }] } }])
  // A document that is invalid, or no subscription, gets one JSON response.
  for (const query of ['subscription { nothing }', 'subscription {', '{ contents { nothing } }', '{ __typename }']) {
    const { response, ended } = await subscribe(system, query)
    await ended
    expect([query, response.headers.get('content-type')]).toEqual([query, 'application/json; charset=utf-8'])
  }
})

test('a multipart subscription gets errors without payload and no final delimiter while the queue is unavailable', async () => {
  // Nothing listens there.
  system = await boot('redis + mariadb', { workers: 0, env: { QUEUE_URL: 'redis://127.0.0.1:1/9' } })
  const client = await subscribe(system)
  await client.ended
  expect(client.parts).toMatchObject([
    { payload: null, errors: [{ extensions: { code: 'QUEUE_UNAVAILABLE', retryAfterMs: expect.any(Number) } }] },
  ])
  expect(client.completed).toBe(false)
})

test('a multipart subscription ends without the final delimiter when the server stops', async () => {
  system = await boot('embedded')
  const all = [await subscribe(system), await subscribe(system, 'subscription { queue { depth } }')]
  await holds(() => expect(all.map(({ parts }) => parts.length)).toEqual([1, 2]))
  system.api.kill('SIGTERM')
  for (const client of all) {
    await client.ended
    expect([client.completed, client.text.endsWith('\r\n--graphql')]).toEqual([false, true])
  }
})

test('a multipart subscription ends with the token that opened it, without the final delimiter', async () => {
  system = await boot('embedded', { env: { AUTH_JWT_SECRET: secret } })
  const { url } = system
  const client = await beforeExpiry(async (authorization) => {
    const opened = await MultipartClient.open(url, saved, {}, { authorization })
    return opened.response.status === 401 ? undefined : opened
  })
  await client.ended
  expect([client.response.status, client.parts, client.completed]).toEqual([200, [{}], false])
})

test('a multipart subscription gets an empty part as heartbeat, and counts as a subscriber of its transport', async () => {
  system = await boot('embedded', { intervals: { heartbeatMs: 200 } })
  const client = await subscribe(system)
  const metrics = await (await system.client.fetch('/metrics')).text()
  expect(metrics).toMatch(/^spillway_subscribers\{transport="multipart"\} 1$/m)
  expect(metrics).toMatch(/^spillway_subscribers\{transport="sse"\} 0$/m)
  await holds(() => expect(client.parts.slice(0, 2)).toEqual([{}, {}]), { timeoutMs: 30_000 })
})

const sse = 'text/event-stream; charset=utf-8'
const multipart = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'

test('Accept chooses how a subscription is streamed, by q, parameters, case and quotes', async () => {
  const system = await shared('embedded')
  const expected: [string, string | 406][] = [
    [multipartAccept, multipart],
    [
      'multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9',
      multipart,
    ],
    ['Multipart/Mixed; SubscriptionSpec="1.0"', multipart],
    ['multipart/mixed ; boundary=- ; subscriptionSpec = 1.0 ; q=0.1', multipart],
    ['*/*, multipart/mixed;subscriptionSpec=1.0', multipart],
    ['multipart/mixed;q=0, multipart/mixed;subscriptionSpec=1.0', multipart],
    ['text/event-stream;q=0.9, multipart/mixed;subscriptionSpec=1.0', multipart],
    ['text/event-stream;q=0, */*;q=0.1, multipart/mixed;subscriptionSpec=1.0;q=0.2', multipart],
    ['multipart/mixed;subscriptionSpec=1.0, text/event-stream', multipart],
    ['text/event-stream, multipart/mixed;subscriptionSpec=1.0', sse],
    ['text/event-stream, multipart/mixed;subscriptionSpec=1.0;q=0.5', sse],
    ['multipart/mixed;subscriptionSpec=1.0;q=0, */*', sse],
    ['multipart/mixed;subscriptionSpec=2.0, */*;q=0.1', sse],
    ['application/json, text/event-stream, multipart/mixed', sse],
    ['*/*', sse],
    ['multipart/mixed', 406],
    ['multipart/*', 406],
    ['multipart/mixed;subscriptionSpec=2.0', 406],
    ['multipart/mixed;subscriptionSpec=1.0;q=0', 406],
    ['multipart/mixed;boundary="a;subscriptionSpec=1.0"', 406],
    ['application/json', 406],
  ]
  for (const [accept, type] of expected) {
    const client = await subscribe(system, saved, {}, { accept })
    const { status, headers } = client.response
    expect([accept, status === 200 ? headers.get('content-type') : status]).toEqual([accept, type])
    client.close()
  }
  // By GET, too.
  const get = await SseClient.fetch(`${system.url}/graphql?query=subscription{saved{cursor}}`, {
    headers: { accept: multipartAccept },
  })
  expect(get.headers.get('content-type')).toBe(multipart)
  get.close()
})
