/** `npm run studio` opens whichever store is set. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../harness/daemon.ts'
import { eventually } from '../harness/eventually.ts'
import { startMariadb } from '../harness/mariadb.ts'
import { inherited } from '../harness/process.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore } from '../harness/stores.ts'

let server: Awaited<ReturnType<typeof startMariadb>>
let dir: string
beforeAll(async () => {
  server = await startMariadb()
  dir = await mkdtemp(join(tmpdir(), 'spillway-studio-'))
}, 60_000)
afterAll(async () => {
  await server.cleanup()
  await rm(dir, { recursive: true })
})

function studio(databaseUrl: string, ...args: string[]): ChildProcess {
  const script = fileURLToPath(new URL('../../src/commands/studio.ts', import.meta.url))
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, '--browser', 'none', ...args], {
    cwd: dir,
    env: { ...inherited(), DATABASE_URL: databaseUrl },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

test.each([
  // Studio takes the first of two hosts.
  ['MariaDB', async () => (await server.createDatabase()).replace(/:\d+/, '$&,127.0.0.1:1')],
  ['SQLite, by a relative path', async () => 'file:./with a space/store.db'],
])('serves its page and the rows of the store: %s', async (_, newUrl) => {
  const url = await newUrl()
  const store = await contentStore({ url: url.replace('file:.', `file:${dir}`), concurrency: 1, log: quiet() })
  await store.prepare(AbortSignal.timeout(20_000))
  await store.close()
  const port = await freePort()
  const child = studio(url, '--port', String(port))
  try {
    const at = `http://127.0.0.1:${port}`
    const page = await eventually(async () => (await fetch(at)).text(), { timeoutMs: 30_000 })
    expect(page).toContain('<script type="module" src="/studio.js">')
    const answer = await fetch(`${at}/bff`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ procedure: 'query', query: { sql: 'SELECT COUNT(*) AS n FROM Content', parameters: [] } }),
    })
    expect(await answer.json()).toEqual([null, [{ n: 0 }]])
  } finally {
    child.kill('SIGTERM')
    await eventually(() => child.exitCode !== null || child.signalCode !== null)
  }
  await expect(fetch(`http://127.0.0.1:${port}`)).rejects.toThrow()
})

test.each([
  ['a file that is not there, and does not make it', 'file:./nothing.db', 'npm run migrate'],
  ['a folder', 'file:.', 'is a folder or a device; expected the store'],
])('npm run studio refuses %s', async (_, url, reason) => {
  const child = studio(url)
  let said = ''
  child.stderr!.on('data', (chunk) => {
    said += chunk
  })
  const [code] = await once(child, 'close')
  expect(code).toBe(1)
  expect(said).toContain(reason)
})
