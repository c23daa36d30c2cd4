/** The embedded set-up under fire: killed at each step, its files locked by others, its disk full or read-only. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmod, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { limitFiles } from '../harness/power.ts'
import { spawnSpillway } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

/** For the faults that leave files and settings as they were. */
let shared: Stack | undefined
let stack: Stack | undefined
beforeAll(async () => {
  shared = await Stack.start({ embedded: true })
})
afterAll(() => shared?.stop())

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  if (stack !== shared) await stack?.stop()
  stack = undefined
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

async function judge(id: string, fault: string): Promise<void> {
  const verdict = await stack!.verdict(fault)
  record(id, 'embedded', verdict)
  expectSound(verdict)
}

test('A1, A3, A4, A6, A7, A8, A9: the process of an embedded queue killed at each failpoint, one after the other', async () => {
  const places = [
    ['A1', 'enqueueing'],
    ['A3', 'enqueued'],
    ['A4', 'received'],
    ['A6', 'committed'],
    ['A7', 'invalidated'],
    ['A7', 'marked-saved'],
    ['A8', 'published'],
    ['A9', 'acked'],
  ] as const
  stack = shared!
  await stack.kill(stack.apis[0]!)
  stack.write(4)
  // Each is the start after the death before it.
  for (const [, place] of places) {
    const doomed = await stack.startApi({ SPILLWAY_FAILPOINT: `${place}:3` })
    expect(await doomed.exited, place).toBe('SIGKILL')
    stack.apis = []
  }
  await stack.startApi()
  await stack.more(50)
  const verdict = await stack.verdict('process killed at each failpoint')
  for (const [id, place] of places) record(id, 'embedded', { ...verdict, fault: `process killed: ${place}` })
  expectSound(verdict)
}, 120_000)

test('A13: killed again and again in the middle of saves', async () => {
  stack = shared!
  stack.write(8)
  for (let i = 0; i < 3; i++) {
    await stack.more(100)
    await stack.kill(stack.apis[0]!)
    await stack.startApi()
  }
  await judge('A13', 'process killed during saves, three times')
}, 120_000)

test('A12: told to stop under load, it exits with 0 and loses nothing', async () => {
  stack = shared!
  stack.write(8)
  await stack.more(100)
  const [api] = stack.apis
  api!.kill('SIGTERM')
  // A stop that is not complete within its bound ends with 1.
  expect(await api!.exited).toBe(0)
  stack.apis = []
  await stack.startApi()
  await stack.more(50)
  await judge('A12', 'SIGTERM under load')
}, 120_000)

