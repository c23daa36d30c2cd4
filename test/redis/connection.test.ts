/** A connection is not ready if a step of its set-up failed (FA12), or if the server is unfit for a queue (FA13). */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseRedisUrl } from '../../src/redis/address.ts'
import { RedisConnection } from '../../src/redis/connection.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { quiet, recorded } from '../harness/quiet.ts'
import { startRedis, type TestRedis } from '../harness/redis.ts'

let redis: TestRedis
const connections: RedisConnection[] = []
const servers: TestRedis[] = []

beforeAll(async () => {
  redis = await startRedis({ args: ['--databases', '4'] })
})
afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close()
  await Promise.all(servers.splice(0).map((server) => server.cleanup()))
})
afterAll(() => redis.cleanup())

function connect(url: string, keeps = false) {
  const lines: { setting: string; code: string; reason: string }[] = []
  const add = (fields: object) => void lines.push(fields as (typeof lines)[number])
  const connection = new RedisConnection(parseRedisUrl(url), {
    role: 'queue',
    tag: '{spillway:0}',
    keeps,
    log: { info: add, warn: add, error: add },
  })
  connections.push(connection)
  return { connection, lines }
}

/** Expects a log line and a failing probe with this code, and that no command is sent. */
async function expectRefused(url: string, code: string, reason: RegExp, attempts = 3): Promise<void> {
  const { connection, lines } = connect(url)
  let closed = 0
  connection.client.on('close', () => (closed += 1))
  const written: string[] = []
  const ask = () =>
    connection
      .ask((client) => client.set('written', 'x'))
      .then(
        () => void written.push('x'),
        () => {},
      )
  await holds(
    async () => {
      await ask()
      expect(closed).toBeGreaterThanOrEqual(attempts)
      expect(await connection.probe(async () => undefined)).toBe(code)
    },
    { intervalMs: 1, timeoutMs: 20_000 },
  )
  expect(connection.ready).toBe(false)
  expect(written).toEqual([])
  await expect(ask()).resolves.toBeUndefined()
  expect(lines).toEqual([
    expect.objectContaining({ setting: 'QUEUE_URL', code, reason: expect.stringMatching(reason) }),
  ])
  expect(JSON.stringify(lines)).not.toMatch(/secret|127\.0\.0\.1/)
}

const port = () => redis.port
const user = async (name: string, ...rules: string[]) => {
  await redis.cli('ACL', 'SETUSER', name, 'reset', 'on', '>secret', '~*', '&*', ...rules)
  return (path: string) => `redis://${name}:secret@127.0.0.1:${port()}${path}`
}

