/** RedisQueue with QUEUE_REPLICAS=1, on a primary and a replica: what it acknowledges, and what it does when the replica does not answer. */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import type { Item } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { withShard } from '../../src/queue/shard-of.ts'
import { ShardedQueue } from '../../src/queue/sharded.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { models } from '../harness/contents.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import type { TestRedis } from '../harness/redis.ts'
import { startRedis } from '../harness/redis.ts'
import { primaryArgs, startReplica } from '../harness/replica.ts'
import { item } from '../suites/queue.ts'

let primary: TestRedis
let replica: TestRedis
/** Between them. */
let link: TestProxy
let queue: RedisQueue
let lines: { fields: object; message: string }[]
const queues: RedisQueue[] = []

beforeAll(async () => {
  primary = await startRedis({ args: primaryArgs })
  link = await startProxy(primary.url)
  replica = await startReplica(link)
})
afterAll(async () => {
  await link?.close()
  await primary?.cleanup()
  await replica?.cleanup()
})
beforeEach(async () => {
  lines = []
  queue = await open()
  await holds(async () => expect(await queue.probe()).toBe(undefined))
})
afterEach(async () => {
  link.set('pass')
  replica.resume()
  await Promise.all(queues.splice(0).map((one) => one.close()))
  await primary.cli('FLUSHALL')
})

async function open(url = primary.url): Promise<RedisQueue> {
  const write = (fields: object, message: string) => void lines.push({ fields, message })
  const log = { ...quiet(), info: write, warn: write }
  const opened = new RedisQueue(parseRedisUrl(url), { capacity: 100, replicas: 1, log })
  queues.push(opened)
  expect(await opened.connection.whenReady(5_000)).toBe(true)
  return opened
}

const anItem = (content = 'a content'): Item => item(randomUUID(), content)
const save = async (one: Item, via = queue) => (await via.enqueue([[one]]))[0]!
const unconfirmed = { code: 'OUTCOME_UNKNOWN', message: expect.stringContaining('0 of 1 replicas confirmed') }
const refused = { code: 'QUEUE_UNAVAILABLE', message: expect.stringContaining('has 0 of the 1 replicas') }
const duplicate = [expect.objectContaining({ status: 'QUEUED', duplicate: true })]
const isQueued = async (one: Item) => (await queue.find([one.id]))[0]?.status === 'QUEUED'
const depth = (at: TestRedis) => at.cli('XLEN', '{spillway:0}:queue')

/** Of messages that are in the queue. */
async function deadLetters(count: number): Promise<string[]> {
  const consumer = queue.consumer('w')
  await queue.enqueue([Array.from({ length: count }, () => anItem('refused'))])
  const entries = await holds(async () => {
    const some = await consumer.receive({ rows: count, bytes: 1_000_000 }, 100)
    expect(some).toHaveLength(count)
    return some
  })
  const failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date() } as const
  await consumer.deadLetter(entries.map((entry) => ({ entry, failure })))
  return (await queue.deadLetters(count)).deadLetters.map(({ handle }) => handle)
}

test('RedisQueue with a replica acknowledges saves that the replica has, and reports REPLICATED', async () => {
  await primary.cli('CONFIG', 'RESETSTAT')
  for (let n = 1; n <= 20; n++) {
    expect(await save(anItem())).toMatchObject([{ status: 'QUEUED', duplicate: false }])
    expect(await depth(replica)).toBe(n)
  }
  expect((await queue.status()).durability).toBe('REPLICATED')
  // Where the server can tell what replicas have on their disks, it is asked that.
  const command = (await primary.cli('COMMAND', 'INFO', 'WAITAOF')) as unknown[]
  const wait = command[0] ? 'WAITAOF' : 'WAIT'
  expect(String(await primary.cli('INFO', 'commandstats'))).toContain(`cmdstat_${wait.toLowerCase()}:calls=2`)
  expect(lines.filter(({ message }) => message.startsWith('saves are'))).toEqual([
    {
      fields: { connected: 1, replicas: 1, command: wait },
      message: 'saves are acknowledged when replicas have them',
    },
  ])
})

