/** Saves without an id of their own in a queue of several shards: they get ids of a shard that takes them. */
import { afterAll, expect, test, vi } from 'vitest'
import { makeApp } from '../../src/app/app.ts'
import { MemoryCache, SharedVersions } from '../../src/cache/memory.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { shardOf } from '../../src/queue/shard-of.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Content, models } from '../harness/contents.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { MemoryStore } from '../harness/memory-store.ts'
import { quiet } from '../harness/quiet.ts'

const [shards, one] = [3, 1]
const log = quiet()
const stack = new AsyncDisposableStack()
afterAll(() => stack.disposeAsync())

async function open(capacityOf: (shard: number) => number, count = shards) {
  const address = parseRedisUrl(freshRedisUrl())
  const openShard = (shard: number) => new RedisQueue(address, { capacity: capacityOf(shard), shard, log })
  const queue = stack.adopt(new ShardedQueue(openShard, { shards: count, log }), (queue) => queue.close())
  await queue.whenReady(5_000)
  const retention = { retentionMs: 60_000, retentionBytes: 1_000_000 }
  const events = stack.adopt(new RedisEventLog(address, { ...retention, models, log, shards: count }), (events) =>
    events.close(),
  )
  const cache = new MemoryCache({ ttlMs: 1_000, versions: new SharedVersions() })
  return makeApp({ models, queue, store: new MemoryStore(), cache, events, log })
}
const saving = {
  model: Content,
  grant: { subject: undefined, scopes: new Set(['write']), expiresAt: undefined, claims: {} },
}

test('Saves are accepted by another shard where theirs is full, one by one and together', async () => {
  const { saves, queue } = await open((shard) => (shard === 0 ? 0 : 1_000_000))
  const ids: string[] = []
  const until = performance.now() + 3_000
  // The home shard changes each second; the full one is among those that are tried.
  while (performance.now() < until) {
    ids.push((await saves.save(saving, { values: { content: 'one' } })).id)
    const inputs = [{ values: { content: 'two' } }, { values: { content: 'three' } }]
    ids.push(...(await saves.saveMany(saving, inputs)).map(({ id }) => id))
    const { id } = await saves.saveAndWait(saving, { values: { content: 'four' } }, 0)
    ids.push(id)
  }
  expect(ids.filter((id) => shardOf(id, shards) === 0)).toEqual([])
  expect(await queue.find(ids)).toMatchObject(ids.map(() => ({ status: 'QUEUED' })))
  const [entry] = await queue.consumer('w').receive({ rows: 1, bytes: 1_000_000 }, 5_000)
  // The message has the id that its sender was told.
  expect(entry!.body).toContain(`"id":"${entry!.id}"`)
  expect(ids).toContain(entry!.id)
})

test('Saves of one process fill all shards in turn', { timeout: 30_000 }, async () => {
  const { saves } = await open(() => 1_000_000)
  const seen = new Set<number>()
  await eventually(
    async () => {
      const ids = (await saves.saveMany(saving, [{ values: { content: 'a' } }, { values: { content: 'b' } }])).map(
        ({ id }) => id,
      )
      for (const id of ids) seen.add(shardOf(id, shards))
      return seen.size === shards
    },
    { intervalMs: 100 },
  )
})

test('Saves to a queue of one shard that is full are refused at once, and not sent again with another id', async () => {
  const { saves, queue } = await open(() => 0, one)
  const calls = vi.spyOn(queue, 'enqueue')
  await expect(saves.save(saving, { values: { content: 'one' } })).rejects.toMatchObject({ code: 'QUEUE_FULL' })
  expect(calls).toHaveBeenCalledTimes(1)
})
