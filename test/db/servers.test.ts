/**
 * A store with several hosts in its URL, on two MariaDBs that replicate nothing: the rows show which one was written. Galera, and whole
 * processes, are in test/faults/galera.test.ts.
 */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { uuidv7 } from 'uuidv7'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { PrismaStore } from '../../src/db/prisma.ts'
import { Content } from '../harness/contents.ts'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { startMariadb, type TestMariadb } from '../harness/mariadb.ts'
import { recorded } from '../harness/quiet.ts'
import { contentStore } from '../harness/stores.ts'

const password = 'hunter2&,@'
let servers: [TestMariadb, TestMariadb]
let databases = 0
let name: string
let log: ReturnType<typeof recorded>
const stores: PrismaStore[] = []

beforeAll(async () => {
  servers = await Promise.all([startMariadb(), startMariadb()])
  // As root, it may write to a read-only server.
  for (const server of servers) {
    await server.sql(`CREATE USER app@'%' IDENTIFIED BY '${password}'`)
    await server.sql("GRANT ALL ON *.* TO app@'%'")
  }
}, 60_000)
afterAll(() => Promise.all((servers ?? []).map((server) => server.cleanup())))

beforeEach(async () => {
  name = `hosts_${++databases}`
  for (const server of servers) await server.sql(`CREATE DATABASE ${name}`)
  log = recorded()
})
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()))
  for (const server of servers) {
    server.resume()
    await server.sql('SELECT 1').catch(() => server.restart())
    await server.sql('SET GLOBAL read_only = 0')
    await server.sql('SET GLOBAL max_connections = 151')
  }
})

const hosts = (...ports: number[]) =>
  `mysql://app:${encodeURIComponent(password)}@${ports.map((port) => `127.0.0.1:${port}`).join(',')}/${name}`
const both = () => hosts(servers[0].port, servers[1].port)

async function open(url: string, readUrl?: string): Promise<PrismaStore> {
  const store = await contentStore({ url, readUrl, concurrency: 2, log })
  stores.push(store)
  await store.prepare(AbortSignal.timeout(20_000))
  return store
}

const row = () => ({ id: uuidv7(), content: 'a', createdAt: new Date(), savedAt: new Date() })
const readOnly = (server: TestMariadb, value = 1) => server.sql(`SET GLOBAL read_only = ${value}`)

/** The numbers of rows on the servers; undefined for one without the table. */
const rows = () =>
  Promise.all(
    servers.map((server) =>
      server.sql(`SELECT COUNT(*) AS n FROM ${name}.Content`).then(
        ([found]) => Number(found!.n),
        () => undefined,
      ),
    ),
  )

const connections = async (server: TestMariadb) =>
  (await server.sql("SELECT id FROM information_schema.processlist WHERE user = 'app'")).length

/** Inserts one row as a worker does: again until it is written. Returns the milliseconds that it took. */
async function insert(store: PrismaStore): Promise<number> {
  const began = performance.now()
  const one = row()
  await holds(
    () =>
      store.insert(Content, [one]).catch((fault) => {
        if (fault.kind !== 'duplicate') throw fault
      }),
    { timeoutMs: 30_000, intervalMs: 50 },
  )
  return performance.now() - began
}

const read = (store: PrismaStore) => store.page(Content, { take: 10, skip: 0, where: {} })
const changes = () => log.entries.filter(({ message }) => message.startsWith('DATABASE_URL: using'))

test('a store writes to the first host that it can reach, and logs which one', async () => {
  const closed = await freePort()
  const store = await open(hosts(closed, servers[1].port, servers[0].port))
  await store.insert(Content, [row()])
  expect(await rows()).toEqual([undefined, 1])
  expect(changes()).toMatchObject([{ level: 'warn', fields: { server: `127.0.0.1:${servers[1].port}` } }])
  expect(changes()[0]!.message).toContain('ECONNREFUSED')
  expect(await connections(servers[0])).toBe(0)
  expect(JSON.stringify(log.entries)).not.toContain('hunter2')
})

test('a store passes a host that is read-only by, also for a user who may write to it', async () => {
  await readOnly(servers[0])
  const store = await open(both())
  await store.insert(Content, [row()])
  expect(await rows()).toEqual([undefined, 1])
  expect(changes()[0]!.message).toContain('read-only')
})

