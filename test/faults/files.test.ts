/** The SQLite files as such: who may read them (FC14), how large their logs grow (FD12), and a damage that is met while running (FD7). */
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { inherited, type SpillwayProcess, spawnSpillway } from '../harness/process.ts'
import { expectSound, Stack } from '../harness/stack.ts'
import { notRun, record } from './table.ts'

let dir: string
let api: SpillwayProcess | undefined
let stack: Stack | undefined
const cleanups: (() => void)[] = []
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-files-'))
})
afterEach(async () => {
  api?.kill('SIGKILL')
  await api?.exited
  api = undefined
  await stack?.stop()
  stack = undefined
  for (const clean of cleanups.splice(0)) clean()
  await rm(dir, { recursive: true, force: true })
})

const store = () => join(dir, 'made', 'data', 'spillway.db')
const queue = () => join(dir, 'made', 'data', 'queue.db')
const env = () => ({ DATABASE_URL: `file:${store()}`, QUEUE_URL: `file:${queue()}` })

/** For a process to be: what it does before anything else. */
const first = (code: string) => [
  '--import',
  `data:text/javascript,import{isMainThread}from'node:worker_threads';if(isMainThread){${code}}`,
]

async function save(content: string): Promise<void> {
  expect((await api!.client.save(content)).status).toBe(202)
}

/** The modes of everything in the folder of the data, and of the folders themselves. */
async function modes(): Promise<Record<string, string>> {
  const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)
  const folder = dirname(store())
  const names = await readdir(folder)
  const files = await Promise.all(names.map(async (name) => [name, await mode(join(folder, name))]))
  return { 'made/': await mode(dirname(folder)), 'made/data/': await mode(folder), ...Object.fromEntries(files) }
}

const patience = { timeoutMs: 30_000 }

const folders = { 'made/': '700', 'made/data/': '700' }
const storeFiles = { 'spillway.db': '600', 'spillway.db-wal': '600', 'spillway.db-shm': '600' }
const queueFiles = { 'queue.db': '600', 'queue.db-store': '600', 'queue.db-wal': '600', 'queue.db-shm': '600' }

describe('FC14: the data is for its owner alone', () => {
  test.each(['0o000', '0o022', '0o027', '0o177'])(
    'under umask %s: files 0600, folders 0700',
    async (umask) => {
      api = await spawnSpillway('api', env(), { execArgv: first(`process.umask(${umask})`) })
      await save('one')
      await holds(async () => expect(await modes()).toEqual({ ...folders, ...storeFiles, ...queueFiles }), patience)
    },
    60_000,
  )

  test('npm run migrate: the store’s file 0600, its folders 0700', async () => {
    const script = fileURLToPath(new URL('../../src/commands/migrate.ts', import.meta.url))
    execFileSync(process.execPath, [...first('process.umask(0)'), script], {
      cwd: dir,
      env: { ...inherited(), ...env() },
      stdio: 'pipe',
    })
    expect(await modes()).toEqual({ ...folders, 'spillway.db': '600' })
  }, 120_000)

  test('files of a former start are tightened, and the log says so; a folder that is there stays as it is', async () => {
    api = await spawnSpillway('api', env())
    await save('one')
    api.kill('SIGKILL')
    await api.exited
    for (const name of await readdir(dirname(store()))) await chmod(join(dirname(store()), name), 0o664)
    await chmod(dirname(store()), 0o755)
    api = await spawnSpillway('api', env())
    await save('two')
    const expected = { 'made/': '700', 'made/data/': '755', ...storeFiles, ...queueFiles }
    await holds(async () => expect(await modes()).toEqual(expected), patience)
    for (const path of [store(), queue()]) expect(api.logs()).toContain(`${path} had mode 0664`)
  }, 120_000)

  test('a file of another user stays as it is, is used, and the log says so', async () => {
    if (process.getuid?.() !== 0) return notRun('FC14', 'embedded', 'a file of another user', 'only root has several')
    await mkdir(dirname(store()), { recursive: true })
    await writeFile(store(), '')
    await chmod(store(), 0o666)
    for (const path of [dir, join(dir, 'made'), dirname(store())]) await chmod(path, 0o777)
    api = await spawnSpillway('api', env(), {
      cwd: dir,
      execArgv: first('process.setgid(65534);process.setuid(65534)'),
    })
    await save('one')
    expect((await modes())['spillway.db']).toBe('666')
    expect(api.logs()).toContain(`${store()} has mode 0666 and belongs to another user`)
  }, 120_000)
})

