/** A start that fails, and a stop during the start: the process exits within a bound, with 1 and with 0 (field faults FD2, FD11). */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { openFilesAdvice } from '../../src/http/listen.ts'
import { launch } from '../harness/child.ts'
import { freePort } from '../harness/daemon.ts'
import { eventually } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { inherited, type SpillwayProcess, spawnSpillway } from '../harness/process.ts'

/** stopWithinMs in src/run.ts, and the time that a busy machine needs to load the program. */
const boundMs = 20_000

let taken: string
const occupier = createServer()
const cleanups: (() => unknown)[] = []
let database: Awaited<ReturnType<typeof freshDatabase>>

beforeAll(async () => {
  occupier.listen(0, '127.0.0.1')
  await once(occupier, 'listening')
  taken = String((occupier.address() as { port: number }).port)
  database = await freshDatabase()
})

afterAll(async () => {
  occupier.close()
  await database.drop()
})

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-start-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function begin(role: 'api' | 'worker', env: Record<string, string>): Promise<SpillwayProcess> {
  const started = await spawnSpillway(role, env, { ready: false })
  cleanups.push(() => started.kill('SIGKILL'))
  return started
}

const servers = () => ({ DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl(), CACHE_URL: freshRedisUrl() })

type Env = Record<string, string>
const failing: Record<string, [role: 'api' | 'worker', env: () => Env | Promise<Env>, says: string]> = {
  'PORT is in use (embedded)': ['api', () => ({ PORT: taken }), 'or set PORT to another one'],
  'PORT is in use (Redis and MariaDB)': ['api', () => ({ ...servers(), PORT: taken }), 'is in use'],
  'HOST is no address of this machine (embedded)': ['api', () => ({ HOST: '192.0.2.1', AUTH: 'none' }), 'Check HOST'],
  'HOST is no address of this machine (Redis and MariaDB)': [
    'api',
    () => ({ ...servers(), HOST: '192.0.2.1', AUTH: 'none' }),
    'Check HOST',
  ],
  'WORKER_PORT is in use': [
    'worker',
    () => ({ ...servers(), WORKER_PORT: taken }),
    'is in use: stop what listens there, or set WORKER_PORT to another one',
  ],
  'HOST of a worker is no address of this machine': [
    'worker',
    () => ({ ...servers(), HOST: '192.0.2.1', AUTH: 'none', WORKER_PORT: '0' }),
    'Check HOST and WORKER_PORT',
  ],
  'a worker process has an embedded queue': ['worker', () => ({}), 'the embedded queue'],
  'the folder of the queue is a file': [
    'api',
    async () => {
      const dir = await folder()
      writeFileSync(join(dir, 'data'), '')
      return { QUEUE_URL: `file:${join(dir, 'data', 'queue.db')}` }
    },
    'cannot be made',
  ],
  'the folder of the store is a file': [
    'api',
    async () => {
      const dir = await folder()
      writeFileSync(join(dir, 'data'), '')
      return { DATABASE_URL: `file:${join(dir, 'data', 'store.db')}` }
    },
    'data',
  ],
  'the folder of the queue cannot be created, below /proc': [
    'api',
    () => ({ QUEUE_URL: 'file:/proc/spillway/queue/queue.db' }),
    'its folder /proc/spillway/queue cannot be made',
  ],
  'the folder of the store cannot be created, below /proc': [
    'api',
    () => ({ DATABASE_URL: 'file:/proc/spillway/store.db' }),
    'its folder /proc/spillway cannot be made',
  ],
  'a secret file is a FIFO': [
    'api',
    async () => {
      const fifo = join(await folder(), 'fifo')
      spawnSync('mkfifo', [fifo])
      return { AUTH_JWT_SECRET_FILE: fifo }
    },
    'AUTH_JWT_SECRET_FILE names a file that is a folder, a FIFO or a device',
  ],
  'a secret file is a device without an end': [
    'worker',
    () => ({ DATABASE_URL_FILE: '/dev/zero' }),
    'DATABASE_URL_FILE names a file that is a folder, a FIFO or a device',
  ],
  'a secret file is empty': [
    'api',
    async () => {
      const empty = join(await folder(), 'secret')
      writeFileSync(empty, '')
      return { AUTH_JWT_SECRET_FILE: empty }
    },
    'AUTH_JWT_SECRET_FILE names an empty file',
  ],
  'PERSISTED_OPERATIONS is a device without an end': [
    'api',
    () => ({ PERSISTED_OPERATIONS: '/dev/zero' }),
    'PERSISTED_OPERATIONS names a file that is a folder, a FIFO or a device',
  ],
  'the queue is no database': [
    'api',
    async () => {
      const file = join(await folder(), 'queue.db')
      writeFileSync(file, 'no database at all, but long enough to be taken for one'.repeat(100))
      return { QUEUE_URL: `file:${file}` }
    },
    'queue',
  ],
  'a setting is malformed': ['api', () => ({ PORT: 'eighty' }), 'PORT must be'],
}

