/** The history beside the events log, on Redis and in the embedded file: what processes add becomes one sum, and is bounded. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EventLog } from '../../src/events/events.ts'
import {
  addCounts,
  addEveryMs,
  type BucketCounts,
  mostBytes,
  quantileOf,
  rings,
  secondsOf,
  stepOf,
} from '../../src/events/history.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { noMeter } from '../../src/model/meter.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { HistoryRecorder } from '../../src/telemetry/history-recorder.ts'
import { models } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'

const counts = (n: number, model = 'Content'): BucketCounts => ({
  apis: 1,
  workers: 0,
  depth: n,
  models: {
    [model]: { accepted: n, persisted: 0, refused: 1, deadLettered: 0, ack: { 12: n, [n]: 1 }, event: {} },
  },
})

describe.each(['redis', 'sqlite'])('the history on %s', (kind) => {
  const close: (() => Promise<unknown>)[] = []
  let logs: EventLog[]
  beforeAll(async () => {
    if (kind === 'sqlite') {
      // Two processes, as it were: each one opens the file.
      const { events, cleanup } = await testSqlite()
      logs = [await events(), await events()]
      close.push(cleanup)
    } else {
      const address = parseRedisUrl(freshRedisUrl())
      const options = { retentionMs: 60_000, retentionBytes: 1_000_000, models, log: quiet() }
      logs = [0, 1].map(() => new RedisEventLog(address, options))
      await holds(() => logs[0]!.tail())
      await holds(() => logs[1]!.tail())
      for (const log of logs) close.unshift(() => log.close())
    }
  })
  afterAll(async () => {
    for (const closing of close) await closing()
  })

  /** All buckets of the narrowest ring, added up. */
  async function sum() {
    const { buckets } = await logs[0]!.history.read(rings.fiveMinutes)
    const all = {}
    for (const { counts } of buckets) addCounts(all, counts)
    return all as BucketCounts
  }

  test('adds what two processes add, atomically, and leaves the depth as it was last', async () => {
    const expected = {}
    for (let n = 20; n < 40; n += 1) addCounts(expected, counts(n))
    await Promise.all(Array.from({ length: 20 }, (_, n) => logs[n % 2]!.history.add(counts(n + 20))))
    const { depth, ...rest } = await holds(async () => {
      const all = await sum()
      expect(all.apis).toBe(20)
      return all
    })
    const { depth: _, ...others } = expected as BucketCounts
    expect(rest).toEqual(others)
    expect(depth).toBeGreaterThanOrEqual(20)
  })

  test('takes no more into a bucket than its bound', async () => {
    const large: BucketCounts = counts(1, 'x'.repeat(mostBytes))
    const { apis } = await sum()
    await logs[0]!.history.add(large)
    expect((await sum()).apis).toBe(apis)
  })

  test('has a bucket only when it is complete', async () => {
    const { now, buckets } = await logs[0]!.history.read(rings.fiveMinutes)
    for (const { at } of buckets) expect(at + addEveryMs).toBeLessThanOrEqual(now)
  })
})

test('quantileOf returns a duration at most a fifth above the one that was counted', () => {
  for (const seconds of [0.0001, 0.00037, 0.004, 0.25, 1, 59, 600]) {
    const found = secondsOf(stepOf(seconds))
    expect(found / seconds).toBeGreaterThanOrEqual(0.999)
    expect(found / seconds).toBeLessThan(1.201)
  }
  const hundred: Record<string, number> = {}
  for (let n = 1; n <= 100; n += 1) hundred[stepOf(n / 1_000)] = (hundred[stepOf(n / 1_000)] ?? 0) + 1
  expect(quantileOf(hundred, 0.5)! / 0.05).toBeCloseTo(1.1, 0)
  expect(quantileOf(hundred, 0.99)! / 0.099).toBeCloseTo(1.1, 0)
  expect(quantileOf({}, 0.5)).toBeUndefined()
})

test('HistoryRecorder drops what the history refuses, adds it never twice, and calls the other meter', async () => {
  const added: BucketCounts[] = []
  let isAway = true
  let saves = 0
  const history = {
    async add(counts: BucketCounts) {
      if (isAway) throw new Error('away')
      added.push(counts)
      return 0
    },
    read: async () => ({ now: 0, buckets: [] }),
  }
  const names = Array.from({ length: 12 }, (_, n) => `Model${n}`)
  const recorder = new HistoryRecorder(history, { isApi: true, isWorker: false, models: names })
  const meter = recorder.meter({
    ...noMeter,
    enqueued: (_model, count) => {
      saves += count
    },
  })
  meter.enqueued('Model0', 5, 0.01)
  await recorder.stop()
  isAway = false
  for (const name of names) meter.enqueued(name, 2, 0.01)
  meter.deadLettered(undefined, 3)
  await recorder.stop()
  expect(saves).toBe(5 + 24)
  expect(added).toHaveLength(1)
  expect(Object.keys(added[0]!.models)).toEqual([...names.slice(0, 8), '*'])
  expect(added[0]!.models.Model0!.accepted).toBe(2)
  expect(added[0]!.models['*']).toMatchObject({ accepted: 8, deadLettered: 3 })
})
