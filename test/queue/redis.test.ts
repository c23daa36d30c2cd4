import { randomUUID } from 'node:crypto'
import { afterEach, describe, expect, inject, onTestFinished, test } from 'vitest'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { item, type QueueBench, queueSuite } from '../suites/queue.ts'

const reclaimMs = 1_000

interface RedisBench extends QueueBench {
  queues: RedisQueue[]
  prefix: string
}

queueSuite<RedisBench>(
  'RedisQueue',
  async ({ capacity }) => {
    const address = parseRedisUrl(freshRedisUrl())
    const queues: RedisQueue[] = []
    return {
      queues,
      prefix: address.prefix,
      reclaimMs,
      open: async () => {
        const queue = new RedisQueue(address, { capacity, reclaimMs, log: quiet() })
        queues.push(queue)
        expect(await queue.connection.whenReady(5_000)).toBe(true)
        return queue
      },
      cleanup: async () => {
        await Promise.all(queues.map((queue) => queue.close()))
      },
    }
  },
  async ({ queues, prefix }) => {
    await queues[0]!.connection.client.xadd(
      queueKeys(hashTag({ prefix }, '0')).stream,
      '*',
      'colour',
      'red',
      'who',
      randomUUID(),
    )
  },
)

describe('RedisQueue', () => {
  let queue: RedisQueue
  afterEach(() => queue.close())

  test('creates a lost consumer group again, and skips nothing that was enqueued in between', async () => {
    const address = parseRedisUrl(freshRedisUrl())
    queue = new RedisQueue(address, { capacity: 100, reclaimMs, log: quiet() })
    await queue.connection.whenReady(5_000)
    const consumer = queue.consumer('w')
    const { client } = queue.connection
    const { stream } = queueKeys(hashTag(address, '0'))
    const all = Array.from({ length: 6 }, (_, n) => item(randomUUID(), `content ${n}`))
    const seen = new Set<string | undefined>()
    const receive = () =>
      eventually(
        async () => {
          const entries = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)
          for (const { id } of entries) seen.add(id)
          return entries.length > 0 && entries
        },
        { timeoutMs: 5_000 },
      )
    await queue.enqueue([all.slice(0, 2)])
    await consumer.ack((await receive()) || [])
    // A mistake of an operator, or a failover to a replica that did not have it yet.
    await client.xgroup('DESTROY', stream, 'workers')
    await queue.enqueue([all.slice(2, 4)])
    // It notices by itself.
    await holds(async () => {
      await consumer
        .receive({ rows: 0, bytes: 0 }, 50)
        .then((entries) => entries.forEach(({ id }) => void seen.add(id)))
      expect(await client.xinfo('GROUPS', stream)).toHaveLength(1)
    })
    await queue.enqueue([all.slice(4)])
    await holds(async () => {
      await receive().catch(() => {})
      expect([...seen].sort()).toEqual(all.map(({ id }) => id).sort())
    })
  })

  test('ack marks the ids saved again where a server answers that lacks what was marked over another connection', async () => {
    const proxy = await startProxy(inject('redisUrl'))
    onTestFinished(() => proxy.close())
    const address = parseRedisUrl(proxy.url(freshRedisUrl()))
    queue = new RedisQueue(address, { capacity: 100, reclaimMs, log: quiet() })
    await queue.connection.whenReady(5_000)
    const consumer = queue.consumer('w')
    const { client } = queue.connection
    const keys = queueKeys(hashTag(address, '0'))
    const save = item(randomUUID(), 'marked before a failover')
    await queue.enqueue([[save]])
    const pending = await client.hget(keys.pending, save.id)
    const entries = await consumer.receive({ rows: 1, bytes: 1_000 }, 1_000)
    await consumer.markSaved(entries)
    expect(await queue.find([save.id])).toMatchObject([{ status: 'SAVED' }])
    // As a replica has it that was behind, to which the worker connects.
    await client.multi().hset(keys.pending, save.id, pending!).del(keys.saved).exec()
    proxy.set('cut')
    proxy.set('pass')
    await holds(() => consumer.ack(entries))
    // Another connection, which was cut, too.
    expect(await holds(() => queue.find([save.id]))).toMatchObject([{ status: 'SAVED' }])
    expect(await queue.status()).toMatchObject({ depth: 0 })
    await consumer.close()
  })

  test('unregisters 8 killed consumers once another one has received their entries (FD7)', async () => {
    const address = parseRedisUrl(freshRedisUrl())
    queue = new RedisQueue(address, { capacity: 100, reclaimMs: 100, log: quiet() })
    await queue.connection.whenReady(5_000)
    const { client } = queue.connection
    const { stream } = queueKeys(hashTag(address, '0'))
    const lots = { rows: 10, bytes: 1_000_000 }
    const names = async () =>
      ((await client.xinfo('CONSUMERS', stream, 'workers')) as string[][]).map(([, name]) => name).sort()
    const killed = queue.consumer('killed')
    await queue.enqueue([[item(randomUUID(), 'one')]])
    await eventually(async () => (await killed.receive(lots, 100)).length > 0)
    for (let n = 1; n < 8; n++) await client.call('XGROUP', 'CREATECONSUMER', stream, 'workers', `killed-${n}`)
    expect(await names()).toHaveLength(8)
    const living = queue.consumer('living')
    const received: string[] = []
    await holds(
      async () => {
        received.push(...(await living.receive(lots, 50)).map(({ handle }) => handle))
        expect(await names()).toEqual(['living'])
      },
      { timeoutMs: 20_000 },
    )
    expect(received).toHaveLength(1)
    // One that was only frozen is registered again.
    await queue.enqueue([[item(randomUUID(), 'two')]])
    await eventually(async () => (await killed.receive(lots, 100)).length > 0)
    expect(await names()).toContain('killed')
  })

  test('enqueues a retry of a message that another program deleted with the stream', async () => {
    const address = parseRedisUrl(freshRedisUrl())
    queue = new RedisQueue(address, { capacity: 100, reclaimMs, log: quiet() })
    await queue.connection.whenReady(5_000)
    const one = item(randomUUID(), 'something')
    await queue.enqueue([[one]])
    await queue.connection.client.del(queueKeys(hashTag(address, '0')).stream)
    const again = { ...one, at: one.at + 5 }
    expect(await queue.enqueue([[again]])).toMatchObject([[{ status: 'QUEUED', at: again.at, duplicate: false }]])
    expect(await queue.enqueue([[one]])).toMatchObject([[{ status: 'QUEUED', at: again.at, duplicate: true }]])
    expect(await queue.consumer('w').receive({ rows: 10, bytes: 1_000_000 }, 5_000)).toMatchObject([{ id: one.id }])
  })
})
