/**
 * A Galera cluster of three behind a list of hosts, and behind HAProxy with the configuration of deploy/haproxy: the node in use is killed
 * and rejoins, the quorum is lost, writes move, two nodes conflict. After each, every acknowledged id is one row on every node.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openPool } from '../../src/db/pool.ts'
import type { Daemon } from '../harness/daemon.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { type Galera, startGalera } from '../harness/galera.ts'
import { startHaproxy } from '../harness/haproxy.ts'
import { connect, query, type TestMariadb } from '../harness/mariadb.ts'
import { quiet } from '../harness/quiet.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { followers, replaceAll } from './recipes.ts'
import { record } from './table.ts'

const clients = 4
let cluster: Galera
let stack: Stack
let haproxy: Daemon | undefined

beforeAll(async () => {
  // In place of the 5 s that users have: a worker looks sooner whether an outage is over.
  stack = await Stack.start({ apis: 1, intervals: { maxBackoffMs: 1_000 } })
})
afterAll(async () => {
  await stack?.stop()
  await haproxy?.cleanup()
  await cluster?.cleanup()
})

const databaseName = () => new URL(stack.database).pathname.slice(1)
const address = (i: number) => `127.0.0.1:${cluster.nodes[i]!.port}`

/** Injects a fault, and judges. */
function fault(id: string, name: string, inject: () => Promise<void>): void {
  test(`${id}: ${name}`, { timeout: 120_000 }, async () => {
    const since = Date.now()
    try {
      await inject()
      const verdict = await stack.verdict(name)
      record(id, 'redis + galera', verdict)
      console.log(`${id} the worker waited for the database: ${outagesMs(since).join(', ')} ms`)
      expectSound(verdict)
      expect(verdict.deadLetters).toBe(0)
      const { size } = await stack.rows()
      const count = async (node: TestMariadb) =>
        Number((await node.sql('SELECT COUNT(*) AS n FROM Content', databaseName()))[0]!.n)
      await holds(async () => expect(await Promise.all(cluster.nodes.map(count))).toEqual([size, size, size]))
    } finally {
      await stack.stopWriting()
    }
  })
}

/** How long each outage lasted that ended since then, as the workers log it. */
function outagesMs(since: number): number[] {
  const lines = stack.workers.flatMap(({ logs }) => logs().split('\n'))
  return lines.flatMap((line) => {
    const [, time, waited] = /"time":(\d+).*"waitedMs":(\d+).*takes rows again/.exec(line) ?? []
    return Number(time) >= since ? Number(waited) : []
  })
}

/** With the configuration of deploy/haproxy. */
async function startProxy(): Promise<Daemon> {
  await stack.mariadb.sql("CREATE USER IF NOT EXISTS haproxy@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING ''")
  const addresses = Object.fromEntries([0, 1, 2].map((i) => [`galera${i + 1}:3306`, address(i)]))
  haproxy = await startHaproxy('galera', { ...addresses, '1s': '300ms' })
  return haproxy
}

/** The connections of Spillway's to a node. */
async function connectionsTo(i: number, user = 'root'): Promise<number> {
  const others = `SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND user = '${user}' AND id <> CONNECTION_ID()`
  return (await cluster.nodes[i]!.sql(others, databaseName())).length
}

/** Waits for rows that are not on the node yet. */
async function rowsGrow(i: number): Promise<void> {
  const rows = async () =>
    Number((await cluster.nodes[i]!.sql('SELECT COUNT(*) AS n FROM Content', databaseName()))[0]!.n)
  const before = await holds(rows)
  await holds(async () => expect(await rows()).toBeGreaterThan(before), { timeoutMs: 30_000 })
}

const said = (text: string) => stack.workers.map(({ logs }) => logs().split(text).length - 1)

/** Waits until each worker, or `some` of them, says this once more than it had. */
async function toSay(text: string, work: () => Promise<unknown>, some = stack.workers.length): Promise<void> {
  const before = said(text)
  await work()
  const say = () => said(text).filter((times, i) => times > before[i]!).length
  await holds(() => expect(say(), `workers that say ${text}`).toBeGreaterThanOrEqual(some), { timeoutMs: 30_000 })
}

