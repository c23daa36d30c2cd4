/** A server that stops sends its subscribers away, at once and without an error; they go on elsewhere, with their cursor. */
import { afterEach, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { SseClient } from '../harness/sse.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber, savedQuery, wires } from '../harness/subscriber.ts'
import { WsClient } from '../harness/ws.ts'

let stack: Stack | undefined
let subscribers: Subscriber[] = []

afterEach(async () => {
  await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
  await stack?.stop()
  subscribers = []
  stack = undefined
})

test('an API with 200 subscribers ends streams and closes sockets with 1012 on SIGTERM, exits with 0, and no subscriber misses an event', async () => {
  stack = await Stack.start({ apis: 2, workers: 1 })
  const [leaving, staying] = stack.apis as [Stack['apis'][number], Stack['apis'][number]]
  const start = await cursorNow(leaving.url!)
  let where = leaving.url
  subscribers = Array.from({ length: 200 }, (_, i) => new Subscriber(wires[i % 2]!, start, () => where).start())
  const sse = await SseClient.open(leaving.url!, savedQuery)
  const ws = await WsClient.connect(leaving.url!)
  ws.subscribe('1', savedQuery)
  await holds(() => expect(subscribers.every(({ connections }) => connections === 1)).toBe(true), { timeoutMs: 20_000 })
  stack.write(2)
  await stack.more(200)

  where = staying.url
  const since = performance.now()
  leaving.kill('SIGTERM')
  const [code, exit] = await Promise.all([ws.closed, leaving.exited, sse.ended])
  expect(performance.now() - since).toBeLessThan(10_000)
  expect([code, exit]).toEqual([1012, 0])
  // To a client, complete means that there will never be more.
  expect(sse.frames.filter(({ event }) => event === 'complete')).toEqual([])
  expect(ws.messages.filter(({ type }) => type === 'complete' || type === 'error')).toEqual([])
  stack.apis = [staying]

  await stack.more(200)
  await stack.stopWriting()
  await stack.drained()
  const rows = [...(await stack.rows()).keys()]
  await holds(() => expect(subscribers.map(({ ids }) => ids.size)).toEqual(subscribers.map(() => rows.length)), {
    timeoutMs: 20_000,
  })
  const [first] = subscribers
  for (const { seen, faults, connections } of subscribers) {
    expect(faults).toEqual([])
    expect(connections).toBe(2)
    expect(seen).toEqual(first!.seen)
  }
}, 90_000)

test('an embedded Spillway with subscribers and saves under way exits with 0 on SIGTERM, and publishes what it accepted after a restart', async () => {
  stack = await Stack.start({ embedded: true })
  const start = await cursorNow(stack.apis[0]!.url!)
  subscribers = Array.from({ length: 20 }, (_, i) =>
    new Subscriber(wires[i % 2]!, start, () => stack!.apis[0]?.url).start(),
  )
  await holds(() => expect(subscribers.every(({ connections }) => connections === 1)).toBe(true))
  stack.write(2)
  await stack.more(100)
  const [api] = stack.apis
  stack.apis = []
  api!.kill('SIGTERM')
  expect(await api!.exited).toBe(0)
  await stack.startApi()
  await stack.more(100)
  await stack.stopWriting()
  await stack.drained()
  const rows = [...(await stack.rows()).keys()]
  await holds(() => expect(subscribers.map(({ ids }) => ids.size)).toEqual(subscribers.map(() => rows.length)))
  for (const { seen, faults } of subscribers) {
    expect(faults).toEqual([])
    expect(seen).toEqual(subscribers[0]!.seen)
  }
}, 60_000)
