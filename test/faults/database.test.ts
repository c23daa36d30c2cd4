/**
 * What can happen to the database while saves go on (FAULTS.md, C), and what a message can be that it will not have. After each fault every
 * acknowledged id is one row, or a dead letter, everything was announced, and no process died of it. One set of servers for all of them;
 * Spillway reaches the database through a proxy, as a user without the rights of an administrator.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Connection } from 'mariadb'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { connect, query } from '../harness/mariadb.ts'
import { inherited } from '../harness/process.ts'
import { startProxy, type TestProxy } from '../harness/proxy.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

const run = promisify(execFile)
const clients = 4
const stream = '{spillway:0}:queue'

let stack: Stack
let proxy: TestProxy
/** Where a table can be created on a disk of its own (C9). */
let disk: string

beforeAll(async () => {
  disk = await mkdtemp(join(tmpdir(), 'spillway-disk-'))
  stack = await Stack.start({
    // In place of the 5 s that users have: a worker looks sooner whether an outage is over.
    intervals: { maxBackoffMs: 1_000 },
    // MySQL must know the folder.
    mariadbArgs: [`--loose-innodb-directories=${disk}`],
    async databaseUrl(url) {
      proxy = await startProxy(url)
      // A server that is read-only lets administrators write all the same.
      await query(url, "CREATE USER app@'%'")
      await query(url, "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX ON *.* TO app@'%'")
      const app = new URL(proxy.url(url))
      app.username = 'app'
      return app.href
    },
  })
})
afterAll(async () => {
  await stack?.stop()
  await proxy?.close()
  await rm(disk, { recursive: true, force: true })
})

/** Injects a fault, and judges. */
function fault(id: string, name: string, inject: () => Promise<void>): void {
  // For each of the three starts of C17, MySQL computes for seconds, and a busy machine takes ten times as long.
  test(`${id}: ${name}`, { timeout: 240_000 }, () => judged(id, name, inject))
}

async function judged(id: string, name: string, inject: () => Promise<void>): Promise<void> {
  try {
    await inject()
    const verdict = await stack.verdict(name)
    record(id, 'redis + mariadb', verdict)
    expectSound(verdict)
    for (const { pid, logs } of [...stack.apis, ...stack.workers]) {
      expect(() => process.kill(pid, 0), `a process died:\n${logs().slice(-2000)}`).not.toThrow()
    }
  } finally {
    await stack.stopWriting()
  }
}

const databaseName = () => new URL(stack.database).pathname.slice(1)
const sql = (statement: string) => stack.mariadb.sql(statement, databaseName())

/** A connection of an administrator's, past the proxy. */
async function withConnection<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await connect(stack.database)
  try {
    return await work(connection)
  } finally {
    connection.destroy()
  }
}

/** How often a line of the workers' logs has this in it. */
function said(text: string): number {
  return stack.workers.reduce((sum, { logs }) => sum + logs().split(text).length - 1, 0)
}

/** The database's code as the workers log it. */
const code = (number: number | string) => `"code":"${number}"`

/** Waits until the workers say this once more than they had. */
async function toSay(text: string, work: () => Promise<unknown> | unknown, timeoutMs = 20_000): Promise<void> {
  const before = said(text)
  await work()
  await holds(() => expect(said(text), `lines with ${text}`).toBeGreaterThan(before), { timeoutMs })
}

/** What is saved meanwhile the workers take together. */
async function workersFrozen(work: () => Promise<void>): Promise<void> {
  for (const worker of stack.workers) worker.kill('SIGSTOP')
  try {
    await work()
  } finally {
    for (const worker of stack.workers) worker.kill('SIGCONT')
  }
}

/** Ends every connection of the application's, as an administrator would. */
async function killConnections(): Promise<number> {
  const connections = await sql(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)
  for (const { id } of connections) await sql(`KILL ${id}`).catch(() => {})
  return connections.length
}

