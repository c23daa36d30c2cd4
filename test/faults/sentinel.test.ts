/**
 * Failovers by Sentinels under load: a master that is killed, and one that is frozen and comes back. Before each fault the replica has caught
 * up: what an asynchronous replica lacks is lost with the master (QUEUE_REPLICAS).
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { spawnSentinel, type TestSentinel } from '../harness/sentinel.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { cursorNow, Subscriber } from '../harness/subscriber.ts'
import { record } from './table.ts'

const patience = { timeoutMs: 60_000 }

let servers: TestRedis[]
let sentinels: TestSentinel[]
let stack: Stack

beforeAll(async () => {
  const args = ['--repl-diskless-sync-delay', '0']
  const master = await startRedis({ args })
  servers = [master, await startRedis({ args: [...args, '--replicaof', '127.0.0.1', String(master.port)] })]
  await caughtUp()
  // On a busy machine a server may be late: the Sentinels act only where a test says so.
  const config = ['sentinel down-after-milliseconds mymaster 60000', 'sentinel failover-timeout mymaster 5000']
  sentinels = await Promise.all([1, 2, 3].map(() => spawnSentinel(master.port, { quorum: 2, config })))
  await watched()
  // The first one is dead.
  const ports = [await freePort(), ...sentinels.map(({ port }) => port)]
  const url = `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join()}/mymaster`
  stack = await Stack.start({ env: { QUEUE_URL: url }, eventsUrl: url })
}, 120_000)
afterAll(async () => {
  await stack?.stop()
  await Promise.all([...(servers ?? []), ...(sentinels ?? [])].map((server) => server.cleanup()))
})

const roleOf = async (server: TestRedis) => (await server.cli('ROLE')) as [string, ...unknown[]]

async function current(): Promise<{ master: TestRedis; replica: TestRedis }> {
  const [role] = await roleOf(servers[0]!)
  const [first, second] = servers as [TestRedis, TestRedis]
  return role === 'master' ? { master: first, replica: second } : { master: second, replica: first }
}

async function caughtUp(): Promise<void> {
  await holds(async () => {
    const { master, replica } = await current()
    const [, , , state, offset] = await roleOf(replica)
    expect([state, offset]).toEqual(['connected', (await roleOf(master))[1]])
  }, patience)
}

/** Each Sentinel knows the others and the replica. */
async function watched(): Promise<void> {
  for (const { cli } of sentinels) {
    await holds(async () => {
      const fields = (await cli('SENTINEL', 'MASTER', 'mymaster')) as string[]
      const field = (name: string) => fields[fields.indexOf(name) + 1]
      expect([field('num-other-sentinels'), field('num-slaves'), field('flags')]).toEqual(['2', '1', 'master'])
    }, patience)
  }
}

const setDownAfter = (ms: number) =>
  Promise.all(sentinels.map(({ cli }) => cli('SENTINEL', 'SET', 'mymaster', 'down-after-milliseconds', ms)))

test.each([
  // It comes back as a replica, for the next test.
  [
    'killed',
    (master: TestRedis) => master.stop('SIGKILL'),
    (master: TestRedis, replica: TestRedis) => master.restart(['--replicaof', '127.0.0.1', String(replica.port)]),
  ],
  // It comes back as a master, until a Sentinel sees it.
  ['frozen', (master: TestRedis) => master.pause(), (master: TestRedis) => master.resume()],
] as const)(
  'B26: the master that Sentinels watch is %s under load, and its replica promoted',
  async (how, end, revive) => {
    const before = new Set(stack.acknowledged)
    const after = await cursorNow(stack.url)
    const subscribers = stack.apis.map((api, i) =>
      new Subscriber(i === 0 ? 'SSE' : 'WebSocket', after, () => api.url).start(),
    )
    let stopped = 0
    try {
      stack.write(4)
      await stack.more(30)
      await stack.stopWriting()
      await stack.drained()
      await caughtUp()
      await watched()
      await setDownAfter(1_000)
      const { master, replica } = await current()
      await end(master)
      const since = performance.now()
      stack.write(4)
      await holds(async () => expect((await roleOf(replica))[0]).toBe('master'), patience)
      await holds(() => stack.more(1), patience)
      stopped = performance.now() - since
      await setDownAfter(60_000)
      await stack.more(30)
      await revive(master, replica)
      await stack.more(30)
      const verdict = await stack.verdict(`the master that Sentinels watch is ${how}`, patience)
      record('B26', 'redis + mariadb', verdict)
      expectSound(verdict)
      const saved = [...stack.acknowledged].filter((id) => !before.has(id))
      for (const { ids, seen, faults } of subscribers) {
        await holds(() => expect(saved.filter((id) => !ids.has(id))).toEqual([]), { progress: () => ids.size })
        expect(seen.length).toBe(ids.size)
        expect(faults).toEqual([])
      }
      await holds(() => expect(subscribers[0]!.seen).toEqual(subscribers[1]!.seen))
    } finally {
      await stack.stopWriting()
      await Promise.all(subscribers.map((subscriber) => subscriber.stop()))
    }
    for (const { logs } of [...stack.apis, ...stack.workers]) expect(logs()).not.toMatch(/^[^{\n]/m)
    console.log(`B26: ${how}: the next save after ${Math.round(stopped)} ms`)
  },
  180_000,
)