test('RedisQueue acknowledges nothing while its replica is frozen: no new save, no duplicate, no step of dead letters', async () => {
  const [early, late, unknown] = [anItem('early'), anItem('late'), anItem('unknown')]
  const [first, second, third] = await deadLetters(3)
  const edited = { ...anItem('edited'), id: (await queue.deadLetter(third!))!.id }
  const other = await open()
  await save(early)
  await save(anItem(), other)
  replica.pause()
  const started = performance.now()
  const slow = [
    save(unknown),
    save(late),
    queue.retry([first!]),
    queue.discard([second!]),
    other.replace(third!, edited),
  ]
  const found = Promise.allSettled(slow)
  let settled = false
  void found.then(() => {
    settled = true
  })
  await eventually(() => isQueued(late))
  expect(settled, 'reads wait for no replica').toBe(false)
  expect(await found).toMatchObject([
    { value: unconfirmed },
    { value: unconfirmed },
    { reason: unconfirmed },
    { reason: unconfirmed },
    { reason: unconfirmed },
  ])
  expect(performance.now() - started).toBeLessThan(5_000)
  // Nothing is left to write. One connection wrote the save before, another one has written nothing at all.
  const conflicting = { ...anItem('other content'), id: early.id }
  const answers = await Promise.all([
    save(late),
    save(late, other),
    save(late, await open()),
    queue.enqueue([[late], [conflicting]]),
    queue.probe(),
  ])
  expect(answers).toMatchObject([
    unconfirmed,
    unconfirmed,
    unconfirmed,
    [unconfirmed, { code: 'ID_CONFLICT' }],
    'REPLICAS',
  ])
  // A script that the server no longer knows is sent again: behind the WAIT of the first try.
  await primary.cli('SCRIPT', 'FLUSH')
  const last = anItem('last')
  const answer = await save(last).catch((error) => error)
  expect(answer).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
  replica.resume()
  await holds(async () => expect(await save(late)).toEqual(duplicate))
  expect(await save(late, other)).toEqual(duplicate)
  expect(await save(unknown)).toEqual(duplicate)
  expect(await save(last)).toEqual(duplicate)
  // early, unknown, late, last, one of the other queue, and the dead letters that were retried and replaced.
  expect(await depth(primary)).toBe(7)
  expect(await depth(replica)).toBe(7)
  const { deadLetters: left, replicas } = await queue.status()
  expect({ left, replicas }).toEqual({
    left: 0,
    replicas: { required: 1, connected: 1, unconfirmed: expect.any(Number) },
  })
  // Of the first four calls; some of the others were made by other queues.
  expect(replicas!.unconfirmed).toBeGreaterThanOrEqual(4)
  expect(lines.map(({ message }) => message)).toContainEqual(expect.stringContaining('replicas did not confirm saves'))
})

test('ShardedQueue acknowledges nothing while its replica is frozen: no request of several shards, no duplicate of another number of shards', async () => {
  const address = parseRedisUrl(primary.url)
  const open = (shard: number) => new RedisQueue(address, { capacity: 100, replicas: 1, shard, log: quiet() })
  const earlier = { ...anItem('earlier'), id: withShard(randomUUID(), 1, 2) }
  await save(earlier)
  const sharded = new ShardedQueue(open, { shards: 2, log: quiet() })
  try {
    await sharded.whenReady(5_000)
    const spanning = [0, 1].map((shard) => ({ ...anItem(`of shard ${shard}`), id: withShard(randomUUID(), shard, 2) }))
    await holds(async () => expect(await sharded.enqueue([[earlier]])).toMatchObject([duplicate]))
    expect((await sharded.status()).durability).toBe('REPLICATED')
    replica.pause()
    expect(await Promise.all([sharded.enqueue([spanning]), sharded.enqueue([[earlier]])])).toMatchObject([
      [{ code: 'OUTCOME_UNKNOWN' }],
      [unconfirmed],
    ])
    replica.resume()
    await holds(async () => expect(await sharded.enqueue([spanning])).toEqual([[...duplicate, ...duplicate]]))
    expect(await sharded.enqueue([[earlier]])).toEqual([duplicate])
  } finally {
    await sharded.close()
  }
})