/** What the application has the database do just now. */
async function statementsUnderWay(like = '%'): Promise<number> {
  const rows = await sql(
    `SELECT id FROM ${engine.processlist} WHERE user = 'app' AND command = 'Query' AND info LIKE '${like}'`,
  )
  return rows.length
}

const save = async (content: string, id = randomUUID(), api = stack.apis[0]!) => {
  const answer = await api.client.graphql(
    'mutation ($content: String!, $id: ID) { save(content: $content, id: $id) { status duplicate } }',
    { content, id },
  )
  return { id, receipt: answer.data?.save, code: answer.errors?.[0].extensions.code }
}

/** Accepted in one step, so that an idle worker takes them together and writes them by one statement. */
async function saveMany(
  contents: readonly string[],
  ids = contents.map(() => randomUUID() as string),
): Promise<string[]> {
  const inputs = contents.map((content, i) => ({ id: ids[i]!, content }))
  for (const { id, content } of inputs) stack.sent.set(id, content)
  const { data } = await stack.client.graphql(
    'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }',
    {
      inputs,
    },
  )
  expect(data.saveMany).toHaveLength(inputs.length)
  for (const { id } of inputs) stack.acknowledged.add(id)
  return ids
}

async function mutate(name: 'retryDeadLetters' | 'discardDeadLetters', ids: readonly string[]): Promise<number> {
  const how = name === 'retryDeadLetters' ? 'retry' : 'discard'
  return (await stack.client.changeDeadLetters(how, { ids })).count
}

/** A rule of the database's own, for as long as `work` lasts. */
async function withRule(check: string, work: () => Promise<void>): Promise<void> {
  await sql(`ALTER TABLE Content ADD CONSTRAINT rule CHECK (${check})`)
  try {
    await work()
  } finally {
    await sql('ALTER TABLE Content DROP CONSTRAINT rule')
  }
}

const takesNoRows = 'the database takes no rows'

fault('C1', 'MariaDB killed and restarted', async () => {
  stack.write(clients)
  await stack.more(100)
  await toSay(takesNoRows, async () => {
    await stack.mariadb.stop('SIGKILL')
    await stack.more(100)
  })
  await stack.mariadb.restart()
  await stack.more(100)
})

fault('C2', 'replies to INSERTs lost after they were committed', async () => {
  stack.write(clients)
  await stack.more(50)
  const before = proxy.kept()
  proxy.set({ kind: 'cut-before-reply', times: 5, when: (request) => request.includes('INSERT INTO `Content`') })
  await holds(() => expect(proxy.kept()).toBe(before + 5))
  await stack.more(50)
})

fault('C3', 'MariaDB frozen for longer than every time-out', async () => {
  stack.write(clients)
  await stack.more(50)
  stack.mariadb.pause()
  try {
    await toSay('the database server did not answer within', () => stack.more(100))
    // And once more, with no connection to ask over.
    const frozenFor = performance.now()
    await holds(() => expect(performance.now() - frozenFor).toBeGreaterThan(5_000))
    await stack.more(50)
  } finally {
    stack.mariadb.resume()
  }
  await stack.more(50)
})

fault('C4', 'slow statements; P7: never more at once than workers × concurrency', async () => {
  // Once a statement: NOW() is when it began.
  await sql(`CREATE TRIGGER slow BEFORE INSERT ON Content FOR EACH ROW
    BEGIN IF NOT (@seen <=> NOW(6)) THEN SET @seen = NOW(6); DO SLEEP(0.7); END IF; END`)
  let most = 0
  try {
    stack.write(16)
    await stack.more(100)
    await withConnection(async (connection) => {
      // Whoever sleeps in a trigger goes by the name of who made it.
      const underWay = `SELECT id FROM ${engine.processlist} WHERE command = 'Query' AND id <> CONNECTION_ID()`
      const look = async () => {
        most = Math.max(most, (await connection.query(underWay)).length)
      }
      await holds(async () => {
        await look()
        expect(most).toBeGreaterThanOrEqual(4)
      })
      const since = performance.now()
      await holds(async () => {
        await look()
        expect(performance.now() - since).toBeGreaterThan(2_000)
      })
    })
    await stack.more(100)
  } finally {
    await sql('DROP TRIGGER slow')
  }
  // 2 workers × 2.
  expect(most).toBe(4)
})