describe('a start that fails', () => {
  test.each(Object.entries(failing))(
    'exits with 1 within the bound of a stop where %s',
    async (_name, [role, env, says]) => {
      const begun = performance.now()
      const failed = await begin(role, await env())
      const late = setTimeout(() => failed.kill('SIGKILL'), boundMs + 5_000)
      expect(await failed.exited, failed.logs()).toBe(1)
      clearTimeout(late)
      expect(performance.now() - begun).toBeLessThan(boundMs)
      expect(failed.logs()).toContain(says)
      expect(failed.logs()).not.toContain('could not stop in time')
      expect(failed.logs()).not.toContain('UnhandledPromise')
    },
  )
})

/** Nothing listens there. */
const unavailable = async () => `127.0.0.1:${await freePort()}`
/** Accepts connections and never sends a byte. */
async function silentServer(onConnection: () => void = () => {}): Promise<string> {
  const silent = createServer((socket) => {
    socket.on('error', () => {})
    onConnection()
  })
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  cleanups.push(() => silent.close())
  return `127.0.0.1:${(silent.address() as { port: number }).port}`
}

const mysql = (address: string) => `mysql://user:password@${address}/spillway`
const waiting: Record<string, [role: 'api' | 'worker', env: () => Promise<Env>]> = {
  'the database is unavailable': ['api', async () => ({ DATABASE_URL: mysql(await unavailable()) })],
  'the database never answers': ['api', async () => ({ DATABASE_URL: mysql(await silentServer()) })],
  'queue and database are unavailable': [
    'api',
    async () => ({ DATABASE_URL: mysql(await unavailable()), QUEUE_URL: `redis://${await unavailable()}` }),
  ],
  'queue and database never answer': [
    'api',
    async () => ({ DATABASE_URL: mysql(await silentServer()), QUEUE_URL: `redis://${await silentServer()}` }),
  ],
  'queue and database of a worker are unavailable': [
    'worker',
    async () => ({ DATABASE_URL: mysql(await unavailable()), QUEUE_URL: `redis://${await unavailable()}` }),
  ],
  'queue and database of a worker never answer': [
    'worker',
    async () => ({ DATABASE_URL: mysql(await silentServer()), QUEUE_URL: `redis://${await silentServer()}` }),
  ],
}

describe('SIGTERM during the start', () => {
  test.each(Object.entries(waiting))(
    'exits with 0 within the bound of a stop while %s',
    async (_name, [role, env]) => {
      const settings = await env()
      // From before the settings are read until it serves without its database; each on a process of its own, side by side.
      const stops = [300, 1_800, 4_500].map(async (afterMs) => {
        const started = await begin(role, settings)
        await new Promise((resolve) => setTimeout(resolve, afterMs))
        const begun = performance.now()
        started.kill('SIGTERM')
        const end = await started.exited
        expect(performance.now() - begun, `after ${afterMs} ms: ${started.logs()}`).toBeLessThan(boundMs)
        // Before the process listens for signals, SIGTERM has its default effect.
        expect(afterMs === 300 ? [0, 'SIGTERM'] : [0], `after ${afterMs} ms: ${started.logs()}`).toContain(end)
      })
      await Promise.all(stops)
    },
    90_000,
  )

  test('stops process 1 of a container, which has no default effect of signals', async () => {
    const ofRoot = ['--pid', '--fork', '--kill-child', '--mount-proc']
    const can = spawnSync('unshare', [...ofRoot, 'true']).status === 0
    const inNamespace = can ? ofRoot : ['--user', '--map-root-user', ...ofRoot]
    expect(spawnSync('unshare', [...inNamespace, 'true']).status, 'namespaces are needed').toBe(0)
    const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
    const asked = Promise.withResolvers<void>()
    const database = mysql(await silentServer(() => asked.resolve()))
    const env = { ...inherited(), PORT: '0', DATABASE_URL: database }
    const args = [...inNamespace, process.execPath, '--disable-warning=ExperimentalWarning', main]
    const container = launch('unshare', args, { cwd: await folder(), env })
    cleanups.push(() => container.kill('SIGKILL'))
    // It waits up to 3 s for the database to answer.
    await asked.promise
    const inner = spawnSync('pgrep', ['-P', String(container.pid)], { encoding: 'utf8' }).stdout.trim()
    process.kill(Number(inner), 'SIGTERM')
    expect(await container.exited, container.logs()).toBe(0)
    expect(container.logs()).toContain('"stopped"')
  })
})

