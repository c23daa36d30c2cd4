/**
 * Whose fault it is (FA3, FA4, FA5, FA15, FA16 of docs/faults.md): the server refuses every row, a look-up fails, a parent comes late, workers stop
 * and die while the table is away. A message is dead-lettered only for what it fails at by itself while others are saved.
 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { query } from '../harness/mariadb.ts'
import type { SpillwayProcess } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

let stack: Stack
let ports: number[]

beforeAll(async () => {
  ports = [await freePort(), await freePort()]
  stack = await Stack.start({
    workers: 0,
    async databaseUrl(url) {
      const app = new URL(url)
      await query(url, "CREATE USER app@'%'")
      await query(url, `GRANT CREATE, ALTER, INDEX, SELECT, INSERT, UPDATE ON ${app.pathname.slice(1)}.* TO app@'%'`)
      app.username = 'app'
      return app.href
    },
    env: { WORKER_MAX_ATTEMPTS: '1' },
    // In place of the 10 s and 3 s that users have: entries of killed workers wait for it.
    intervals: { reclaimMs: 3_000, defaultExtendLeaseEveryMs: 750 },
  })
  await startWorkers()
  // From here on by table, so that a right can be taken from statements under way.
  const [name, sqlAsRoot] = [databaseName(), (statement: string) => stack.mariadb.sql(statement)]
  await sqlAsRoot(`GRANT SELECT, INSERT ON ${name}.Content TO app@'%'`)
  await sqlAsRoot(`REVOKE SELECT, INSERT, UPDATE ON ${name}.* FROM app@'%'`)
  await sqlAsRoot(`GRANT SELECT ON ${name}._prisma_migrations TO app@'%'`)
})
afterAll(() => stack?.stop())

const databaseName = () => new URL(stack.database).pathname.slice(1)
const sql = (statement: string) => stack.mariadb.sql(statement, databaseName())

async function startWorkers(env: Record<string, string> = {}): Promise<void> {
  const missing = ports.slice(stack.workers.length)
  await Promise.all(missing.map((port) => stack.startWorker({ WORKER_PORT: String(port), ...env })))
}

/** Injects a fault, and judges. */
function fault(id: string, name: string, inject: () => Promise<void>, options: { letters?: number } = {}): void {
  test(`${id}: ${name}`, { timeout: 300_000 }, async () => {
    try {
      await inject()
      const verdict = await stack.verdict(name)
      record(id, 'redis + mariadb', verdict)
      expectSound(verdict)
      expect(verdict.deadLetters).toBe(options.letters ?? 0)
    } finally {
      await stack.stopWriting()
      await startWorkers()
      await forgetDeadLetters()
    }
  })
}

/** A dead letter of this test is none of the next one. */
async function forgetDeadLetters(): Promise<void> {
  const ids = (await stack.client.deadLetters()).map(({ id }) => id)
  for (const id of ids) {
    stack.sent.delete(id)
    stack.acknowledged.delete(id)
  }
  if (ids.length > 0) await stack.client.changeDeadLetters('discard', { ids })
}

/** Saves one and resolves when it is acknowledged. */
async function save(content: string, id = randomUUID() as string): Promise<string> {
  expect(await stack.save(id, content, 0, AbortSignal.timeout(20_000))).toBe(true)
  return id
}

const hasRow = async (id: string) => (await sql(`SELECT id FROM Content WHERE id = '${id}'`)).length === 1
const logs = () => stack.workers.map((worker) => worker.logs()).join('\n')
const occurrences = (text: string) => logs().split(text).length - 1
const readiness = async () => {
  const answers = await Promise.all(ports.map((port) => fetch(`http://127.0.0.1:${port}/readyz`)))
  return await Promise.all(
    // biome-ignore lint/suspicious/noExplicitAny: a test knows what it asked for.
    answers.map(async (answer) => ({ status: answer.status, body: (await answer.json()) as any })),
  )
}

/** For as long as `work` lasts every INSERT ends with this code. */
async function withEveryInsertFailing(signal: string, when: 'BEFORE' | 'AFTER', work: () => Promise<void>) {
  await sql(`CREATE TRIGGER broken ${when} INSERT ON Content FOR EACH ROW SIGNAL SQLSTATE ${signal}`)
  try {
    await work()
  } finally {
    await sql('DROP TRIGGER broken')
  }
}