fault('C5', "a deadlock in which the worker's statement is rolled back", async () => {
  stack.write(clients)
  await stack.more(50)
  await stack.stopWriting()
  await stack.drained()
  const [first, second] = [randomUUID(), randomUUID()].sort() as [string, string]
  await withConnection(async (other) => {
    await other.query('SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED')
    await other.beginTransaction()
    // The server gives up the transaction that has written less.
    const theirs = [...Array.from({ length: 50 }, () => randomUUID()), second]
    for (const id of theirs) await other.query("INSERT INTO Content VALUES (?, 'theirs', NOW(3), NOW(3))", [id])
    await saveMany(['not theirs', 'not theirs'], [second, first])
    await toSay(code(1213), async () => {
      // The statement has written the first row, uncommitted, and goes on to the second.
      await holds(async () => expect(await other.query('SELECT 1 FROM Content WHERE id = ?', [first])).toHaveLength(1))
      await other.query("INSERT INTO Content VALUES (?, 'theirs', NOW(3), NOW(3))", [first])
    })
    await other.rollback()
  })
})

fault('C6', 'a row locked until the statement gives up', async () => {
  const id = randomUUID()
  await withConnection(async (other) => {
    await other.beginTransaction()
    await other.query("INSERT INTO Content VALUES (?, 'theirs', NOW(3), NOW(3))", [id])
    stack.write(clients)
    await toSay(code(1205), async () => {
      await stack.once('not theirs', { id })
      await stack.more(50)
    })
    await other.rollback()
  })
})

fault('C6', 'the table locked until all statements have given up', async () => {
  stack.write(clients)
  await stack.more(50)
  await withConnection(async (other) => {
    await other.query('LOCK TABLES Content WRITE')
    await toSay(code(1205), () => stack.more(100))
  })
  await stack.more(50)
})

fault('C7', 'MariaDB read-only', async () => {
  stack.write(clients)
  await stack.more(50)
  await sql('SET GLOBAL read_only = 1')
  try {
    await toSay(code(1290), () => stack.more(100))
  } finally {
    await sql('SET GLOBAL read_only = 0')
  }
  await stack.more(50)
})

fault('C8', 'out of connections', async () => {
  stack.write(clients)
  await stack.more(50)
  const others: Connection[] = []
  await withConnection(async (administrator) => {
    const refused = async () => {
      const [row] = await administrator.query("SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'")
      return Number(row.Value)
    }
    await administrator.query('SET GLOBAL max_connections = 10')
    try {
      // Spillway's own would come back as fast as they are ended: the places are taken while it is kept away.
      proxy.set('cut')
      await holds(async () =>
        expect(await administrator.query(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)).toEqual([]),
      )
      // One for the administrator, nine for the others, and none left but the one that the server keeps for administrators.
      for (let i = 0; i < 9; i++) others.push(await connect(stack.database))
      proxy.set('pass')
      const before = await refused()
      await stack.more(50)
      // They wait longer and longer between their tries.
      await holds(async () => expect(await refused()).toBeGreaterThan(before + 2), { timeoutMs: 60_000 })
    } finally {
      proxy.set('pass')
      await administrator.query('SET GLOBAL max_connections = 151')
      for (const other of others) other.destroy()
    }
  })
  await stack.more(50)
})

fault('C10', 'batches above a packet limit that was lowered while running', async () => {
  // Both workers have to have read the limit before it was lowered.
  await sql('SET GLOBAL max_allowed_packet = 1048576')
  try {
    await killConnections()
    await workersFrozen(async () => {
      // Three times what a packet takes; a good part of what one statement may hold.
      for (let i = 0; i < 3; i++) await saveMany(Array.from({ length: 25 }, (_, n) => `${n} ${"'".repeat(40_000)}`))
    })
    await stack.drained()
    expect(await stack.client.deadLetters()).toEqual([])
  } finally {
    await sql('SET GLOBAL max_allowed_packet = 16777216')
    await killConnections()
  }
})

