/**
 * Whose fault it is, embedded (FA3, FA5, FA15, FA16 of docs/faults.md): the table refuses every row, a parent comes late, the process is stopped
 * and killed while the table is away.
 */
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

let stack: Stack
beforeAll(async () => {
  stack = await Stack.start({
    embedded: true,
    env: { WORKER_MAX_ATTEMPTS: '1', WORKER_BATCH: '30' },
  })
})
afterAll(() => stack?.stop())

function fault(id: string, name: string, inject: () => Promise<void>): void {
  test(`${id}: embedded: ${name}`, { timeout: 300_000 }, async () => {
    try {
      stack.write(4)
      await stack.more(25)
      await stack.stopWriting()
      await stack.drained()
      await inject()
      const verdict = await stack.verdict(name)
      record(id, 'embedded', verdict)
      expectSound(verdict)
      expect(verdict.deadLetters).toBe(0)
    } finally {
      await stack.stopWriting()
    }
  })
}

function sql(...statements: string[]): void {
  const db = new DatabaseSync(stack.database, { timeout: 10_000 })
  try {
    for (const statement of statements) db.exec(statement)
  } finally {
    db.close()
  }
}

async function save(content: string, id = randomUUID() as string): Promise<string> {
  expect(await stack.save(id, content, 0, AbortSignal.timeout(20_000))).toBe(true)
  return id
}

async function nothingIsBlamedFor(ms: number): Promise<void> {
  const since = performance.now()
  await holds(() => expect(performance.now() - since).toBeGreaterThan(ms), { timeoutMs: ms + 5_000 })
  expect(await stack.client.deadLetters()).toEqual([])
}

/** The API accepts saves, and says what its worker waits for. */
async function saysThatItWaits(code: string): Promise<void> {
  const { url } = stack.apis[0]!
  await holds(async () => {
    const answer = await fetch(`${url}/readyz`)
    expect(answer.status).toBe(200)
    expect(((await answer.json()) as { worker?: object }).worker).toMatchObject({ code })
  })
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(
    /^spillway_store_waiting_seconds\{model="Content"\} (?!0$)/m,
  )
}

fault('FA1', 'a trigger drops every row without an error', async () => {
  sql('CREATE TRIGGER broken BEFORE INSERT ON Content BEGIN SELECT RAISE(IGNORE); END')
  const waiting = await Promise.all(Array.from({ length: 20 }, (_, n) => save(`dropped ${n}`)))
  await saysThatItWaits('ROW_COUNT')
  const { data } = await stack.client.graphql(`{ receipt(id: "${waiting[0]}") { status } }`)
  expect(data.receipt.status).toBe('QUEUED')
  await nothingIsBlamedFor(1_500)
  sql('DROP TRIGGER broken')
})

fault('FA3', 'a trigger refuses every row, after it was inserted', async () => {
  sql("CREATE TRIGGER broken AFTER INSERT ON Content BEGIN SELECT RAISE(ABORT, 'broken'); END")
  await save('alone')
  await nothingIsBlamedFor(1_500)
  await saysThatItWaits('1811')
  stack.write(4)
  await stack.more(50)
  await stack.stopWriting()
  await nothingIsBlamedFor(1_000)
  sql('DROP TRIGGER broken')
})

fault('FA16', 'the table has another column, which must not be null', async () => {
  sql(
    'ALTER TABLE Content RENAME TO Elsewhere',
    `CREATE TABLE Content (id TEXT NOT NULL PRIMARY KEY, content TEXT NOT NULL, createdAt DATETIME NOT NULL, savedAt DATETIME NOT NULL,
      tenant TEXT NOT NULL)`,
  )
  await save('alone')
  await nothingIsBlamedFor(1_500)
  await saysThatItWaits('1299')
  sql('DROP TABLE Content', 'ALTER TABLE Elsewhere RENAME TO Content')
})

// More children than the eight batches that a worker may have in flight: the parents wait behind them.
fault('FA5', '300 children queued before their parents', async () => {
  sql(`ALTER TABLE Content ADD COLUMN parent TEXT
    AS (CASE WHEN content LIKE 'child of %' THEN substr(content, 10, 36) END) VIRTUAL REFERENCES Content (id)`)
  // Nothing is taken before all of it is in the queue.
  sql('ALTER TABLE Content RENAME TO Elsewhere')
  const parents = Array.from({ length: 3 }, () => randomUUID() as string)
  for (const parent of parents)
    await saveMany(Array.from({ length: 100 }, () => ({ id: randomUUID(), content: `child of ${parent}` })))
  await saveMany(parents.map((id) => ({ id, content: 'a parent' })))
  sql('ALTER TABLE Elsewhere RENAME TO Content')
  await stack.drained(100_000)
  expect(await stack.client.deadLetters()).toEqual([])
  sql('ALTER TABLE Content DROP COLUMN parent')
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

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  fault('FA15', `the table renamed away, and the process ended by ${signal} 4 times`, async () => {
    sql('ALTER TABLE Content RENAME TO Elsewhere')
    for (let i = 0; i < 4; i++) {
      if (i < 2) await save(`good ${i}`)
      await holds(async () =>
        expect((await stack.client.graphql('{ queue { inFlight } }')).data.queue.inFlight).toBeGreaterThan(0),
      )
      await holds(() => expect(stack.apis[0]!.logs()).toContain('the database takes no rows'))
      expect(await stack.kill(stack.apis[0]!, signal)).toBe(signal === 'SIGTERM' ? 0 : 'SIGKILL')
      await stack.startApi()
    }
    expect(await stack.client.deadLetters()).toEqual([])
    sql('ALTER TABLE Elsewhere RENAME TO Content')
  })
}