test('C26: one database server becomes a Galera cluster behind HAProxy under load, as docs/operations.md says', async () => {
  const fault = 'one database server becomes a Galera cluster behind HAProxy under load'
  const clients = await followers(stack)
  try {
    stack.write(4)
    await stack.more(30)
    // 2. The server starts again as the first node, 3. and the others with what it had when it was stopped. Without the option, a server
    // itself repeats a statement that met a conflict.
    cluster = await startGalera(['--wsrep-retry-autocommit=0'], stack.mariadb)
    Object.assign(stack, { mariadb: cluster.asServer })
    // 4. HAProxy, 5. all processes.
    const { port, cleanup } = await startProxy()
    await holds(() => query(`mysql://root@127.0.0.1:${port}/`, 'SELECT 1'))
    stack.env = { ...stack.env, DATABASE_URL: `mysql://root@127.0.0.1:${port}/${databaseName()}` }
    await replaceAll(stack)
    await stack.more(30)
    const verdict = await stack.verdict(fault)
    record('C26', 'redis + galera', verdict)
    expectSound(verdict)
    await clients.expectAll([...stack.acknowledged], 0)
    // The tests behind this one name all nodes.
    stack.env = { ...stack.env, DATABASE_URL: cluster.url(databaseName()) }
    await stack.crash()
    await cleanup()
  } finally {
    await stack.stopWriting()
    await clients.stop()
  }
}, 180_000)

test('P5: after a saved event, an API that uses another node returns the row, also where that node applies it late', async () => {
  const [, late] = cluster.nodes
  const api = await stack.startApi({ DATABASE_URL: cluster.url(databaseName(), [1]) })
  const connection = await connect(`${late.url}${databaseName()}`)
  try {
    await connection.query('SET wsrep_sync_wait = 0')
    await connection.query('FLUSH TABLES WITH READ LOCK')
    const { id } = await stack.once('seen on every node')
    await holds(async () => {
      const { data } = await stack.client.graphql('query ($id: ID!) { receipt(id: $id) { status } }', { id })
      expect(data.receipt.status).toBe('SAVED')
    })
    const page = api.client.graphql('{ contents(first: 1) { edges { node { id } } } }')
    await holds(async () => {
      const waiting = await connection.query(
        "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT%' AND id <> CONNECTION_ID()",
      )
      expect(waiting.length).toBeGreaterThan(0)
    })
    expect(await connection.query('SELECT id FROM Content WHERE id = ?', [id])).toEqual([])
    await connection.query('UNLOCK TABLES')
    expect((await page).data.contents.edges).toEqual([{ node: { id } }])
  } finally {
    connection.destroy()
    await stack.kill(api)
  }
})

fault('C24', 'conflicts with a row and with a change of the table on another node', async () => {
  // The statement holds its first row, uncommitted, for a while.
  await stack.mariadb.sql(
    `CREATE TRIGGER slow AFTER INSERT ON Content FOR EACH ROW
      BEGIN IF @other IS NULL AND NOT (@seen <=> NOW(6)) THEN SET @seen = NOW(6); DO SLEEP(1.5); END IF; END`,
    databaseName(),
  )
  const connections = await Promise.all(cluster.nodes.map(({ url }) => connect(`${url}${databaseName()}`)))
  try {
    for (const connection of connections) await connection.query('SET @other = 1')
    const contents = Array.from({ length: 20 }, (_, i) => `in conflict ${i}`)
    for (const conflict of ['row', 'table']) {
      const inputs = contents.map((content) => ({ id: randomUUID() as string, content }))
      const first = inputs.toSorted((a, b) => (a.id < b.id ? -1 : 1))[0]!
      for (const { id, content } of inputs) stack.sent.set(id, content)
      await toSay(
        '"code":"1213"',
        async () => {
          const { data } = await stack.client.graphql(
            'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }',
            { inputs },
          )
          expect(data.saveMany).toHaveLength(inputs.length)
          for (const { id } of inputs) stack.acknowledged.add(id)
          const used = await eventually(async () => {
            const underWay = "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'"
            const found = await Promise.all(connections.map((connection) => connection.query(underWay)))
            return found.findIndex((rows) => rows.length > 0) + 1
          })
          // Of the node behind the one in use.
          const connection = connections[used % connections.length]!
          const { id, content } = first
          if (conflict === 'row')
            await connection.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [id, content])
          else await connection.query("ALTER TABLE Content COMMENT = 'changed'")
        },
        1,
      )
      await stack.drained()
    }
  } finally {
    for (const connection of connections) connection.destroy()
    await stack.mariadb.sql('DROP TRIGGER slow', databaseName())
  }
  // The row of the other node was published by nobody.
  stack.write(clients)
  await stack.more(50)
})