fault('C10', 'one content that is more than the server takes, until it takes more', async () => {
  // One worker: the one that has learnt that it is too much is to learn that it is not.
  await stack.kill(stack.workers[0]!)
  await sql('SET GLOBAL max_allowed_packet = 65536')
  const ids: string[] = []
  try {
    await killConnections()
    const before = said('one statement may have at most')
    await holds(async () => {
      ids.push((await stack.once("'".repeat(60_000))).id)
      await stack.drained()
      expect(said('one statement may have at most')).toBeGreaterThan(before)
    })
    const letters = await stack.client.deadLetters()
    expect(letters.map(({ id, failure }) => [id, failure.code])).toEqual(ids.map((id) => [id, 'REJECTED']))
  } finally {
    await sql('SET GLOBAL max_allowed_packet = 16777216')
    await killConnections()
  }
  expect(await mutate('retryDeadLetters', ids)).toBe(ids.length)
  await stack.drained()
  // Without the contents, which are long.
  expect((await stack.client.deadLetters()).map(({ id }) => id)).toEqual([])
  await stack.startWorker()
})

test('C11: more placeholders than a statement may have', () => {
  notRun(
    'C11',
    'redis + mariadb',
    'more than 65,535 placeholders',
    'the text protocol has none, and a batch at most 10,000 rows',
  )
})

fault('C12', 'one row that the table rejects in a batch of 1,000', async () => {
  await withRule("content <> 'poison'", async () => {
    const contents = Array.from({ length: 1_000 }, (_, i) => (i === 617 ? 'poison' : `healthy ${i}`))
    const ids = await saveMany(contents)
    await stack.drained()
    expect(await stack.client.deadLetters()).toMatchObject([
      {
        id: ids[617],
        content: 'poison',
        failure: { code: 'REJECTED', message: expect.stringContaining(engine.checkViolated) },
      },
    ])
    const rows = await stack.rows()
    expect(ids.filter((id) => !rows.has(id))).toEqual([ids[617]])
    // Where nothing has changed, a retry changes nothing: it becomes a dead letter again, and once.
    expect(await mutate('retryDeadLetters', [ids[617]!])).toBe(1)
    await holds(async () => expect(await stack.client.deadLetters()).toMatchObject([{ id: ids[617] }]))
  })
})

fault('C12', 'its dead letter retried after the rule was dropped', async () => {
  const [letter] = await stack.client.deadLetters()
  expect(await mutate('retryDeadLetters', [letter!.id])).toBe(1)
  await stack.drained()
  expect(await stack.client.deadLetters()).toEqual([])
  expect(
    (
      await stack.client.graphql(
        'query ($id: ID!) { receipt(id: $id) { status ... on ContentReceipt { content { content } } } }',
        {
          id: letter!.id,
        },
      )
    ).data,
  ).toEqual({ receipt: { status: 'SAVED', content: { content: 'poison' } } })
})

fault('C13', 'entries that are no messages, and messages that the API would refuse', async () => {
  const message = (fields: object) =>
    JSON.stringify({ v: 1, type: 'content', id: randomUUID(), at: Date.now(), content: 'x', ...fields })
  const undecodable = [
    'not JSON',
    '',
    'null',
    '[]',
    '{"v":1',
    message({ v: 2 }),
    message({ type: 'vote' }),
    message({ at: null }),
  ]
  const rejected = [
    message({ id: 'x'.repeat(100) }),
    message({ id: 'NOT-A-UUID' }),
    message({ id: randomUUID().toUpperCase() }),
    message({ content: '\ud800' }),
    message({ content: 7 }),
  ]
  stack.write(clients)
  await stack.more(50)
  for (const body of [...undecodable, ...rejected]) await stack.redis.cli('XADD', stream, '*', 'm', body)
  await stack.redis.cli('XADD', stream, '*', 'foo', 'bar', 'id', 'theirs')
  await stack.more(50)
  await stack.stopWriting()
  await stack.drained()

  const letters = await stack.client.deadLetters()
  const codes = letters.map(({ failure }) => failure.code)
  expect(codes.filter((one) => one === 'UNDECODABLE')).toHaveLength(undecodable.length + 1)
  expect(codes.filter((one) => one === 'REJECTED')).toHaveLength(rejected.length)
  // Whole, as an operator sees them.
  const { stdout } = await deadLetters('list')
  for (const body of [...undecodable, '{"foo":"bar","id":"theirs"}'])
    expect(stdout).toContain(`  ${JSON.stringify(body.slice(0, 60))}\n`)
  expect(
    await mutate(
      'discardDeadLetters',
      letters.map(({ id }) => id),
    ),
  ).toBe(letters.length)
  expect(await stack.client.deadLetters()).toEqual([])
})

