/**
 * The states of the client: a walk over the real client and a real server takes every transition of the tables in client/states.ts, and no
 * other transition comes up.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { followStates, outboxStates, saveStates, watch } from '../../client/states.ts'
import { holds } from '../harness/eventually.ts'
import { type Asked, type Instead, refusal } from './between.ts'
import { expired, type Fixture, newId, poison, serveBetween } from './fixture.ts'

const tables = { save: saveStates, outbox: outboxStates, follow: followStates }
const namesOf = (table: object) => Object.entries(tables).find(([, one]) => one === table)![0]
const taken = new Set<string>()

let fixture: Fixture
beforeAll(async () => {
  fixture = await serveBetween()
  const { change } = watch
  watch.change = (table, from, to, isListed) => {
    change?.(table, from, to, isListed)
    if (isListed) taken.add(`${namesOf(table)}: ${from} to ${to}`)
  }
})
afterEach(() => fixture.reset())
afterAll(() => fixture?.close())

const full = refusal(503, 'QUEUE_FULL', { retryAfterMs: 60_000 })
const lockedOut = refusal(401, 'UNAUTHENTICATED')
const instead = (what: Instead | undefined, of: (asked: Asked) => boolean = () => true) => {
  fixture.between.instead = (asked) => (of(asked) ? what : undefined)
}
const isPage = ({ body }: Asked) => body.includes('page:')
const isStream = ({ isStream }: Asked) => isStream
const state = (store: { getSnapshot(): { state: string } }, expected: string) =>
  holds(() => expect(store.getSnapshot().state).toBe(expected))
const input = (body = 'a') => ({ postId: newId(), body })

test('a save goes through waiting, sending, retrying and queued to saved, or to failed as a dead letter', async () => {
  const { comment, $outbox } = fixture.connect()
  instead(full)
  const save = comment!.save(input())
  await state(save, 'retrying')
  expect($outbox.getSnapshot()).toMatchObject({ state: 'waiting', waiting: 1, problem: { code: 'QUEUE_FULL' } })
  instead(undefined)
  $outbox.retry()
  await save.saved()
  expect(save.getSnapshot().state).toBe('saved')
  const bad = input(poison)
  const poisoned = comment!.save(bad)
  await expect(poisoned.saved()).rejects.toMatchObject({ code: 'REJECTED' })
  expect(poisoned.getSnapshot().state).toBe('failed')
  // The queue knows it as a dead letter.
  await expect(comment!.save(bad, { id: poisoned.id })).rejects.toMatchObject({ code: 'REJECTED' })
})

test('a save whose end the token may not read stays queued, with the problem', async () => {
  const { comment } = fixture.connect()
  instead(refusal(403, 'FORBIDDEN'), isStream)
  const save = comment!.save(input())
  await expect(save.saved()).rejects.toMatchObject({ code: 'FORBIDDEN' })
  expect(save.getSnapshot()).toMatchObject({ state: 'queued', problem: { code: 'FORBIDDEN' } })
  // With another token it is asked for again.
  instead(undefined)
  await save.saved()
})

test('refused saves stay in the outbox until they are sent again or discarded; those that wait can be discarded, too', async () => {
  const { comment, memo, $outbox } = fixture.connect()
  instead(lockedOut)
  const saves = [comment!.save(input()), memo!.save({ topic: 1, text: 'a' })]
  await Promise.allSettled(saves)
  expect($outbox.getSnapshot()).toMatchObject({ state: 'refused', waiting: 0 })
  expect($outbox.getSnapshot().refused).toHaveLength(2)
  for (const save of saves) expect(save.getSnapshot().state).toBe('refused')
  $outbox.discard(saves[1]!.id)
  expect($outbox.getSnapshot().state).toBe('refused')
  $outbox.discard(saves[0]!.id)
  expect($outbox.getSnapshot()).toMatchObject({ state: 'idle', refused: [] })
  // In the middle of a pause: with a refused one left, then with none.
  const kept = comment!.save(input())
  await kept.catch(() => {})
  instead(full)
  const first = memo!.save({ topic: 1, text: 'b' })
  await state(first, 'retrying')
  $outbox.discard(first.id)
  await state($outbox, 'refused')
  expect(first.getSnapshot()).toMatchObject({ state: 'refused', problem: { code: 'ABORTED' } })
  $outbox.discard(kept.id)
  const second = comment!.save(input())
  await state(second, 'retrying')
  $outbox.discard(second.id)
  await state($outbox, 'idle')
  instead(lockedOut)
  const third = comment!.save(input())
  await third.catch(() => {})
  instead(undefined)
  $outbox.retry()
  await third.saved()
})

test('a save whose end somebody waits for rejects CLOSED when its client is closed, and asks the server no more', async () => {
  const { comment, $close } = fixture.connect()
  instead('hang', isStream)
  const save = comment!.save(input())
  const saved = save.saved()
  await holds(() => expect(fixture.between.asked.filter(isStream)).toHaveLength(1))
  $close()
  await expect(saved).rejects.toMatchObject({ code: 'CLOSED' })
  await expect(save.saved()).rejects.toMatchObject({ code: 'CLOSED' })
  expect(fixture.between.asked.filter(isStream)).toHaveLength(1)
})

test('an outbox can be closed in each state', async () => {
  fixture.connect().$close()
  for (const [answer, expected] of [
    ['hang', 'sending'],
    [full, 'waiting'],
    [lockedOut, 'refused'],
  ] as const) {
    const { comment, $outbox, $close } = fixture.connect()
    instead(answer)
    const save = comment!.save(input())
    await state($outbox, expected)
    $close()
    await expect(save).rejects.toMatchObject({ code: expected === 'refused' ? 'UNAUTHENTICATED' : 'CLOSED' })
    expect($outbox.getSnapshot().state).toBe('closed')
    await expect(comment!.save(input())).rejects.toMatchObject({ code: 'CLOSED' })
    expect(comment!.follow().getSnapshot().state).toBe('closed')
  }
})

test('a batch that is refused for one input is sent one by one', async () => {
  const { comment, $outbox } = fixture.connect()
  const saves = [comment!.save(input()), comment!.save({ ...input(), rating: 9 }), comment!.save(input())]
  const results = await Promise.allSettled(saves)
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  await state($outbox, 'idle')
})

test('a follow goes through reading and connecting to live, and through waiting and refused back', async () => {
  const client = fixture.connect()
  const follow = client.comment!.follow({ by: { postId: newId() } })
  const seen = follow.subscribe(() => {})
  await state(follow, 'live')
  for (const [to, of] of [
    ['waiting', isPage],
    ['refused', isPage],
    ['waiting', isStream],
    ['refused', isStream],
  ] as const) {
    // While it has no page, then while it has one.
    const one = client.comment!.follow({ by: { postId: newId() } })
    instead(to === 'waiting' ? full : lockedOut, of)
    const stop = one.subscribe(() => {})
    await state(one, to)
    instead(undefined)
    client.$outbox.retry()
    await state(one, 'live')
    stop()
  }
  // A token that is refused in the middle of the stream.
  fixture.between.inject(`event: next\ndata: ${(lockedOut as { body: string }).body}\n\nevent: complete\ndata:\n\n`)
  await state(follow, 'refused')
  client.$outbox.retry()
  await state(follow, 'live')
  // The log is lost in the middle of the stream, then between two.
  const gone = (refusal(410, 'CURSOR_EXPIRED') as { body: string }).body
  const states: string[] = []
  const also = follow.subscribe(({ state }) => states.push(state))
  fixture.between.inject(`id:\nevent: next\ndata: ${gone}\n\nevent: complete\ndata:\n\n`)
  await holds(() => expect(states.join()).toMatch(/waiting.*reading.*live/))
  fixture.between.change = (body) => body.replace(/"after":"([^"]*)"/, (_, cursor) => `"after":"${expired(cursor)}"`)
  states.length = 0
  fixture.between.cut()
  await holds(() => expect(states.join()).toMatch(/waiting.*connecting.*waiting.*reading/))
  fixture.between.change = undefined
  await state(follow, 'live')
  // The server was upgraded: the models are read again.
  for (const of of [isPage, isStream]) {
    instead(refusal(400, 'GRAPHQL_VALIDATION_FAILED'), of)
    fixture.between.asked.length = 0
    const other = client.comment!.follow({ by: { postId: newId() } })
    const stop = other.subscribe(() => {})
    await holds(() =>
      expect(other.getSnapshot()).toMatchObject({ state: 'waiting', problem: { code: 'GRAPHQL_VALIDATION_FAILED' } }),
    )
    await holds(() => expect(fixture.between.asked.map(({ path }) => path)).toContain('/models.json'))
    stop()
  }
  also()
  seen()
})

test('a follow can be stopped and closed in each state', async () => {
  const client = fixture.connect()
  client.comment!.follow().close()
  for (const [answer, of, expected] of [
    ['hang', isPage, 'reading'],
    ['hang', isStream, 'connecting'],
    [undefined, isPage, 'live'],
    [full, isStream, 'waiting'],
    [lockedOut, isStream, 'refused'],
  ] as const) {
    for (const end of ['stop', 'close']) {
      instead(answer, of)
      const follow = client.comment!.follow({ by: { postId: newId() } })
      const stop = follow.subscribe(() => {})
      await state(follow, expected)
      if (end === 'close') follow.close()
      else {
        stop()
        expect(follow.getSnapshot().state).toBe('idle')
        instead(undefined)
        follow.subscribe(() => {})
        await state(follow, 'live')
        follow.close()
      }
      expect(follow.getSnapshot().state).toBe('closed')
      stop()
    }
  }
  // By a subscriber that has what it wanted, in the middle of a change.
  instead(undefined)
  const follow = client.comment!.follow({ by: { postId: newId() } })
  for (const expected of ['reading', 'connecting', 'live']) {
    await new Promise<void>((resolve) => {
      const leave = follow.subscribe(({ state }) => {
        if (state !== expected) return
        queueMicrotask(() => resolve(leave()))
      })
    })
    expect(follow.getSnapshot().state).toBe('idle')
  }
  const rows = client.comment!.follow({ by: { postId: newId() } })
  let left = false
  const leave = rows.subscribe(({ hasOlder, state, cursor }) => {
    if (state !== 'reading' || cursor === undefined || left) return
    left = true
    expect(hasOlder).toBe(false)
    leave()
  })
  await holds(() => expect(rows.getSnapshot()).toMatchObject({ state: 'idle', cursor: expect.any(String) }))
  const again = rows.subscribe(() => {})
  await state(rows, 'live')
  again()
})

test('the walk took every transition of every table', () => {
  const all = Object.entries(tables).flatMap(([name, table]) =>
    Object.entries(table).flatMap(([from, targets]) =>
      (targets as readonly string[]).map((to) => `${name}: ${from} to ${to}`),
    ),
  )
  expect([...taken].sort()).toEqual(all.sort())
})

test('each state is reached, and each transition leads to a state', () => {
  for (const table of Object.values(tables)) {
    const targets = new Set<string>(Object.values(table).flat())
    const [initial, ...others] = Object.keys(table)
    expect(
      [...targets].filter((to) => !(to in table)),
      `targets of ${initial}`,
    ).toEqual([])
    expect(
      others.filter((name) => !targets.has(name)),
      `others than ${initial}`,
    ).toEqual([])
  }
})
