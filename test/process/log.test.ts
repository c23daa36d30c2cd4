/** The log never blocks the service, whatever happens to its output (field fault FD1). Real processes, real descriptors. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { launch } from '../harness/child.ts'
import { client } from '../harness/client.ts'
import { freePort } from '../harness/daemon.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { type StuckOutput, stuckOutput, stuckOutputs } from '../harness/outputs.ts'
import { inherited, spawnSpillway } from '../harness/process.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

function opened(kind: (typeof stuckOutputs)[number]): StuckOutput {
  const output = stuckOutput(kind)
  cleanups.push(() => output.close())
  return output
}

async function expectToServe(url: string): Promise<void> {
  await holds(async () => expect((await fetch(`${url}/livez`)).status).toBe(200), { timeoutMs: 60_000 })
  const { data } = await client(url).saveAndWait('no subscriber', 50_000)
  expect(data.save.status).toBe('SAVED')
}

test.each(stuckOutputs)(
  'an API whose stdout and stderr are %s starts, saves and stops',
  { timeout: 180_000 },
  async (kind) => {
    const { fd } = opened(kind)
    const port = await freePort()
    const api = await spawnSpillway('api', { PORT: String(port) }, { ready: false, stdout: fd, stderr: fd })
    cleanups.push(() => api.kill('SIGKILL'))
    await expectToServe(`http://127.0.0.1:${port}`)
    const begun = performance.now()
    api.kill('SIGTERM')
    expect(await api.exited).toBe(0)
    expect(performance.now() - begun).toBeLessThan(10_000)
  },
)

test.each(stuckOutputs)('a worker whose stdout is %s works and stops', { timeout: 180_000 }, async (kind) => {
  const { fd } = opened(kind)
  const database = await freshDatabase()
  cleanups.push(() => database.drop())
  const env = { DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl() }
  const port = await freePort()
  const worker = await spawnSpillway('worker', { ...env, WORKER_PORT: String(port) }, { ready: false, stdout: fd })
  cleanups.push(() => worker.kill('SIGKILL'))
  await holds(async () => expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200), {
    timeoutMs: 60_000,
  })
  const api = await spawnSpillway('api', env)
  cleanups.push(() => api.kill('SIGKILL'))
  await expectToServe(api.url!)
  worker.kill('SIGTERM')
  expect(await worker.exited).toBe(0)
})

test('an API on a terminal stopped with Ctrl-S starts, saves and stops', { timeout: 180_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-terminal-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  // `script` makes the terminal; it stops reading there when its own output takes no more.
  const { fd } = opened('a pipe that is not read')
  const port = await freePort()
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const command = `stty -echo; echo $$ > pid; head -c 100000 /dev/zero | timeout 1 cat; PORT=${port} exec '${process.execPath}' --disable-warning=ExperimentalWarning '${main}'`
  const terminal = launch('script', ['-qfec', command, '/dev/null'], { cwd: dir, stdout: fd })
  cleanups.push(() => terminal.kill('SIGKILL'))
  await expectToServe(`http://127.0.0.1:${port}`)
  const pid = Number(await readFile(join(dir, 'pid'), 'utf8'))
  cleanups.push(() => endIfRuns(pid))
  process.kill(pid, 'SIGTERM')
  // Ended; `script`, which is blocked, does not reap it.
  await holds(() => expect(stateOf(pid)).toMatch(/^(Z|gone)/))
})

function stateOf(pid: number): string {
  try {
    return /^State:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!
  } catch {
    return 'gone'
  }
}

function endIfRuns(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

test.each(stuckOutputs)('a start that fails exits with 1 though its output is %s', async (kind) => {
  const { fd } = opened(kind)
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  cleanups.push(() => other.close())
  const { port } = other.address() as { port: number }
  for (const PORT of [String(port), 'eighty']) {
    const api = await spawnSpillway('api', { PORT }, { ready: false, stdout: fd, stderr: fd })
    cleanups.push(() => api.kill('SIGKILL'))
    expect(await api.exited).toBe(1)
  }
})

test('the log drops, counts and later reports the lines that a full output does not take, in bounded memory', async () => {
  const output = opened('a pipe that is not read')
  const dir = await mkdtemp(join(tmpdir(), 'spillway-flood-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  const port = await freePort()
  const child = launch(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', fileURLToPath(new URL('../harness/log-child.ts', import.meta.url))],
    { cwd: dir, env: { ...inherited(), PORT: String(port) }, stdout: output.fd },
  )
  cleanups.push(() => child.kill('SIGKILL'))
  const url = `http://127.0.0.1:${port}`
  await expectToServe(url)
  const dropped = async () =>
    Number(/^spillway_log_lines_dropped_total (\d+)$/m.exec(await (await fetch(`${url}/metrics`)).text())?.[1])
  expect(await dropped()).toBe(0)
  const before = residentMb(child.pid)
  child.kill('SIGUSR2')
  // 1 MiB waits: some 900 lines of 20,000.
  const most = await holds(async () => {
    const count = await dropped()
    expect(count).toBeGreaterThan(18_500)
    return count
  })
  expect(residentMb(child.pid) - before).toBeLessThan(150)
  await expectToServe(url)
  const seen = output.release()
  const reported = await holds(() => {
    const line = seen.text.split('\n').find((each) => each.includes('log lines were dropped'))
    return JSON.parse(line!) as { dropped: number; level: number }
  })
  expect(reported.level).toBe(40)
  expect(reported.dropped).toBeGreaterThanOrEqual(most)
  expect(await dropped()).toBe(reported.dropped)
  const lines = seen.text.split('\n').filter(Boolean)
  expect(lines.filter((line) => line.includes('one of many')).length).toBe(20_000 - reported.dropped)
  for (const line of lines) expect(() => JSON.parse(line)).not.toThrow()
  child.kill('SIGTERM')
  expect(await child.exited).toBe(0)
})

test('the log writes waiting lines once a full disk has room again, or a pipe has another reader', {
  timeout: 240_000,
}, async () => {
  const kinds = process.getuid?.() === 0 ? (['a full disk', 'a closed pipe'] as const) : (['a closed pipe'] as const)
  for (const kind of kinds) {
    const output = opened(kind)
    const port = await freePort()
    const api = await spawnSpillway('api', { PORT: String(port) }, { ready: false, stdout: output.fd })
    cleanups.push(() => api.kill('SIGKILL'))
    await holds(async () => expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200), {
      timeoutMs: 60_000,
    })
    const seen = output.release()
    await holds(() => expect(kind === 'a full disk' ? readAgain(output) : seen.text, kind).toContain('"listening"'), {
      timeoutMs: 30_000,
    })
    api.kill('SIGTERM')
    expect(await api.exited).toBe(0)
  }
})

/** A file is read to its end once; what is appended later is not. */
const readAgain = ({ fd }: StuckOutput) => readFileSync(`/proc/self/fd/${fd}`, 'utf8')

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}

test('an API logs each text that a library prints once, cut to 300 characters, and at most 100 of them', async () => {
  const library = fileURLToPath(new URL('../harness/printing-library.ts', import.meta.url))
  const api = await spawnSpillway('api', {}, { execArgv: ['--import', library] })
  cleanups.push(() => api.kill('SIGKILL'))
  const reported = () => {
    const lines = api
      .logs()
      .split('\n')
      .filter((line) => line !== '')
    return lines.flatMap((line) => /^a library reports: (.*)$/s.exec(JSON.parse(line).msg)?.[1] ?? [])
  }
  api.kill('SIGUSR2')
  await holds(() => expect(reported()).toContain('text 96'))
  api.kill('SIGUSR2')
  const { data } = await client(api.url!).saveAndWait('after that')
  expect(data.save.status).toBe('SAVED')
  expect(reported()).toEqual([
    'the same text',
    'Error: an error that a library prints',
    `long ${'x'.repeat(295)}`,
    ...Array.from({ length: 97 }, (_, i) => `text ${i}`),
  ])
})