fault('C14', 'the table renamed, as by a migration of another program', async () => {
  stack.write(clients)
  await stack.more(50)
  await sql('RENAME TABLE Content TO Elsewhere')
  try {
    await toSay(code(1146), () => stack.more(100))
    expect(await stack.client.deadLetters()).toEqual([])
  } finally {
    await sql('RENAME TABLE Elsewhere TO Content')
  }
  await stack.more(50)
})

fault('C15', 'connections killed in the middle of statements', async () => {
  stack.write(clients)
  await stack.more(50)
  for (let i = 0; i < 3; i++) {
    await withConnection(async (other) => {
      await other.query('LOCK TABLES Content WRITE')
      await holds(async () => expect(await statementsUnderWay('INSERT%')).toBeGreaterThan(0))
      expect(await killConnections()).toBeGreaterThan(0)
    })
    await stack.more(50)
  }
})

fault('C15', 'connections lost while they are being set up', async () => {
  stack.write(clients)
  await stack.more(50)
  const before = proxy.kept()
  proxy.set({ kind: 'cut-before-reply', times: 20, when: (request) => request.includes('sql_mode') })
  await holds(
    async () => {
      await killConnections()
      expect(proxy.kept()).toBe(before + 20)
    },
    { timeoutMs: 20_000, intervalMs: 200 },
  )
  await stack.more(50)
})

fault('C17', 'MariaDB that ends again and again', async () => {
  stack.write(clients)
  for (let i = 0; i < 3; i++) {
    await stack.mariadb.stop('SIGKILL')
    // How often it is knocked at meanwhile: a second of it.
    const [before, since] = [proxy.accepted(), performance.now()]
    await holds(() => expect(performance.now() - since).toBeGreaterThan(1_000))
    const perSecond = ((proxy.accepted() - before) / (performance.now() - since)) * 1_000
    expect(perSecond).toBeLessThan(50)
    await stack.mariadb.restart()
    // Progress is made in what time there is.
    const rows = (await stack.rows()).size
    await holds(async () => expect((await stack.rows()).size).toBeGreaterThan(rows))
  }
})

test('C9: the disk of the table full', { timeout: 60_000 }, async () => {
  const name = 'the disk of the table full'
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk]).then(
    () => true,
    (error: Error) => {
      notRun(
        'C9',
        'redis + mariadb',
        name,
        `no small disk can be mounted here: ${error.message.trim().split('\n').at(-1)}`,
      )
      return false
    },
  )
  try {
    if (!mounted) return
    await judged('C9', name, async () => {
      await stack.drained()
      // The table as it is, for a while on a disk of its own.
      const [{ 'Create Table': definition }] = (await sql('SHOW CREATE TABLE Content')) as [{ 'Create Table': string }]
      await sql('RENAME TABLE Content TO Elsewhere')
      await sql(`${definition} DATA DIRECTORY = '${disk}'`)
      stack.write(clients, (i) => `${i} ${'x'.repeat(20_000)}`)
      // MariaDB says that the table is full, or gives up itself, by what it was about to write.
      const gone = () =>
        sql('SELECT 1').then(
          () => false,
          () => true,
        )
      const before = said(code(1114))
      await holds(async () => expect(said(code(1114)) > before || (await gone())).toBe(true), { timeoutMs: 20_000 })
      await stack.more(50)
      expect(await stack.client.deadLetters()).toEqual([])
      await run('mount', ['-o', 'remount,size=200m', disk])
      if (await gone()) await stack.mariadb.restart()
      await stack.stopWriting()
      await stack.drained()
      await sql('INSERT INTO Elsewhere SELECT * FROM Content')
      await sql('DROP TABLE Content')
      await sql('RENAME TABLE Elsewhere TO Content')
    })
  } finally {
    if (mounted) await run('umount', ['-l', disk])
  }
})

