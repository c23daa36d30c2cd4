/**
 * P4: every saved content is announced to every subscriber, in one order, whatever breaks in between. Subscribers over both wires drop
 * and come back at random while saves run and API processes, Redis and its pub/sub connections are killed. SEED=… repeats a run.
 */
import { randomUUID } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { type Random, seeded } from '../harness/random.ts'
import { Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber, wires } from '../harness/subscriber.ts'

const inputsPerCall = 250
const dropEveryMs = 150

let stack: Stack | undefined
let subscribers: Subscriber[] = []

afterEach(async () => {
  await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
  await stack?.stop()
  subscribers = []
  stack = undefined
})

test('P4: 20 subscribers on Redis and MariaDB miss nothing while APIs, Redis and its pub/sub are killed', async () => {
  const random = seeded()
  stack = await Stack.start({ apis: 2, workers: 2 })
  const { apis, redis } = stack
  const killApi = async () => {
    await stack!.kill(random.pick(stack!.apis))
    await stack!.startApi()
  }
  const killRedis = async () => {
    await redis.stop('SIGKILL')
    await redis.restart()
  }
  const deafen = async () => void (await redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'))
  expect(apis).toHaveLength(2)
  await missNothing(stack, random, 30_000, [deafen, killApi, killRedis, deafen, killApi, deafen, killRedis, killApi])
}, 120_000)

test('P4: 20 subscribers miss nothing while the embedded one is killed and started again', async () => {
  const random = seeded()
  stack = await Stack.start({ embedded: true })
  const killApi = async () => {
    await stack!.kill(stack!.apis[0]!)
    await stack!.startApi()
  }
  await missNothing(stack, random, 20_000, [killApi, killApi, killApi])
}, 120_000)

async function missNothing(stack: Stack, random: Random, saves: number, faults: (() => Promise<void>)[]) {
  console.log(`SEED=${random.seed}`)
  const start = await cursorNow(stack.apis[0]!.url!)
  const where = () => (stack.apis.length > 0 ? random.pick(stack.apis).url : undefined)
  subscribers = Array.from({ length: 20 }, (_, i) => new Subscriber(wires[i % 2]!, start, where).start())
  await holds(() => expect(subscribers.every(({ connections }) => connections > 0)).toBe(true))
  const dropping = setInterval(() => random.pick(subscribers).drop(), dropEveryMs)
  const many = saveInBulk(stack, saves)
  // Single ones besides, each an announcement of its own where the worker has nothing else to do.
  stack.write(2)
  for (const [i, fault] of faults.entries()) {
    const due = (saves * (i + 1)) / (faults.length + 1)
    await holds(() => expect(stack.acknowledged.size).toBeGreaterThan(due), { timeoutMs: 60_000 })
    await fault()
  }
  await many
  await stack.stopWriting()
  clearInterval(dropping)
  await stack.drained()
  let rows: string[] = []
  const received = async () => {
    // Anew each time: a save that was on its way when its API was killed may become a row after all others.
    rows = [...(await stack.rows()).keys()]
    expect(subscribers.map(({ ids }) => ids.size)).toEqual(subscribers.map(() => rows.length))
  }
  await holds(received, { timeoutMs: 30_000, intervalMs: 250 })
  expect(rows.length, 'a row for each acknowledged save').toBeGreaterThanOrEqual(stack.acknowledged.size)

  const [first, ...others] = subscribers
  expect(rows.filter((id) => !first!.ids.has(id))).toEqual([])
  // One order: not only of the ids, but of everything, announcements that had to be repeated included.
  for (const other of others) expect(firstDifference(other.seen, first!.seen)).toBeUndefined()
  for (const { faults } of subscribers) expect(faults, 'a cursor went back, or an error came').toEqual([])
  const connections = subscribers.reduce((sum, subscriber) => sum + subscriber.connections, 0)
  expect(connections, 'subscribers that never came back prove nothing').toBeGreaterThan(60)
  console.log(`${rows.length} saves, ${first!.seen.length} events, ${connections} connections`)
}

/** saveMany, each call with ids of its own until it is acknowledged. */
async function saveInBulk(stack: Stack, count: number): Promise<void> {
  let left = count
  const client = async (n: number) => {
    while (left > 0) {
      left -= inputsPerCall
      const inputs = Array.from({ length: inputsPerCall }, (_, i) => ({ id: randomUUID(), content: `bulk ${n} ${i}` }))
      for (const { id, content } of inputs) stack.sent.set(id, content)
      for (let attempt = 0; ; attempt++) {
        const api = stack.apis[(n + attempt) % Math.max(1, stack.apis.length)]
        const answer = api && (await api.client.saveMany(inputs).catch(() => undefined))
        if (answer?.data?.saveMany) break
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      for (const { id } of inputs) stack.acknowledged.add(id)
    }
  }
  await Promise.all([client(0), client(1)])
}

/** Where two lists part, for a message that can be read. */
function firstDifference(one: readonly string[], other: readonly string[]) {
  const at = one.findIndex((text, i) => text !== other[i])
  if (at < 0 && one.length === other.length) return undefined
  const i = at < 0 ? one.length : at
  return { i, one: one.slice(i, i + 2), other: other.slice(i, i + 2) }
}
