/** What pages do by mistake, in Node: it costs neither the saves nor the follows of the others. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { bodiesOf, type Fixture, newId, serveBetween } from './fixture.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await serveBetween()
})
afterEach(() => fixture.reset())
afterAll(() => fixture?.close())

test('a subscriber that throws stops neither a save, nor the outbox, nor a follow, and its error is reported', async () => {
  const reported: unknown[] = []
  const others = process.listeners('unhandledRejection')
  process.removeAllListeners('unhandledRejection').on('unhandledRejection', (error) => reported.push(error))
  try {
    const { comment, $outbox } = fixture.connect()
    const postId = newId()
    const fail = (of: string) => () => {
      throw of
    }
    const stops = [$outbox.subscribe(fail('outbox'))]
    const first = comment!.save({ postId, body: 'a' })
    stops.push(first.subscribe(fail('save')))
    const seen: string[] = []
    first.subscribe(({ state }) => seen.push(state))
    const second = comment!.save({ postId, body: 'b' })
    await Promise.all([first.saved(), second.saved()])
    expect(seen).toEqual(['waiting', 'sending', 'queued', 'saved'])
    const follow = comment!.follow({ by: { postId } })
    stops.push(follow.subscribe(fail('follow')))
    await comment!.save({ postId, body: 'c' }).saved()
    await holds(() => expect(follow.getSnapshot().rows).toHaveLength(3))
    expect($outbox.getSnapshot()).toMatchObject({ state: 'idle', waiting: 0 })
    for (const stop of stops) stop()
    await holds(() => expect([...new Set(reported)].sort()).toEqual(['follow', 'outbox', 'save']))
  } finally {
    process.removeAllListeners('unhandledRejection')
    for (const other of others) process.on('unhandledRejection', other)
  }
})

test('a URL without a scheme is refused at once, and one with /graphql is that of the server', async () => {
  for (const wrong of ['127.0.0.1:8080', 'localhost:8080', 'httpd:8080', 8080])
    expect(() => fixture.connect({}, wrong as unknown as string)).toThrow(`No http(s) URL: ${wrong}`)
  const client = fixture.connect({}, `${fixture.between.url}/graphql/`)
  expect((await client.$models()).map(({ name }) => name)).toContain('Comment')
  client.$close()
})

test('a save has the id that its input has: when the page repeats it, it is one row', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const id = newId()
  for (const duplicate of [false, true])
    expect(await comment!.save({ id, postId, body: 'a' })).toMatchObject({ id, duplicate })
  await comment!.save({ postId, body: 'b' }).saved()
  expect(await bodiesOf(fixture, postId)).toEqual(['a', 'b'])
})

test('an input that is no JSON rejects, and a BigInt in a variable is a text', async () => {
  const { comment, $query } = fixture.connect()
  for (const input of [() => {}, { toJSON: () => undefined }])
    await expect(comment!.save(input)).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
  const asked = $query('query ($postId: String!) { comments(postId: $postId) { edges { node { id } } } }', {
    postId: 5n,
  })
  expect(await asked).toEqual({ comments: { edges: [] } })
})

test('an iterator whose follow is closed returns no more: the one that goes on from the cursor returns the rest, once each', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const follow = comment!.follow({ by: { postId } })
  const iterator = follow[Symbol.asyncIterator]()
  const bodies = ['a', 'b', 'c', 'd']
  const first = iterator.next()
  await holds(() => expect(follow.getSnapshot().state).toBe('live'))
  await Promise.all(bodies.map((body) => comment!.save({ postId, body }).saved()))
  const read = [(await first).value.body, (await iterator.next()).value.body]
  await holds(() => expect(follow.getSnapshot().rows).toHaveLength(4))
  const { cursor } = follow.getSnapshot()
  follow.close()
  expect(await iterator.next()).toEqual({ done: true, value: undefined })
  for await (const { body } of comment!.follow({ by: { postId }, from: cursor })) {
    read.push(body)
    if (read.length === 4) break
  }
  expect(read.sort()).toEqual(bodies)
})
