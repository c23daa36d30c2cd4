/** Bad input and bad luck, in Node: each ends in a typed state, nothing that is acknowledged is lost, and no save is two rows. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Entry, Storage } from '../../client/index.ts'
import type { AnyRow } from '../../client/models.ts'
import { holds } from '../harness/eventually.ts'
import { tokenOf } from '../harness/tenants.ts'
import { html, type Instead } from './between.ts'
import { bodiesOf, expired, type Fixture, newId, serveBetween } from './fixture.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await serveBetween()
})
afterEach(() => fixture.reset())
afterAll(() => fixture?.close())

const down = (): Instead => 'cut'

/** Its calls can be made to fail. */
class TestStorage implements Storage {
  readonly entries = new Map<string, Entry>()
  fails: 'no' | 'throws' | 'rejects' = 'no'

  #call<T>(call: () => T): T | Promise<T> {
    if (this.fails === 'throws') throw new Error('denied')
    return this.fails === 'rejects' ? Promise.reject(new Error('full')) : call()
  }
  all = () => this.#call(() => [...this.entries.values()])
  put = (entry: Entry) => this.#call(() => void this.entries.set(entry.id, structuredClone(entry)))
  delete = (id: string) => this.#call(() => void this.entries.delete(id))
}

test('answers of proxies, of gateways and of a server without /models.json are waited out', async () => {
  const old = await fetch(`${fixture.consoles.open.url}/console/models.json`)
  const missing: Instead = {
    status: old.status,
    type: old.headers.get('content-type')!,
    body: await old.text(),
  }
  for (const [answer, code] of [
    [html, 'NOT_SPILLWAY'],
    [{ ...html, status: 200 }, 'NOT_SPILLWAY'],
    [{ status: 200, type: 'application/json', body: '{"hello":"world"}' }, 'NOT_SPILLWAY'],
    [missing, 'NOT_SPILLWAY'],
    [down(), 'UNREACHABLE'],
  ] as const) {
    const { comment, $outbox } = fixture.connect()
    fixture.between.instead = () => answer
    const postId = newId()
    const save = comment!.save({ postId, body: 'a' })
    const follow = comment!.follow({ by: { postId } })
    follow.subscribe(() => {})
    await holds(() => {
      expect(save.getSnapshot()).toMatchObject({ state: 'retrying', problem: { code } })
      expect(follow.getSnapshot()).toMatchObject({ state: 'waiting', problem: { code } })
    })
    fixture.between.instead = undefined
    $outbox.retry()
    await save.saved()
    await holds(() => expect(follow.getSnapshot()).toMatchObject({ state: 'live', problem: undefined }))
    await holds(() => expect(follow.getSnapshot().rows).toHaveLength(1))
  }
})