test('a start exits with 1 and a message where the data folder is not writable', async () => {
  const dir = await folder()
  mkdirSync(join(dir, 'data'))
  chmodSync(join(dir, 'data'), 0o555)
  chmodSync(dir, 0o755)
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  // Root may write everywhere.
  const command = process.getuid?.() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : ['env']
  const args = [...command.slice(1), process.execPath, '--disable-warning=ExperimentalWarning', main]
  const failed = launch(command[0]!, args, { cwd: dir, env: { ...inherited(), PORT: '0' } })
  cleanups.push(() => failed.kill('SIGKILL'))
  expect(await failed.exited, failed.logs()).toBe(1)
  expect(failed.logs()).toMatch(/data/)
})

test('an API survives connections that take all its file descriptors as soon as it listens', async () => {
  const dir = await folder()
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const port = await freePort()
  // Its own take about 70.
  const script = 'ulimit -n 120 && exec "$0" "$@"'
  const args = ['-c', script, process.execPath, '--disable-warning=ExperimentalWarning', main]
  const sockets: Socket[] = []
  const listening = Promise.withResolvers<void>()
  const api = launch('/bin/sh', args, {
    cwd: dir,
    env: { ...inherited(), PORT: String(port) },
    onLine: (line) => line.includes('"listening"') && listening.resolve(),
  })
  cleanups.push(() => api.kill('SIGKILL'))
  cleanups.push(() => sockets.forEach((socket) => void socket.destroy()))
  // From before it listens: the first ones are refused.
  const flood = setInterval(() => {
    for (let i = 0; i < 20 && sockets.length < 200; i++) {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => sockets.push(socket)).on('error', () => socket.destroy())
    }
  }, 5)
  cleanups.push(() => clearInterval(flood))
  await Promise.race([listening.promise, api.exited])
  await eventually(() => sockets.length >= 200 || !api.running(), { timeoutMs: 20_000 })
  clearInterval(flood)
  for (const socket of sockets) socket.destroy()
  const saved = await eventually(
    async () => {
      if (!api.running()) return true
      const response = await fetch(`http://127.0.0.1:${port}/save?waitMs=10000`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ content: 'x' }),
      }).catch(() => undefined)
      return response?.ok
    },
    { timeoutMs: 20_000 },
  )
  expect(saved).toBe(true)
  expect(api.running(), api.logs()).toBe(true)
  expect(api.logs()).toContain('the limit of open files is 120, and MAX_CONNECTIONS=15000 needs 15600: raise it')
  api.kill('SIGTERM')
  expect(await api.exited, api.logs()).toBe(0)
}, 90_000)

test('openFilesAdvice returns advice only where the limit of open files is too low for MAX_CONNECTIONS', () => {
  const limits = (soft: string) =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}     1048576    files\n`
  expect(openFilesAdvice(15_000, 1, limits('15599'))).toContain('(ulimit -n 15600), or set MAX_CONNECTIONS to 14999')
  expect(openFilesAdvice(15_000, 1, limits('15600'))).toBeUndefined()
  expect(openFilesAdvice(15_000, 4, limits('4349'))).toContain('(ulimit -n 4350), or set MAX_CONNECTIONS to 14996')
  expect(openFilesAdvice(15_000, 4, limits('4350'))).toBeUndefined()
  expect(openFilesAdvice(15_000, 1, limits('unlimited'))).toBeUndefined()
  expect(openFilesAdvice(15_000, 1, '')).toBeUndefined()
})
