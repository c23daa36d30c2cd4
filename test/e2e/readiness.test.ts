/**
 * /readyz asks everything that a save needs to become an event, by doing it (FA13, FA14), and says which part cannot and why; and what a Redis
 * user has to be allowed for all of it (FD8).
 */
import { randomUUID } from 'node:crypto'
import { renameSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase } from '../harness/fresh.ts'
import { type Intervals, withIntervals } from '../harness/intervals.ts'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'
import { spawnSentinel } from '../harness/sentinel.ts'
import { SseClient } from '../harness/sse.ts'

/** In place of 1 s, where a test waits for the next probe. */
const probing: Intervals = { sharedMs: 100 }

const processes: SpillwayProcess[] = []
const servers: TestRedis[] = []
afterEach(async () => {
  await end(processes)
  await Promise.all(servers.splice(0).map((server) => server.cleanup()))
})

async function end(ended: SpillwayProcess[]): Promise<void> {
  for (const process of ended) process.kill('SIGKILL')
  await Promise.all(ended.splice(0).map(({ exited }) => exited))
}

async function serve(args: string[] = []): Promise<TestRedis> {
  const server = await startRedis({ args })
  servers.push(server)
  return server
}

/** It ends with the test, unless it is put into another list. */
async function start(
  role: 'api' | 'worker',
  env: Record<string, string>,
  intervals: Intervals = probing,
  list = processes,
): Promise<SpillwayProcess & { url: string }> {
  const port = role === 'worker' ? { WORKER_PORT: String(await freePort()) } : undefined
  const execArgv = withIntervals(intervals)
  const process = await spawnSpillway(role, { NODE_ENV: 'production', ...port, ...env }, { execArgv })
  list.push(process)
  return process as SpillwayProcess & { url: string }
}

// biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
async function ready(url: string): Promise<{ status: number; body: any }> {
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) })
  return { status: response.status, body: await response.json() }
}

/** The log lines that say why a Redis cannot be used. */
function problemsIn(logs: string): { setting: string; code: string }[] {
  const lines = logs.split('\n').filter((line) => line.includes('Redis cannot be used'))
  return lines.map((line) => JSON.parse(line))
}

async function save({ client }: SpillwayProcess, content = 'something') {
  const { status, code } = await client.save(content)
  return { status, code }
}

const isReady = { state: 'ready' }
const patience = { timeoutMs: 20_000 }