test('a worker receives a message, and appends an event, only when a replica that lags has them', async () => {
  const options = { retentionMs: 60_000, retentionBytes: 1_000_000, models, log: quiet() }
  const address = parseRedisUrl(primary.url)
  const unreplicated = new RedisQueue(address, { capacity: 100, log: quiet() })
  const events = new RedisEventLog(address, { ...options, replicas: 1 })
  queues.push(unreplicated)
  await holds(() => Promise.all([unreplicated.status(), events.tail()]))
  const consumer = queue.consumer('w')
  const receive = () => consumer.receive({ rows: 10, bytes: 1_000_000 }, 1_000)
  // Its connection is ready, and waits.
  expect(await receive()).toEqual([])
  link.set({ kind: 'delay', ms: 200 })
  const entries = receive()
  await save(anItem(), unreplicated)
  expect(await entries).toHaveLength(1)
  expect(await depth(replica)).toBe(1)
  const failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date() } as const
  await events.append([[{ type: 'failed', id: randomUUID(), model: 'Content', failure }]])
  expect(await replica.cli('XLEN', '{spillway:events}:log')).toBe(1)
  // The replica of the log's Redis is away: one append waits for it, and the next ones do not.
  replica.pause()
  const started = performance.now()
  for (let n = 0; n < 20; n++) await events.append([[{ type: 'failed', id: randomUUID(), model: 'Content', failure }]])
  expect(performance.now() - started).toBeGreaterThan(450)
  expect(performance.now() - started).toBeLessThan(5_000)
  await events.close()
})

test('a worker appends a reference only when a replica of the shard that lags has the events', async () => {
  const options = { retentionMs: 60_000, retentionBytes: 1_000_000, models, log: quiet() }
  const address = parseRedisUrl(primary.url)
  // The sequencer has no replica: it is waited for once.
  const sharded = { shards: 2, replicas: 1, addressOf: () => address }
  const events = new RedisEventLog(parseRedisUrl(freshRedisUrl()), { ...options, ...sharded })
  try {
    await holds(async () => expect(await events.probe()).toBeUndefined())
    const failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date() } as const
    const append = () => events.append([[{ type: 'failed', id: randomUUID(), model: 'Content', failure }]])
    await append()
    const texts = async () => ((await replica.cli('KEYS', '{spillway:events:*')) as string[]).length
    expect(await texts()).toBe(1)
    link.set({ kind: 'delay', ms: 200 })
    await append()
    expect(await texts()).toBe(2)
  } finally {
    await events.close()
  }
})

test('RedisQueue refuses saves at once while no replica is connected, and goes on when one is back', async () => {
  await save(anItem())
  await replica.stop('SIGKILL')
  await holds(async () => await expect(save(anItem())).rejects.toMatchObject(refused))
  const before = await depth(primary)
  const started = performance.now()
  for (let n = 0; n < 5; n++) await expect(save(anItem())).rejects.toMatchObject(refused)
  await expect(queue.retry(['1-1'])).rejects.toMatchObject(refused)
  await expect(queue.replace('1-1', anItem())).rejects.toMatchObject(refused)
  // An operator's brake works, too: the error says that it is not certain.
  await expect(queue.operations.pause('ann')).rejects.toMatchObject(unconfirmed)
  expect((await queue.status()).paused).toMatchObject({ by: 'ann' })
  await expect(queue.operations.resume()).rejects.toMatchObject(unconfirmed)
  expect((await queue.status()).paused).toBeUndefined()
  // Six waits would take 6 s.
  expect(performance.now() - started).toBeLessThan(5_000)
  expect(await depth(primary)).toBe(before)
  expect(await queue.probe()).toBe('REPLICAS')
  await replica.restart()
  await holds(async () => expect(await save(anItem())).toMatchObject([{ duplicate: false }]))
  await holds(async () => expect(await queue.probe()).toBe(undefined))
  await queue.operations.pause('bob')
  expect(await replica.cli('GET', '{spillway:0}:paused')).toContain('"by":"bob"')
  await queue.operations.resume()
  expect(await replica.cli('EXISTS', '{spillway:0}:paused')).toBe(0)
  const said = lines.map(({ message }) => message).filter((message) => message.includes('QUEUE_REPLICAS'))
  expect(said).toHaveLength(1)
  expect(said[0]).toContain('has 0 connected replicas, and QUEUE_REPLICAS=1 asks for 1')
})

