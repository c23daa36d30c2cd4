/** The failpoints of the embedded queue: each kills the process with SIGKILL, and what the files hold then shows that it was the place. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { SqliteFile } from '../../src/embedded/file.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'

import type { Place } from './failpoints.ts'
import { type SpillwayProcess, spawnSpillway } from './process.ts'
import { quiet } from './quiet.ts'

// A start takes some seconds on a loaded machine.
vi.setConfig({ testTimeout: 60_000 })

let dir: string
const content = 'the content of the save'
const env = (failpoint: string) => ({
  DATABASE_URL: `file:${dir}/spillway.db`,
  QUEUE_URL: `file:${dir}/queue.db`,
  SPILLWAY_FAILPOINT: failpoint,
})

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-failpoint-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const save = (api: SpillwayProcess) => api.client.save(content, { signal: AbortSignal.timeout(10_000) })

function count(file: string, table: string): number {
  const db = new DatabaseSync(join(dir, file))
  try {
    return Number(db.prepare(`SELECT count(*) AS count FROM ${table}`).get()!.count)
  } finally {
    db.close()
  }
}

/** What the files of a process that was killed say of its saves. */
const state = () => ({
  messages: count('queue.db', 'message'),
  rows: count('spillway.db', 'Content'),
  saved: count('queue.db', 'saved'),
  events: count('queue.db', 'log'),
  deadLetters: count('queue.db', 'letter'),
})

test.each<[Place, ReturnType<typeof state>]>([
  ['enqueueing', { messages: 0, rows: 0, saved: 0, events: 0, deadLetters: 0 }],
  ['received', { messages: 1, rows: 0, saved: 0, events: 0, deadLetters: 0 }],
  ['inserting', { messages: 1, rows: 0, saved: 0, events: 0, deadLetters: 0 }],
  ['committed', { messages: 1, rows: 1, saved: 0, events: 0, deadLetters: 0 }],
  ['invalidated', { messages: 1, rows: 1, saved: 0, events: 0, deadLetters: 0 }],
  ['marked-saved', { messages: 1, rows: 1, saved: 1, events: 0, deadLetters: 0 }],
  ['published', { messages: 1, rows: 1, saved: 1, events: 1, deadLetters: 0 }],
  ['acked', { messages: 0, rows: 1, saved: 1, events: 1, deadLetters: 0 }],
])('the failpoint %s kills an embedded Spillway at its place', async (place, expected) => {
  const api = await spawnSpillway('api', env(place === 'inserting' ? `inserting:${content}` : place))
  // Except at `enqueueing`, the thread of the worker may be killed before or after the answer.
  await save(api).catch(() => {})
  expect(await api.exited).toBe('SIGKILL')
  expect(state()).toEqual(expected)
})

test('the failpoint enqueued kills an embedded Spillway that has the save and has not answered', async () => {
  const api = await spawnSpillway('api', env('enqueued'))
  await expect(save(api)).rejects.toThrow()
  expect(await api.exited).toBe('SIGKILL')
  // The worker may already have got further.
  const { messages, rows } = state()
  expect(messages + rows).toBeGreaterThan(0)
})

test('the failpoint dead-lettered kills an embedded Spillway before the event of the dead letter', async () => {
  const file = await SqliteFile.open(join(dir, 'queue.db'), {
    capacity: 10,
    retentionMs: 60_000,
    retentionBytes: 1_000_000,
    log: quiet(),
  })
  const queue = new SqliteQueue(file.connect())
  await queue.enqueue([[{ id: randomUUID(), digest: 'digest', at: Date.now(), body: 'not JSON' }]])
  await queue.close()
  await file.close()
  const api = await spawnSpillway('api', env('dead-lettered'), { ready: false })
  expect(await api.exited).toBe('SIGKILL')
  expect(state()).toEqual({ messages: 0, rows: 0, saved: 0, events: 0, deadLetters: 1 })
})

test('the failpoint of a place that is reached a second time lets the first pass', async () => {
  const api = await spawnSpillway('api', env('enqueued:2'))
  expect((await save(api)).status).toBe(202)
  await expect(save(api)).rejects.toThrow()
  expect(await api.exited).toBe('SIGKILL')
})

test('a failpoint of an unknown name ends the process at its start and lists the names', async () => {
  const api = await spawnSpillway('api', env('commited'), { ready: false })
  expect(await api.exited).toBe(1)
  expect(api.logs()).toContain('SPILLWAY_FAILPOINT=commited is none of enqueueing, enqueued, received,')
})