test('FA14: an embedded API is not ready once its queue file is deleted, and says so', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-ready-'))
  try {
    const api = await start('api', { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` })
    const body = { status: 'ready', queue: isReady, events: isReady, cache: isReady, database: 'ready' }
    await holds(async () => expect(await ready(api.url)).toMatchObject({ status: 200, body }))
    for (const end of ['', '-wal', '-shm']) rmSync(`${dir}/queue.db${end}`, { force: true })
    await holds(async () => {
      expect(await save(api)).toEqual({ status: 503, code: 'QUEUE_UNAVAILABLE' })
      const away = { state: 'unavailable', code: 'FILE_DISPLACED' }
      const expected = { status: 'not ready', queue: away, events: away, database: 'ready' }
      expect(await ready(api.url)).toMatchObject({ status: 503, body: expected })
    }, patience)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

test('FA14: an embedded API whose queue file is moved away and put back is ready again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-ready-'))
  try {
    const api = await start('api', { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` })
    await holds(async () => expect((await ready(api.url)).status).toBe(200))
    renameSync(`${dir}/queue.db`, `${dir}/away.db`)
    await holds(async () => expect((await ready(api.url)).status).toBe(503), patience)
    renameSync(`${dir}/away.db`, `${dir}/queue.db`)
    await holds(async () => expect((await ready(api.url)).status).toBe(200), patience)
    expect((await save(api)).status).toBe(202)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

describe('Spillway on Redis:', { timeout: 60_000 }, () => {
  let databaseUrl: string
  let shared: TestRedis
  beforeAll(async () => {
    databaseUrl = (await freshDatabase()).url
    shared = await startRedis()
  })
  afterAll(() => shared?.cleanup())

  async function both(queueUrl: string, env: Record<string, string> = {}, intervals = probing) {
    const all = { DATABASE_URL: databaseUrl, QUEUE_URL: queueUrl, ...env }
    const [api, worker] = await Promise.all([start('api', all, intervals), start('worker', all, intervals)])
    return { api, worker }
  }

  const fresh = () => `${shared.url}?prefix=${randomUUID()}`

  test('API and worker are ready with every part named, and hold no more of Redis for many probes than for one', async () => {
    const { api, worker } = await both(fresh(), {}, {})
    const parts = { status: 'ready', queue: { state: 'ready', depth: 0, durability: 'FSYNC' }, events: isReady }
    for (const { url } of [api, worker]) {
      await holds(
        async () =>
          expect(await ready(url)).toMatchObject({
            status: 200,
            body: { ...parts, cache: isReady, database: 'ready' },
          }),
        patience,
      )
    }
    const published = async () =>
      Number(/cmdstat_publish:calls=(\d+)/.exec(String(await shared.cli('INFO', 'commandstats')))?.[1])
    const before = await published()
    const since = performance.now()
    for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 50 }, () => ready(api.url)))
    expect((await published()) - before).toBeLessThanOrEqual(2 + Math.ceil((performance.now() - since) / 1_000))
  })

  test('a probe changes nothing that clients see', async () => {
    const prefix = randomUUID()
    const { api, worker } = await both(`${shared.url}?prefix=${prefix}`)
    await holds(async () => expect((await ready(worker.url)).status).toBe(200), patience)
    const stream = await SseClient.open(api.url, 'subscription { saved { content { content } } }')
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 150))
      for (const { url } of [api, worker]) expect((await ready(url)).status).toBe(200)
    }
    expect(await shared.cli('XLEN', `{${prefix}:events}:log`)).toBe(0)
    expect(await shared.cli('XLEN', `{${prefix}:0}:queue`)).toBe(0)
    const keys = (await shared.cli('KEYS', `*${prefix}*`)) as string[]
    expect(keys.filter((key) => !/:(queue|meta|version|layouts|workers|worker-names|history)$/.test(key))).toEqual([])
    expect((await save(api, 'after probes')).status).toBe(202)
    await holds(
      () => expect(stream.results.map(({ data }) => data.saved.content.content)).toEqual(['after probes']),
      patience,
    )
    stream.close()
  })

  test('FA12: an API without its Redis database accepts nothing, and log and /readyz give the reason', async () => {
    const { api, worker } = await both(`redis://127.0.0.1:${shared.port}/99`)
    const away = { state: 'unavailable', code: 'SELECT ERR' }
    for (const { url, logs } of [api, worker]) {
      await holds(async () => {
        const body = { status: 'not ready', queue: away, events: away, cache: away }
        expect(await ready(url)).toMatchObject({ status: 503, body })
      }, patience)
      expect(logs()).toContain('SELECT was refused')
    }
    expect(await save(api)).toEqual({ status: 503, code: 'QUEUE_UNAVAILABLE' })
    expect(await shared.cli('KEYS', '{spillway*')).toEqual([])
  })

  test.each([
    ['that owns every slot', ['CLUSTER', 'ADDSLOTSRANGE', 0, 16383]],
    ["that owns the queue's slot only", ['CLUSTER', 'ADDSLOTS', 11022]],
  ] as const)(
    'FA13: on a node of a cluster %s, no save is accepted that could not become an event',
    async (_, command) => {
      const node = await serve(['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'])
      await node.cli(...command)
      const { api, worker } = await both(node.url)
      const away = { state: 'unavailable', code: 'CLUSTER' }
      for (const { url, logs } of [api, worker]) {
        await holds(
          async () => expect(await ready(url)).toMatchObject({ status: 503, body: { queue: away, events: away } }),
          patience,
        )
        expect(logs()).toContain('the URL names a single Redis: expected redis+cluster://')
      }
      for (let i = 0; i < 20; i++) expect(await save(api)).toEqual({ status: 503, code: 'QUEUE_UNAVAILABLE' })
      expect(await node.cli('DBSIZE')).toBe(0)
    },
  )

  test('FA13: an API whose cache is a node of a cluster reports it unavailable and fails nothing', async () => {
    const node = await serve(['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'])
    const { api, worker } = await both(fresh(), { CACHE_URL: node.url, CACHE_TTL_MS: '100' })
    for (const { url } of [api, worker]) {
      const body = { status: 'ready', queue: isReady, cache: { state: 'unavailable', code: 'CLUSTER' } }
      await holds(async () => expect(await ready(url)).toMatchObject({ status: 200, body }), patience)
    }
    const answer = await api.client.graphql('mutation { save(content: "without a cache", waitMs: 20000) { status } }')
    expect(answer.data.save.status).toBe('SAVED')
  })

  test('FA13: API and worker log each URL that names another kind of Redis once, with the name of its setting', async () => {
    const node = await serve(['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'])
    const sentinel = await spawnSentinel(shared.port)
    try {
      const { api, worker } = await both(node.url, {
        EVENTS_URL: `redis+sentinel://127.0.0.1:${sentinel.port}/another`,
        CACHE_URL: `redis+cluster://127.0.0.1:${shared.port}`,
      })
      const wrong = { QUEUE_URL: 'CLUSTER', EVENTS_URL: 'NO_SUCH_MASTER', CACHE_URL: 'NOT_CLUSTER' }
      for (const { url, logs } of [api, worker]) {
        await holds(async () => {
          const { body } = await ready(url)
          expect([body.queue.code, body.events.code, body.cache.code]).toEqual(Object.values(wrong))
          // Not what a busy machine adds: an answer that came too late has another code.
          const problems = problemsIn(logs()).filter(({ code }) => Object.values(wrong).includes(code))
          const found = problems.map(({ setting, code }) => `${setting} ${code}`)
          expect(found.sort()).toEqual(
            Object.entries(wrong)
              .map((one) => one.join(' '))
              .sort(),
          )
        }, patience)
      }
    } finally {
      await sentinel.cleanup()
    }
  })

  describe('API and worker', () => {
    const pair: SpillwayProcess[] = []
    const prefix = randomUUID()
    let urls: string[]
    beforeAll(async () => {
      const env = { DATABASE_URL: databaseUrl, QUEUE_URL: `${shared.url}?prefix=${prefix}` }
      const started = await Promise.all([start('api', env, probing, pair), start('worker', env, probing, pair)])
      urls = started.map(({ url }) => url)
    })
    afterAll(() => end(pair))

    test.each([
      ['{p:0}:pending', 'queue', 'events'],
      ['{p:0}:queue', 'queue', 'events'],
      ['{p:0}:dead-ids', 'queue', 'events'],
      ['{p:events}:log', 'events', 'queue'],
      ['{p:events}:meta', 'events', 'queue'],
      ['{p:events}:sizes', 'events', 'queue'],
    ])('are not ready while the key %s is of another type', async (key, part, other) => {
      const name = key.replace('p:', `${prefix}:`)
      for (const url of urls) await holds(async () => expect((await ready(url)).status).toBe(200), patience)
      await shared.cli('DEL', name)
      await shared.cli('SET', name, 'of somebody else')
      for (const url of urls) {
        const expected = { [part]: { state: 'unavailable', code: 'WRONGTYPE' }, [other]: isReady }
        await holds(async () => expect(await ready(url)).toMatchObject({ status: 503, body: expected }), patience)
      }
      await shared.cli('DEL', name)
      for (const url of urls) await holds(async () => expect((await ready(url)).status).toBe(200), patience)
    })
  })

  test('an API at a full Redis is not ready (full), and a worker is', async () => {
    const server = await serve()
    const { api, worker } = await both(server.url)
    await holds(async () => expect((await ready(worker.url)).status).toBe(200), patience)
    await server.cli('SET', 'ballast', 'x'.repeat(1_000_000))
    await server.cli('CONFIG', 'SET', 'maxmemory', '1000000')
    const full = { status: 'not ready', queue: { state: 'full' }, events: isReady }
    await holds(async () => expect(await ready(api.url)).toMatchObject({ status: 503, body: full }), patience)
    expect(await ready(worker.url)).toMatchObject({ status: 200, body: { events: isReady } })
  })

  test('API and worker at a Redis that refuses writes (NOREPLICAS) are not ready, with its code', async () => {
    const server = await serve()
    const { api, worker } = await both(server.url)
    await holds(async () => expect((await ready(worker.url)).status).toBe(200), patience)
    await server.cli('CONFIG', 'SET', 'min-replicas-to-write', '1')
    const away = { state: 'unavailable', code: 'NOREPLICAS' }
    for (const { url } of [api, worker]) {
      await holds(
        async () => expect(await ready(url)).toMatchObject({ status: 503, body: { queue: away, events: away } }),
        patience,
      )
    }
  })

  test('/readyz answers 503 in time while Redis is frozen', async () => {
    const server = await serve()
    const { api, worker } = await both(server.url, {}, {})
    await holds(async () => expect((await ready(worker.url)).status).toBe(200), patience)
    server.pause()
    try {
      for (const { url } of [api, worker]) {
        await holds(async () => expect((await ready(url)).status).toBe(503), patience)
        const since = performance.now()
        const { body } = await ready(url)
        expect(performance.now() - since).toBeLessThan(2_500)
        expect(body).toMatchObject({
          queue: { state: 'unavailable', code: expect.any(String) },
          events: { state: 'unavailable' },
        })
      }
    } finally {
      server.resume()
    }
    for (const { url } of [api, worker]) await holds(async () => expect((await ready(url)).status).toBe(200), patience)
  })

  /** As docs/operations.md has them, with the keys of the default prefix. */
  const keys = ['~{spillway:*', 'resetchannels', '&{spillway:*']
  const common =
    '+eval +evalsha +xadd +xdel +xlen +xrange +xpending +hset +hget +hmget +hdel +hlen +hexists +hsetnx +zadd +zrem +zcard ' +
    '+zrangebylex +zlexcount +exists +rpush +lpop +lindex +llen +time +publish +get +mget +set +del'
  const rights = {
    api: `${common} +xrevrange +subscribe`,
    worker: `${common} +xack +xclaim +xautoclaim +xreadgroup +xgroup +xinfo +rename +unlink`,
  }
  const nice = ['+info', '+config|get', '+client|setname']

  test.each([
    ['with INFO, CONFIG and CLIENT', nice, 'FSYNC'],
    ['with INFO, and not CONFIG', ['+info'], 'EVERYSEC'],
    ['with CONFIG, and not INFO', ['+config|get'], 'FSYNC'],
    ['without INFO, CONFIG and CLIENT', [], 'MEMORY'],
  ])('FD8: users with the rights of docs/operations.md do the whole job %s', async (_, more, durability) => {
    const server = await serve()
    const user = async (name: 'api' | 'worker') => {
      await server.cli('ACL', 'SETUSER', name, 'reset', 'on', '>secret', ...keys, ...rights[name].split(' '), ...more)
      return `redis://${name}:secret@127.0.0.1:${server.port}`
    }
    const env = { DATABASE_URL: (await freshDatabase()).url, AUTH: 'none' }
    const queues = [await user('api'), await user('worker')] as const
    const [api, worker] = await Promise.all([
      start('api', { ...env, QUEUE_URL: queues[0] }),
      start('worker', { ...env, QUEUE_URL: queues[1] }),
    ])
    for (const { url } of [api, worker]) {
      const body = { queue: { state: 'ready', durability }, events: isReady, cache: isReady, database: 'ready' }
      await holds(async () => expect(await ready(url)).toMatchObject({ status: 200, body }), patience)
    }
    const stream = await SseClient.open(api.url, 'subscription { saved { content { content } } }')
    const id = randomUUID()
    const saving =
      'mutation ($id: ID, $content: String!) { save(id: $id, content: $content, waitMs: 20000) { status failure { code } } }'
    const first = await api.client.graphql(saving, { id, content: 'one' })
    expect(first.data.save).toEqual({ status: 'SAVED', failure: null })
    await holds(() => expect(stream.results).toHaveLength(1), patience)
    stream.close()
    expect(
      (await api.client.graphql(`{ contents(first: 5) { edges { node { id } } } }`)).data.contents.edges,
    ).toHaveLength(1)
    // One that no worker understands: a dead letter, listed, retried, and discarded.
    await server.cli('XADD', '{spillway:0}:queue', '*', 'id', 'a-foreign-id', 'm', 'no message')
    const letters =
      '{ deadLetters(first: 5) { edges { node { saveId failure { code } } } } queue { depth inFlight deadLetters durability } }'
    const buried = {
      deadLetters: { edges: [{ node: { failure: { code: 'UNDECODABLE' } } }] },
      queue: { deadLetters: 1, durability },
    }
    await holds(async () => expect((await api.client.graphql(letters)).data).toMatchObject(buried), patience)
    const done = { count: 1, saveIds: ['a-foreign-id'] }
    expect(await api.client.changeDeadLetters('retry', { ids: ['a-foreign-id'] })).toEqual(done)
    await holds(async () => expect((await api.client.graphql(letters)).data).toMatchObject(buried), patience)
    expect(await api.client.changeDeadLetters('discard', { ids: ['a-foreign-id'] })).toEqual(done)
    await holds(
      async () => expect((await api.client.graphql(letters)).data.queue).toMatchObject({ depth: 0, deadLetters: 0 }),
      patience,
    )
    expect((await api.client.graphql(`{ receipt(id: "${id}") { status } }`)).data.receipt.status).toBe('SAVED')
    // What was refused is only what is nice to have.
    const log = (await server.cli('ACL', 'LOG')) as string[][]
    const refused = log.map((entry) => String(entry[entry.indexOf('object') + 1]))
    const optional = /^(info|config(\|get)?|client(\|setname)?)$/
    expect(refused.filter((command) => !optional.test(command))).toEqual([])
    const hidden = ['INFO', 'CONFIG'].filter(
      (name) => !more.some((right) => right.toUpperCase().startsWith(`+${name}`)),
    )
    if (hidden.length > 0) expect(api.logs()).toContain(`does not answer ${hidden.join(' and ')}`)
  })

  test('FD8: a user without one of these rights is not ready, whichever it is', { timeout: 240_000 }, async () => {
    const server = await serve()
    const user = (name: 'api' | 'worker', without?: string) => {
      const allowed = rights[name].split(' ').filter((right) => right !== `+${without}`)
      return server.cli('ACL', 'SETUSER', name, 'reset', 'on', '>secret', ...keys, ...allowed, ...nice)
    }
    const url = (name: string) => `redis://${name}:secret@127.0.0.1:${server.port}`
    await Promise.all([user('api'), user('worker')])
    // Without some rights, an event waits until cached pages have expired.
    const env = { DATABASE_URL: databaseUrl, CACHE_TTL_MS: '100' }
    const [api, worker] = await Promise.all([
      start('api', { ...env, QUEUE_URL: url('api') }),
      start('worker', { ...env, QUEUE_URL: url('worker') }),
    ])
    const state = ({ url }: { url: string }) =>
      ready(url).then(({ status, body }) => `${status} ${JSON.stringify(body)}`)
    for (const one of [api, worker]) await holds(async () => expect(await state(one)).toMatch(/^200/), patience)
    // Of a cache version beside the queue, of the names of workers that are gone, and of the list of dead letters: saves go on without them.
    const spared = ['get', 'mget', 'set', 'del', 'xinfo', 'xrevrange']
    const commands = (name: 'api' | 'worker') =>
      rights[name]
        .split(' ')
        .map((right) => right.slice(1))
        .filter((command) => !spared.includes(command))
    const prove = async (name: 'api' | 'worker', one: { url: string }) => {
      for (const command of commands(name)) {
        await user(name, command)
        await holds(
          async () => expect(await state(one), `${name} without ${command}`).toMatch(/^503 .*"NOPERM"/),
          patience,
        )
        await user(name)
        await holds(async () => expect(await state(one), `${name} with ${command}`).toMatch(/^200/), patience)
      }
    }
    await Promise.all([prove('api', api), prove('worker', worker)])
    for (const [name, command] of (['api', 'worker'] as const).flatMap((name) =>
      spared.map((one) => [name, one] as const),
    )) {
      if (!rights[name].split(' ').includes(`+${command}`)) continue
      await user(name, command)
      const stream = await SseClient.open(api.url, 'subscription { saved { content { content } } }')
      const content = `${name} without ${command}`
      const saving = 'mutation ($content: String!) { save(content: $content, waitMs: 30000) { saveId status } }'
      const { data } = await api.client.graphql(saving, { content })
      expect(data.save.status, content).toBe('SAVED')
      const receipt = await api.client.graphql(`{ receipt(id: "${data.save.saveId}") { status } }`)
      expect(receipt.data.receipt.status, content).toBe('SAVED')
      await holds(
        () => expect(stream.results.map((one) => one.data.saved.content.content)).toEqual([content]),
        patience,
      )
      stream.close()
      await user(name)
    }
  })
})
