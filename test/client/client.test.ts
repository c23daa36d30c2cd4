/** The client in Node against an embedded server: saves, receipts, follows; through a proxy that cuts and loses. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { SpillwayError } from '../../client/index.ts'
import { holds } from '../harness/eventually.ts'
import { type Fixture, newId, serveBetween } from './fixture.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await serveBetween()
})
afterEach(() => fixture.reset())
afterAll(() => fixture?.close())

test('save resolves at QUEUED, saved() with the row, and a save with the same id is a duplicate', async () => {
  const client = fixture.connect()
  const input = { postId: newId(), body: 'first', rating: 3 }
  const save = client.comment!.save(input)
  expect(save.getSnapshot().state).toBe('waiting')
  expect(await save).toEqual({ id: save.id, status: 'QUEUED', duplicate: false })
  expect(await save.saved()).toMatchObject({ id: save.id, ...input, author: 'dev', mood: 'HAPPY' })
  expect(save.getSnapshot().state).toBe('saved')
  expect(await client.comment!.save(input, { id: save.id })).toMatchObject({ duplicate: true })
})

test('a refused save rejects with the code of the server, and its neighbours in the batch are saved', async () => {
  const client = fixture.connect()
  const id = newId()
  const saves = [1, 9, 2].map((rating) => client.comment!.save({ postId: id, body: `r${rating}`, rating }))
  const results = await Promise.allSettled(saves)
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  const { reason } = results[1] as PromiseRejectedResult
  expect(reason).toBeInstanceOf(SpillwayError)
  expect(reason).toMatchObject({ code: 'BAD_USER_INPUT', message: expect.stringContaining('rating') })
  expect(client.$outbox.getSnapshot()).toMatchObject({ state: 'idle', waiting: 0, refused: [] })
})

test('a follow shows a page, then what is saved, each row once, through lost connections', async () => {
  const client = fixture.connect()
  const id = newId()
  for (const body of ['a', 'b']) await client.comment!.save({ postId: id, body }).saved()
  const comments = client.comment!.follow({ by: { postId: id } })
  const states = new Set<string>()
  const stop = comments.subscribe(({ state }) => states.add(state))
  await holds(() => expect(comments.getSnapshot()).toMatchObject({ state: 'live', hasOlder: false }))
  const bodies = () => comments.getSnapshot().rows.map(({ body }: { body: string }) => body)
  expect(bodies()).toEqual(['b', 'a'])
  const iterated: string[] = []
  void (async () => {
    for await (const { body } of comments) iterated.push(body)
  })()
  for (const body of ['c', 'd', 'e']) {
    fixture.between.cut()
    await client.comment!.save({ postId: id, body })
  }
  await client.comment!.save({ postId: newId(), body: 'of another post' }).saved()
  await holds(() => expect(bodies().toSorted()).toEqual(['a', 'b', 'c', 'd', 'e']))
  await holds(() => expect(iterated.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e']))
  expect([...states].sort()).toEqual(['connecting', 'live', 'reading', 'waiting'])
  stop()
  comments.close()
  expect(comments.getSnapshot().state).toBe('closed')
})

test('a save whose answers are lost is sent again under its id, and is one row', async () => {
  const client = fixture.connect()
  const id = newId()
  let lost = 0
  fixture.between.instead = ({ isSave }) => (isSave && lost++ < 2 ? 'lose' : undefined)
  const save = client.comment!.save({ postId: id, body: 'once' })
  await holds(() => expect(save.getSnapshot()).toMatchObject({ state: 'retrying', problem: { code: 'UNREACHABLE' } }))
  expect(await save).toMatchObject({ duplicate: true })
  await save.saved()
  const page = client.comment!.follow({ by: { postId: id } })
  page.subscribe(() => {})
  await holds(() => expect(page.getSnapshot().rows).toHaveLength(1))
})

test('saved() rejects with CLOSED when the client is closed while it waits, and after that', async () => {
  const { comment, $close } = fixture.connect()
  fixture.between.instead = ({ isStream }) => (isStream ? 'hang' : undefined)
  const [save, other] = ['a', 'b'].map((body) => comment!.save({ postId: crypto.randomUUID(), body }))
  await Promise.all([save, other])
  const saved = save!.saved()
  await holds(() => expect(fixture.between.asked.some(({ isStream }) => isStream)).toBe(true))
  $close()
  await expect(saved).rejects.toMatchObject({ code: 'CLOSED' })
  await expect(other!.saved()).rejects.toMatchObject({ code: 'CLOSED' })
})
