/**
 * The store with a real MariaDB, or MySQL, that fails in every way that a test can cause: for each, the database's own code and the kind of the
 * StoreFault. FAULTS.md's C1 to C19.
 */
import { uuidv7 } from 'uuidv7'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { classifyMysql, classifySqlite } from '../../src/db/faults.ts'
import type { PrismaStore } from '../../src/db/prisma.ts'
import type { StoreFault } from '../../src/db/store.ts'
import { describeFault } from '../../worker/outcome.ts'
import { Content, type ContentRow } from '../harness/contents.ts'
import { engine } from '../harness/engine.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { connect, startMariadb } from '../harness/mariadb.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore } from '../harness/stores.ts'
import { faultOf } from '../suites/store.ts'

const password = 'hunter2&"'
let server: Awaited<ReturnType<typeof startMariadb>>
let databases = 0
let name: string
let url: string
let store: PrismaStore
let log: ReturnType<typeof quiet>

beforeAll(async () => {
  server = await startMariadb()
  // Without rights of administration, as an application should be.
  await sql(
    `CREATE USER app@'%' IDENTIFIED BY '${password}'`,
    "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX ON *.* TO app@'%'",
  )
}, 60_000)
afterAll(() => server.cleanup())

/** Several statements, one after the other. */
async function sql(...statements: string[]): Promise<void> {
  for (const statement of statements) await server.sql(statement)
}

const row = (content = 'a', id = uuidv7()): ContentRow => ({ id, content, createdAt: new Date(), savedAt: new Date() })
const rows = (n: number) => Array.from({ length: n }, () => row())
const count = async (from = store) => (await from.page(Content, { take: 100, skip: 0, where: {} }))!.length
const admin = (database = name) => connect(server.url, { database })
/** Kills every connection of the application, as an administrator would. */
async function killAll(): Promise<void> {
  const killer = await admin()
  const connections = await killer.query(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)
  for (const { id } of connections) await killer.query(`KILL ${id}`).catch(() => {})
  await killer.end()
}

/** Inserts as a worker does: again until the rows are written, perhaps by an earlier try. */
async function insertStubbornly(batch: readonly ContentRow[]): Promise<void> {
  await eventually(
    async () => {
      await store.insert(Content, batch).catch((fault: StoreFault) => {
        if (fault.kind !== 'duplicate') throw fault
      })
      return true
    },
    { timeoutMs: 30_000, intervalMs: 100 },
  )
}

async function timed<T>(work: Promise<T>): Promise<{ value: T; ms: number }> {
  const began = performance.now()
  const value = await work
  return { value, ms: performance.now() - began }
}

/** The server waits 5 s, and a busy machine. */
const lockWaitOverMs = 15_000
const read = (from = store) => from.page(Content, { take: 1, skip: 0, where: {} })
const unreadable = { name: 'SpillwayError', code: 'STORE_UNAVAILABLE', retryAfterMs: 1_000 }

/** A store on a database of its own. */
async function opened() {
  const database = `faults_${++databases}`
  await server.sql(`CREATE DATABASE ${database}`)
  const ofApp = `mysql://app:${encodeURIComponent(password)}@127.0.0.1:${server.port}/${database}`
  const said = quiet()
  const itsStore = await contentStore({ url: ofApp, concurrency: 2, log: said })
  await itsStore.prepare(AbortSignal.timeout(20_000))
  return { name: database, url: ofApp, log: said, store: itsStore }
}