test('a token that is refused, at first or in the middle of a stream, is asked for again; one that stays refused is a state', async () => {
  fixture.between.upstream = fixture.consoles.locked.url
  const right = await tokenOf({ scope: 'read write' })
  let token = 'no token'
  const asked: (string | undefined)[] = []
  const { comment, $outbox } = fixture.connect({
    async token(refused) {
      asked.push(refused)
      if (refused === 'no token') token = right
      return token
    },
  })
  const postId = newId()
  const follow = comment!.follow({ by: { postId } })
  follow.subscribe(() => {})
  await holds(() => expect(follow.getSnapshot().state).toBe('live'))
  expect(asked.filter((refused) => refused !== undefined)).toEqual(['no token'])
  token = 'no token'
  fixture.between.cut()
  await holds(() => expect(token).toBe(right))
  await comment!.save({ postId, body: 'a' }).saved()
  await holds(() => expect(follow.getSnapshot()).toMatchObject({ state: 'live', rows: [{ body: 'a' }] }))
  // Nobody is logged in.
  const wrong = fixture.connect({ token: () => 'wrong' })
  const save = wrong.comment!.save({ postId, body: 'b' })
  await expect(save).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  expect(wrong.$outbox.getSnapshot()).toMatchObject({ state: 'refused', refused: [{ id: save.id, model: 'comment' }] })
  const other = wrong.comment!.follow({ by: { postId } })
  const iterator = other[Symbol.asyncIterator]()
  await expect(iterator.next()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  expect($outbox.getSnapshot().refused).toEqual([])
})

test('a token without a scope may do what its scopes allow, and gets FORBIDDEN for the rest', async () => {
  fixture.between.upstream = fixture.consoles.locked.url
  const writer = fixture.connect({ token: await tokenOf({ scope: 'write' }) })
  const save = writer.comment!.save({ postId: newId(), body: 'a' })
  expect(await save).toMatchObject({ status: 'QUEUED' })
  await expect(save.saved()).rejects.toMatchObject({ code: 'FORBIDDEN' })
  const follow = writer.comment!.follow()
  follow.subscribe(() => {})
  await holds(() => expect(follow.getSnapshot()).toMatchObject({ state: 'refused', problem: { code: 'FORBIDDEN' } }))
  const reader = fixture.connect({ token: await tokenOf({ scope: 'read' }) })
  await expect(reader.comment!.save({ postId: newId(), body: 'a' })).rejects.toMatchObject({ code: 'FORBIDDEN' })
  expect(reader.$outbox.getSnapshot()).toMatchObject({
    state: 'refused',
    refused: [{ problem: { code: 'FORBIDDEN' } }],
  })
})

test('what a firewall refuses for its text is set aside, kept, and sent again by retry()', async () => {
  const storage = new TestStorage()
  const { comment, $outbox } = fixture.connect({ storage })
  fixture.between.instead = ({ body }) => (body.includes('DROP TABLE') ? { ...html, status: 403 } : undefined)
  const postId = newId()
  const texts = ['a', 'DROP TABLE posts', 'b']
  const [first, attack, third] = texts.map((body) => comment!.save({ postId, body }))
  expect(await Promise.all([first, third])).toMatchObject([{ status: 'QUEUED' }, { status: 'QUEUED' }])
  await expect(attack).rejects.toMatchObject({ code: 'BAD_REQUEST', message: "HTTP 403 is not Spillway's." })
  await holds(() =>
    expect($outbox.getSnapshot()).toMatchObject({ state: 'refused', waiting: 0, refused: [{ id: attack!.id }] }),
  )
  expect([...storage.entries.keys()]).toEqual([attack!.id])
  fixture.between.instead = undefined
  $outbox.retry()
  await attack!.saved()
  expect((await bodiesOf(fixture, postId)).sort()).toEqual(texts.sort())
  expect(storage.entries.size).toBe(0)
})

test('bad input rejects at once or with the code of the server, and what is good is saved', async () => {
  const { comment, nothing, $outbox } = fixture.connect()
  const postId = newId()
  const first = comment!.save({ postId, body: 'first' })
  await first
  const conflict = comment!.save({ postId, body: 'other' }, { id: first.id })
  const neighbour = comment!.save({ postId, body: 'neighbour' })
  await expect(conflict).rejects.toMatchObject({ code: 'ID_CONFLICT' })
  await neighbour.saved()
  await first.saved()
  expect(await bodiesOf(fixture, postId)).toEqual(['first', 'neighbour'])
  // Twice before it is sent: one save, or a conflict.
  const id = newId()
  const twice = comment!.save({ postId, body: 'twice' }, { id })
  expect(comment!.save({ postId, body: 'twice' }, { id: id.toUpperCase() })).toBe(twice)
  await expect(comment!.save({ postId, body: 'thrice' }, { id })).rejects.toMatchObject({ code: 'ID_CONFLICT' })
  await twice
  const circular: Record<string, unknown> = {}
  circular.self = circular
  await expect(comment!.save(circular)).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
  await expect(comment!.save({ postId, body: 'a' }, { id: 'no uuid' })).rejects.toMatchObject({
    code: 'BAD_USER_INPUT',
  })
  await expect(comment!.save({ postId, body: 'a', colour: 1 })).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
  expect($outbox.getSnapshot()).toMatchObject({ state: 'idle', waiting: 0, refused: [] })
  // What another server may take stays.
  await expect(nothing!.save({})).rejects.toMatchObject({
    code: 'GRAPHQL_VALIDATION_FAILED',
    message: expect.stringContaining('nothing'),
  })
  expect($outbox.getSnapshot()).toMatchObject({ state: 'refused', refused: [{ model: 'nothing' }] })
  const follow = comment!.follow({ by: { postId: undefined } })
  follow.subscribe(() => {})
  await holds(() => expect(follow.getSnapshot().state).toBe('refused'))
  expect(follow.getSnapshot().problem).toMatchObject({
    code: 'BAD_USER_INPUT',
    message: expect.stringContaining('postId'),
  })
})

test('texts with line separators, and with what looks like a frame, are followed as they were saved', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const follow = comment!.follow({ by: { postId } })
  follow.subscribe(() => {})
  await holds(() => expect(follow.getSnapshot().state).toBe('live'))
  const { cursor } = follow.getSnapshot()
  const breaks = ['\u2028', '\u2029', '\u0085', '\r', '\n', '\r\n', '\n\n', '\ufeff', '\0', '😀']
  const bodies = breaks.map((one) => `a${one}id: x${one}data: {}${one}event: complete${one}${one}b`)
  for (const body of bodies) expect(await comment!.save({ postId, body }).saved()).toMatchObject({ body })
  await holds(() => expect(follow.getSnapshot().rows).toHaveLength(bodies.length))
  expect(follow.getSnapshot().rows.map(({ body }) => body)).toEqual(bodies.toReversed())
  expect(follow.getSnapshot()).toMatchObject({ state: 'live', problem: undefined })
  expect(follow.getSnapshot().cursor).toHaveLength(cursor!.length)
})