fault('P3', 'the same id from ten clients at once', async () => {
  for (let i = 0; i < 10; i++) {
    const [id, content] = [randomUUID(), `the same ${i}`]
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => save(content, id, stack.apis[n % stack.apis.length])),
    )
    expect(answers.filter(({ receipt }) => receipt?.duplicate === false)).toHaveLength(1)
    expect(answers.filter(({ receipt }) => receipt?.duplicate === true)).toHaveLength(9)
    stack.sent.set(id, content)
    stack.acknowledged.add(id)
  }
})

fault('P3', 'the same id with other content, while it is queued and once it is saved', async () => {
  const id = randomUUID()
  await workersFrozen(async () => {
    expect((await stack.once('first', { id })).status).toBe(202)
    // Each of them was heard while the first one was in the queue.
    const answers = await Promise.all(stack.apis.map((api) => save('other', id, api)))
    for (const answer of answers) expect(answer.code).toBe('ID_CONFLICT')
  })
  await stack.drained()
  expect((await save('other', id)).code).toBe('ID_CONFLICT')
  expect(await stack.client.deadLetters()).toEqual([])
})

fault('FA8', 'the same id with other content, once the queue has forgotten that it is saved', async () => {
  const id = randomUUID()
  expect((await stack.once('first', { id })).status).toBe(202)
  await stack.drained()
  // The queue remembers a bounded number of saved ids; then the database tells.
  await stack.redis.cli('DEL', '{spillway:0}:saved', '{spillway:0}:saved-before')
  expect((await save('other', id)).receipt).toMatchObject({ status: 'QUEUED', duplicate: false })
  const conflict = { id, content: 'other', failure: { code: 'ID_CONFLICT' } }
  await holds(async () => expect(await stack.client.deadLetters()).toMatchObject([conflict]))
  // Whoever asks for the id is told of the first content.
  const stands = async () => {
    expect((await stack.rows()).get(id)).toBe('first')
    const { receipt } = (
      await stack.client.graphql(
        `{ receipt(id: "${id}") { status conflicts ... on ContentReceipt { content { content } } } }`,
      )
    ).data
    expect(receipt).toEqual({ status: 'SAVED', conflicts: 1, content: { content: 'first' } })
  }
  await stands()
  // A retry does not overwrite it either.
  expect(await mutate('retryDeadLetters', [id])).toBe(1)
  await holds(async () => expect(await stack.client.deadLetters()).toMatchObject([conflict]))
  await stands()
  expect(await mutate('discardDeadLetters', [id])).toBe(1)
})

fault('FA7', 'the dead letters deleted, and an id of theirs saved again among 19 others', async () => {
  let dead: string[] = []
  await withRule("content NOT LIKE 'coarse%'", async () => {
    dead = await saveMany(['coarse'])
    await holds(async () => expect(await stack.client.deadLetters()).toHaveLength(1))
  })
  await stack.redis.cli('DEL', '{spillway:0}:dead')
  const ids: string[] = Array.from({ length: 19 }, () => randomUUID())
  ids.splice(7, 0, dead[0]!)
  const answers = await Promise.all(ids.map((id) => stack.once('coarse', { id })))
  for (const { status } of answers) expect(status).toBe(202)
  await stack.drained()
  const rows = await stack.rows()
  for (const id of ids) expect(rows.get(id)).toBe('coarse')
})

