/** What a page needs that was away: a follow from a kept cursor, what it missed, the server's time, a network that comes back. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type ClientOptions, createClient } from '../../client/index.ts'
import { type Consoles, serveConsoles } from '../console/consoles.ts'
import { holds } from '../harness/eventually.ts'
import { models } from '../harness/models.ts'
import { type Between, putBetween } from './between.ts'

let consoles: Consoles
let between: Between
const open: { $close(): void }[] = []

beforeAll(async () => {
  consoles = await serveConsoles()
  between = await putBetween(consoles.open.url)
})
afterEach(() => {
  between.instead = undefined
  between.upstream = consoles.open.url
  for (const client of open.splice(0)) client.$close()
})
afterAll(async () => {
  await between?.close()
  await consoles?.close()
})

function connect(options?: ClientOptions) {
  const client = createClient(between.url, options)
  open.push(client)
  return client
}
const newId = () => crypto.randomUUID()

test('a follow from a kept cursor shows a page, counts what was missed, and iterates over that alone', async () => {
  const client = connect()
  const by = { postId: newId() }
  const save = (body: string) => client.comment!.save({ ...by, body }).saved()
  await save('seen')
  const first = client.comment!.follow({ by })
  const stop = first.subscribe(() => {})
  await holds(() => expect(first.getSnapshot()).toMatchObject({ state: 'live', missed: 0, rows: [{ body: 'seen' }] }))
  stop()
  const from = first.getSnapshot().cursor
  for (const body of ['a', 'b', 'c']) await save(body)
  const again = client.comment!.follow({ by, from, first: 2 })
  const bodies: string[] = []
  again.subscribe(() => {})
  await holds(() => expect(again.getSnapshot()).toMatchObject({ state: 'live', missed: 3 }))
  void (async () => {
    for await (const { body } of again) bodies.push(body)
  })()
  await save('d')
  await holds(() => expect(bodies).toEqual(['a', 'b', 'c', 'd']))
  expect(again.getSnapshot()).toMatchObject({ missed: 3, hasOlder: true })
  await again.loadOlder()
  expect(again.getSnapshot().rows.map(({ body }) => body)).toEqual(['d', 'c', 'b', 'a', 'seen'])
  // The one that was stopped counts, too.
  first.subscribe(() => {})
  await holds(() => expect(first.getSnapshot()).toMatchObject({ state: 'live', missed: 4 }))
  const expired = client.comment!.follow({ by, from: from!.replace(/^[^.]+/, 'anotherEpoch') })
  expired.subscribe(() => {})
  await holds(() => expect(expired.getSnapshot()).toMatchObject({ state: 'live', missed: undefined }))
  expect(expired.getSnapshot().rows).toHaveLength(5)
})

test('a row that takes the id of a deleted one takes its place in a follow', async () => {
  const client = connect()
  const model = models.get('Comment')!
  const { store } = consoles.served
  const [id, postId] = [newId(), newId()]
  const times = { createdAt: new Date(), savedAt: new Date() }
  await store.insert(model, [{ id, ...times, postId, author: 'dev', body: 'old', rating: null, mood: 'HAPPY' }])
  const comments = client.comment!.follow({ by: { postId } })
  comments.subscribe(() => {})
  await holds(() => expect(comments.getSnapshot()).toMatchObject({ state: 'live', rows: [{ body: 'old' }] }))
  await client.comment!.save({ postId, body: 'new' }, { id })
  const failed = () => client.$query<{ deadLetters: { totalCount: number } }>('{ deadLetters { totalCount } }')
  await holds(async () => expect((await failed()).deadLetters.totalCount).toBe(1))
  store.clear(model)
  await client.$query('mutation ($ids: [ID!]) { retryDeadLetters(ids: $ids) { count } }', { ids: [id] })
  await holds(() => expect(comments.getSnapshot().rows.map(({ body }) => body)).toEqual(['new']))
})

test('a request is not sent again with the token that was refused', async () => {
  between.upstream = consoles.locked.url
  between.asked.length = 0
  const client = connect({ token: () => 'not.a.token' })
  await expect(client.$query('{ queue { depth } }')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  expect(between.asked).toHaveLength(1)
})

test("$now follows the server's clock where the device's clock is an hour behind it", async () => {
  const client = connect()
  await client.$query('{ queue { depth } }')
  expect(Math.abs(client.$now() - Date.now())).toBeLessThan(10)
  const date = new Date(Date.now() + 3_600_000).toUTCString()
  between.instead = () => ({ status: 200, type: 'application/json', headers: { date }, body: '{"data":{}}' })
  await client.$query('{ queue { depth } }')
  expect(client.$now() - Date.now()).toBeGreaterThan(3_590_000)
})

test('a follow connects again when the network is back, whatever its connection seems to be', async () => {
  const network = new EventTarget()
  Object.assign(globalThis, { addEventListener: network.addEventListener.bind(network) })
  try {
    const client = connect()
    const comments = client.comment!.follow({ by: { postId: newId() } })
    comments.subscribe(() => {})
    await holds(() => expect(comments.getSnapshot().state).toBe('live'))
    const streams = () => between.asked.filter(({ isStream }) => isStream).length
    const before = streams()
    network.dispatchEvent(new Event('online'))
    await holds(() => expect(streams()).toBe(before + 1))
    await holds(() => expect(comments.getSnapshot().state).toBe('live'))
  } finally {
    Reflect.deleteProperty(globalThis, 'addEventListener')
  }
})