test('a batch that a proxy refuses for its size is sent one by one, and a save that is too large alone rejects', async () => {
  const { comment, $outbox } = fixture.connect()
  const postId = newId()
  fixture.between.instead = ({ isSave, body }) => (isSave && body.length > 600 ? { ...html, status: 413 } : undefined)
  const saves = ['a', 'b', 'c', 'x'.repeat(600), 'd'].map((body) =>
    comment!.save({ postId, body: body.padEnd(100, '.') }),
  )
  const results = await Promise.allSettled(saves)
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  await expect(saves[3]).rejects.toMatchObject({ code: 'BAD_USER_INPUT' })
  expect($outbox.getSnapshot()).toMatchObject({ state: 'idle', waiting: 0, refused: [] })
  await saves[4]!.saved()
  expect(await bodiesOf(fixture, postId)).toHaveLength(4)
})

test('10,000 saves that waited offline are sent in order, in a hundred requests, and are 10,000 rows', async () => {
  const storage = new TestStorage()
  const offline = fixture.connect({ storage })
  fixture.between.instead = down
  const postId = newId()
  for (let i = 0; i < 10_000; i += 1) offline.comment!.save({ postId, body: String(i).padStart(5, '0') })
  expect(offline.$outbox.getSnapshot()).toMatchObject({ waiting: 10_000, storage: 'ok' })
  await holds(() => expect(storage.entries.size).toBe(10_000))
  offline.$close()
  fixture.between.instead = undefined
  fixture.between.asked.length = 0
  // The next page adopts them.
  const online = fixture.connect({ storage })
  await holds(() => expect(storage.entries.size).toBe(0), { progress: () => storage.entries.size })
  expect(online.$outbox.getSnapshot()).toMatchObject({ state: 'idle', waiting: 0 })
  const saves = fixture.between.asked.filter(({ isSave }) => isSave)
  expect(saves).toHaveLength(100)
  const sent = saves.flatMap(({ body }) => JSON.parse(body).variables.inputs.map((input: AnyRow) => input.body))
  expect(sent).toEqual(sent.toSorted())
  // A comparison of long lists that differ takes long.
  let rows = 0
  await holds(
    async () => {
      rows = (await bodiesOf(fixture, postId)).length
      expect(rows).toBe(10_000)
    },
    { intervalMs: 200, progress: () => rows },
  )
  expect(await bodiesOf(fixture, postId)).toEqual(sent)
})