describe('RedisConnection is never ready', () => {
  test('in a database that does not exist', async () => {
    await expectRefused(`redis://127.0.0.1:${port()}/99`, 'SELECT ERR', /SELECT was refused.*out of range/)
    expect(await redis.cli('EXISTS', 'written')).toBe(0)
  })

  test('in database 0 for a user that may not SELECT another', async () => {
    const url = await user('narrow', '+@all', '-select')
    await expectRefused(url('/1'), 'SELECT NOPERM', /SELECT was refused.*may SELECT/)
    expect(await redis.cli('EXISTS', 'written')).toBe(0)
    const { connection } = connect(url('/0'))
    await eventually(() => connection.ready)
  })

  test('with a wrong password, or as an unknown user', async () => {
    await user('known', '+@all')
    await expectRefused(`redis://known:secret1@127.0.0.1:${port()}`, 'AUTH WRONGPASS', /AUTH was refused/)
    await expectRefused(`redis://unknown:secret@127.0.0.1:${port()}`, 'AUTH WRONGPASS', /AUTH was refused/)
  })

  test('with a password for the default user of a server without one', async () => {
    await expectRefused(`redis://:secret@127.0.0.1:${port()}`, 'AUTH ERR', /AUTH was refused \(ERR\): check user/)
  })

  test('without the password that the server requires', async () => {
    const locked = await startRedis()
    servers.push(locked)
    await locked.cli('CONFIG', 'SET', 'requirepass', 'secret')
    await expectRefused(`redis://127.0.0.1:${locked.port}`, 'EVAL NOAUTH', /EVAL was refused \(NOAUTH/)
    const { connection } = connect(`redis://:secret@127.0.0.1:${locked.port}`)
    await eventually(() => connection.ready)
  })

  test('for a user that may run no scripts, or none on its keys', async () => {
    const none = await user('scriptless', '+@all', '-@scripting')
    await expectRefused(none('/0'), 'EVAL NOPERM', /EVAL was refused.*docs\/operations\.md/)
    await user('elsewhere', '+@all')
    await redis.cli('ACL', 'SETUSER', 'elsewhere', 'resetkeys', '~other:*')
    const url = `redis://elsewhere:secret@127.0.0.1:${port()}`
    await expectRefused(url, 'EVAL NOPERM', /EVAL was refused/)
  })

  test('on a replica', async () => {
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(port())] })
    servers.push(replica)
    await expectRefused(replica.url, 'REPLICA', /replica.*primary/)
  })

  test.each([
    ['that owns every slot', ['CLUSTER', 'ADDSLOTSRANGE', 0, 16383]],
    ['that owns the slot of the queue only', ['CLUSTER', 'ADDSLOTS', 11022]],
    ['that owns no slot', ['PING']],
  ] as const)('on a node of a cluster %s', async (_, command) => {
    const node = await startRedis({ args: ['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'] })
    servers.push(node)
    await node.cli(...command)
    await holds(async () => expect(String(await node.cli('CLUSTER', 'INFO'))).toContain('cluster_known_nodes:1'))
    await expectRefused(node.url, 'CLUSTER', /Redis Cluster.*redis\+cluster:\/\/HOST/)
    await expectRefused(`${node.url.replace(/0$/, '1')}`, 'CLUSTER', /Redis Cluster/)
    // A user that may not run INFO gets the error from the scripts.
    await node.cli('ACL', 'SETUSER', 'blind', 'on', '>secret', '~*', '&*', '+@all', '-info', '-cluster')
    await expectRefused(`redis://blind:secret@127.0.0.1:${node.port}`, 'CLUSTER', /Redis Cluster/)
  })

  test('on a Sentinel', async () => {
    const { spawnSentinel } = await import('../harness/sentinel.ts')
    const sentinel = await spawnSentinel(port())
    try {
      await expectRefused(
        `redis://127.0.0.1:${sentinel.port}`,
        'SENTINEL',
        /Sentinel.*redis\+sentinel:\/\/HOST.*MASTER/,
      )
      await expectRefused(`redis://127.0.0.1:${sentinel.port}/1`, 'SENTINEL', /Sentinel/)
      // It has no password, which is not what is wrong.
      await expectRefused(`redis://:secret@127.0.0.1:${sentinel.port}`, 'SENTINEL', /Sentinel/)
    } finally {
      await sentinel.cleanup()
    }
  })

  test.each([
    [
      'HTTP',
      'NOT_REDIS',
      (server: Server) => server.on('connection', (s) => s.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
    ],
    ['MySQL', 'NOT_REDIS', (server: Server) => server.on('connection', (s) => s.write('J\0\0\0\n8.4.0\0'))],
    ['nothing, and closes', 'CLOSED', (server: Server) => server.on('connection', (s) => s.on('data', () => s.end()))],
    ['TLS', 'CLOSED', (server: Server) => server.on('connection', (s) => s.on('data', () => s.resetAndDestroy()))],
  ])('on a server that speaks %s', async (_, code, serve) => {
    const server = createServer()
    server.on('connection', (socket) => socket.on('error', () => {}))
    serve(server)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      const { port } = server.address() as AddressInfo
      const { connection, lines } = connect(`redis://127.0.0.1:${port}`)
      await eventually(() => lines.length > 0)
      expect(['CLOSED', 'ECONNRESET', code]).toContain(lines[0]!.code)
      if (code === 'NOT_REDIS') expect(lines[0]!.code).toBe(code)
      expect(connection.ready).toBe(false)
    } finally {
      server.close()
    }
  })
})

