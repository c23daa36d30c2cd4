/** FA19: embedded processes that share a queue file. With one store they work together; with two, rows of one would go to the other. */
import { link, mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type SpillwayProcess, spawnSpillway } from '../harness/process.ts'

let dir: string
let running: SpillwayProcess[]
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-stores-'))
  running = []
})
afterEach(async () => {
  for (const one of running) one.kill('SIGKILL')
  await Promise.all(running.map(({ exited }) => exited))
  await rm(dir, { recursive: true, force: true })
})

async function start(queue: string, store: string): Promise<SpillwayProcess> {
  const env = { NODE_ENV: 'test', QUEUE_URL: `file:${join(dir, queue)}`, DATABASE_URL: `file:${join(dir, store)}` }
  const started = await spawnSpillway('api', env)
  running.push(started)
  return started
}

async function save({ client }: SpillwayProcess, content: string): Promise<string> {
  return (await client.saveAndWait(content)).data.save.status
}

function contents(store: string): string[] {
  const db = new DatabaseSync(join(dir, store), { readOnly: true, timeout: 5_000 })
  try {
    return db
      .prepare('SELECT content FROM Content ORDER BY content')
      .all()
      .map(({ content }) => content as string)
  } finally {
    db.close()
  }
}

/** It ends with 1 before it listens. */
async function expectRefused(queue: string, store: string, reason: RegExp): Promise<void> {
  const error = await start(queue, store).catch((e: Error) => e.message)
  expect(error).toMatch(/it ended with 1/)
  expect(error).toMatch(reason)
}

const otherStore = /another process uses it with another DATABASE_URL.*expected one store.*QUEUE_URL of its own/

test('FA19: a second process on one queue file with another store does not start, and the first goes on', async () => {
  const first = await start('queue.db', 'a.db')
  await symlink(join(dir, 'queue.db'), join(dir, 'link.db'))
  await expectRefused('queue.db', 'b.db', otherStore)
  await expectRefused('link.db', 'b.db', otherStore)
  expect(await save(first, 'one')).toBe('SAVED')
  expect(contents('a.db')).toEqual(['one'])
}, 120_000)

test('FA19: a process does not start on a queue file with a second name by a hard link', async () => {
  const first = await start('queue.db', 'a.db')
  await link(join(dir, 'queue.db'), join(dir, 'second.db'))
  await expectRefused('second.db', 'b.db', /it has another name \(a hard link\).*remove the other name/)
  expect(await save(first, 'one')).toBe('SAVED')
}, 120_000)

test('FA19: processes with one queue and one store work together, one of them through symbolic links', async () => {
  const first = await start('data/queue.db', 'data/a.db')
  await symlink(join(dir, 'data'), join(dir, 'linked'))
  const second = await start('linked/queue.db', 'linked/a.db')
  expect(await Promise.all([save(first, 'one'), save(second, 'two')])).toEqual(['SAVED', 'SAVED'])
  expect(contents('data/a.db')).toEqual(['one', 'two'])
}, 120_000)

test('FA19: a queue whose process was killed starts with another store, and after both files were moved', async () => {
  const first = await start('queue.db', 'a.db')
  expect(await save(first, 'one')).toBe('SAVED')
  first.kill('SIGKILL')
  await first.exited
  const second = await start('queue.db', 'b.db')
  expect(await save(second, 'two')).toBe('SAVED')
  second.kill('SIGTERM')
  expect(await second.exited).toBe(0)
  await mkdir(join(dir, 'moved'))
  for (const name of ['queue.db', 'b.db']) await rename(join(dir, name), join(dir, 'moved', name))
  const third = await start('moved/queue.db', 'moved/b.db')
  expect(await save(third, 'three')).toBe('SAVED')
  // What the killed process had not acknowledged is handed out again, so that the first may be there, too.
  expect(contents('moved/b.db')).toEqual(expect.arrayContaining(['three', 'two']))
}, 120_000)