fault('C23', 'writes moved from a node that becomes read-only, and from one that rejects queries', async () => {
  stack.write(clients)
  await stack.more(50)
  const [first, ...others] = cluster.nodes
  try {
    await toSay('from now on', async () => {
      await first.sql('SET GLOBAL read_only = 1')
      await stack.more(50)
    })
    // The API, which reads the database for this, moves, too.
    await holds(async () => {
      await fetch(`${stack.url}/readyz`)
      expect(await connectionsTo(0)).toBe(0)
    })
    await first.sql('SET GLOBAL read_only = 0')
    // These nodes say that they are ready.
    await toSay(`using ${address(0)}`, async () => {
      for (const other of others) await other.sql("SET GLOBAL wsrep_reject_queries = 'ALL'")
      await stack.more(50)
    })
  } finally {
    await first.sql('SET GLOBAL read_only = 0')
    for (const other of others) await other.sql("SET GLOBAL wsrep_reject_queries = 'NONE'")
  }
  await stack.more(50)
})

fault('C10', 'a batch above a wsrep_max_ws_size that was lowered while running', async () => {
  const set = (bytes: number) =>
    Promise.all(cluster.nodes.map((node) => node.sql(`SET GLOBAL wsrep_max_ws_size = ${bytes}`)))
  await set(131_072)
  try {
    const inputs = Array.from({ length: 20 }, (_, i) => ({
      id: randomUUID() as string,
      content: `${i}`.padEnd(20_000),
    }))
    for (const { id, content } of inputs) stack.sent.set(id, content)
    await stack.client.graphql('mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }', {
      inputs,
    })
    for (const { id } of inputs) stack.acknowledged.add(id)
    await stack.drained()
  } finally {
    await set(2_147_483_647)
  }
})

fault('C21', 'the node in use killed under load, and rejoined', async () => {
  stack.write(clients)
  await stack.more(50)
  const [used] = cluster.nodes
  await toSay('from now on', async () => {
    await used.stop('SIGKILL')
    await stack.more(50)
  })
  await used.rejoin()
  await stack.more(50)
})

fault('C22', 'two of three nodes frozen: no quorum', async () => {
  stack.write(clients)
  await stack.more(50)
  const connections = await Promise.all(cluster.nodes.map((_, i) => connectionsTo(i)))
  const used = cluster.nodes[connections.indexOf(Math.max(...connections))]!
  const others = cluster.nodes.filter((node) => node !== used)
  const config = { host: '127.0.0.1', port: used.port, user: 'root', database: databaseName() }
  const pool = openPool(config, { setting: 'DATABASE_URL', connectionLimit: 1, tables: [], log: quiet() })
  await (await pool.getConnection()).release()
  try {
    await toSay('no server of DATABASE_URL can be used', async () => {
      for (const node of others) node.pause()
      await stack.more(50)
    })
    await stack.more(50)
    expect(await stack.client.deadLetters()).toEqual([])
    // A connection that is closed during a statement: the driver would send a KILL, which such a node refuses.
    const connection = await pool.getConnection()
    const statement = connection.query('SET @a = SLEEP(60)').catch((error: { code: string }) => error.code)
    connection.destroy()
    expect(await statement).toBe('ECONNABORTED')
    const ready = await fetch(`${stack.url}/readyz`)
    expect([ready.status, (await ready.json()).database]).toEqual([200, 'unavailable'])
  } finally {
    for (const node of others) node.resume()
    await pool.end()
  }
  await stack.more(50)
})

fault('C25', 'the node that HAProxy has chosen killed, then the quorum lost, behind HAProxy', async () => {
  const [first, , third] = cluster.nodes
  await first.sql("CREATE USER worker@'127.0.0.1'")
  await first.sql(`GRANT ALL ON ${databaseName()}.* TO worker@'127.0.0.1'`)
  const { port } = await startProxy()
  for (const worker of stack.workers) await stack.kill(worker)
  await stack.startWorker({ DATABASE_URL: `mysql://worker@127.0.0.1:${port}/${databaseName()}` })
  stack.write(clients)
  await stack.more(50)
  await first.stop('SIGKILL')
  await holds(() => expect(haproxy!.logs()).toContain('galera/galera1 is DOWN'))
  await rowsGrow(1)
  // The second one, which is in use now, has no quorum without the third. It goes on taking logins.
  third.pause()
  await holds(() => expect(haproxy!.logs()).toContain('galera/galera2 is DOWN'))
  await stack.more(50)
  third.resume()
  await rowsGrow(1)
  await first.rejoin()
  await holds(() => expect(haproxy!.logs()).toContain('galera/galera1 is UP'))
  await holds(async () => expect(await connectionsTo(1, 'worker')).toBe(0))
  await stack.more(50)
})
