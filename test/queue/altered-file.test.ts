/** The embedded queue's file, altered by another program while Spillway runs: a call that fails is QUEUE_UNAVAILABLE and says why. */
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { SqliteEventLog } from '../../src/events/sqlite.ts'
import { type Failure, SpillwayError } from '../../src/model/error.ts'
import type { Consumer, Entry } from '../../src/queue/queue.ts'
import type { SqliteQueue } from '../../src/queue/sqlite.ts'
import { discardIds, retryIds } from '../harness/dead-letters.ts'
import { eventually } from '../harness/eventually.ts'
import { type TestSqlite, testSqlite } from '../harness/sqlite.ts'
import { item } from '../suites/queue.ts'

const failure: Failure = { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(1_000) }
const conflict: Failure = { ...failure, code: 'ID_CONFLICT' }
const capacity = 10

let sqlite: TestSqlite
let queue: SqliteQueue
let events: SqliteEventLog
let consumer: Consumer
let entries: Entry[]
let dead: string
let late: string

beforeEach(async () => {
  sqlite = await testSqlite({ capacity })
  queue = await sqlite.queue()
  events = await sqlite.events()
  consumer = queue.consumer('w')
  const receive = () =>
    eventually(async () => {
      const received = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)
      return received.length > 0 && received
    }) as Promise<Entry[]>
  dead = randomUUID()
  late = randomUUID()
  await queue.enqueue([[item(dead, 'dead'), item(late, 'late'), item(randomUUID(), 'saved')]])
  const [a, b, c] = await receive()
  await consumer.deadLetter([
    { entry: a!, failure },
    { entry: b!, failure: conflict },
  ])
  await consumer.ack([c!])
  await queue.enqueue([[item(randomUUID(), 'one'), item(randomUUID(), 'two'), item(randomUUID(), 'three')]])
  entries = await receive()
  await events.append([[]])
})
afterEach(() => sqlite.cleanup())

function alter(sql: string): void {
  const db = new DatabaseSync(sqlite.path, { timeout: 5_000 })
  db.exec(sql)
  db.close()
}

const steps: [string, () => Promise<unknown>][] = [
  ['enqueue', () => queue.enqueue([[item(randomUUID(), 'x')], [{ ...item(randomUUID(), 'y'), fresh: true }]])],
  ['find', () => queue.find([dead])],
  ['status', () => queue.status()],
  ['deadLetters', () => queue.deadLetters(10)],
  ['countAttempt', () => consumer.countAttempt(entries[0]!)],
  ['extendLease', () => consumer.extendLease(entries)],
  ['markSaved', () => consumer.markSaved(entries.slice(0, 1))],
  ['ack', () => consumer.ack(entries.slice(0, 1))],
  ['deadLetter', () => consumer.deadLetter([{ entry: entries[1]!, failure }])],
  ['receive', () => consumer.receive({ rows: 10, bytes: 1_000 }, 1)],
  ['deadLetters, newest first', () => queue.deadLetters(10, { newestFirst: true })],
  ['deadLettersOf', () => queue.deadLettersOf([dead])],
  ['retry', () => retryIds(queue, [dead])],
  ['retry of a handle', () => queue.retry(['1'])],
  ['retry of a handle, dry', () => queue.retry(['1'], { dryRun: true })],
  ['replace', () => queue.replace('2', item(late, 'new'))],
  ['discard', () => discardIds(queue, [dead])],
  ['discard of a handle', () => queue.discard(['1'])],
  ['append', () => events.append([[]])],
  ['tail', () => events.tail()],
  ['read', async () => events.read({ ...(await events.tail()), major: 0, minor: 0 }, 10)],
]

const tables = ['message', 'pending', 'delivery', 'owner', 'letter', 'saved', 'log', 'epoch', 'counter', 'conflict']

/** The tables that a save needs until it is acknowledged. */
const needed = ['message', 'pending', 'delivery', 'letter', 'saved', 'counter', 'conflict']

describe.each(tables)('SqliteQueue, with its table %s', (table) => {
  test('emptied while it runs, answers every call', async () => {
    alter(`DELETE FROM ${table}`)
    for (const [name, step] of steps) {
      await step().catch((error) => {
        // Earlier cursors expire.
        expect(error, name).toMatchObject({ code: 'CURSOR_EXPIRED' })
      })
    }
    expect(await queue.probe()).toBeUndefined()
  })

  test('dropped while it runs, rejects a call that needs it with QUEUE_UNAVAILABLE and what to do', async () => {
    alter(`DROP TABLE ${table}`)
    if (needed.includes(table)) expect(await queue.probe()).toBe('SQLITE_ERROR')
    for (const [name, step] of steps) {
      await step().catch((error) => {
        expect(error, name).toBeInstanceOf(SpillwayError)
        if (error.code === 'CURSOR_EXPIRED') return
        expect(error, name).toMatchObject({
          code: 'QUEUE_UNAVAILABLE',
          message: expect.stringMatching(/lacks a table.*backup.*Nothing was changed/),
          retryAfterMs: expect.any(Number),
        })
      })
    }
  })
})

test('SqliteQueue recounts what its counters lack, and enqueues up to its capacity', async () => {
  alter('DELETE FROM counter')
  expect(await queue.status()).toMatchObject({ depth: 3, deadLetters: 2 })
  await queue.enqueue([[item(randomUUID(), 'x')]])
  expect(await queue.status()).toMatchObject({ depth: 4, deadLetters: 2 })
  alter("UPDATE counter SET value = 10 WHERE name = 'messages'; DELETE FROM message")
  expect(await queue.status()).toMatchObject({ depth: 0 })
  const all = Array.from({ length: capacity }, () => item(randomUUID(), 'x'))
  expect(await queue.enqueue([all])).toMatchObject([all.map(() => ({ status: 'QUEUED', duplicate: false }))])
  expect(await queue.enqueue([[item(randomUUID(), 'x')]])).toMatchObject([{ code: 'QUEUE_FULL' }])
  expect(await queue.status()).toMatchObject({ depth: capacity })
})
