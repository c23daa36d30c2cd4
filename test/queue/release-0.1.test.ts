/** A queue that release 0.1 wrote is read and drained by this release, and its dead letters are found. */
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, expect, test } from 'vitest'
import type { Entry, Queue } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { queueKeys } from '../../src/queue/redis-scripts.ts'
import { hashTag, parseRedisUrl } from '../../src/redis/address.ts'
import { discardIds, retryIds } from '../harness/dead-letters.ts'
import { eventually } from '../harness/eventually.ts'
import { freshRedisUrl } from '../harness/fresh.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { item } from '../suites/queue.ts'

const recorded = JSON.parse(readFileSync(new URL('release-0.1.json', import.meta.url), 'utf8')) as {
  received: string[]
  commands: [string, string, ...string[]][]
}
const id = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, '0')}`
const [saved, dead, late, markedSaved, tried, pending] = [1, 2, 3, 4, 5, 6].map(id) as [
  string,
  string,
  string,
  string,
  string,
  string,
]
const again = (of: string, content: string) => item(of, content)

let close: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closing of close.reverse()) await closing()
  close = []
})

async function restored() {
  const address = parseRedisUrl(freshRedisUrl())
  const queue = new RedisQueue(address, { capacity: 1_000, reclaimMs: 200, log: quiet() })
  close.push(() => queue.close())
  await queue.connection.whenReady(5_000)
  const { client } = queue.connection
  const keys = queueKeys(hashTag(address, '0'))
  const key = (name: string) => `{${address.prefix}:0}:${name}`
  for (const [command, name, ...args] of recorded.commands) await client.call(command, key(name), ...args)
  await client.xgroup('CREATE', keys.stream, 'workers', recorded.received.at(-1)!)
  for (const handle of recorded.received) {
    await client.call('XCLAIM', keys.stream, 'workers', 'dead', '0', handle, 'FORCE', 'JUSTID', 'RETRYCOUNT', '1')
  }
  return { queue, client, keys }
}

test('RedisQueue finds, counts, refuses and retries the dead letters in an index of release 0.1', async () => {
  const { queue, client, keys } = await restored()
  const status = async (...ids: string[]) => (await queue.find(ids)).map((one) => one && [one.status, one.conflicts])
  expect(await status(saved, dead, late, markedSaved, tried, pending)).toEqual([
    ['SAVED', 0],
    ['FAILED', 1],
    ['FAILED', 2],
    ['SAVED', 0],
    ['QUEUED', 0],
    ['QUEUED', 0],
  ])
  expect(await client.exists(keys.oldDeadIndex)).toBe(0)
  expect(await client.zcard(keys.deadIds)).toBe(4)
  expect(
    await queue.enqueue([
      [again(dead, 'own')],
      [again(dead, 'late')],
      [again(dead, 'another')],
      [again(saved, 'saved')],
      [again(markedSaved, 'other')],
    ]),
  ).toMatchObject([
    [{ status: 'FAILED', duplicate: true, failure: { code: 'REJECTED' } }],
    [{ status: 'FAILED', duplicate: true, failure: { code: 'ID_CONFLICT' } }],
    { code: 'ID_CONFLICT' },
    [{ status: 'SAVED', duplicate: true }],
    { code: 'ID_CONFLICT' },
  ])
  expect(await retryIds(queue, [dead, late])).toBe(2)
  expect(await discardIds(queue, [late])).toBe(1)
})

test('RedisQueue drains the entries of release 0.1, and dead-letters them with their own digests and times', async () => {
  const { queue } = await restored()
  const consumer = queue.consumer('w')
  const entries: Entry[] = []
  await eventually(async () => {
    entries.push(...(await consumer.receive({ rows: 10, bytes: 1_000_000 }, 100)))
    return entries.length === 3
  })
  const entry = (of: string) => entries.find((one) => one.id === of)!
  expect(await consumer.countAttempt(entry(tried))).toBe(3)
  const failure = { code: 'REJECTED' as const, message: 'no', attempts: 1, failedAt: new Date() }
  await consumer.deadLetter([markedSaved, tried].map((of) => ({ entry: entry(of), failure })))
  await consumer.ack([entry(pending)])
  expect(await queue.status()).toMatchObject({ depth: 0, inFlight: 0, deadLetters: 6 })
  expect(await queue.find([tried, pending])).toMatchObject([
    { status: 'FAILED', digest: 'digest-of-tried', at: 1_700_000_000_005 },
    { status: 'SAVED' },
  ])
  expect(await queue.find([markedSaved], 'digest-of-confirmed')).toMatchObject([
    { status: 'SAVED', at: 1_700_000_000_004 },
  ])
})

test('RedisQueue replaces an index of 1,000 dead letters of one id, in any first call', async () => {
  for (const first of [
    (queue: Queue) => queue.find([late]),
    (queue: Queue) => queue.enqueue([[again(late, 'first of all')]]),
    (queue: Queue) => discardIds(queue, [id(77)]).then(() => discardIds(queue, [late])),
    (queue: Queue) => retryIds(queue, [late]),
  ]) {
    const { queue, client, keys } = await restored()
    const [, ...deadLetter] = (await client.xrange(keys.dead, '-', '+')).at(-1)!
    const index = [await client.hget(keys.oldDeadIndex, late)]
    for (let i = 0; i < 1_000; i++) index.push(`digest-${i} ${await client.xadd(keys.dead, '*', ...deadLetter[0]!)}`)
    await client.hset(keys.oldDeadIndex, late, index.join(' '))
    await first(queue)
    expect(await client.hexists(keys.oldDeadIndex, late)).toBe(0)
    // All dead letters are there but those that the first call moved or deleted.
    const left = (await client.xlen(keys.dead)) - 2
    expect((await queue.find([late]))[0]?.conflicts ?? 0).toBe(left)
    expect(await client.zlexcount(keys.deadIds, `[36:${late} `, `(36:${late}!`)).toBe(left)
  }
})

test('SqliteQueue reads a file of release 0.1', async () => {
  const sqlite = await testSqlite()
  close.push(() => sqlite.cleanup())
  await (await sqlite.file()).close()
  const db = new DatabaseSync(sqlite.path)
  // What this release has added to the file.
  db.exec('DROP TRIGGER conflict_added; DROP TRIGGER conflict_removed; DROP TABLE conflict; DROP INDEX letter_of')
  db.exec('CREATE INDEX letter_id ON letter (id)')
  const insert = db.prepare(
    'INSERT INTO letter (id, digest, at, body, code, message, attempts, failed_at) VALUES (?, ?, 5, ?, ?, ?, 1, 6)',
  )
  insert.run(dead, 'digest-of-own', '{}', 'REJECTED', 'no')
  insert.run(dead, 'digest-of-late', '{}', 'ID_CONFLICT', 'no')
  insert.run(late, 'digest-of-late', '{}', 'ID_CONFLICT', 'no')
  db.close()
  const queue = await sqlite.queue()
  expect(await queue.find([dead, late])).toMatchObject([
    { status: 'FAILED', digest: 'digest-of-own', conflicts: 1 },
    { status: 'FAILED', digest: 'digest-of-late', conflicts: 1 },
  ])
  expect(await queue.enqueue([[again(dead, 'another')]])).toMatchObject([{ code: 'ID_CONFLICT' }])
  expect(await discardIds(queue, [dead])).toBe(2)
  expect(await queue.find([dead, late])).toMatchObject([undefined, { conflicts: 1 }])
})