test('RedisQueue answers OUTCOME_UNKNOWN, and not that nothing was changed, if its primary becomes a replica during the wait', async () => {
  replica.pause()
  const one = anItem()
  const saving = save(one)
  await eventually(() => isQueued(one))
  await primary.cli('REPLICAOF', '127.0.0.1', replica.port)
  try {
    const answer = await saving.catch((error) => error)
    expect(answer).toMatchObject({ code: 'OUTCOME_UNKNOWN' })
  } finally {
    await primary.cli('REPLICAOF', 'NO', 'ONE')
    replica.resume()
  }
  await holds(async () => expect(await save(one)).toEqual(duplicate))
})

test('RedisQueue is not ready if its user may not wait for replicas', async () => {
  await primary.cli('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~*', '&*', '+@all', '-wait', '-waitaof').catch(() =>
    // An older server does not know WAITAOF.
    primary.cli('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~*', '&*', '+@all', '-wait'),
  )
  const narrow = await open(primary.url.replace('//', '//narrow:secret@'))
  await holds(async () => expect(await narrow.probe()).toBe('NOPERM'))
  const answer = await save(anItem(), narrow)
  expect(answer).toMatchObject({ code: 'OUTCOME_UNKNOWN', message: expect.stringContaining('no replica (NOPERM)') })
})

test('RedisQueue with replicas needs no other rights than those of docs/operations.md', async () => {
  const keys = ['~{spillway:*', 'resetchannels', '&{spillway:*']
  const common =
    '+eval +evalsha +xadd +xdel +xlen +xrange +xpending +hset +hget +hmget +hdel +hlen +hexists +hsetnx +zadd +zrem +zcard ' +
    '+zrangebylex +zlexcount +exists +rpush +lpop +lindex +llen +time +publish +set +del +info +config|get +wait'
  const ofWorker = '+xack +xclaim +xautoclaim +xreadgroup +xgroup +xinfo +rename +unlink'
  const user = async (name: string, rights: string) => {
    const set = (more: string[]) =>
      primary.cli('ACL', 'SETUSER', name, 'reset', 'on', '>secret', ...keys, ...rights.split(' '), ...more)
    // An older server does not know WAITAOF.
    await set(['+waitaof']).catch(() => set([]))
    return await open(primary.url.replace('//', `//${name}:secret@`))
  }
  const [api, worker] = [await user('api', common), await user('worker', `${common} ${ofWorker}`)]
  await holds(async () => expect(await api.probe()).toBe(undefined))
  const one = anItem()
  await holds(async () => expect(await save(one, api)).toMatchObject([{ status: 'QUEUED' }]))
  const consumer = worker.consumer('w')
  const entries = await holds(async () => {
    const some = await consumer.receive({ rows: 1, bytes: 1_000_000 }, 100)
    expect(some).toHaveLength(1)
    return some
  })
  expect(await consumer.probe()).toBe(undefined)
  await consumer.ack(entries)
  expect((await api.find([one.id]))[0]).toMatchObject({ status: 'SAVED' })
  // Each is a list of names and values.
  const log = ((await primary.cli('ACL', 'LOG', 128)) as unknown[][]).map((entry) => ({
    user: entry[entry.indexOf('username') + 1],
    command: String(entry[entry.indexOf('object') + 1]),
  }))
  expect(log.map(({ user }) => user)).toContain('api')
  const optional = ['client|setname', 'script|load']
  const refused = log.filter((one) => ['api', 'worker'].includes(String(one.user)) && !optional.includes(one.command))
  expect(refused).toEqual([])
})