test('a store passes hosts by that are no database servers, and waits for all of them together', async () => {
  const packet = Buffer.from('....\xff\x6a\x04Host is blocked', 'latin1')
  packet.writeUInt32LE(packet.length - 4)
  const others = await Promise.all(
    [
      (socket: Socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'),
      (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
      (socket: Socket) => socket.resetAndDestroy(),
      (socket: Socket) => socket.end(packet),
      () => {},
    ].map(async (onConnection) => {
      const other = createServer((socket) => onConnection(socket.on('error', () => {})))
      other.listen(0, '127.0.0.1')
      await once(other, 'listening')
      return other
    }),
  )
  try {
    const ports = others.map((other) => (other.address() as AddressInfo).port)
    const began = performance.now()
    const store = await open(hosts(...ports, servers[1].port))
    expect(performance.now() - began).toBeLessThan(8_000)
    await store.insert(Content, [row()])
    expect(await rows()).toEqual([undefined, 1])
  } finally {
    for (const other of others) other.close()
  }
})

test('a store moves all connections from a host that becomes read-only, and stays when it takes writes again', async () => {
  await readOnly(servers[1])
  const store = await open(both())
  await Promise.all([store.insert(Content, [row()]), read(store), read(store)])
  await readOnly(servers[1], 0)
  // As on a replica, the table is there.
  await open(hosts(servers[1].port))
  await stores.pop()!.close()

  await readOnly(servers[0])
  await holds(async () => {
    await insert(store)
    expect((await rows())[1]).toBeGreaterThan(0)
  })
  await holds(async () => expect(await connections(servers[0])).toBe(0))
  const [before] = await rows()
  await readOnly(servers[0], 0)
  const since = performance.now()
  await holds(async () => {
    await Promise.all([insert(store), read(store)])
    expect(performance.now() - since).toBeGreaterThan(1_500)
  })
  expect((await rows())[0]).toBe(before)
  expect(await connections(servers[0])).toBe(0)
  expect(changes()).toHaveLength(2)
})

test('a store goes on with another host when its host is killed, and with the first one when that is killed, too', async () => {
  await (await open(hosts(servers[1].port))).close()
  const store = await open(both())
  await insert(store)
  await servers[0].stop('SIGKILL')
  // A new pool, a new session: no waiting for a time-out.
  expect(await insert(store)).toBeLessThan(5_000)
  await servers[0].restart()
  expect(await rows()).toEqual([1, 1])
  await insert(store)
  await servers[1].stop('SIGKILL')
  expect(await insert(store)).toBeLessThan(5_000)
  expect((await rows())[0]).toBe(2)
})

test('a store goes on with another host when its host is frozen', async () => {
  await (await open(hosts(servers[1].port))).close()
  const store = await open(both())
  await insert(store)
  servers[0].pause()
  // 7 s until a silent connection is closed, 2 s until a new one is given up.
  expect(await insert(store)).toBeLessThan(20_000)
  servers[0].resume()
  expect((await rows())[1]).toBe(1)
})

test('a store stays with its host when connections are killed', async () => {
  await (await open(hosts(servers[1].port))).close()
  const store = await open(both())
  for (let i = 0; i < 3; i++) {
    for (const { id } of await servers[0].sql("SELECT id FROM information_schema.processlist WHERE user = 'app'"))
      await servers[0].sql(`KILL ${id}`).catch(() => {})
    await insert(store)
  }
  expect(await rows()).toEqual([3, 0])
  expect(changes()).toHaveLength(1)
})

test('a store without a usable host is unavailable at once, names why for each, and recovers', async () => {
  const store = await open(both())
  await insert(store)
  for (const server of servers) await readOnly(server)
  await holds(() =>
    expect(store.insert(Content, [row()])).rejects.toMatchObject({ kind: 'unavailable', vendorCode: '1290' }),
  )
  const began = performance.now()
  await expect(read(store)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  expect(performance.now() - began).toBeLessThan(1_500)
  const reasons = log.entries.filter(({ message }) => message.startsWith('no server of DATABASE_URL can be used'))
  expect(reasons).toHaveLength(1)
  for (const { port } of servers) expect(reasons[0]!.message).toContain(`127.0.0.1:${port}: the server is read-only`)
  const [before] = await rows()
  await readOnly(servers[0], 0)
  await insert(store)
  expect(await rows()).toEqual([before! + 1, undefined])
})

test('a store reads from the first host of DATABASE_READ_URL that answers, also from a read-only one', async () => {
  const closed = await freePort()
  await (await open(hosts(servers[1].port))).close()
  await readOnly(servers[1])
  const store = await open(hosts(servers[0].port), hosts(closed, servers[1].port))
  await store.insert(Content, [row()])
  expect(await read(store)).toHaveLength(1)
  await servers[1].sql(`INSERT INTO ${name}.Content VALUES ('${uuidv7()}', 'b', NOW(3), NOW(3))`)
  expect(await read(store)).toMatchObject([{ content: 'b' }])
  // Of the replica, while the primary has another row.
  expect(await store.page(Content, { take: 10, skip: 0, where: {}, primary: true })).toMatchObject([{ content: 'a' }])
})