test('a full outbox rejects OUTBOX_FULL, and takes saves again when some were discarded', async () => {
  const { comment, $outbox } = fixture.connect()
  fixture.between.instead = () => 'hang'
  const save = () => comment!.save({ postId: newId(), body: 'x'.repeat(16 * 1024 * 1024) })
  const saves = [save(), save(), save()]
  await expect(save()).rejects.toMatchObject({ code: 'OUTBOX_FULL' })
  expect($outbox.getSnapshot().waiting).toBe(3)
  $outbox.discard(saves[2]!.id)
  await expect(saves[2]).rejects.toMatchObject({ code: 'ABORTED' })
  expect(save().getSnapshot().state).toBe('waiting')
})

test('saves go on in memory while a storage throws or rejects, and the outbox says so', async () => {
  for (const fails of ['throws', 'rejects'] as const) {
    const storage = new TestStorage()
    const { comment, $outbox, $close } = fixture.connect({ storage })
    const postId = newId()
    fixture.between.instead = down
    const kept = comment!.save({ postId, body: 'kept' })
    await holds(() => expect(storage.entries.size).toBe(1))
    storage.fails = fails
    const unkept = comment!.save({ postId, body: 'unkept' })
    await holds(() => expect($outbox.getSnapshot()).toMatchObject({ waiting: 2, storage: 'unavailable' }))
    fixture.between.instead = undefined
    $outbox.retry()
    await Promise.all([kept.saved(), unkept.saved()])
    expect($outbox.getSnapshot()).toMatchObject({ state: 'idle', storage: 'ok' })
    // The storage could not forget the first one: it is sent again, and stays one row.
    storage.fails = 'no'
    expect(storage.entries.size).toBe(1)
    $close()
    fixture.connect({ storage })
    await holds(() => expect(storage.entries.size).toBe(0))
    expect(await bodiesOf(fixture, postId)).toEqual(['kept', 'unkept'])
    storage.fails = fails
    const denied = fixture.connect({ storage })
    await holds(() => expect(denied.$outbox.getSnapshot().storage).toBe('unavailable'))
  }
})

test('a list is read anew where the log is lost: the store is replaced, and an iterator gets what it missed, once', async () => {
  const client = fixture.connect()
  const writer = fixture.connect({}, fixture.consoles.open.url)
  const postId = newId()
  const save = async (from: number, to: number) => {
    const saves = Array.from({ length: to - from }, (_, i) =>
      writer.comment!.save({ postId, body: String(from + i).padStart(3, '0') }),
    )
    await Promise.all(saves.map((one) => one.saved()))
  }
  await save(0, 80)
  // The events of rows that were just saved may follow the page: it has all of them.
  const follow = client.comment!.follow({ by: { postId }, first: 90 })
  const got: string[] = []
  const stop = follow.subscribe(() => {})
  void (async () => {
    for await (const { body } of follow) got.push(body)
  })()
  await holds(() => expect(follow.getSnapshot()).toMatchObject({ state: 'live', hasOlder: false }))
  await save(80, 90)
  await holds(() => expect(got).toHaveLength(90))
  fixture.between.instead = down
  fixture.between.cut()
  await save(90, 340)
  fixture.between.change = (body) =>
    body.replace(/"after":"(.{12}\.[^"]*)"/, (_, cursor) => `"after":"${expired(cursor)}"`)
  fixture.between.instead = undefined
  client.$outbox.retry()
  await holds(() => expect(got.length).toBeGreaterThan(90))
  fixture.between.change = undefined
  await holds(() => expect(got).toHaveLength(340))
  expect(got).toEqual(got.toSorted())
  expect(new Set(got).size).toBe(340)
  await holds(() => expect(follow.getSnapshot()).toMatchObject({ state: 'live', rows: { length: 90 }, hasOlder: true }))
  await save(340, 341)
  await holds(() => expect(got.at(-1)).toBe('340'))
  stop()
})