/** Long enough for a message to be dead-lettered that is counted against; then until each of the two workers says what it waits for. */
async function untilEachWaits(code: string): Promise<void> {
  await nothingIsBlamedFor(1_500)
  await holds(
    async () => {
      await save(`for another worker ${randomUUID()}`)
      for (const { status, body } of await readiness()) {
        expect(status).toBe(503)
        expect(body.worker).toMatchObject({ code, waitingSince: expect.any(String) })
      }
    },
    { timeoutMs: 30_000, intervalMs: 200 },
  )
}

async function nothingIsBlamedFor(ms: number): Promise<void> {
  const since = performance.now()
  await holds(() => expect(performance.now() - since).toBeGreaterThan(ms), { timeoutMs: ms + 5_000 })
  expect(await stack.client.deadLetters()).toEqual([])
}

for (const [code, signal, when] of [
  ['1047', "'08S01' SET MYSQL_ERRNO = 1047", 'BEFORE'],
  ['29999', "'HY000' SET MYSQL_ERRNO = 29999", 'BEFORE'],
  ['29999', "'HY000' SET MYSQL_ERRNO = 29999", 'AFTER'],
  ['4025', "'23000' SET MYSQL_ERRNO = 4025", 'AFTER'],
] as const) {
  fault('FA3', `every statement fails with ${code} (${when} INSERT)`, async () => {
    await save('one that is there already')
    await stack.drained()
    const before = occurrences('the database takes no rows of this model;')
    await withEveryInsertFailing(signal, when, async () => {
      // A lone one, and then many.
      const lone = await save('alone')
      await nothingIsBlamedFor(1_500)
      await holds(() => expect(occurrences('the database takes no rows of this model;')).toBeGreaterThan(before))
      stack.write(4)
      await untilEachWaits(code)
      await stack.more(50)
      await stack.stopWriting()
      expect(await stack.client.deadLetters()).toEqual([])
      expect(await hasRow(lone)).toBe(false)
      const metrics = await Promise.all(
        ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
      )
      for (const text of metrics) expect(text).toMatch(/^spillway_store_waiting_seconds\{model="Content"\} [1-9]/m)
      // Once at the beginning, and not with every try.
      expect(occurrences('the database takes no rows of this model;') - before).toBeLessThanOrEqual(4)
    })
    await stack.drained()
    await holds(async () => expect((await readiness()).map(({ status }) => status)).toEqual([200, 200]))
    expect(occurrences('the database takes rows again')).toBeGreaterThan(0)
  })
}

fault('FA16', 'a column that must not be null is added: a migration under way', async () => {
  stack.write(4)
  await stack.more(50)
  await sql('ALTER TABLE Content ADD tenant VARCHAR(20) NOT NULL')
  try {
    await untilEachWaits('1364')
    await stack.more(50)
    expect(await stack.client.deadLetters()).toEqual([])
  } finally {
    await sql('ALTER TABLE Content DROP tenant')
  }
  await stack.more(20)
})

fault(
  'FA3',
  'an unknown error of one row: its neighbours are saved at once, and it is not given up within a minute',
  async () => {
    await sql(`CREATE TRIGGER odd BEFORE INSERT ON Content FOR EACH ROW
      BEGIN IF NEW.content LIKE 'odd%' THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 29999; END IF; END`)
    try {
      stack.write(4)
      await stack.more(20)
      const odd = await save('odd one')
      const neighbours = await Promise.all(Array.from({ length: 20 }, (_, i) => save(`a neighbour ${i}`)))
      for (const id of neighbours) await holds(async () => expect(await hasRow(id)).toBe(true), { timeoutMs: 5_000 })
      await nothingIsBlamedFor(4_000)
      expect((await readiness()).map(({ status }) => status)).toEqual([200, 200])
      expect(await hasRow(odd)).toBe(false)
    } finally {
      await sql('DROP TRIGGER odd')
    }
  },
)

fault('FA4', 'an INSERT says duplicate, and the look-up is forbidden', async () => {
  stack.write(4)
  await stack.more(20)
  await stack.stopWriting()
  await stack.drained()
  const ids = Array.from({ length: 5 }, () => randomUUID() as string)
  // As an earlier try left them, whose answer was lost.
  for (const id of ids) await sql(`INSERT INTO Content VALUES ('${id}', 'already there', NOW(3), NOW(3))`)
  await stack.mariadb.sql(`REVOKE SELECT ON ${databaseName()}.Content FROM app@'%'`)
  try {
    for (const id of ids) await save('already there', id)
    await nothingIsBlamedFor(1_500)
    expect(logs()).toContain('"code":"1142"')
  } finally {
    await stack.mariadb.sql(`GRANT SELECT ON ${databaseName()}.Content TO app@'%'`)
  }
})

