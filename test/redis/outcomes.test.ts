/** The errors of RedisConnection: "Nothing was changed" only if that is certain. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { RedisEventLog } from '../../src/events/redis.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { RedisConnection } from '../../src/redis/connection.ts'
import { models } from '../harness/contents.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'

let redis: TestRedis
let connection: RedisConnection

beforeAll(async () => {
  redis = await startRedis()
  connection = new RedisConnection(parseRedisUrl(redis.url), { role: 'queue', tag: '{spillway:0}', log: quiet() })
})
afterAll(async () => {
  connection.close()
  await redis.stop()
})
beforeEach(async () => {
  await redis.cli('FLUSHALL')
  await redis.cli('SET', 'text', 'x')
  await eventually(() => connection.ready)
})

const run = (script: string) => connection.ask((client) => client.eval(script, 0))
const unknown = { code: 'OUTCOME_UNKNOWN', message: expect.stringMatching(/may have been done/) }
const certain = (code: string) => ({
  code: 'QUEUE_UNAVAILABLE',
  message: expect.stringMatching(new RegExp(`it answered ${code}.*Nothing was changed`)),
})

test.each([
  ['a command of the wrong type', "redis.call('SET', 'wrote', 1) return redis.call('HGET', 'text', 'x')"],
  ['an error of Lua', "redis.call('SET', 'wrote', 1) local none; return none.field"],
  ['an error of its own', "redis.call('SET', 'wrote', 1) error('enough')"],
  ['a table as an error', "redis.call('SET', 'wrote', 1) error({ err = 'ENOUGH of it' })"],
  ['a command that does not exist', "redis.call('SET', 'wrote', 1) redis.call('NOSUCH')"],
])(
  'RedisConnection.ask rejects with OUTCOME_UNKNOWN after a script that wrote and failed with %s',
  async (_, script) => {
    await expect(run(script)).rejects.toMatchObject(unknown)
    expect(await redis.cli('GET', 'wrote')).toBe('1')
  },
)

test('RedisConnection.ask rejects with OUTCOME_UNKNOWN after a script that wrote and ran a command that its user may not run', async () => {
  await redis.cli('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~*', '+@all', '-hset')
  const narrow = new RedisConnection(parseRedisUrl(redis.url.replace('//', '//narrow:secret@')), {
    role: 'queue',
    tag: '{spillway:0}',
    log: quiet(),
  })
  try {
    await eventually(() => narrow.ready)
    const script = "redis.call('SET', 'wrote', 1) return redis.call('HSET', 'h', 'a', 1)"
    await expect(narrow.ask((client) => client.eval(script, 0))).rejects.toMatchObject(unknown)
    await expect(narrow.ask((client) => client.hset('h', 'a', 1))).rejects.toMatchObject(certain('NOPERM'))
  } finally {
    narrow.close()
  }
})

test.each([
  ['a command that fails', 'WRONGTYPE', (client: Redis) => client.hset('text', 'a', 1)],
  [
    'a script that returns an error',
    'WRONGTYPE',
    (client: Redis) => client.eval("return redis.pcall('HGET', 'text', 'a')", 0),
  ],
  ['a transaction that was refused', 'EXECABORT', (client: Redis) => client.multi().call('NOSUCH').exec()],
])('RedisConnection.ask rejects with QUEUE_UNAVAILABLE after %s', async (_, code, act) => {
  await expect(connection.ask(act as (client: Redis) => Promise<unknown>)).rejects.toMatchObject(certain(code))
})

test('RedisConnection.ask rejects with QUEUE_UNAVAILABLE if a full server refuses the first write of a script', async () => {
  await redis.cli('CONFIG', 'SET', 'maxmemory', '1')
  try {
    await expect(run("return redis.call('SET', 'wrote', 1)")).rejects.toMatchObject(certain('OOM'))
    expect(await redis.cli('EXISTS', 'wrote')).toBe(0)
    // A script that has written already may write more.
    await run("redis.call('DEL', 'none') return redis.call('SET', 'wrote', 1)")
    expect(await redis.cli('GET', 'wrote')).toBe('1')
  } finally {
    await redis.cli('CONFIG', 'SET', 'maxmemory', '0')
  }
})

test('RedisConnection.ask rejects with QUEUE_UNAVAILABLE if the server has too few replicas', async () => {
  await redis.cli('CONFIG', 'SET', 'min-replicas-to-write', '1')
  try {
    await expect(run("return redis.call('SET', 'wrote', 1)")).rejects.toMatchObject(certain('NOREPLICAS'))
  } finally {
    await redis.cli('CONFIG', 'SET', 'min-replicas-to-write', '0')
  }
})

test('RedisConnection.ask rejects with QUEUE_UNAVAILABLE after a script that was killed, and for commands during it', async () => {
  await redis.cli('CONFIG', 'SET', 'busy-reply-threshold', '100')
  const other = new RedisConnection(parseRedisUrl(redis.url), { role: 'other', tag: '{spillway:0}', log: quiet() })
  try {
    await eventually(() => other.ready)
    const endless = connection.ask((client) => client.eval('while true do end', 0), 20_000)
    const killed = expect(endless).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' })
    await eventually(() =>
      other
        .ask((client) => client.set('wrote', 1))
        .then(
          () => false,
          (error) => error.message.includes('it answered BUSY'),
        ),
    )
    await redis.cli('SCRIPT', 'KILL')
    await killed
  } finally {
    other.close()
  }
})

test('RedisConnection.ask rejects with OUTCOME_UNKNOWN if the answer is not in the protocol of Redis', async () => {
  const server = createServer((socket) =>
    socket.on('data', (data) => {
      const asked = String(data)
      if (asked.includes('wrote')) socket.write('what is this\r\n')
      else socket.write('+OK\r\n'.repeat(asked.match(/^\*\d+\r$/gm)?.length ?? 0))
    }),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const odd = new RedisConnection(parseRedisUrl(`redis://127.0.0.1:${port}`), {
    role: 'queue',
    tag: '{spillway:0}',
    log: quiet(),
  })
  try {
    await eventually(() => odd.ready)
    await expect(odd.ask((client) => client.set('wrote', 1))).rejects.toMatchObject(unknown)
  } finally {
    odd.close()
    server.close()
  }
})

test('reads of the queue and of the events log reject with QUEUE_UNAVAILABLE while Redis is frozen, because they change nothing', async () => {
  const address = parseRedisUrl(redis.url)
  const queue = new RedisQueue(address, { capacity: 10, log: quiet() })
  const events = new RedisEventLog(address, { retentionMs: 60_000, retentionBytes: 1_000_000, models, log: quiet() })
  try {
    const [, tail] = await holds(() => Promise.all([queue.status(), events.tail()]))
    redis.pause()
    const reads = {
      find: queue.find(['an id']),
      status: queue.status(),
      deadLetters: queue.deadLetters(1),
      deadLettersOf: queue.deadLettersOf(['an id']),
      'retry, dry': queue.retry(['1-1'], { dryRun: true }),
      tail: events.tail(),
      read: events.read(tail, 1),
    }
    const replaced = queue.replace('1-1', { id: 'an id', digest: 'digest', at: 5, body: '' })
    const [retry, replace, ...answers] = await Promise.allSettled([
      queue.retry(['1-1']),
      replaced,
      ...Object.values(reads),
    ])
    for (const write of [retry, replace]) expect(write).toMatchObject({ reason: { code: 'OUTCOME_UNKNOWN' } })
    const message = expect.stringContaining('it did not answer. Nothing was changed')
    for (const [i, answer] of answers.entries())
      expect(answer, Object.keys(reads)[i]).toMatchObject({ reason: { code: 'QUEUE_UNAVAILABLE', message } })
  } finally {
    redis.resume()
    await Promise.all([queue.close(), events.close()])
  }
})