describe(`${engine.name} under a store`, () => {
  beforeEach(async () => {
    ;({ name, url, log, store } = await opened())
  })
  afterEach(() => store.close())

  test('read-only makes writes unavailable, and reads go on (C7)', async () => {
    await server.sql('SET GLOBAL read_only = 1')
    try {
      expect(await faultOf(store.insert(Content, rows(2)))).toMatchObject({ kind: 'unavailable', vendorCode: '1290' })
      expect(await read()).toEqual([])
    } finally {
      await server.sql('SET GLOBAL read_only = 0')
    }
    await store.insert(Content, rows(2))
  })

  test('that kills a waiting connection makes the call unavailable, and the next call uses another one (C15)', async () => {
    const other = await admin()
    await other.query('LOCK TABLES Content WRITE')
    const fault = faultOf(store.insert(Content, rows(2)))
    const reading = read().catch((e: unknown) => e)
    await eventually(async () => {
      const waiting = await server.sql(`SELECT id FROM ${engine.processlist} WHERE state LIKE 'Waiting for table%'`)
      return waiting.length === 2
    })
    await killAll()
    expect((await fault).kind).toBe('unavailable')
    expect(['1927', '45009', 'ECONNRESET', '1053']).toContain((await fault).vendorCode)
    expect(await reading).toMatchObject(unreadable)
    await other.end()
    await store.insert(Content, rows(2))
    expect(await count()).toBe(2)
  })

  test('that closes idle connections makes no call fail (C16)', async () => {
    for (const batch of [rows(2), rows(2)]) {
      await killAll()
      await store.insert(Content, batch)
    }
    expect(await count()).toBe(4)
  })

  test('with too many connections is unavailable until one is free (C8)', async () => {
    await store.close()
    const others: Awaited<ReturnType<typeof admin>>[] = []
    await server.sql('SET GLOBAL max_connections = 10')
    // A connection that was closed takes its place until the server has ended its thread.
    await holds(async () => {
      for (let full = false; !full; ) {
        await connect(url, { connectTimeout: 2_000 }).then(
          (connection) => others.push(connection),
          () => {
            full = true
          },
        )
      }
      const [status] = await others[0]!.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
      expect(Number(status.Value)).toBe(others.length)
    })
    const late = await contentStore({ url, concurrency: 1, log: quiet() })
    try {
      const { value, ms } = await timed(faultOf(late.insert(Content, rows(1))))
      expect(value).toMatchObject({ kind: 'unavailable', vendorCode: '45028' })
      expect(value.message).toContain('Too many connections')
      expect(ms).toBeLessThan(4_500)
      await Promise.all(others.map((connection) => connection.end()))
      await eventually(() => late.insert(Content, rows(1)).then(() => true), { timeoutMs: 20_000 })
    } finally {
      await late.close()
      await eventually(() => server.sql('SET GLOBAL max_connections = 151').then(() => true))
    }
  })

  test('reports a deadlock as unavailable (C5)', async () => {
    const [first, second] = [row('first'), row('second')]
    const other = await admin()
    await other.query('SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED')
    await other.beginTransaction()
    // The server rolls back the transaction that has written less.
    for (let i = 0; i < 50; i++)
      await other.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [uuidv7(), 'ballast'])
    await other.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [second.id, 'theirs'])
    const fault = faultOf(store.insert(Content, [second, first]))
    // The statement has written the first row, uncommitted, and goes on to the second. (information_schema.innodb_lock_waits shows
    // nothing new to a client that asks it more often than ten times a second.)
    await eventually(async () => (await other.query('SELECT 1 FROM Content WHERE id = ?', [first.id])).length > 0)
    await other.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [first.id, 'theirs'])
    expect(await fault).toMatchObject({ kind: 'unavailable', vendorCode: '1213' })
    await other.rollback()
    await other.end()
    await store.insert(Content, [second, first])
    expect(await count()).toBe(2)
  })

  test('rejects a packet above a lowered max_allowed_packet as too-large, and the store reads the new limit (C10)', async () => {
    const before = store.limits(Content).bytes
    const large = Array.from({ length: 6 }, () => row('x'.repeat(1_000_000)))
    await server.sql('SET GLOBAL max_allowed_packet = 1048576')
    try {
      await killAll()
      await eventually(async () => Array.isArray(await read()))
      // The query of the limit may itself use a connection that was just closed; the next try repeats it.
      await holds(async () => {
        expect((await faultOf(store.insert(Content, large))).kind).toBe('too-large')
        expect(store.limits(Content).bytes).toBeLessThan(before)
      })
      expect(await count()).toBe(0)
      await insertStubbornly([row('x'.repeat(store.limits(Content).bytes))])
      expect((await faultOf(store.insert(Content, large))).kind).toBe('too-large')
    } finally {
      await server.sql('SET GLOBAL max_allowed_packet = 16777216')
    }
  })

  test('without a table or column is unavailable, and rejects no row (C14)', async () => {
    await server.sql(`RENAME TABLE ${name}.Content TO ${name}.Elsewhere`)
    expect(await faultOf(store.insert(Content, rows(2)))).toMatchObject({ kind: 'unavailable', vendorCode: '1146' })
    await expect(read()).rejects.toMatchObject(unreadable)
    await sql(
      `RENAME TABLE ${name}.Elsewhere TO ${name}.Content`,
      `ALTER TABLE ${name}.Content RENAME COLUMN savedAt TO later`,
    )
    expect(await faultOf(store.insert(Content, rows(2)))).toMatchObject({ kind: 'unavailable', vendorCode: '1054' })
    await expect(read()).rejects.toMatchObject(unreadable)
  })

  test('reports a row that breaks a rule as rejected, with its reason (C12)', async () => {
    await server.sql(`ALTER TABLE ${name}.Content ADD CONSTRAINT polite CHECK (content <> 'bad')`)
    const impolite = await faultOf(store.insert(Content, [row('good'), row('bad')]))
    expect(impolite).toMatchObject({
      kind: 'rejected',
      vendorCode: engine.checkViolated,
      message: expect.stringContaining('polite'),
      rule: 'constraint polite',
    })
    expect(describeFault(Content, impolite)).toBe(
      `the database rejects this Content, because of its constraint polite (code ${engine.checkViolated})`,
    )
    await server.sql(
      `ALTER TABLE ${name}.Content DROP CONSTRAINT polite, MODIFY content VARCHAR(5) CHARACTER SET latin1 NOT NULL`,
    )
    expect(await faultOf(store.insert(Content, [row('good'), row('too long')]))).toMatchObject({
      kind: 'rejected',
      vendorCode: '1406',
      rule: 'column content',
    })
    expect(await faultOf(store.insert(Content, [row('good'), row('😀')]))).toMatchObject({
      kind: 'rejected',
      vendorCode: '1366',
      rule: 'column content',
    })
    await server.sql(
      `CREATE TRIGGER ${name}.t BEFORE INSERT ON ${name}.Content FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'`,
    )
    expect(await faultOf(store.insert(Content, [row('good')]))).toMatchObject({
      kind: 'rejected',
      vendorCode: '1644',
      message: 'no',
      rule: undefined,
    })
    expect(await count()).toBe(0)
  })

  test('reports an error with an unlisted code as unknown to a writer, and as unavailable to a reader (A3)', async () => {
    // 1242: a subquery that gives two rows where one may be, which only running it shows.
    await sql(
      `CREATE FUNCTION ${name}.f() RETURNS INT RETURN (SELECT 1 UNION SELECT 2)`,
      `CREATE TRIGGER ${name}.t BEFORE INSERT ON ${name}.Content FOR EACH ROW SET NEW.content = ${name}.f()`,
      `GRANT EXECUTE, TRIGGER ON ${name}.* TO app@'%'`,
    )
    expect(await faultOf(store.insert(Content, [row('good')]))).toMatchObject({ kind: 'unknown', vendorCode: '1242' })
    await sql(
      `DROP TRIGGER ${name}.t`,
      `INSERT INTO ${name}.Content SELECT 'x', 'y', NOW(), NOW()`,
      `RENAME TABLE ${name}.Content TO ${name}.Elsewhere`,
      `CREATE VIEW ${name}.Content AS
         SELECT id, content, createdAt, IF(${name}.f(), savedAt, savedAt) AS savedAt FROM ${name}.Elsewhere`,
    )
    await expect(read()).rejects.toMatchObject(unreadable)
  })

  test('that is frozen fails calls within ten seconds, and the store works again when it runs (C3)', async () => {
    await store.insert(Content, [row('before')])
    const batch = rows(3)
    // Two statements run when it freezes; an idle connection would be tested before its use.
    const other = await admin()
    await other.query('LOCK TABLES Content WRITE')
    const writes = timed(faultOf(store.insert(Content, batch)))
    const reads = timed(read().catch((e: unknown) => e))
    await eventually(async () => {
      const waiting = await other.query(`SELECT id FROM ${engine.processlist} WHERE state LIKE 'Waiting for table%'`)
      return waiting.length === 2
    })
    server.pause()
    try {
      const [writing, reading] = await Promise.all([writes, reads])
      expect(writing.value).toMatchObject({ kind: 'unavailable', vendorCode: 'ETIMEDOUT' })
      expect(writing.value.message).toMatch(/^the database server did not answer within/)
      expect(reading.value).toMatchObject(unreadable)
      for (const { ms } of [writing, reading]) expect(ms).toBeLessThan(10_000)
      // The next calls do not wait for lost connections.
      const again = await timed(faultOf(store.insert(Content, batch)))
      expect(again.value.kind).toBe('unavailable')
      expect(again.ms).toBeLessThan(10_000)
    } finally {
      server.resume()
      other.destroy()
    }
    // The server may have run the statements when it woke: each row is there once all the same.
    await insertStubbornly(batch)
    expect(await count()).toBe(4)
  })

  test('that is killed and restarted has each row of every batch once (C1)', async () => {
    const batches = Array.from({ length: 40 }, () => rows(2))
    let written = 0
    const writing = Promise.all(
      [0, 1].map(async (writeQueue) => {
        for (let i = writeQueue; i < batches.length; i += 2) {
          await insertStubbornly(batches[i]!)
          written++
        }
      }),
    )
    await eventually(() => written >= 10)
    await server.stop('SIGKILL')
    const { value, ms } = await timed(read().catch((e: unknown) => e))
    expect(value).toMatchObject(unreadable)
    expect(ms).toBeLessThan(5_000)
    await server.restart()
    await writing
    expect(await count()).toBe(80)
  })

  test('that is unavailable at the start is waited for, which is logged once', async () => {
    await store.close()
    await server.stop('SIGKILL')
    const early = await contentStore({ url, concurrency: 1, log })
    log.said.length = 0
    try {
      const ready = early.prepare(AbortSignal.timeout(30_000))
      await eventually(() => log.said.length > 0)
      // Long enough for several tries.
      await Promise.race([ready, new Promise((resolve) => setTimeout(resolve, 1_500))])
      expect(log.said).toEqual([expect.stringContaining('waiting for the database')])
      await server.restart()
      await ready
      await early.insert(Content, rows(1))
    } finally {
      await early.close()
    }
  })

  test('is waited for until the signal aborts', async () => {
    const nowhere = await contentStore({ url: 'mysql://app@127.0.0.1:1/x', concurrency: 1, log })
    try {
      const { ms } = await timed(expect(nowhere.prepare(AbortSignal.timeout(200))).rejects.toThrow())
      expect(ms).toBeLessThan(5_000)
    } finally {
      await nowhere.close()
    }
  })

  test('with a changed password is unavailable, and no error or log line holds the password (C19)', async () => {
    await server.sql("ALTER USER app@'%' IDENTIFIED BY 'another'")
    try {
      await killAll()
      const fault = await eventually(async () => {
        const found = await faultOf(store.insert(Content, rows(1)))
        return found.message.includes('denied') ? found : null
      })
      expect(fault.kind).toBe('unavailable')
      const waiting = await contentStore({ url, concurrency: 1, log })
      const stopping = new AbortController()
      const preparing = waiting.prepare(stopping.signal).catch((e: unknown) => e)
      await holds(() => expect(log.said.join()).toContain('Access denied'))
      stopping.abort()
      const ended = await preparing
      await waiting.close()
      expect(everythingIn(fault) + everythingIn(ended) + log.said.join()).not.toContain(password)
      expect(everythingIn(fault)).not.toContain(encodeURIComponent(password))
    } finally {
      await server.sql(`ALTER USER app@'%' IDENTIFIED BY '${password}'`)
    }
    await insertStubbornly(rows(1))
  })

  test('that revoked a right is unavailable', async () => {
    await sql("CREATE USER reader@'%'", `GRANT SELECT ON ${name}.* TO reader@'%'`)
    const reader = await contentStore({ url: `mysql://reader@127.0.0.1:${server.port}/${name}`, concurrency: 1, log })
    try {
      // With nothing to apply, a start only reads.
      await reader.prepare(AbortSignal.timeout(10_000))
      expect(await faultOf(reader.insert(Content, rows(1)))).toMatchObject({ kind: 'unavailable', vendorCode: '1142' })
    } finally {
      await reader.close()
      await server.sql("DROP USER reader@'%'")
    }
  })
})

