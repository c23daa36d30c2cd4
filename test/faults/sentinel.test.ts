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
import { followers, replaceAll, settingsOf } from './recipes.ts'
import { record } from './table.ts'
import { codeOf, patience, underLoad, untilNextSave } from './under-load.ts'

const args = ['--repl-diskless-sync-delay', '0']
let servers: TestRedis[] = []
let sentinels: TestSentinel[] = []
let stack: Stack

beforeAll(async () => {
  servers = [await startRedis({ args })]
  const { url } = servers[0]!
  stack = await Stack.start({ env: { QUEUE_URL: url }, eventsUrl: url })
}, 180_000)
afterAll(async () => {
  await stack?.stop()
  await Promise.all([...servers, ...sentinels].map((server) => server.cleanup()))
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

test('B36: one Redis gets a replica and Sentinels under load, as docs/operations.md says', async () => {
  const fault = 'one Redis gets a replica and Sentinels, and all processes move to them under load'
  const clients = await followers(stack)
  try {
    stack.write(4)
    await stack.more(30)
    const [master] = servers as [TestRedis]
    // 2. The replica, 3. the Sentinels: on a busy machine a server may be late, so they act only where a test says so.
    servers.push(await startRedis({ args: [...args, '--replicaof', '127.0.0.1', String(master.port)] }))
    await holds(async () => expect(String(await servers[1]!.cli('INFO', 'replication'))).toContain('link_status:up'))
    const config = ['sentinel down-after-milliseconds mymaster 600000', 'sentinel failover-timeout mymaster 5000']
    sentinels = await Promise.all([1, 2, 3].map(() => spawnSentinel(master.port, { quorum: 2, config })))
    await watched()
    for (const { cli } of sentinels) expect(await cli('SENTINEL', 'CKQUORUM', 'mymaster')).toMatch(/^OK/)
    // 4. The first Sentinel of the URL is dead.
    const ports = [await freePort(), ...sentinels.map(({ port }) => port)]
    const url = `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join()}/mymaster`
    stack.env = { ...stack.env, ...settingsOf('sentinel\\.env', { 'redis+sentinel:': url }) }
    await replaceAll(stack)
    await stack.more(30)
    for (const { client } of stack.apis)
      expect(await (await client.fetch('/readyz')).json()).toMatchObject({ queue: { durability: 'REPLICATED' } })
    stack.eventsUrls = [url]
    const verdict = await stack.verdict(fault, patience)
    record('B36', 'redis + mariadb', verdict)
    expectSound(verdict)
    await clients.expectAll([...stack.acknowledged], 0)
  } finally {
    await stack.stopWriting()
    await clients.stop()
  }
  // For the tests behind this one, of replication that is not waited for.
  stack.env = { ...stack.env, QUEUE_REPLICAS: '0' }
  await stack.crash()
}, 180_000)

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
    let stopped = 0
    const fault = `the master that Sentinels watch is ${how}`
    await underLoad(stack, { id: 'B26', fault }, async () => {
      await stack.stopWriting()
      await stack.drained()
      await caughtUp()
      await watched()
      await setDownAfter(1_000)
      const { master, replica } = await current()
      stopped = await untilNextSave(
        stack,
        () => end(master),
        async () => expect((await roleOf(replica))[0]).toBe('master'),
      )
      await setDownAfter(60_000)
      // Both have left the old master: what one gave it after its return would be lost when it becomes a replica.
      for (const { url } of stack.apis)
        await holds(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200), patience)
      await stack.more(30)
      await revive(master, replica)
    })
    for (const { logs } of [...stack.apis, ...stack.workers]) expect(logs()).not.toMatch(/^[^{\n]/m)
    console.log(`B26: ${how}: the next save after ${stopped} ms`)
  },
  180_000,
)

test('B34: the Redis of the events log alone is killed (EVENTS_URL), and saves go on', {
  timeout: 180_000,
}, async () => {
  stack.env = { ...stack.env, EVENTS_URL: stack.redis.url }
  await stack.crash()
  const fault = 'the Redis of the events log alone is killed'
  await underLoad(stack, { id: 'B34', fault, events: false }, async () => {
    await stack.redis.stop('SIGKILL')
    await stack.more(100)
    await holds(async () => expect(['ready', 'TIMEOUT', 'CLOSED']).not.toContain(await codeOf(stack, 'events')))
    expect(await codeOf(stack, 'queue')).toBe('ready')
    await stack.redis.restart()
    await holds(async () => expect(await codeOf(stack, 'events')).toBe('ready'))
  })
  const { master } = await current()
  expect(await stack.redis.cli('KEYS', '{spillway:0}*')).toEqual([])
  expect(await stack.redis.cli('EXISTS', '{spillway:events}:log')).toBe(1)
  expect(await master.cli('EXISTS', '{spillway:0}:queue')).toBe(1)
})