describe('RedisConnection, once ready,', () => {
  test('works without CLIENT SETNAME, INFO and CONFIG', async () => {
    const url = await user('modest', '+@all', '-client', '-info', '-config')
    const { connection, lines } = connect(url('/1'))
    await eventually(() => connection.ready)
    await connection.ask((client) => client.set('modest', 'here'))
    expect(lines).toEqual([])
    expect(await redis.cli('EXISTS', 'modest')).toBe(0)
  })

  test('is not ready after a reconnect to a server with fewer databases, and uses no other database', async () => {
    const shrinking = await startRedis({ args: ['--databases', '4'] })
    servers.push(shrinking)
    const { connection, lines } = connect(`redis://127.0.0.1:${shrinking.port}/3`)
    await eventually(() => connection.ready)
    await connection.ask((client) => client.set('before', 'x'))
    const writing = new AbortController()
    const written = (async () => {
      while (!writing.signal.aborted) {
        await connection.ask((client) => client.set('after', 'x')).catch(() => {})
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    await shrinking.restart(['--databases', '1', '--appendonly', 'no'])
    await eventually(async () => (await connection.probe(async () => undefined)) === 'SELECT ERR')
    expect(await shrinking.cli('DBSIZE')).toBe(0)
    await shrinking.restart(['--databases', '4', '--appendonly', 'no'])
    await eventually(() => connection.ready)
    writing.abort()
    await written
    expect(await shrinking.cli('EXISTS', 'after')).toBe(0)
    expect(lines.map(({ code }) => code)).toContain('SELECT ERR')
  })

  test('is not ready after a reconnect as a user that lost a right, until it has the right again', async () => {
    const url = await user('changing', '+@all')
    const { connection } = connect(url('/2'))
    await eventually(() => connection.ready)
    await redis.cli('ACL', 'SETUSER', 'changing', '-select')
    await redis.cli('CLIENT', 'KILL', 'USER', 'changing')
    await eventually(async () => (await connection.probe(async () => undefined)) === 'SELECT NOPERM')
    await redis.cli('ACL', 'SETUSER', 'changing', '+select', 'resetpass', '>other')
    await eventually(async () => (await connection.probe(async () => undefined)) === 'AUTH WRONGPASS')
    await redis.cli('ACL', 'SETUSER', 'changing', 'resetpass', '>secret')
    await eventually(() => connection.ready)
    await connection.ask((client) => client.set('in-two', 'x'))
    expect(await redis.cli('EXISTS', 'in-two')).toBe(0)
  })

  test('tries a server that refuses it at most twice a second', async () => {
    const { connection } = connect(`redis://127.0.0.1:${port()}/99`)
    let closed = 0
    connection.client.on('close', () => (closed += 1))
    await eventually(() => closed >= 6)
    const since = performance.now()
    await eventually(() => closed >= 8)
    expect(performance.now() - since).toBeGreaterThan(800)
  })

  test('logs nothing when it is closed', async () => {
    const log = quiet()
    const connection = new RedisConnection(parseRedisUrl(redis.url), { role: 'queue', tag: '{spillway:0}', log })
    await eventually(() => connection.ready)
    connection.close()
    await once(connection.client, 'end')
    expect(log.said).toEqual([])
  })
})

test('RedisConnection takes an answer that came in time for one, where its own process was busy until after the deadline', async () => {
  const { connection } = connect(redis.url)
  await connection.whenReady(5_000)
  const asked = connection.ask((client) => client.ping(), 200)
  // The request leaves; nothing of its answer is read before the deadline.
  await new Promise((resolve) => setImmediate(resolve))
  const until = performance.now() + 500
  while (performance.now() < until);
  expect(await asked).toBe('PONG')
})

test('RedisConnection that keeps its keys refuses a server that evicts them, until it does not any more', async () => {
  const server = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] })
  servers.push(server)
  const { connection, lines } = connect(server.url, true)
  await holds(async () => expect(await connection.probe(async () => undefined)).toBe('EVICTS'))
  expect(lines).toEqual([expect.objectContaining({ code: 'EVICTS', reason: expect.stringContaining('noeviction') })])
  await server.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
  await holds(() => expect(connection.ready).toBe(true))
  const other = connect(server.url)
  await server.cli('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
  await holds(() => expect(other.connection.ready).toBe(true))
})

test('RedisConnections of one setting log once why their server cannot be used, and once that it is back', async () => {
  const server = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] })
  servers.push(server)
  const log = recorded()
  const address = parseRedisUrl(server.url, 'EVENTS_URL')
  const three = ['one', 'two', 'three'].map(
    (role) => new RedisConnection(address, { role, tag: '{spillway:events}', keeps: true, log }),
  )
  connections.push(...three)
  const probes = () => Promise.all(three.map((connection) => connection.probe(async () => undefined)))
  await holds(async () => expect(await probes()).toEqual(['EVICTS', 'EVICTS', 'EVICTS']))
  const line = { setting: 'EVENTS_URL', code: 'EVICTS', reason: expect.stringContaining('noeviction') }
  const evicts = { level: 'warn', fields: line, message: 'Redis cannot be used; trying again' }
  expect(log.entries).toEqual([evicts])
  await server.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
  await holds(async () => expect(await probes()).toEqual([undefined, undefined, undefined]))
  const back = { level: 'info', fields: expect.objectContaining({ setting: 'EVENTS_URL' }), message: 'Redis is back' }
  expect(log.entries).toEqual([evicts, back])
})
