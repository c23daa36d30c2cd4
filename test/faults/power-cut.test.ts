/**
 * P1 for real: not `kill -9`, after which the page cache still has everything, but a power cut. With `appendfsync always` nothing that was
 * acknowledged is lost; with `everysec` something is, which shows that this test can fail.
 */
import { randomUUID } from 'node:crypto'
import { afterEach, expect, it } from 'vitest'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/connection.ts'
import { holds } from '../harness/eventually.ts'
import { type MortalRedis, startMortalRedis } from '../harness/power.ts'
import { quiet } from '../harness/quiet.ts'
import { item } from '../suites/queue.ts'
import { record } from './table.ts'

let mortal: MortalRedis | undefined
let queue: RedisQueue | undefined
afterEach(async () => {
  await queue?.close()
  await mortal?.cleanup()
})

/** Accepts without pause until `saves` are acknowledged, cuts the power, and tells which of them are not there any more. */
async function lostAfterCut(
  appendfsync: string,
  saves: number,
): Promise<{ acknowledged: number; lost: number; durability: string }> {
  mortal = await startMortalRedis(['--appendfsync', appendfsync])
  queue = new RedisQueue(parseRedisUrl(mortal.redis.url), { capacity: 1e6, log: quiet() })
  const { durability } = await holds(() => queue!.status())
  const acknowledged: string[] = []
  let cut = false
  const clients = Array.from({ length: 16 }, async () => {
    while (!cut) {
      const id = randomUUID()
      try {
        await queue!.accept([[item(id, 'x'.repeat(500))]])
        acknowledged.push(id)
      } catch {
        // Not acknowledged: it may be there, or not.
        if (!cut) await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
  })
  await holds(() => expect(acknowledged.length).toBeGreaterThan(saves), { timeoutMs: 20_000 })
  const before = mortal.cut()
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

it('a power cut under appendfsync always loses nothing that was acknowledged (P1)', async () => {
  const { acknowledged, lost, durability } = await lostAfterCut('always', 3_000)
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

it('the same under everysec does lose some, so that the test above proves something; and the queue says EVERYSEC', async () => {
  const { lost, durability } = await lostAfterCut('everysec', 3_000)
  expect(durability).toBe('EVERYSEC')
  expect(lost).toBeGreaterThan(0)
}, 60_000)