fault('FA5', '1,000 children queued before their parents, two workers', async () => {
  await sql(`ALTER TABLE Content
    ADD parent CHAR(36) CHARACTER SET ascii COLLATE ascii_bin AS (IF(content LIKE 'child of %', SUBSTR(content, 10, 36), NULL)) STORED,
    ADD CONSTRAINT descent FOREIGN KEY (parent) REFERENCES Content (id)`)
  try {
    for (const worker of [...stack.workers]) await stack.kill(worker, 'SIGTERM')
    const parents = Array.from({ length: 10 }, () => randomUUID() as string)
    for (const parent of parents) {
      await saveMany(Array.from({ length: 100 }, () => ({ id: randomUUID(), content: `child of ${parent}` })))
    }
    await saveMany(parents.map((id) => ({ id, content: 'a parent' })))
    // More children than the batches that two workers may have in flight: the parents wait behind them.
    await startWorkers({ WORKER_BATCH: '50' })
    await stack.drained(150_000)
    expect(await stack.client.deadLetters()).toEqual([])
  } finally {
    await sql('ALTER TABLE Content DROP FOREIGN KEY descent, DROP parent')
  }
})

async function saveMany(inputs: { id: string; content: string }[]): Promise<void> {
  for (const { id, content } of inputs) stack.sent.set(id, content)
  const { data } = await stack.client.graphql(
    'mutation ($inputs: [ContentInput!]!) { saveMany(inputs: $inputs) { status } }',
    {
      inputs,
    },
  )
  expect(data.saveMany).toHaveLength(inputs.length)
  for (const { id } of inputs) stack.acknowledged.add(id)
}

/** Ends workers again and again while something keeps them from the table; each has taken entries before it ends. */
async function endAgainAndAgain(signal: NodeJS.Signals): Promise<void> {
  for (let i = 0; i < ends; i++) {
    const worker: SpillwayProcess = stack.workers[0] ?? (await stack.startWorker({ WORKER_PORT: String(ports[0]) }))
    await holds(async () => expect(await inFlight(worker)).toBeGreaterThan(0), { timeoutMs: 20_000 })
    // And the try it may be at is under way.
    await holds(() => expect(worker.logs()).toMatch(/the database takes no rows|received entries/))
    expect(await stack.kill(worker, signal)).toBe(signal === 'SIGTERM' ? 0 : 'SIGKILL')
  }
}

/** Entries that this worker holds. */
async function inFlight({ pid }: SpillwayProcess): Promise<number> {
  const consumers = (await stack.redis.cli('XINFO', 'CONSUMERS', '{spillway:0}:queue', 'workers')) as unknown[][]
  const mine = consumers.find((fields) => String(fields[1]).includes(`-${pid}-`))
  return Number(mine?.[3] ?? 0)
}

/** If these ends counted against a message, the worker after the third one would dead-letter it: the first end is not counted, the second
 *  one is with others, the third one alone. */
const ends = 4

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  fault('FA15', `the table renamed away, and a worker ended by ${signal} ${ends} times`, async () => {
    stack.write(4)
    await stack.more(20)
    await stack.stopWriting()
    await stack.drained()
    for (const worker of [...stack.workers]) await stack.kill(worker, 'SIGTERM')
    await sql('RENAME TABLE Content TO Elsewhere')
    try {
      for (let i = 0; i < 3; i++) await save(`good ${i}`)
      await endAgainAndAgain(signal)
      expect(await stack.client.deadLetters()).toEqual([])
    } finally {
      await sql('RENAME TABLE Elsewhere TO Content')
    }
    await startWorkers()
  })
}

fault('FA15', `the server frozen, and a worker ended by SIGKILL ${ends} times`, async () => {
  stack.write(4)
  await stack.more(20)
  await stack.stopWriting()
  await stack.drained()
  for (const worker of [...stack.workers]) await stack.kill(worker)
  for (let i = 0; i < ends; i++) {
    const worker = await stack.startWorker({ WORKER_PORT: String(ports[0]) })
    // Frozen at once, it would wait for its database, and take nothing.
    await holds(async () => expect((await fetch(`http://127.0.0.1:${ports[0]}/readyz`)).status).toBe(200))
    stack.mariadb.pause()
    try {
      await save(`good, and its worker is killed ${i}`)
      await holds(async () => expect(await inFlight(worker)).toBeGreaterThan(0), { timeoutMs: 20_000 })
      await stack.kill(worker)
    } finally {
      stack.mariadb.resume()
    }
  }
  await startWorkers()
})
