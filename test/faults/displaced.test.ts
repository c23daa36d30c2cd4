/**
 * FA6: a SQLite file is removed, renamed, replaced, overwritten or truncated while Spillway runs on it. What is acknowledged meanwhile is
 * there after a restart; what is put back is used again without one.
 */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFile, mkdtemp, readdir, realpath, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

let stack: Stack
const cleanups: (() => unknown)[] = []
afterAll(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

interface Displacement {
  name: string
  displace(path: string): Promise<unknown>
  /** Puts it back, where that is possible. */
  restore?(path: string): Promise<unknown>
  /** Whether the rows written before are still there after a restart. */
  keeps?: true
  needsRoot?: true
}

async function removeAll(path: string) {
  for (const name of await readdir(dirname(path)))
    if (name.startsWith(basename(path))) await rm(join(dirname(path), name))
}

/** Where the file is another one, or none: what is read from the one that is open is not what the next start reads. */
const readsGhosts = /removed|renamed|replaced|mounted/

// test/db/guard.test.ts has more of them; here are those whose way through a whole process differs.
const displacements: Displacement[] = [
  { name: 'is removed with its -wal and -shm', displace: removeAll },
  { name: 'is removed and its -wal stays', displace: (path) => rm(path) },
  { name: 'loses its -wal', displace: (path) => rm(`${path}-wal`), keeps: true },
  { name: 'loses its -shm', displace: (path) => rm(`${path}-shm`), keeps: true },
  {
    name: 'has its folder renamed, and renamed back',
    displace: (path) => rename(dirname(path), `${dirname(path)}.moved`),
    restore: (path) => rename(`${dirname(path)}.moved`, dirname(path)),
  },
  {
    name: 'is replaced by a copy, and put back',
    async displace(path) {
      await copyFile(path, `${path}.copy`)
      await rename(path, `${path}.moved`)
      await rename(`${path}.copy`, path)
    },
    restore: (path) => rename(`${path}.moved`, path),
  },
  {
    name: 'is overwritten by a copy',
    async displace(path) {
      await copyFile(path, `${path}.copy`)
      await copyFile(`${path}.copy`, path)
    },
  },
  { name: 'is truncated', displace: (path) => truncate(path) },
  {
    name: 'has a file system mounted over its folder, and unmounted',
    needsRoot: true,
    displace: async (path) => execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dirname(path)], { stdio: 'pipe' }),
    restore: async (path) => execFileSync('umount', [dirname(path)]),
  },
]

/** Each file in a folder of its own, the store's behind a link. */
async function start(): Promise<Record<'the store' | 'the queue', string>> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'spillway-displaced-')))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  const store = join(dir, 'store', 'spillway.db')
  const queue = join(dir, 'queue', 'queue.db')
  const env = { DATABASE_URL: `file:${store}`, QUEUE_URL: `file:${queue}`, CACHE_TTL_MS: '1' }
  stack = await Stack.start({ embedded: true, dir, env })
  stack.database = store
  return { 'the store': store, 'the queue': queue }
}

/** What a client is told of a save in the end: QUEUED, SAVED, or the code of an error. What was acknowledged is noted. */
async function save(content: string, waitMs = 1_000): Promise<{ id?: string; outcome: string }> {
  const id = randomUUID()
  stack.sent.set(id, content)
  const { data, errors } = await stack.client.saveAndWait(content, waitMs, id)
  if (!data?.save) return { outcome: errors[0].extensions.code }
  stack.acknowledged.add(id)
  return { id, outcome: data.save.status }
}

async function saveSome(count: number): Promise<void> {
  const saves = await Promise.all(Array.from({ length: count }, (_, i) => save(`before ${i}`, 30_000)))
  expect(new Set(saves.map(({ outcome }) => outcome))).toEqual(new Set(['SAVED']))
}

async function restart(): Promise<void> {
  await stack.kill(stack.apis[0]!)
  await stack.startApi()
}

async function judge(fault: string): Promise<void> {
  const verdict = await stack.verdict(fault)
  record('FA6', 'embedded', verdict)
  expectSound(verdict)
}

/** What was written to a file that is gone for good went with it. */
function forgetBefore(): void {
  stack.acknowledged.clear()
}

const patience = { timeoutMs: 30_000 }

const log = () => stack.apis[0]!.logs()

describe.each(displacements)('a SQLite file that $name', ({ name, displace, restore, keeps, needsRoot }) => {
  const cannot = needsRoot && process.getuid?.() !== 0
  let paths: Record<'the store' | 'the queue', string>
  // One Spillway for both: what the first test has done is over when its verdict is made.
  beforeAll(async () => {
    if (!cannot) paths = await start()
  })
  afterAll(() => stack?.stop())

  test('FA6: as the queue: no save is acknowledged, and none is lost', async () => {
    const fault = `the queue's file ${name}`
    if (cannot) return notRun('FA6', 'embedded', fault, 'only root can mount a file system')
    const { 'the queue': path } = paths
    await saveSome(25)
    await displace(path)
    for (let i = 0; i < 3; i++) expect((await save(`during ${i}`)).outcome).toBe('QUEUE_UNAVAILABLE')
    await holds(() => expect(log()).toMatch(/the embedded queue.*(moved|overwritten).*(put it back|restart)/), patience)
    if (restore) await restore(path)
    else await restart()
    // The log of events may be a new one: what is asked for here is the rows.
    await holds(async () => expect((await save('after')).outcome).toBe('SAVED'), patience)
    await judge(fault)
  }, 120_000)

  test('FA6: as the store: nothing is SAVED, reads fail, and no save is lost', async () => {
    const fault = `the store's file ${name}`
    if (cannot) return notRun('FA6', 'embedded', fault, 'only root can mount a file system')
    const { 'the store': path } = paths
    await saveSome(25)
    await displace(path)
    if (!restore && !keeps) forgetBefore()
    const during = await Promise.all(Array.from({ length: 25 }, (_, i) => save(`during ${i}`)))
    expect(new Set(during.map(({ outcome }) => outcome))).toEqual(new Set(['QUEUED']))
    await holds(() => expect(log()).toMatch(/the store.*(moved|overwritten).*(put it back|restart)/), patience)
    if (readsGhosts.test(name)) {
      const { errors } = await stack.client.graphql(`{ contents(first: 5) { edges { node { id } } } }`)
      expect(errors?.[0]?.extensions.code).toBe('STORE_UNAVAILABLE')
    }
    if (restore) await restore(path)
    else await restart()
    await judge(fault)
  }, 120_000)
})

test('FA6: the link to a store is pointed to another file, and back', async () => {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'spillway-displaced-')))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  const link = join(dir, 'link.db')
  const target = join(dir, 'target.db')
  await writeFile(target, '')
  await symlink(target, link)
  stack = await Stack.start({ embedded: true, dir, env: { DATABASE_URL: `file:${link}` } })
  stack.database = link
  onTestFinished(() => stack.stop())
  await saveSome(25)
  await rm(link)
  await symlink(join(dir, 'other.db'), link)
  expect((await save('during')).outcome).toBe('QUEUED')
  await rm(link)
  await symlink(target, link)
  await judge('the link to the store is pointed to another file, and back')
}, 120_000)