// Side by side, because each waits until the server gives up.
describe.concurrent(`${engine.name} under a store`, () => {
  test('with a locked table is unavailable after the lock wait, and the connection stays open', async () => {
    const { name, store } = await opened()
    const other = await admin(name)
    await other.query('LOCK TABLES Content WRITE')
    const [writing, reading] = await Promise.all([
      timed(faultOf(store.insert(Content, rows(2)))),
      timed(read(store).catch((e: unknown) => e)),
    ])
    await other.end()
    expect(writing.value).toMatchObject({ kind: 'unavailable', vendorCode: '1205' })
    expect(reading.value).toMatchObject(unreadable)
    for (const { ms } of [writing, reading]) expect(ms).toBeLessThan(lockWaitOverMs)
    await store.insert(Content, rows(2))
    expect(await count(store)).toBe(2)
    await store.close()
  })

  test('with a locked row is unavailable after the lock wait, and no row of the batch is written (C6)', async () => {
    const { name, store } = await opened()
    const [first, second] = [row('first'), row('second')]
    const other = await admin(name)
    await other.beginTransaction()
    await other.query('INSERT INTO Content VALUES (?, ?, NOW(3), NOW(3))', [second.id, 'theirs'])
    const { value, ms } = await timed(faultOf(store.insert(Content, [second, first])))
    expect(value).toMatchObject({ kind: 'unavailable', vendorCode: '1205' })
    expect(ms).toBeLessThan(lockWaitOverMs)
    await other.rollback()
    await other.end()
    expect(await count(store)).toBe(0)
    await store.insert(Content, [second, first])
    await store.close()
  })
})