test.each([
  ['the store', 'DATABASE_URL'],
  ['the queue', 'QUEUE_URL'],
])(
  'an embedded Spillway loses nothing while another process holds the write lock of %s for 3 s',
  async (what, name) => {
    stack = shared!
    stack.write(4)
    await stack.more(50)
    const other = new DatabaseSync(stack.env[name]!.slice('file:'.length), { timeout: 5_000 })
    other.exec('BEGIN IMMEDIATE')
    // The fault is its duration.
    const until = performance.now() + 3_000
    const took: number[] = []
    while (performance.now() < until) {
      const asked = performance.now()
      expect((await fetch(`${stack.apis[0]!.url}/livez`)).status).toBe(200)
      took.push(performance.now() - asked)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    other.exec('COMMIT')
    other.close()
    await stack.more(50)
    await judge('SQLITE', `write lock of ${what} held by another process for 3 s`)
    // Nothing waits for the lock on the event loop; a machine that is busy with something else may hold up the odd answer.
    expect(took.filter((ms) => ms > 200).length, `${took}`).toBeLessThanOrEqual(2)
    expect(Math.max(...took)).toBeLessThan(1_500)
  },
  60_000,
)

test('A17: persisting paused under load, the process killed meanwhile, and resumed', async () => {
  stack = shared!
  stack.write(4)
  await stack.more(50)
  await stack.client.graphql('mutation { pausePersisting { depth } }')
  await holds(async () => {
    const { data } = await stack!.client.graphql('{ workers: queueWorkers { state held { inFlight } } }')
    expect(data.workers[0]).toEqual({ state: 'PAUSED', held: [] })
  })
  const { size } = await stack.rows()
  await stack.kill(stack.apis[0]!)
  await stack.startApi()
  await stack.more(50)
  expect((await stack.rows()).size).toBe(size)
  await stack.client.graphql('mutation { resumePersisting { depth } }')
  await stack.more(50)
  await judge('A17', 'persisting paused under load, the process killed meanwhile, and resumed')
}, 120_000)

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

test('an embedded Spillway whose queue has a full disk refuses saves, loses nothing, and goes on when there is room', async () => {
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

test('an embedded Spillway whose store has a full disk accepts saves, and drains them when there is room', async () => {
  const dir = await smallDisk(64)
  if (!dir) return notRun('C9', 'embedded', 'disk of the store full', 'only root can mount a small file system')
  stack = await Stack.start({ embedded: true, env: { DATABASE_URL: `file:${dir}/store.db` } })
  stack.database = `${dir}/store.db`
  stack.write(4)
  await stack.more(50)
  await stack.drained()
  await writeFile(join(dir, 'ballast'), Buffer.alloc(64 * 1024 * 1024)).catch(() => {})
  await stack.more(100)
  await rm(join(dir, 'ballast'))
  await stack.more(20)
  await judge('C9', 'disk of the store full')
}, 60_000)

test('an embedded Spillway whose files may not grow acknowledges only what it keeps, and goes on when they may', async () => {
  stack = shared!
  stack.write(4)
  await stack.more(50)
  const api = stack.apis[0]!
  limitFiles(api.pid, 1)
  // Whether the commit is in the log all the same, SQLite cannot tell: unlike a full disk, this is an error while writing.
  await holds(async () => expect((await stack!.once('no disk')).code).toMatch(/^(QUEUE_UNAVAILABLE|OUTCOME_UNKNOWN)$/))
  for (let i = 0; i < 10; i++) {
    const answer = await stack.once('x'.repeat(10_000))
    expect(answer.status).toBe(503)
    expect(answer.retryAfterMs).toBeGreaterThan(0)
    expect((await fetch(`${api.url}/livez`)).status).toBe(200)
  }
  limitFiles(api.pid, undefined)
  await stack.more(100)
  await judge('B7', 'no file may grow any more (RLIMIT_FSIZE)')
}, 60_000)

test('an embedded Spillway loses nothing when the clock is set back by an hour', async () => {
  stack = shared!
  stack.write(4)
  await stack.more(100)
  await stack.kill(stack.apis[0]!)
  // With what was in hand at that moment, and leased for a time that is an hour away now.
  await stack.startApi({
    NODE_OPTIONS: `--import=${new URL('../harness/clock.ts', import.meta.url).href}`,
    TEST_CLOCK_SHIFT_MS: '-3600000',
  })
  await stack.more(100)
  await stack.kill(stack.apis[0]!)
  await stack.startApi()
  await judge('B21', 'the clock set back by an hour')
}, 60_000)

const files = [
  ['spillway.db', 'DATABASE_URL'],
  ['queue.db', 'QUEUE_URL'],
] as const

test.each(files)(
  'an embedded start with a %s that is no database ends with 1 and names file and reason',
  async (name) => {
    const dir = await mkdtemp(join(tmpdir(), 'spillway-garbage-'))
    cleanups.push(() => rm(dir, { recursive: true, force: true }))
    const garbage = 'this is no database, but it is long enough to be looked at as if it were one. '.repeat(100)
    await writeFile(join(dir, name), garbage)
    const env = { DATABASE_URL: `file:${dir}/spillway.db`, QUEUE_URL: `file:${dir}/queue.db` }
    const api = await spawnSpillway('api', env, { ready: false })
    expect(await api.exited).toBe(1)
    expect(api.logs()).toContain(`cannot use ${dir}/${name}`)
    expect(api.logs()).toContain('is not a SQLite database')
    // It may be somebody's, and was only named by mistake.
    expect(await readFile(join(dir, name), 'utf8')).toBe(garbage)
  },
)

test('an embedded start with a read-only spillway.db or queue.db ends with 1 and names file and reason', async () => {
  stack = await Stack.start({ embedded: true })
  const { env, dir } = stack
  stack.write(4)
  await stack.more(50)
  await stack.stopWriting()
  await stack.drained()
  expect(await stack.kill(stack.apis[0]!, 'SIGTERM')).toBe(0)
  for (const [name, setting] of files) {
    // root may write what nobody may: for root it takes a disk that is read-only.
    let place = dir
    if (process.getuid?.() === 0) {
      const disk = await smallDisk(64)
      if (!disk) {
        notRun('SQLITE', 'embedded', `${name} read-only at a start`, 'root here has no right to mount a disk')
        continue
      }
      await copyFile(join(dir, name), join(disk, name))
      execFileSync('mount', ['-o', 'remount,ro', disk])
      place = disk
    } else {
      await chmod(join(dir, name), 0o400)
    }
    const api = await spawnSpillway('api', { ...env, [setting]: `file:${place}/${name}` }, { ready: false })
    expect(await api.exited).toBe(1)
    expect(api.logs()).toContain(`cannot use ${place}/${name}`)
    expect(api.logs()).toMatch(/cannot be (written|opened)[:;] check the rights/)
    await chmod(join(dir, name), 0o600)
  }
  await stack.startApi()
  stack.write(4)
  await stack.more(50)
  const verdict = await stack.verdict('read-only at a start')
  for (const [name] of files) record('SQLITE', 'embedded', { ...verdict, fault: `${name} read-only at a start` })
  expectSound(verdict)
}, 60_000)
