/**
 * P1 for real: not `kill -9`, after which the page cache still has everything, but a power cut. With `appendfsync always` nothing that was
 * acknowledged is lost; with `everysec` something is, which shows that this test can fail.
 */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { appendOnlyFile, limitFiles, type Power, watchPower } from '../harness/power.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { item } from '../suites/queue.ts'
import { record } from './table.ts'

let power: Power
beforeAll(async () => {
  power = await watchPower()
})
afterAll(() => power?.cleanup())

let redis: TestRedis | undefined
let queue: RedisQueue | undefined
afterEach(async () => {
  await queue?.close()
  await redis?.cleanup()
  queue = redis = undefined
})

/** Accepts without pause until `saves` are acknowledged, cuts the power, and tells which of them are not there any more. */
async function lostAfterCut(
  args: string[],
  saves: number,
): Promise<{ acknowledged: number; lost: number; durability: string }> {
  redis = await startRedis({ args, env: power.env })
  queue = new RedisQueue(parseRedisUrl(redis.url), { capacity: 1e6, log: quiet() })
  const { durability } = await holds(() => queue!.status())
  const acknowledged: string[] = []
  let cut = false
  const clients = Array.from({ length: 16 }, async () => {
    while (!cut) {
      const id = randomUUID()
      try {
        await queue!.enqueue([[item(id, 'x'.repeat(500))]])
        acknowledged.push(id)
      } catch {
        // Not acknowledged: it may be there, or not.
        if (!cut) await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
  })
  await holds(() => expect(acknowledged.length).toBeGreaterThan(saves), { timeoutMs: 20_000 })
  const before = power.cut(redis)
  cut = true
  await before
  await Promise.all(clients)
  const ids = [...acknowledged]
  const found = await holds(async () => {
    const standings = []
    for (let i = 0; i < ids.length; i += 1_000) standings.push(...(await queue!.find(ids.slice(i, i + 1_000))))
    return standings
  })
  return { acknowledged: ids.length, lost: found.filter((standing) => standing === undefined).length, durability }
}

test('RedisQueue under appendfsync always loses nothing acknowledged in a power cut (P1)', async () => {
  const { acknowledged, lost, durability } = await lostAfterCut([], 3_000)
  record('B2', 'redis + mariadb', {
    fault: 'power cut, appendfsync always (still queued)',
    acknowledged,
    rows: acknowledged - lost,
    deadLetters: 0,
    lost,
    doubled: 0,
    altered: 0,
    unannounced: undefined,
  })
  expect(durability).toBe('FSYNC')
  expect(acknowledged).toBeGreaterThan(3_000)
  expect(lost).toBe(0)
}, 60_000)

test('RedisQueue under appendfsync everysec loses some in a power cut, so that the test above proves something, and reports EVERYSEC', async () => {
  const { lost, durability } = await lostAfterCut(['--appendfsync', 'everysec'], 3_000)
  expect(durability).toBe('EVERYSEC')
  expect(lost).toBeGreaterThan(0)
}, 60_000)

describe('Spillway on Redis and MariaDB', () => {
  const setUp = 'redis + mariadb'
  let stack: Stack
  beforeAll(async () => {
    stack = await Stack.start({ redisEnv: power.env })
  })
  afterAll(() => stack?.stop())

  async function judge(id: string, fault: string): Promise<void> {
    const verdict = await stack.verdict(fault)
    record(id, setUp, verdict)
    expectSound(verdict)
  }

  /** To the queue's Redis from now on: a disk that takes so many bytes more. */
  async function fillDisk(left: number): Promise<void> {
    limitFiles(stack.redis.pid, (await stat(await appendOnlyFile(stack.redis))).size + left)
  }

  test('saves and publishes each acknowledged save once through three power cuts under appendfsync always', async () => {
    stack.write(8)
    for (let i = 0; i < 3; i++) {
      await stack.more(300)
      await power.cut(stack.redis)
    }
    await stack.more(200)
    await judge('B2', 'power cut, appendfsync always (under load, three times)')
  })

  test('loses nothing when the disk of Redis is full and Redis ends', async () => {
    stack.write(8)
    await stack.more(200)
    await fillDisk(50_000)
    await eventually(() => stack.redis.logs().includes("Can't recover from AOF write error"))
    await expect(stack.redis.cli('PING')).rejects.toThrow()
    await holds(async () =>
      expect(await stack.once('no disk')).toMatchObject({ status: 503, code: 'QUEUE_UNAVAILABLE' }),
    )
    // With space again.
    await stack.redis.restart()
    await stack.more(200)
    await judge('B7', "the disk of the queue's Redis full (appendfsync always)")
  })

  test('refuses saves while the disk of Redis is full under everysec, and goes on without a restart', async () => {
    await stack.redis.cli('CONFIG', 'SET', 'appendfsync', 'everysec')
    stack.write(8)
    await stack.more(200)
    await fillDisk(50_000)
    const refused = await holds(async () => {
      const answer = await stack.once('no disk')
      expect(answer).toMatchObject({ status: 503, code: 'QUEUE_UNAVAILABLE' })
      expect(answer.message).toContain('MISCONF')
      return answer
    })
    expect(Number(refused.retryAfter)).toBeGreaterThanOrEqual(1)
    expect((await fetch(`${stack.apis[0]!.url}/livez`)).status).toBe(200)
    limitFiles(stack.redis.pid, undefined)
    await stack.more(200)
    await judge('B8', "the disk of the queue's Redis full for a while (everysec)")
  })
})
