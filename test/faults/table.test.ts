/**
 * FA18 on whole processes: the table is replaced, altered or emptied of its primary key while saves go on. Nothing is reported as saved that
 * is no row, nothing is dead-lettered, the worker's readiness says why it waits, and everything is saved once the table is mended.
 */
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { engine } from '../harness/engine.ts'
import { holds } from '../harness/eventually.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { record } from './table.ts'

interface Case {
  name: string
  change: string[]
  says: RegExp
  mend: string[]
}

const engines = (name: string): Case => ({
  name: `the table replaced by one with ENGINE=${name}`,
  change: [
    'CREATE TABLE Replaced LIKE Content',
    `ALTER TABLE Replaced ENGINE = ${name}`,
    'RENAME TABLE Content TO Kept, Replaced TO Content',
  ],
  says: new RegExp(`has the engine ${name}`),
  mend: ['DROP TABLE Content', 'RENAME TABLE Kept TO Content'],
})

const mariadbCases: Case[] = [
  engines('BLACKHOLE'),
  {
    name: 'the primary key dropped while running',
    change: ['ALTER TABLE Content DROP PRIMARY KEY'],
    says: /no primary key on id alone/,
    mend: ['ALTER TABLE Content ADD PRIMARY KEY (id)'],
  },
  {
    name: 'a unique index on savedAt added while running',
    change: ['DELETE FROM Content', 'CREATE UNIQUE INDEX theirs ON Content (savedAt)'],
    says: /the unique index theirs/,
    mend: ['DROP INDEX theirs ON Content'],
  },
]

const sqliteCases: Case[] = [
  {
    name: 'the table replaced by a view whose trigger drops rows',
    change: [
      'ALTER TABLE Content RENAME TO Kept',
      'CREATE VIEW Content AS SELECT * FROM Kept',
      'CREATE TRIGGER instead INSTEAD OF INSERT ON Content BEGIN SELECT 1; END',
    ],
    says: /Content is a view/,
    mend: ['DROP VIEW Content', 'ALTER TABLE Kept RENAME TO Content'],
  },
  {
    name: 'the table replaced by one without a primary key',
    change: ['ALTER TABLE Content RENAME TO Kept', 'CREATE TABLE Content AS SELECT * FROM Kept'],
    says: /no primary key on id alone/,
    mend: [
      'INSERT OR IGNORE INTO Kept SELECT * FROM Content',
      'DROP TABLE Content',
      'ALTER TABLE Kept RENAME TO Content',
    ],
  },
]

let servers: Stack
let embedded: Stack
let port: number
beforeAll(async () => {
  port = await freePort()
  servers = await Stack.start({ apis: 1, workers: 0, env: { WORKER_MAX_ATTEMPTS: '1' } })
  await servers.startWorker({ WORKER_PORT: String(port) })
  await servers.mariadb.sql(engine.addBlackhole)
  embedded = await Stack.start({ embedded: true, env: { WORKER_MAX_ATTEMPTS: '1' } })
}, 180_000)
afterAll(() => Promise.all([servers?.stop(), embedded?.stop()]))

/** Saves, which are answered when they are saved or after the wait. */
async function statusOf(stack: Stack, content: string): Promise<string> {
  const answer = await stack.client.graphql(
    'mutation ($content: String!) { save(content: $content, waitMs: 1000) { saveId status } }',
    { content },
  )
  const { saveId: id, status } = answer.data.save
  stack.sent.set(id, content)
  stack.acknowledged.add(id)
  return status
}

async function judge(stack: Stack, one: Case, sql: (statement: string) => Promise<unknown>, readyUrl: string) {
  stack.write(4)
  await stack.more(25)
  await stack.stopWriting()
  await stack.drained()
  if (one.change[0]?.startsWith('DELETE')) forget(stack)
  const log = () => [...stack.apis, ...stack.workers].map((process) => process.logs()).join('\n')
  const from = log().length
  for (const statement of one.change) await sql(statement)
  expect(await statusOf(stack, 'while the table is wrong')).toBe('QUEUED')
  stack.write(4)
  await stack.more(50)
  await stack.stopWriting()
  await holds(() => expect(log().slice(from - 1)).toMatch(one.says))
  await holds(async () => {
    const answer = await fetch(`${readyUrl}/readyz`)
    const { worker } = (await answer.json()) as { worker?: { code: string } }
    expect([answer.status, worker?.code]).toEqual([stack === embedded ? 200 : 503, 'TABLE'])
  })
  expect(await stack.client.deadLetters()).toEqual([])
  for (const statement of one.mend) await sql(statement)
  const verdict = await stack.verdict(one.name)
  record('FA18', stack === embedded ? 'embedded' : 'redis + mariadb', verdict)
  expectSound(verdict)
  expect(verdict.deadLetters).toBe(0)
}

/** What the test itself has deleted is not lost. */
function forget(stack: Stack): void {
  stack.sent.clear()
  stack.acknowledged.clear()
}

for (const one of mariadbCases)
  test(`FA18: ${one.name}`, { timeout: 180_000 }, async () => {
    const sql = (statement: string) => servers.mariadb.sql(statement, new URL(servers.database).pathname.slice(1))
    await judge(servers, one, sql, `http://127.0.0.1:${port}`)
  })

for (const one of sqliteCases)
  test(`FA18: embedded: ${one.name}`, { timeout: 180_000 }, async () => {
    const sql = async (statement: string) => {
      const db = new DatabaseSync(embedded.database, { timeout: 10_000 })
      try {
        db.exec(statement)
      } finally {
        db.close()
      }
    }
    await judge(embedded, one, sql, embedded.apis[0]!.url!)
  })