test('FD12: the logs of both files shrink while running, once a long read is over', async () => {
  stack = await Stack.start({ embedded: true })
  const paths = ['spillway.db', 'queue.db'].map((name) => join(stack!.dir, name))
  const readers = paths.map((path) => {
    const reader = new DatabaseSync(path, { readOnly: true })
    cleanups.push(() => reader.isOpen && reader.close())
    reader.exec('BEGIN')
    reader.prepare('SELECT count(*) FROM sqlite_schema').get()
    return reader
  })
  const sizes = async () => Promise.all(paths.map(async (path) => (await stat(`${path}-wal`)).size))
  const content = 'x'.repeat(60_000)
  const limit = 64 * 1024 * 1024
  stack.write(8, () => content)
  await holds(async () => expect(Math.min(...(await sizes()))).toBeGreaterThan(limit * 1.2), { timeoutMs: 120_000 })
  for (const reader of readers) reader.close()
  // What a checkpoint has been over is written anew from the front, and the rest is given back.
  await holds(async () => expect(Math.max(...(await sizes()))).toBeLessThanOrEqual(limit), { timeoutMs: 120_000 })
  const verdict = await stack.verdict('a long read of both SQLite files during 80 MB of saves')
  record('FD12', 'embedded', verdict)
  expectSound(verdict)
}, 300_000)

test.each([
  ['The store', 'spillway.db'],
  ['The embedded queue', 'queue.db'],
])(
  'FD7: a damaged file of %s, %s, ends the start with 1, and the log says which and what to do',
  async (owner, name) => {
    api = await spawnSpillway('api', env())
    await Promise.all(Array.from({ length: 50 }, (_, i) => save(`${i} ${'x'.repeat(1_000)}`)))
    await holds(async () => expect((await api!.client.queue()).depth).toBe(0), patience)
    api.kill('SIGTERM')
    expect(await api.exited).toBe(0)
    const path = join(dirname(store()), name)
    const bytes = await readFile(path)
    await writeFile(path, bytes.subarray(0, bytes.length - 5_000))
    api = await spawnSpillway('api', env(), { ready: false })
    expect(await api.exited).toBe(1)
    expect(api.logs()).toContain(`${owner} cannot use ${path}: its file is damaged; stop Spillway and put a backup`)
  },
  120_000,
)

/** On a connection of the test's own, as another process has it. */
function another(sql: string): void {
  const db = new DatabaseSync(stack!.database, { timeout: 5_000 })
  db.exec(sql)
  db.close()
}

test('FD7: damage that is met while running is unavailable with its reason, and the process lives', async () => {
  stack = await Stack.start({ embedded: true, env: { CACHE_TTL_MS: '1' } })
  stack.write(4, (i) => `content ${i} ${'x'.repeat(2_000)}`)
  await stack.more(200)
  await stack.stopWriting()
  await stack.drained()
  another('PRAGMA wal_checkpoint(TRUNCATE)')
  // As a failing disk does it: behind the first page nothing is as it was, and no time has changed.
  const reference = join(dir, 'times')
  await writeFile(reference, '')
  execFileSync('touch', ['-r', stack.database, reference])
  const file = await open(stack.database, 'r+')
  const { size } = await file.stat()
  await file.write(Buffer.alloc(size - 4_096, 0xa5), 0, size - 4_096, 4_096)
  await file.close()
  execFileSync('touch', ['-r', reference, stack.database])
  // What others commit empties the caches.
  another('PRAGMA user_version = 7')
  const { errors } = await stack.client.graphql('{ contents(first: 5) { edges { node { id } } } }')
  expect(errors?.[0]?.extensions.code).toBe('STORE_UNAVAILABLE')
  expect((await stack.once('during')).status).toBe(202)
  await holds(
    () => expect(stack!.apis[0]!.logs()).toMatch(/its file is damaged; stop Spillway and put a backup/),
    patience,
  )
  expect((await fetch(`${stack.apis[0]!.url}/livez`)).status).toBe(200)
}, 120_000)
