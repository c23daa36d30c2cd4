/**
 * Everything that can happen to the queue's Redis while saves go on (FAULTS.md, B): after each fault every acknowledged id is one row, or
 * a dead letter, everything was announced, and a subscriber that was there all the time has heard of it. One set of servers for all of
 * them, in this order: the last ones replace the log, on purpose.
 */
import { randomUUID } from 'node:crypto'
import { open, readFile, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { RedisCache, RedisVersions } from '../../src/cache/redis.ts'
import { PrismaStore } from '../../src/db/prisma.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { Worker } from '../../worker/worker.ts'
import type { SaveAnswer } from '../harness/client.ts'
import { given, models } from '../harness/contents.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { withIntervals } from '../harness/intervals.ts'
import { appendOnlyFile } from '../harness/power.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { startProxy } from '../harness/proxy.ts'
import { quiet } from '../harness/quiet.ts'
import { startRedis } from '../harness/redis.ts'
import { SseClient } from '../harness/sse.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

const stream = '{spillway:0}:queue'
const clients = 4

let stack: Stack
/** For what the test does to the server; connected before any fault, so that none keeps it out. */
let admin: Redis

beforeAll(async () => {
  stack = await Stack.start()
})
afterAll(() => stack?.stop())

interface Options {
  /** The log that tells of the rows is not the one they were announced in. */
  newLog?: boolean
  /** The API is restarted in between, or the subscriber itself is what is looked at. */
  noSubscriber?: boolean
  /** It starts workers of its own, and leaves none. */
  ownWorkers?: boolean
}

/** Injects a fault, and judges: nothing lost, nothing doubled, all heard of, and nobody died of it. */
function fault(id: string, name: string, inject: () => Promise<void>, options: Options = {}): void {
  // Some faults restart five processes.
  test(`${id}: ${name}`, { timeout: 120_000 }, async () => {
    admin = new Redis(stack.redis.url, { connectionName: 'the test' })
    // What goes wrong rejects a command as well.
    admin.on('error', () => {})
    const missing = options.ownWorkers ? 0 : Math.max(0, 2 - stack.workers.length)
    await Promise.all(Array.from({ length: missing }, () => stack.startWorker()))
    const before = new Set(stack.acknowledged)
    const subscriber = options.noSubscriber ? undefined : await subscribe()
    try {
      await inject()
      const verdict = await stack.verdict(name, { events: !options.newLog })
      record(id, 'redis + mariadb', verdict)
      expectSound(verdict)
      expectAlive()
      if (subscriber) {
        const acknowledged = [...stack.acknowledged].filter((id) => !before.has(id))
        expect(acknowledged.length, 'a fault that hits nothing proves nothing').toBeGreaterThan(20)
        await holds(() => {
          const heard = new Set(idsOf(subscriber))
          expect(acknowledged.filter((id) => !heard.has(id))).toEqual([])
        })
      }
    } finally {
      subscriber?.close()
      admin.disconnect()
      await stack.stopWriting()
    }
  })
}

const subscription = 'subscription ($after: String) { saved(after: $after) { cursor content { id } } }'

function subscribe(after?: string, api = stack.apis.at(-1)!): Promise<SseClient> {
  return SseClient.open(api.url!, subscription, { after })
}

/** How the stream came to its end, if it did. */
function endOf(subscriber: SseClient): string | undefined {
  return subscriber.results.at(-1)?.errors?.[0].extensions.code
}

function idsOf(subscriber: SseClient): string[] {
  return subscriber.results.flatMap(({ data }) => data?.saved.content.id ?? [])
}

function processes(): SpillwayProcess[] {
  return [...stack.apis, ...stack.workers]
}

function expectAlive(): void {
  for (const { pid, logs } of processes()) {
    expect(() => process.kill(pid, 0), `a process died:\n${logs().slice(-2000)}`).not.toThrow()
  }
}

/** How often a line of the logs, of all processes, has this in it. */
function said(text: string): number {
  return processes().reduce((sum, { logs }) => sum + logs().split(text).length - 1, 0)
}

/** Saves, each with an id of its own, until one is answered so. */
function answered(code: string | undefined, api?: SpillwayProcess): Promise<SaveAnswer> {
  return holds(
    async () => {
      const answer = await stack.once('is anybody there?', api ? { api } : {})
      expect(answer.code).toBe(code)
      return answer
    },
    { intervalMs: 50 },
  )
}

function expectRetryable(answer: SaveAnswer): void {
  expect(answer.status).toBe(503)
  expect(answer.retryAfterMs).toBeGreaterThan(0)
  expect(Number(answer.retryAfter)).toBeGreaterThanOrEqual(1)
}

async function freeze(workers: readonly SpillwayProcess[], work: () => Promise<void>): Promise<void> {
  for (const worker of workers) worker.kill('SIGSTOP')
  try {
    await work()
  } finally {
    for (const worker of workers) worker.kill('SIGCONT')
  }
}

/** Every connection of Spillway's, and those that wait for messages, too. */
async function killConnections(): Promise<void> {
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
}

fault('B1', 'Redis killed and restarted from its AOF, twice', async () => {
  stack.write(clients)
  for (let i = 0; i < 2; i++) {
    await stack.more(100)
    await stack.redis.stop('SIGKILL')
    expectRetryable(await answered('QUEUE_UNAVAILABLE'))
    await stack.redis.restart()
  }
  await stack.more(100)
})

fault('B15', 'Redis frozen for longer than every time-out', async () => {
  stack.write(clients)
  await stack.more(100)
  const answers: SaveAnswer[] = []
  stack.redis.pause()
  try {
    // 2 s for a save, 3 s for a connection that says nothing, 5 s for the worker and the events log: the duration is the fault.
    const until = performance.now() + 7_000
    while (performance.now() < until) {
      answers.push(...(await Promise.all(stack.apis.map((api) => stack.once('into the cold', { api })))))
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  } finally {
    stack.redis.resume()
  }
  for (const answer of answers) {
    expect(['OUTCOME_UNKNOWN', 'QUEUE_UNAVAILABLE']).toContain(answer.code)
    expectRetryable(answer)
    expect(answer.tookMs).toBeLessThan(8_000)
  }
  const unknown = answers.filter(({ code }) => code === 'OUTCOME_UNKNOWN')
  expect(unknown.length).toBeGreaterThan(0)
  for (const answer of unknown) expect(answer.message).toContain(answer.id)
  await stack.more(100)
})

const roles = ['queue', 'events-log', 'events-wake-up', 'worker', 'worker-reader']

fault('B19', 'every kind of connection killed, again and again', async () => {
  stack.write(clients)
  await stack.more(100)
  for (const role of roles) {
    const list = String(await admin.call('CLIENT', 'LIST'))
    const ids = [...list.matchAll(/^id=(\d+) .*? name=(\S*) /gm)].filter(([, , name]) => name === `spillway-${role}`)
    expect(ids.length, `connections named spillway-${role} in\n${list}`).toBeGreaterThanOrEqual(2)
    for (const [, id] of ids) await admin.call('CLIENT', 'KILL', 'ID', id!)
    await stack.more(100)
  }
  for (let i = 0; i < 5; i++) {
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await stack.more(50)
  }
})

fault('B24', 'CLIENT PAUSE WRITE for longer than a save may take', async () => {
  stack.write(clients)
  await stack.more(100)
  await admin.call('CLIENT', 'PAUSE', 3_000, 'WRITE')
  const answer = await stack.once('paused')
  expect(answer).toMatchObject({ status: 503, code: 'OUTCOME_UNKNOWN' })
  expect(answer.tookMs).toBeLessThan(8_000)
  await stack.more(100)
})

fault('B20', 'SUBSCRIBE refused: events come all the same', async () => {
  stack.write(clients)
  await admin.call('ACL', 'SETUSER', 'default', '-subscribe')
  try {
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await eventually(() => said('cannot subscribe to wake-ups') >= 2)
    const subscriber = await subscribe()
    const { id } = await answered(undefined)
    await holds(() => expect(idsOf(subscriber)).toContain(id))
    subscriber.close()
  } finally {
    await admin.call('ACL', 'SETUSER', 'default', '+subscribe')
  }
  // Asked for again with the next heartbeat.
  await holds(async () => expect(await admin.call('PUBSUB', 'NUMSUB', '{spillway:events}:wake')).toContain(2))
})

fault('B22', 'no connection left (maxclients)', async () => {
  stack.write(clients)
  await stack.more(100)
  await admin.call('CONFIG', 'SET', 'maxclients', 1)
  try {
    await killConnections()
    expectRetryable(await answered('QUEUE_UNAVAILABLE'))
    const ready = await fetch(`${stack.apis[0]!.url}/readyz`)
    expect([ready.status, (await fetch(`${stack.apis[0]!.url}/livez`)).status]).toEqual([503, 200])
  } finally {
    await admin.call('CONFIG', 'SET', 'maxclients', 10_000)
  }
  await stack.more(100)
})

fault(
  'B23',
  'the password changed under running processes',
  async () => {
    const secret = 'hush-4711'
    const url = new URL(stack.redis.url)
    url.username = 'default'
    url.password = secret
    const api = await stack.startApi({ QUEUE_URL: url.href })
    stack.write(clients)
    await stack.more(100)
    await admin.call('CONFIG', 'SET', 'requirepass', 'another')
    try {
      await killConnections()
      for (const each of stack.apis) {
        // That it was turned away, and not only disconnected.
        await eventually(() => /NOAUTH|WRONGPASS/.test(each.logs()))
        const answer = await answered('QUEUE_UNAVAILABLE', each)
        expectRetryable(answer)
        expect(answer.message).not.toContain(secret)
      }
    } finally {
      await admin.call('CONFIG', 'SET', 'requirepass', '')
    }
    await stack.more(100)
    // When the last of its connections is.
    await holds(() => expect(api.logs()).toContain('Redis is back'))
    expect(processes().map(({ logs }) => logs().includes(secret))).not.toContain(true)
    await stack.kill(api)
  },
  { noSubscriber: true },
)

fault('B9', 'Redis at its maxmemory: saves are refused, the queue drains', async () => {
  await freeze(stack.workers, async () => {
    stack.write(clients, (i) => `${i} ${'x'.repeat(2_000)}`)
    await stack.more(500)
    await stack.stopWriting()
    await admin.setrange('ballast', 16_000_000, 'x')
    await admin.call('CONFIG', 'SET', 'maxmemory', 12_000_000)
    await expect(admin.set('more', 'x')).rejects.toThrow('OOM')
    const refused = await answered('QUEUE_FULL')
    expectRetryable(refused)
    expect(refused.tookMs).toBeLessThan(1_800)
  })
  await stack.drained()
  await expect(admin.set('more', 'x'), 'Redis was full all the time').rejects.toThrow('OOM')
  // Nor does it keep an announcement from a cache whose version stands there.
  const version = new RedisVersions(parseRedisUrl(stack.redis.url), { log: quiet() })
  await holds(() => version.invalidate(['Content']), { timeoutMs: 2_000 }).finally(() => version.close())
  await answered('QUEUE_FULL')
  // Memory is there again; nobody tells Spillway.
  await admin.del('ballast')
  await answered(undefined)
  stack.write(clients)
  await stack.more(100)
  await admin.call('CONFIG', 'SET', 'maxmemory', 0)
})

fault(
  'B10',
  'a policy that evicts: no API takes saves, or starts',
  async () => {
    stack.write(clients)
    await stack.more(100)
    await stack.stopWriting()
    await admin.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    try {
      for (const api of stack.apis) {
        expect(await api.exited).toBe(1)
        expect(api.logs()).toContain('maxmemory-policy is allkeys-lru')
      }
      for (const api of [...stack.apis]) await stack.kill(api)
      const another = await spawnSpillway('api', stack.env, { ready: false })
      expect(await another.exited).toBe(1)
      expect(another.logs()).toContain('Set maxmemory-policy noeviction, or use another instance.')
    } finally {
      await admin.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    }
    await Promise.all([stack.startApi(), stack.startApi()])
    stack.write(clients)
    await stack.more(100)
  },
  { noSubscriber: true },
)

fault('B11', 'a master that became a replica (READONLY), and a master again', async () => {
  stack.write(clients)
  await stack.more(100)
  const connectionsBefore = await connectionsMade()
  await admin.call('REPLICAOF', '127.0.0.1', 1)
  try {
    expectRetryable(await answered('QUEUE_UNAVAILABLE'))
    // For so long: a loop without a pause would have made thousands.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    expect((await connectionsMade()) - connectionsBefore).toBeLessThan(600)
  } finally {
    await admin.call('REPLICAOF', 'NO', 'ONE')
  }
  await stack.more(100)
})

async function connectionsMade(): Promise<number> {
  return Number(/total_connections_received:(\d+)/.exec(await admin.info('stats'))![1])
}

fault('B12', 'too few replicas (NOREPLICAS)', async () => {
  stack.write(clients)
  await stack.more(100)
  await admin.call('CONFIG', 'SET', 'min-replicas-to-write', 1)
  try {
    const refused = await answered('QUEUE_UNAVAILABLE')
    expectRetryable(refused)
    expect(refused.message).toContain('NOREPLICAS')
  } finally {
    await admin.call('CONFIG', 'SET', 'min-replicas-to-write', 0)
  }
  await stack.more(100)
})

fault('B14', 'the consumer group destroyed, again and again: made again at 0', async () => {
  stack.write(clients)
  await stack.more(100)
  const before = said('the queue lost its consumer group')
  const times = 3
  for (let i = 0; i < times; i++) {
    // With messages in the queue that no worker has seen.
    await freeze(stack.workers, async () => {
      await stack.more(50)
      await admin.xgroup('DESTROY', stream, 'workers')
      await stack.more(20)
    })
    await eventually(async () => ((await admin.call('XINFO', 'GROUPS', stream)) as unknown[]).length === 1)
    await stack.more(50)
  }
  expect(said('the queue lost its consumer group') - before).toBeGreaterThan(0)
  // Two workers, each may find out twice before the other has made it again.
  expect(said('the queue lost its consumer group') - before).toBeLessThanOrEqual(times * 4)
})

fault(
  'B16',
  'the reply to a save lost: one row, one success, no second entry',
  async () => {
    const proxy = await startProxy(stack.redis.url)
    const [direct, other] = stack.apis
    const api = await stack.startApi({ QUEUE_URL: proxy.url(stack.redis.url) })
    try {
      await answered(undefined, api)
      await stack.drained()
      await freeze(stack.workers, async () => {
        const id = randomUUID()
        proxy.set({ kind: 'cut-before-reply', times: 1, when: (request) => request.includes(id) })
        const lost = await stack.once('once', { id, api })
        expect(lost).toMatchObject({ status: 503, code: 'OUTCOME_UNKNOWN' })
        expect(lost.message).toContain(id)
        expect(proxy.kept()).toBe(1)
        // It was done, and it was not sent again.
        expect(await admin.xlen(stream)).toBe(1)
        const save = () =>
          stack.client.graphql('mutation ($id: ID!) { save(content: "once", id: $id) { status duplicate } }', { id })
        await holds(async () => expect((await stack.once('once', { id, api })).status).toBe(202))
        expect((await save()).data.save).toEqual({ status: 'QUEUED', duplicate: true })
        expect(await admin.xlen(stream)).toBe(1)
      })
      // And at random, whatever was asked.
      stack.apis = [api]
      const kept = proxy.kept()
      stack.write(clients)
      for (let i = 1; i <= 6; i++) {
        await stack.more(20)
        proxy.set({ kind: 'cut-before-reply', times: 1 })
        await eventually(() => proxy.kept() === kept + i)
      }
      await stack.more(100)
      await stack.stopWriting()
    } finally {
      stack.apis = [direct!, other!]
      api.kill('SIGKILL')
      await api.exited
      await proxy.close()
    }
  },
  { noSubscriber: true },
)

fault(
  'B17',
  'the reply to a read lost: its worker receives the entries again',
  async () => {
    const proxy = await startProxy(stack.redis.url)
    for (const worker of [...stack.workers]) await stack.kill(worker)
    const worker = await stack.startWorker({ QUEUE_URL: proxy.url(stack.redis.url) })
    try {
      for (let i = 0; i < 30; i++) await stack.once(`before ${i}`)
      await stack.drained()
      let reading = false
      proxy.set({
        kind: 'cut-before-reply',
        times: 1,
        when: (request) => {
          const read = request.includes('xreadgroup')
          reading ||= read
          return read
        },
        reply: (reply) => reply.includes('lost on the way'),
      })
      await eventually(() => reading)
      const since = performance.now()
      const { id } = await stack.once('lost on the way')
      await eventually(() => proxy.kept() === 1)
      await holds(async () => expect((await stack.rows()).get(id)).toBe('lost on the way'))
      // Long before anybody takes it for a dead worker's (10 s).
      expect(performance.now() - since).toBeLessThan(5_000)
      await stack.drained()
    } finally {
      await stack.kill(worker)
      await proxy.close()
    }
  },
  { ownWorkers: true },
)

fault(
  'B25',
  'two workers of one name',
  async () => {
    for (const worker of [...stack.workers]) await stack.kill(worker)
    const log = quiet()
    const address = parseRedisUrl(stack.redis.url)
    const twins = await Promise.all([1, 2].map(() => twin()))
    async function twin() {
      const queue = new RedisQueue(address, { capacity: 1_000_000, log })
      const events = new RedisEventLog(address, { retentionMs: 3_600_000, retentionBytes: 268_435_456, models, log })
      const cache = new RedisCache(parseRedisUrl(stack.cache.url), { ttlMs: 10_000, log })
      const store = await PrismaStore.open({ url: stack.database, concurrency: 2, models, clients: given.prisma, log })
      await store.prepare(new AbortController().signal)
      const worker = new Worker(
        { consumer: queue.consumer(`${hostname()}-twin`), store, cache, events },
        { models, batch: 20, concurrency: 2, maxAttempts: 5, cacheTtlMs: 10_000, log },
      )
      worker.start()
      return async () => {
        await worker.stop()
        for (const part of [queue, events, cache, store]) await part.close()
      }
    }
    try {
      stack.write(clients)
      await stack.more(100)
      // Each reads its own pending entries anew, which are the other's, too.
      for (let i = 0; i < 3; i++) {
        await admin.call('CLIENT', 'KILL', 'TYPE', 'normal')
        await stack.more(100)
      }
      await stack.stopWriting()
      await stack.drained()
    } finally {
      await Promise.all(twins.map((stop) => stop()))
    }
  },
  { ownWorkers: true },
)

fault(
  'B4',
  'appendfsync changed: queue.durability says so',
  async () => {
    stack.write(clients)
    const durability = async (expected: string) =>
      await holds(async () => {
        const answers = await Promise.all(stack.apis.map((api) => api.client.graphql('{ queue { durability } }')))
        expect(answers.map(({ data }) => data.queue.durability)).toEqual([expected, expected])
      })
    const set = (name: string, value: string) => admin.call('CONFIG', 'SET', name, value)
    try {
      await durability('FSYNC')
      await set('appendfsync', 'everysec')
      await durability('EVERYSEC')
      await set('appendfsync', 'no')
      await durability('MEMORY')
      await set('appendfsync', 'always')
      await durability('FSYNC')
      await set('no-appendfsync-on-rewrite', 'yes')
      await durability('EVERYSEC')
    } finally {
      await set('appendfsync', 'always')
      await set('no-appendfsync-on-rewrite', 'no')
    }
    await durability('FSYNC')
    // A restart, where durability is least, is said in the log.
    await set('appendfsync', 'everysec')
    const api = await stack.startApi()
    await eventually(() => api.logs().includes('a power cut may cost about a second of acknowledged saves'))
    await stack.kill(api)
    await set('appendfsync', 'always')
  },
  { noSubscriber: true },
)

fault(
  'P6',
  'the queue at its capacity: exactly so many, the rest refused at once',
  async () => {
    const capacity = 500
    const apis = await Promise.all([1, 2].map(() => stack.startApi({ QUEUE_CAPACITY: String(capacity) })))
    try {
      await freeze(stack.workers, async () => {
        const save = (_: unknown, i: number) => stack.once(`one of many ${i}`, { api: apis[i % 2]! })
        const answers = await Promise.all(Array.from({ length: capacity + 150 }, save))
        const refused = answers.filter(({ status }) => status !== 202)
        expect(answers.length - refused.length).toBe(capacity)
        for (const answer of refused) {
          expect(answer.code).toBe('QUEUE_FULL')
          expectRetryable(answer)
        }
        const alone = await stack.once('and one more', { api: apis[0]! })
        expect(alone.code).toBe('QUEUE_FULL')
        expect(alone.tookMs).toBeLessThan(1_800)
        // Not all told to come back in the same moment.
        expect(new Set(refused.map(({ retryAfterMs }) => retryAfterMs)).size).toBeGreaterThan(20)
        expect((await fetch(`${apis[0]!.url}/readyz`)).status).toBe(503)
        // What is known already is no more of a load.
        const known = answers.find(({ status }) => status === 202)!
        expect(await stack.once(stack.sent.get(known.id)!, { id: known.id, api: apis[1]! })).toMatchObject({
          status: 202,
        })
      })
      for (const api of apis) await answered(undefined, api)
    } finally {
      for (const api of apis) await stack.kill(api)
    }
  },
  { noSubscriber: true },
)

fault('P9', 'a queue slower than the saves: what waits in the process is bounded', async () => {
  stack.write(clients)
  await stack.more(50)
  await stack.stopWriting()
  const api = stack.apis[0]!
  const groups = Array.from({ length: 24 }, () =>
    Array.from({ length: 1_000 }, (_, i) => ({ id: randomUUID(), content: `crowd ${i}` })),
  )
  for (const { id, content } of groups.flat()) stack.sent.set(id, content)
  const save = async (inputs: { id: string; content: string }[]) => {
    const since = performance.now()
    const { data, errors } = await api.client.saveMany(inputs)
    for (const { saveId } of data?.saveMany ?? []) stack.acknowledged.add(saveId)
    return { code: errors?.[0].extensions.code as string | undefined, tookMs: performance.now() - since }
  }
  stack.redis.pause()
  let answers: Awaited<ReturnType<typeof save>>[]
  try {
    answers = await Promise.all(groups.map(save))
  } finally {
    stack.redis.resume()
  }
  const full = answers.filter(({ code }) => code === 'QUEUE_FULL')
  // 20,000 wait, and the rest is refused at once, while the others still wait for their deadline: before the last of them is answered.
  expect(full.length).toBe(4)
  const last = Math.max(...answers.map(({ tookMs }) => tookMs))
  for (const { tookMs } of full) expect(tookMs).toBeLessThan(last)
  for (const { code } of answers) expect(['QUEUE_FULL', 'OUTCOME_UNKNOWN', 'QUEUE_UNAVAILABLE']).toContain(code)
  const again = await holds(async () => {
    const answer = await save(groups[0]!)
    expect(answer.code).toBeUndefined()
    return answer
  })
  expect(again.tookMs).toBeLessThan(8_000)
})

fault('B6', 'Redis loading a large file', async () => {
  stack.write(clients)
  await stack.more(100)
  await stack.stopWriting()
  await stack.drained()
  // Few keys, and 10 ms for each while loading: Redis has a setting for it.
  for (let i = 0; i < 200; i++) await admin.set(`ballast ${i}`, 'x'.repeat(100))
  await admin.call('BGREWRITEAOF')
  await eventually(async () => (await admin.info('persistence')).includes('aof_rewrite_in_progress:0'))
  await stack.redis.stop('SIGKILL')
  stack.write(clients)
  const loaded = stack.redis.restart(['--key-load-delay', '10000', '--loading-process-events-interval-bytes', '1024'])
  try {
    // That it is the loading, and not the death of before.
    await holds(() => expect(stack.redis.cli('PING')).rejects.toThrow('LOADING'))
    expectRetryable(await answered('QUEUE_UNAVAILABLE'))
    expect((await fetch(`${stack.apis[0]!.url}/readyz`)).status).toBe(503)
    await expect(stack.redis.cli('PING'), 'it is still loading').rejects.toThrow('LOADING')
  } finally {
    await loaded
  }
  await stack.more(100)
  await stack.redis.cli('EVAL', "for i = 0, 199 do redis.call('DEL', 'ballast ' .. i) end", 0)
})

fault('B5', 'an AOF torn at its end, and one damaged in the middle', async () => {
  stack.write(clients)
  await stack.more(100)
  await stack.stopWriting()
  await stack.drained()
  await stack.redis.stop('SIGKILL')
  const file = await appendOnlyFile(stack.redis)
  const { size } = await stat(file)
  // The end of the last settle, or of what followed it.
  await patch(file, (handle) => handle.truncate(size - 5))
  await stack.redis.restart()
  await answered(undefined)
  await stack.drained()

  await stack.redis.stop('SIGKILL')
  const damaged = await appendOnlyFile(stack.redis)
  const bytes = await readFile(damaged)
  // Where a command begins: in the middle of a content nobody could tell.
  const middle = bytes.indexOf('\r\n*', bytes.length / 2)
  const was = bytes.subarray(middle, middle + 64)
  await patch(damaged, (handle) => handle.write(Buffer.alloc(64, 0xff), 0, 64, middle))
  await expect(stack.redis.restart()).rejects.toThrow('it ended with 1')
  // No silent start from nothing.
  expectRetryable(await answered('QUEUE_UNAVAILABLE'))
  expect((await fetch(`${stack.apis[0]!.url}/readyz`)).status).toBe(503)
  await patch(damaged, (handle) => handle.write(was, 0, was.length, middle))
  await stack.redis.restart()
  stack.write(clients)
  await stack.more(100)
})

async function patch(
  file: string,
  work: (handle: Awaited<ReturnType<typeof open>>) => Promise<unknown>,
): Promise<void> {
  const handle = await open(file, 'r+')
  try {
    await work(handle)
  } finally {
    await handle.close()
  }
}

/** The worker takes what a dead one held after 4 s, in place of the 10 s that users have. */
const sooner = withIntervals({ reclaimMs: 4_000 }).join('=')
const clock = { NODE_OPTIONS: `${sooner} --import=${new URL('../harness/clock.ts', import.meta.url).pathname}` }

fault(
  'B21',
  'clocks set back: API and worker by an hour, Redis by many years',
  async () => {
    const [worker] = stack.workers
    const [api] = stack.apis
    await Promise.all([stack.kill(worker!), stack.kill(api!)])
    const stepping = await Promise.all([stack.startApi(clock), stack.startWorker(clock)])
    stack.write(clients)
    await stack.more(100)
    for (const each of stepping) each.kill('SIGUSR2')
    await stack.more(100)
    // Ids never go back within a key, whatever the clock does.
    for (const key of [stream, '{spillway:events}:log']) {
      const script = "redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '99999999999999-0', 'x', 'y'))"
      await admin.eval(script, 1, key)
    }
    await stack.more(100)
    // The other worker dies with entries in hand: the one whose clock went back still sees when it is time to take them.
    await stack.kill(stack.workers[0]!)
    const dying = await stack.startWorker({ SPILLWAY_FAILPOINT: 'received:2' })
    expect(await dying.exited).toBe('SIGKILL')
    await stack.kill(dying)
    await stack.stopWriting()
    await stack.drained(20_000)
    stack.write(clients)
    await stack.more(100)
  },
  { noSubscriber: true },
)

fault(
  'B13',
  'a failover to a replica that lagged: CURSOR_EXPIRED, never a gap',
  async () => {
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(stack.redis.port)] })
    const proxy = await startProxy(stack.redis.url)
    const through = { QUEUE_URL: proxy.url(stack.redis.url) }
    for (const process of processes()) await stack.kill(process)
    await Promise.all([stack.startApi(through), stack.startWorker(through)])
    try {
      const subscriber = await subscribe()
      stack.write(clients)
      await stack.more(100)
      await stack.stopWriting()
      await stack.drained()
      const early = await holds(() => subscriber.results.at(-1)!.data.saved.cursor as string)
      await eventually(async () => String(await replica.cli('INFO', 'replication')).includes('master_link_status:up'))
      const offset = /master_repl_offset:(\d+)/.exec(await admin.info('replication'))![1]!
      await holds(async () => expect(String(await replica.cli('INFO', 'replication'))).toContain(`offset:${offset}`))
      // From here on it hears nothing more.
      await replica.cli('REPLICAOF', 'NO', 'ONE')
      const { id } = await answered(undefined)
      await stack.drained()
      const late = await holds(() => {
        const last = subscriber.results.at(-1)!.data.saved
        expect(last.content.id).toBe(id)
        return last.cursor as string
      })
      await stack.redis.stop('SIGKILL')
      proxy.retarget(replica.url)
      await answered(undefined)
      stack.write(clients)
      await stack.more(100)
      // Who saw what the new master never heard of is told so; who was further back gets all of it.
      await holds(async () => {
        const stale = await subscribe(late)
        await holds(() => expect(endOf(stale)).toBe('CURSOR_EXPIRED'), {
          timeoutMs: 1_000,
        }).finally(() => stale.close())
      })
      const resumed = await subscribe(early)
      await holds(() => expect(idsOf(resumed).length).toBeGreaterThan(100))
      resumed.close()
      await holds(() => expect(endOf(subscriber)).toBe('CURSOR_EXPIRED'))
      const verdict = await stack.verdict('(before the old master is back)', { events: false })
      expectSound(verdict)
    } finally {
      for (const process of processes()) await stack.kill(process)
      await Promise.all([proxy.close(), replica.cleanup()])
      await stack.redis.restart()
      await Promise.all([stack.startApi(), stack.startWorker()])
    }
  },
  { noSubscriber: true, newLog: true, ownWorkers: true },
)

fault(
  'B14',
  'FLUSHALL, and the stream deleted: begun anew, with another epoch',
  async () => {
    const subscriber = await subscribe()
    stack.write(clients)
    await stack.more(100)
    for (const wipe of [
      ['FLUSHALL'],
      ['DEL', stream],
      ['DEL', '{spillway:events}:log', '{spillway:events}:meta'],
    ] as const) {
      await stack.stopWriting()
      await stack.drained()
      const live = await subscribe()
      await answered(undefined)
      const cursor = await holds(() => live.results.at(-1)!.data.saved.cursor as string)
      const before = said('the queue lost its consumer group')
      await admin.call(...(wipe as unknown as [string, ...string[]]))
      stack.write(clients)
      await stack.more(100)
      if (!(wipe as readonly string[]).includes(stream)) {
        await holds(() => expect(endOf(live)).toBe('CURSOR_EXPIRED'))
        const late = await subscribe(cursor)
        await holds(() => expect(endOf(late)).toBe('CURSOR_EXPIRED'))
        late.close()
      }
      live.close()
      expect(said('the queue lost its consumer group') - before).toBeLessThanOrEqual(4)
    }
    subscriber.close()
  },
  { noSubscriber: true, newLog: true },
)