describe('Error codes that a test cannot cause', () => {
  const mysql = (code: number | string) =>
    classifyMysql({ meta: { driverAdapterError: { cause: { originalCode: String(code) } } } }).kind
  test.each([
    ['unavailable', [1836, 1114, 1021, 1053, 1927, 2006, 2013, 45009, 45026, 45028, 1040, 1203, 1044, 1045]],
    // Of the operating system and the engine; of Galera and group replication; of a table without a partition for new rows.
    ['unavailable', [3, 23, 28, 121, 194, 1026, 1030, 1047, 1135, 1206, 1526, 1598, 1665, 3098, 3100, 3101, 3797]],
    // Of TiDB, ProxySQL and Vitess.
    [
      'unavailable',
      [8001, 8002, 8005, 8022, 8027, 8028, 8175, 8229, 8252, 9001, 9002, 9003, 9004, 9005, 9006, 9007, 9008, 9999],
    ],
    ['unavailable', [1105, 1317, 1205, 1815, 3168]],
    ['unavailable', ['ECONNREFUSED', 'EHOSTDOWN', 'EAI_AGAIN', 'EMFILE', 'CERT_HAS_EXPIRED', 'P1001', 'P2024']],
    ['rejected', [1048, 1264, 1292, 1364, 1366, 1406, 1644, 3819, 4025, 8032, 8033, 8034, 8036, 8129]],
    ['reference', [1216, 1452]],
    ['duplicate', [1062, 1586]],
    ['too-large', [1153, 1390, 8004, 8025, 9500]],
    ['unknown', [1064, 1242, 29_999]],
  ])('MySQL: %s', (kind, codes) => {
    expect(codes.map((code) => [code, mysql(code)])).toEqual(codes.map((code) => [code, kind]))
  })

  test.each([
    ['duplicate', [1555, 2067]],
    ['unavailable', [5, 261, 517, 6, 262, 8, 10, 266, 522, 778, 13, 14, 11, 26]],
    ['rejected', [19, 275, 1299, 1811, 20]],
    ['reference', [787]],
    ['too-large', [18]],
    ['unknown', [1, 21]],
  ])('SQLite: %s', (kind, codes) => {
    expect(codes.map((errcode) => [errcode, classifySqlite({ errcode, message: '' }).kind])).toEqual(
      codes.map((code) => [code, kind]),
    )
  })

  test.each([
    ["Duplicate entry 'a' for key 'PRIMARY'", undefined],
    ["Duplicate entry 'a' for key 'Content.PRIMARY'", undefined],
    ["Duplicate entry 'for key 'PRIMARY'' for key 'Content.one_each'", 'one_each'],
    ["Duplicate entry 'a' for key 'one_each'", 'one_each'],
    [
      "target: ks.0.primary: desc = Duplicate entry 'a' for key 'Content.one_each' (errno 1062) (sqlstate 23000)",
      'one_each',
    ],
    [`Duplicate entry 'a' for key 'PRIMARY' (errno 1062) (sqlstate 23000) (CallerID: u): Sql: "insert 'x'"`, undefined],
    ['in words of a proxy', undefined],
  ])('a duplicate says of which index it is, unless of the id: %s', (message, index) => {
    const cause = { originalCode: '1062', originalMessage: message }
    expect(classifyMysql({ meta: { driverAdapterError: { cause } } }).index).toBe(index)
  })

  test.each([
    ['4025', 'CONSTRAINT `Content.rating` failed for `db`.`Content`', 'constraint Content.rating'],
    ['3819', "Check constraint 'polite' is violated.", 'constraint polite'],
    ['1048', "Column 'a_b' cannot be null", 'column a_b'],
    ['1364', "Field 'tenant' doesn't have a default value", 'column tenant'],
    ['1264', "Out of range value for column 'rating' at row 12", 'column rating'],
    ['1366', "Incorrect integer value: 'x' for column `db`.`Content`.`rating` at row 1", 'column rating'],
    // A value is never taken for a name.
    ['1366', "Incorrect string value: ' for column 'a' at row 1' for column 'content' at row 1", 'column content'],
    ['1366', "Incorrect string value: 'for column 'a' at row 1' in the words of a proxy", undefined],
    ['1644', "Check constraint 'polite' is violated.", undefined],
    ['1644', "Data too long for column 'a' at row 1", undefined],
    ['4025', 'CONSTRAINT `a name with content` failed for `db`.`Content`', undefined],
    [
      '1452',
      'Cannot add or update a child row: a foreign key constraint fails (`db`.`Comment`, CONSTRAINT `to_post` FOREIGN KEY (`postId`) REFERENCES `Post` (`id`))',
      'constraint to_post',
    ],
  ])('a fault names the constraint or column of a row, and no value (code %s: %s)', (code, originalMessage, rule) => {
    const cause = { originalCode: code, originalMessage }
    expect(classifyMysql({ meta: { driverAdapterError: { cause } } }).rule).toBe(rule)
  })

  test.each([
    [275, 'CHECK constraint failed: polite', 'constraint polite'],
    [275, "CHECK constraint failed: content <> 'bad'", undefined],
    [1299, 'NOT NULL constraint failed: Content.tenant', 'column tenant'],
    [1811, 'CHECK constraint failed: polite', undefined],
  ])(
    'a fault of SQLite names the constraint or column of a row, and no value (code %i: %s)',
    (errcode, message, rule) => {
      expect(classifySqlite({ errcode, message }).rule).toBe(rule)
    },
  )

  test('Vitess has one code: what names a row or a statement is unknown, the rest is unavailable', () => {
    const kind = (message: string) =>
      classifyMysql({ meta: { driverAdapterError: { cause: { originalCode: '1105', originalMessage: message } } } })
        .kind
    expect(kind('target: ks.0.primary: vttablet: rpc error: code = Unavailable desc = not serving')).toBe('unavailable')
    expect(kind('target: ks.0.primary: vttablet: rpc error: code = ResourceExhausted')).toBe('unavailable')
    expect(kind('vttablet: rpc error: code = InvalidArgument desc = value')).toBe('unknown')
    expect(kind('VT12001: unsupported: this statement')).toBe('unknown')
  })

  test('Galera gives the codes of other errors to its limits of a transaction; those are too-large', () => {
    const kind = (originalCode: string, originalMessage: string) =>
      classifyMysql({ meta: { driverAdapterError: { cause: { originalCode, originalMessage } } } }).kind
    expect(kind('1105', 'Maximum writeset size exceeded')).toBe('too-large')
    expect(kind('1180', 'wsrep_max_ws_rows exceeded')).toBe('too-large')
    expect(kind('1180', 'Got error 5 "Input/output error" during COMMIT')).toBe('unavailable')
  })

  test('TiDB gives one code to errors of a row and of the server; those of a row are unknown', () => {
    const kind = (originalMessage: string) =>
      classifyMysql({ meta: { driverAdapterError: { cause: { originalCode: '1105', originalMessage } } } }).kind
    expect(kind('key is too large, the size of given key is 4097')).toBe('unknown')
    expect(kind('other error: unknown error Wire Error')).toBe('unavailable')
  })

  test('the values that Vitess puts behind its message are left out', () => {
    const { message, index } = classifyMysql({
      meta: {
        driverAdapterError: {
          cause: {
            originalCode: '1062',
            originalMessage: `target: ks.0.primary: vttablet: rpc error: code = AlreadyExists desc = Duplicate entry 'a' for key 'Content.one_each' (errno 1062) (sqlstate 23000) (CallerID: app): Sql: "insert into Content(content) values (:vtg1)", BindVars: {vtg1: "type:VARCHAR value:"hunter2""}`,
          },
        },
      },
    })
    expect(message).not.toContain('hunter2')
    expect(message).toMatch(/\(sqlstate 23000\)$/)
    expect(index).toBe('one_each')
  })

  test('an error that is none of a database is unknown', () => {
    expect(classifyMysql(new TypeError('x is not a function')).kind).toBe('unknown')
    expect(classifyMysql(undefined).kind).toBe('unknown')
    expect(classifySqlite('thrown').kind).toBe('unknown')
    expect(classifyMysql(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', errno: -104 })).kind).toBe(
      'unavailable',
    )
    // The driver's own errors have a word, too.
    expect(classifyMysql(Object.assign(new Error('Duplicate'), { code: 'ER_DUP_ENTRY', errno: 1062 })).kind).toBe(
      'duplicate',
    )
  })
})

/** Message, stack and causes, as a logger would print them. */
function everythingIn(error: unknown): string {
  let text = ''
  for (let e = error; e; e = (e as { cause?: unknown }).cause) {
    text += `${(e as Error).message} ${(e as Error).stack} ${JSON.stringify(e)}`
  }
  return text
}