fault('FD7', 'dead letters that somebody has damaged, beside one that is well', async () => {
  let dead: string[] = []
  await withRule("content NOT LIKE 'vulgar%'", async () => {
    dead = await saveMany(['vulgar'])
    await holds(async () => expect(await stack.client.deadLetters()).toHaveLength(1))
  })
  const put = (...fields: string[]) => stack.redis.cli('XADD', '{spillway:0}:dead', '*', ...fields)
  const handles = [await put('colour', 'red'), await put('m', '{"v":1}', 'f', 'no JSON'), await put('f', '{"code":1}')]
  const undecodable = handles.map((id) => ({ id, content: null, failure: { code: 'UNDECODABLE', attempts: 0 } }))
  expect(await stack.client.deadLetters()).toMatchObject([
    { id: dead[0], failure: { code: 'REJECTED' } },
    ...undecodable,
  ])
  const { stdout } = await deadLetters('list')
  for (const handle of handles) expect(stdout).toMatch(new RegExp(`^${handle} .* UNDECODABLE  after 0 `, 'm'))
  expect(stdout).toContain('dead letters: 4\n')
  expect((await deadLetters('discard', ...(handles as string[]))).stdout).toBe('discarded: 3\n')
  expect(await mutate('retryDeadLetters', dead)).toBe(1)
  await holds(async () => expect((await stack.rows()).get(dead[0]!)).toBe('vulgar'))
})

fault('P2', 'dead letters listed, retried and discarded from a shell', async () => {
  let ids: string[] = []
  await withRule("content NOT LIKE 'rude%'", async () => {
    ids = await saveMany(['rude 0', 'rude 1', 'rude 2', 'polite'])
    await holds(async () => expect(await stack.client.deadLetters()).toHaveLength(3))
  })
  const { stdout } = await deadLetters('list')
  for (const id of ids.slice(0, 3))
    expect(stdout).toMatch(new RegExp(`^${id} .* REJECTED  after 1 .*  Content  \\{"content":"rude \\d"\\}$`, 'm'))
  expect(stdout).toContain('dead letters: 3\n')

  expect((await deadLetters('retry', ids[0]!.toUpperCase())).stdout).toBe('back in the queue: 1\n')
  await holds(async () => expect((await stack.rows()).get(ids[0]!)).toBe('rude 0'))
  expect((await deadLetters('discard', ids[1]!, randomUUID())).stdout).toBe('discarded: 1\n')
  stack.acknowledged.delete(ids[1]!)
  expect((await deadLetters('retry', '--all')).stdout).toBe('back in the queue: 1\n')
  expect((await deadLetters('discard', '--all')).stdout).toBe('discarded: 0\n')
  expect((await deadLetters('list')).stdout).toBe('dead letters: 0\n')
})

test.each([
  ['no command', []],
  ['a command that there is not', ['bury']],
  ['nothing to retry', ['retry']],
  ['nothing to discard', ['discard']],
  ['ids and all of them', ['discard', randomUUID(), '--all']],
  ['an option that there is not', ['list', '--force']],
])('npm run dead-letters with %s prints its usage', async (_, args) => {
  await expect(deadLetters(...args)).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/usage: |Unknown option/),
  })
})

test('npm run dead-letters says that the queue cannot be reached', async () => {
  const { env } = stack
  stack.env = { ...env, QUEUE_URL: 'redis://127.0.0.1:1' }
  const answer = deadLetters('list').finally(() => {
    stack.env = env
  })
  await expect(answer).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('it cannot be reached'),
  })
})

/** npm run dead-letters -- … */
async function deadLetters(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const cwd = await mkdtemp(join(tmpdir(), 'spillway-shell-'))
  try {
    const file = fileURLToPath(new URL('../../src/commands/dead-letters.ts', import.meta.url))
    return await run(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...args], {
      cwd,
      env: { ...inherited(), ...stack.env },
    })
  } finally {
    await rm(cwd, { recursive: true, force: true })
  }
}
