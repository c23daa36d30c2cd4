/** npm run test:engines where an engine cannot be had: it says so, runs no test, and keeps nothing that is not complete. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'spillway-no-engines-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

/** The programs that it finds, as scripts of the shell. */
function runEngines(programs: Record<string, string>) {
  const bin = mkdtempSync(join(dir, 'bin-'))
  for (const [name, script] of Object.entries(programs))
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const file = fileURLToPath(new URL('./run.ts', import.meta.url))
  const { status, stdout } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
    env: { PATH: bin, TMPDIR: dir },
    encoding: 'utf8',
  })
  return { status, lines: stdout.trim().split('\n') }
}

test('npm run test:engines without apt-get says "not run" for each engine, and passes', () => {
  const { status, lines } = runEngines({})
  expect(lines).toEqual(['MySQL: not run: this is no Debian', 'Valkey: not run: this is no Debian'])
  expect(status).toBe(0)
})

test.each([
  ['whose mirror does not answer', '*update*) echo "E: no answer" >&2; exit 100;;'],
  ['whose download breaks off', '*install*) echo "E: broken off" >&2; exit 100;;'],
])('npm run test:engines %s says "not run" for each engine, and keeps nothing of them', (_, failing) => {
  const indextargets = 'indextargets*) echo "http://127.0.0.1:1/debian stable main";;'
  const { status, lines } = runEngines({
    'apt-get': `case "$*" in ${indextargets} ${failing} esac`,
    'dpkg-deb': 'exit 1',
  })
  expect(lines).toHaveLength(2)
  for (const line of lines)
    expect(line).toMatch(/^(MySQL|Valkey): not run: (apt-get (update|install) failed: E: |this is no Debian)/)
  expect(status).toBe(0)
  expect(readdirSync(dir).filter((name) => name.startsWith('spillway-engines'))).toEqual([])
})
