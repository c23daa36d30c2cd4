/** The history that the server keeps: of all processes, with gaps where none counted, through restarts; on both set-ups. */
import { randomUUID } from 'node:crypto'
import { setTimeout as passed } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, type Spillway, setUps } from '../harness/boot.ts'
import type { Client, Json } from '../harness/client.ts'
import { holds } from '../harness/eventually.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'

const query = `query ($range: QueueHistoryRange!, $model: String) { history: queueHistory(range: $range, model: $model) {
  from to stepMs points {
    at apis workers accepted refused persisted deadLettered backlog ack { p50 p95 p99 } saveToEvent { p50 p95 p99 }
  }
} }`
const patience = { timeoutMs: 60_000, intervalMs: 100 }
/** In place of five seconds. */
const stepMs = 1_000
const intervals = { addEveryMs: stepMs }

describe.each(setUps)('the history of Spillway (%s)', (setUp) => {
  let system: Spillway
  /** Of the events log: the queue goes on while it is away. */
  let events: TestRedis | undefined
  const startedAt = Date.now()
  beforeAll(async () => {
    if (setUp !== 'embedded') events = await startRedis()
    const env: Record<string, string> = events ? { EVENTS_URL: events.url } : {}
    system = await boot(setUp, { env, apis: setUp === 'embedded' ? 1 : 2, workers: 2, intervals })
  })
  afterAll(async () => {
    await system?.stop()
    await events?.cleanup()
  })

  async function history(range = 'FIVE_MINUTES', model?: string, client: Client = system.client): Promise<Json> {
    const { body } = await client.graphql(query, { range, model })
    expect(body.errors).toBeUndefined()
    return body.data.history
  }
  const sumOf = ({ points, stepMs }: Json, name: string): number =>
    Math.round(points.reduce((sum: number, point: Json) => sum + (point[name] ?? 0), 0) * (stepMs / 1_000))
  const save = (content: string, id: string = randomUUID()) =>
    holds(async () => {
      const answer = await system.client.save(content, { id })
      expect([202, 409]).toContain(answer.status)
      return answer
    }, patience)
  /** Resolves when the history has a later point than it has now; returns the latest one. */
  async function nextPoint(): Promise<Json> {
    const last = async () => (await history()).points.at(-1)
    const before = await last()
    return await holds(async () => {
      const point = await last()
      expect(+new Date(point.at)).toBeGreaterThan(+new Date(before?.at ?? 0))
      return point
    }, patience)
  }

  test('adds up what all processes counted: saves, rows, refusals and durations', async () => {
    const id = randomUUID()
    await save('the first', id)
    for (let n = 1; n < 20; n += 1) await save(`number ${n}`)
    expect((await save('other content', id)).status).toBe(409)
    const found = await holds(async () => {
      const all = await history()
      expect(sumOf(all, 'accepted')).toBe(20)
      expect(sumOf(all, 'persisted')).toBe(20)
      expect(sumOf(all, 'refused')).toBeGreaterThanOrEqual(1)
      expect(all.points.some(({ saveToEvent }: Json) => saveToEvent !== null)).toBe(true)
      return all
    }, patience)
    expect(found.stepMs).toBe(stepMs)
    const { points } = found
    expect(points.length).toBeLessThanOrEqual(60)
    for (const { at, ack } of points) {
      expect(+new Date(at) % stepMs).toBe(0)
      expect(+new Date(at)).toBeGreaterThanOrEqual(+new Date(found.from))
      expect(+new Date(at)).toBeLessThan(+new Date(found.to))
      if (ack) expect(ack.p50).toBeLessThanOrEqual(ack.p99)
    }
    const busy = points.find(({ accepted }: Json) => accepted > 0)
    expect(busy.ack.p50).toBeGreaterThan(0)
    expect(busy.backlog).toBeGreaterThanOrEqual(0)
    for (const api of system.apis) {
      expect(sumOf(await history('FIVE_MINUTES', undefined, api.client), 'accepted')).toBe(20)
      expect(sumOf(await history('FIVE_MINUTES', 'Content', api.client), 'persisted')).toBe(20)
    }
  })

  test('refuses a model that there is not, and names those that there are', async () => {
    const { body } = await system.client.graphql(query, { range: 'DAY', model: 'Nothing' })
    expect(body.errors[0]).toMatchObject({ extensions: { code: 'BAD_USER_INPUT' } })
    expect(body.errors[0].message).toContain('Content')
  })

  test.each(['HOUR', 'DAY'])('answers %s with at most 300 points and no invented one', async (range) => {
    const { from, to, stepMs, points } = await history(range)
    expect((+new Date(to) - +new Date(from)) / stepMs).toBeLessThanOrEqual(300)
    expect(points.length).toBeLessThanOrEqual(2 + (Date.now() - startedAt) / stepMs)
  })

  test('is kept when all processes crash, and has a gap where none ran', async () => {
    await nextPoint()
    const before = await history()
    const last = +new Date(before.points.at(-1).at)
    await Promise.all([...system.apis, ...system.workers].map((process) => system.kill(process)))
    // Without a process there is nothing to ask: the gap is as long as this.
    await passed(4 * stepMs)
    await system.start(setUp === 'embedded' ? 1 : 2, 2)
    await nextPoint()
    const { points } = await history()
    const times: number[] = points.map(({ at }: Json) => +new Date(at))
    expect(times).toContain(last)
    const after = times.find((at) => at > last + stepMs)!
    expect(after - last).toBeGreaterThan(2 * stepMs)
  })

  if (setUp === 'embedded') return

  test('tells a worker that did not count from one that persisted nothing', async () => {
    await holds(async () => expect((await nextPoint()).persisted).toBe(0), patience)
    await Promise.all(system.workers.map((worker) => system.kill(worker)))
    await holds(
      async () => expect(await nextPoint()).toMatchObject({ workers: 0, persisted: null, accepted: 0 }),
      patience,
    )
    await system.startWorker()
    await holds(async () => expect((await nextPoint()).persisted).toBe(0), patience)
  })

  test('has a gap while its Redis is away, which delays and fails no save', async () => {
    const before = await nextPoint()
    await events!.stop('SIGKILL')
    await passed(3 * stepMs)
    for (let n = 0; n < 5; n += 1) {
      const answer = await system.client.save(`while it is away ${n}`)
      expect(answer.status).toBe(202)
    }
    await events!.restart()
    const after = await holds(nextPoint, patience)
    expect(+new Date(after.at) - +new Date(before.at)).toBeGreaterThan(2 * stepMs)
    const { points } = await history()
    const gap = points.filter(({ at }: Json) => at > before.at && at < after.at)
    expect(gap.length).toBeLessThan((+new Date(after.at) - +new Date(before.at)) / stepMs - 1)
  })
})
