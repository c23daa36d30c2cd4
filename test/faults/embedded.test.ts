/** The embedded set-up under fire: killed at each step, its files locked by others, its disk full or read-only. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, expect, it } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { spawnSpillway } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

let stack: Stack | undefined
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  await stack?.stop()
  stack = undefined
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

async function judge(id: string, fault: string): Promise<void> {
  const verdict = await stack!.verdict(fault)
  record(id, 'embedded', verdict)
  expectSound(verdict)
}

it.each([
  ['A4', 'taken'],
  ['A6', 'committed'],
  ['A7', 'bumped'],
  ['A8', 'announced'],
  ['A9', 'settled'],
])(
  '%s: killed when entries are %s',
  async (id, place) => {
    stack = await Stack.start({ embedded: true })
    await stack.kill(stack.apis[0]!)
    const doomed = await stack.startApi({ SPILLWAY_FAILPOINT: `${place}:3` })
    stack.write(4)
    expect(await doomed.exited).toBe('SIGKILL')
    stack.apis = []
    await stack.startApi()
    await stack.more(50)
    await judge(id, `process killed: ${place}`)
  },
  60_000,
)

it('A13: killed again and again in the middle of saves', async () => {
  stack = await Stack.start({ embedded: true })
  stack.write(8)
  for (let i = 0; i < 3; i++) {
    await stack.more(100)
    await stack.kill(stack.apis[0]!)
    await stack.startApi()
  }
  await judge('A13', 'process killed during saves, three times')
}, 60_000)

it('A12: told to stop under load, it exits with 0 and loses nothing', async () => {
  stack = await Stack.start({ embedded: true })
  stack.write(8)
  await stack.more(200)
  const [api] = stack.apis
  const told = performance.now()
  api!.kill('SIGTERM')
  expect(await api!.exited).toBe(0)
  expect(performance.now() - told).toBeLessThan(10_000)
  stack.apis = []
  await stack.startApi()
  await stack.more(50)
  await judge('A12', 'SIGTERM under load')
}, 60_000)

it.each([
  ['the store', 'DATABASE_URL'],
  ['the queue', 'QUEUE_URL'],
])(
  'another process holds the write lock of %s for 3 s',
  async (what, name) => {
    stack = await Stack.start({ embedded: true })
    stack.write(4)
    await stack.more(50)
    const other = new DatabaseSync(stack.env[name]!.slice('file:'.length), { timeout: 5_000 })
    other.exec('BEGIN IMMEDIATE')
    // The fault is its duration.
    const until = performance.now() + 3_000
    let slowest = 0
    while (performance.now() < until) {
      const asked = performance.now()
      expect((await fetch(`${stack.apis[0]!.url}/livez`)).status).toBe(200)
      slowest = Math.max(slowest, performance.now() - asked)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    other.exec('COMMIT')
    other.close()
    await stack.more(50)
    await judge('SQLITE', `write lock of ${what} held by another process for 3 s`)
    // Far below the lock's three seconds: nothing waits for it on the event loop.
    expect(slowest).toBeLessThan(1_500)
  },
  60_000,
)

/** A small file system of its own, or undefined where this user may not mount one. */
async function smallDisk(mib: number): Promise<string | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-disk-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', dir], { stdio: 'pipe' })
  } catch {
    return undefined
  }
  cleanups.push(() => execFileSync('umount', ['-l', dir]))
  return dir
}

it('the disk of the queue is full: saves are refused, nothing is lost, and it heals', async () => {
  const dir = await smallDisk(6)
  if (!dir) return notRun('B7', 'embedded', 'disk of the queue full', 'only root can mount a small file system')
  stack = await Stack.start({ embedded: true, env: { QUEUE_URL: `file:${dir}/queue.db` } })
  stack.write(4)
  await stack.more(50)
  await writeFile(join(dir, 'ballast'), Buffer.alloc(6 * 1024 * 1024)).catch(() => {})
  const refused = await holds(async () => {
    const body = JSON.stringify({ id: randomUUID(), content: 'x'.repeat(30_000) })
    const response = await fetch(`${stack!.apis[0]!.url}/save`, { method: 'POST', body })
    if (response.status === 202) {
      const { id } = (await response.json()) as { id: string }
      stack!.sent.set(id, 'x'.repeat(30_000))
      stack!.acknowledged.add(id)
    }
    expect(response.status).toBe(503)
    return (await response.json()) as { errors: { extensions: { code: string } }[] }
  })
  expect(['QUEUE_UNAVAILABLE', 'QUEUE_FULL']).toContain(refused.errors[0]!.extensions.code)
  await rm(join(dir, 'ballast'))
  await stack.more(50)
  await judge('B7', 'disk of the queue full')
}, 60_000)

it('the disk of the store is read-only for a while: saves go on, and drain when it is back', async () => {
  const dir = await smallDisk(64)
  if (!dir) return notRun('C9', 'embedded', 'disk of the store read-only', 'only root can mount a small file system')
  stack = await Stack.start({ embedded: true, env: { DATABASE_URL: `file:${dir}/store.db` } })
  stack.database = `${dir}/store.db`
  stack.write(4)
  await stack.more(50)
  await stack.drained()
  // A full disk, since a file system with open files cannot be made read-only.
  await writeFile(join(dir, 'ballast'), Buffer.alloc(64 * 1024 * 1024)).catch(() => {})
  await stack.more(200)
  await rm(join(dir, 'ballast'))
  await stack.more(20)
  await judge('C9', 'disk of the store full')
}, 60_000)

it('a file that is no database stops the start, and says which', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-garbage-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  await writeFile(
    join(dir, 'queue.db'),
    'this is no database, but it is long enough to be looked at as if it were one. '.repeat(100),
  )
  const api = await spawnSpillway(
    'api',
    { DATABASE_URL: `file:${dir}/store.db`, QUEUE_URL: `file:${dir}/queue.db` },
    { ready: false },
  )
  expect(await api.exited).toBe(1)
  expect(api.logs()).toContain('queue.db')
}, 60_000)
