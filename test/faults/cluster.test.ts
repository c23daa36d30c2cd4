/**
 * Faults of a Redis Cluster that has the queue, the events log and the cache. Each node is known to the URL, the first one is dead. Before a
 * master is killed its replica has caught up: what an asynchronous replica lacks is lost with the master (QUEUE_REPLICAS).
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startCluster, type TestCluster } from '../harness/cluster.ts'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import type { TestRedis } from '../harness/redis.ts'
import { Stack } from '../harness/stack.ts'
import { codeOf, patience, underLoad, untilNextSave } from './under-load.ts'

const prefix = 'c'
const keyOf = { queue: `{${prefix}:0}:queue`, events: `{${prefix}:events}:log`, cache: `{${prefix}:cache}:version` }
type Part = keyof typeof keyOf
let cluster: TestCluster
let stack: Stack

beforeAll(async () => {
  // A replica takes over only where a test says so: on a busy machine a master may be late.
  cluster = await startCluster({
    masters: 3,
    replicas: 1,
    args: ['--cluster-node-timeout', '2000', '--cluster-replica-no-failover', 'yes', '--repl-diskless-sync-delay', '0'],
  })
  const url = `${cluster.url.replace('//', `//127.0.0.1:${await freePort()},`)}?prefix=${prefix}`
  stack = await Stack.start({ env: { QUEUE_URL: url, CACHE_URL: url }, eventsUrl: url })
}, 120_000)
afterAll(async () => {
  await stack?.stop()
  await cluster?.cleanup()
})

const other = async (part: Part): Promise<TestRedis> => {
  const owner = await cluster.ownerOf(keyOf[part])
  for (const node of cluster.nodes) {
    const [role] = (await node.cli('ROLE')) as [string]
    if (role === 'master' && node !== owner) return node
  }
  throw new Error('the cluster has one master')
}

test('B28: the slots of queue, events log and cache are moved to other nodes of a cluster, and back', async () => {
  await underLoad(
    stack,
    { id: 'B28', fault: 'the slots of queue, events and cache are moved under load' },
    async () => {
      for (const part of ['queue', 'events', 'cache', 'queue', 'events'] as const) {
        await cluster.moveSlot(keyOf[part], await other(part))
        await stack.more(10)
      }
    },
  )
}, 120_000)

test('B29: the move of the slot of a queue stops halfway, and /readyz says so', async () => {
  await underLoad(stack, { id: 'B29', fault: 'the move of the slot of the queue stops halfway' }, async () => {
    await cluster.moveSlot(keyOf.queue, await other('queue'), async () => {
      await holds(async () => expect(['ASK', 'TRYAGAIN']).toContain(await codeOf(stack, 'queue')))
      const answer = await stack.once('while the slot is moved')
      expect(answer).toMatchObject({ status: 503, code: 'QUEUE_UNAVAILABLE' })
    })
    await holds(async () => expect(await codeOf(stack, 'queue')).toBe('ready'))
  })
}, 120_000)

/** How a master ends, and comes back. */
const ends = {
  killed: { end: (master: TestRedis) => master.stop('SIGKILL'), revive: (master: TestRedis) => master.restart() },
  frozen: { end: (master: TestRedis) => master.pause(), revive: (master: TestRedis) => master.resume() },
}

/** Lets a master's replica catch up, ends the master, and goes on saving at once. Resolves with the milliseconds without a save. */
async function loseMaster(part: Part, how: keyof typeof ends): Promise<number> {
  const { end, revive } = ends[how]
  const master = await cluster.ownerOf(keyOf[part])
  const replica = await cluster.replicaOf(master)
  await stack.stopWriting()
  await stack.drained()
  await holds(async () => {
    const [, offset] = (await master.cli('ROLE')) as [string, number]
    const answer = (await replica.cli('ROLE')) as [string, string, number, string, number]
    expect(answer[4]).toBe(offset)
  }, patience)
  await replica.cli('CONFIG', 'SET', 'cluster-replica-no-failover', 'no')
  const stopped = await untilNextSave(
    stack,
    () => end(master),
    async () => expect(((await replica.cli('ROLE')) as [string])[0]).toBe('master'),
  )
  await replica.cli('CONFIG', 'SET', 'cluster-replica-no-failover', 'yes')
  // All have left the old master: what one gave it after its return would be lost when it becomes a replica.
  for (const { client } of stack.apis)
    await holds(async () => expect((await client.fetch('/readyz')).status).toBe(200), patience)
  await stack.more(30)
  await revive(master)
  await holds(async () => expect(((await master.cli('ROLE')) as string[])[3]).toBe('connected'), patience)
  return stopped
}

test.each([
  ['B27', 'queue', 'killed'],
  ['B27', 'events', 'killed'],
  ['B37', 'queue', 'frozen'],
] as const)(
  '%s: the master of the cluster that has the %s is %s, and its replica takes over',
  async (id, part, how) => {
    let stopped = 0
    await underLoad(stack, { id, fault: `the master of the cluster that has the ${part} is ${how}` }, async () => {
      stopped = await loseMaster(part, how)
      await holds(async () => expect(await codeOf(stack, part)).toBe('ready'), patience)
    })
    console.log(`${id}: ${part}: the next save after ${stopped} ms`)
  },
  180_000,
)

test('B32: the queue changes from one shard to six, and a master with some of them is away for seconds', async () => {
  for (const node of cluster.nodes) await node.cli('CONFIG', 'SET', 'cluster-require-full-coverage', 'no')
  await Promise.all([...stack.apis, ...stack.workers].map((process) => stack.kill(process, 'SIGTERM')))
  stack.env = { ...stack.env, QUEUE_SHARDS: '6' }
  await stack.start(2, 2)
  const fault = 'a master of the cluster with some of six shards is away, without a replica that takes over'
  await underLoad(stack, { id: 'B32', fault }, async () => {
    const events = await cluster.ownerOf(keyOf.events)
    const owners = await Promise.all([0, 1, 2, 3, 4, 5].map((shard) => cluster.ownerOf(`{${prefix}:${shard}}:queue`)))
    const master = owners.find((owner) => owner !== events)!
    const away = owners.flatMap((owner, shard) => (owner === master ? [shard] : []))
    expect(away.length, 'shards that are away').toBeLessThan(6)
    await master.stop('SIGKILL')
    try {
      await holds(async () => {
        for (const api of stack.apis) {
          const { queue } = await (await api.client.fetch('/readyz')).json()
          expect(queue).toMatchObject({ state: 'ready', unavailableShards: away.map((shard) => ({ shard })) })
        }
      }, patience)
      for (let n = 0; n < 40; n += 1) {
        const { status, id } = await stack.apis[n % 2]!.client.save(`ours ${n}`)
        expect(status).toBe(202)
        stack.sent.set(id, `ours ${n}`)
        stack.acknowledged.add(id)
      }
    } finally {
      await master.restart()
    }
    await stack.more(50)
  })
}, 180_000)