test('an iterator goes on from a cursor, and throws CURSOR_EXPIRED for one that is too old', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const follow = comment!.follow({ by: { postId } })
  const iterator = follow[Symbol.asyncIterator]()
  const first = iterator.next()
  await holds(() => expect(follow.getSnapshot().state).toBe('live'))
  for (const body of ['a', 'b', 'c', 'd']) await comment!.save({ postId, body }).saved()
  const rows = [(await first).value, (await iterator.next()).value]
  await holds(() => expect(follow.getSnapshot().rows).toHaveLength(4))
  const { cursor } = follow.getSnapshot()
  await iterator.return?.()
  const later = comment!.follow({ by: { postId }, from: cursor })
  for await (const row of later) if (rows.push(row) === 4) break
  expect(rows.map(({ body }) => body).sort()).toEqual(['a', 'b', 'c', 'd'])
  expect(later.getSnapshot()).toMatchObject({ state: 'idle', hasOlder: true })
  await later.loadOlder()
  expect(
    later
      .getSnapshot()
      .rows.map(({ body }) => body)
      .sort(),
  ).toEqual(['a', 'b', 'c', 'd'])
  const old = comment!.follow({ by: { postId }, from: expired(cursor!) })
  await expect(old[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
  // A store shows the newest page instead.
  const store = comment!.follow({ by: { postId }, from: 'no cursor' })
  store.subscribe(() => {})
  await holds(() => expect(store.getSnapshot().rows).toHaveLength(4))
})

test('a slow iterator stops the reading of the stream, and gets every row', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const follow = comment!.follow({ by: { postId }, keep: 10_000 })
  const iterator = follow[Symbol.asyncIterator]()
  const first = iterator.next()
  await holds(() => expect(follow.getSnapshot().state).toBe('live'))
  const body = 'x'.repeat(900)
  const saves = Array.from({ length: 2_500 }, () => comment!.save({ postId, body }))
  await Promise.all(saves.map((save) => save.saved()))
  const ids = new Set([(await first).value.id])
  // What was read when its buffer became full.
  expect(follow.getSnapshot().rows.length).toBeLessThan(1_500)
  while (ids.size < 2_500) ids.add((await iterator.next()).value.id)
  expect(ids).toEqual(new Set(saves.map(({ id }) => id)))
})

test('loadOlder adds pages to the end of the store, also after the store dropped rows', async () => {
  const { comment } = fixture.connect()
  const postId = newId()
  const save = (body: string) => comment!.save({ postId, body }).saved()
  await Promise.all(Array.from({ length: 130 }, (_, i) => save(String(i).padStart(3, '0'))))
  const follow = comment!.follow({ by: { postId }, first: 50, keep: 60 })
  follow.subscribe(() => {})
  await holds(() => expect(follow.getSnapshot().rows).toHaveLength(50))
  await Promise.all(Array.from({ length: 20 }, (_, i) => save(`live ${i}`)))
  await holds(() => expect(follow.getSnapshot()).toMatchObject({ rows: { length: 60 }, hasOlder: true }))
  while (follow.getSnapshot().hasOlder) await follow.loadOlder()
  const bodies = follow.getSnapshot().rows.map(({ body }) => body)
  expect(new Set(bodies).size).toBe(150)
  expect(bodies).toHaveLength(150)
})
