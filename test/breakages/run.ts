/**
 * npm run breakages [-- WORD]: breaks a copy of the tree on purpose, one way after another, and demands that the tests named for each
 * fail, and that they pass on the copy as it is. A test that no longer bites is found out here. Exits with 1 when a breakage is not caught.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startMariadb } from '../harness/mariadb.ts'
import { startRedis } from '../harness/redis.ts'
import { type Breakage, breakages } from './breakages.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const patienceMs = 180_000

/** Of the tests with the name: how many passed, and how many failed as tests do, not because the file could not even be run. */
interface Tally {
  passed: number
  failed: number
  /** What vitest said, for when nothing of it can be understood. */
  output: string
}

async function copyTree(): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'spillway-breakages-'))
  const left = new Set(['node_modules', '.git', 'data'])
  await cp(root, copy, { recursive: true, filter: (path) => !left.has(relative(root, path)) })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}

/** The files as they are when it is broken: path -> text. Throws where a change does not fit the tree any more. */
async function broken(tree: string, { name, changes }: Breakage): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  for (const { file, find, put } of changes) {
    const path = join(tree, file)
    const text = texts.get(path) ?? (await readFile(path, 'utf8'))
    const times = text.split(find).length - 1
    if (times !== 1) {
      throw new Error(
        `"${name}": ${JSON.stringify(find)} is in ${file} ${times} times, expected once; adapt breakages.ts`,
      )
    }
    // As a function: a "$" in a text to put would be taken for more than itself.
    texts.set(
      path,
      text.replace(find, () => put),
    )
  }
  return texts
}

/** Resolves to what puts everything back. */
async function breakIt(copy: string, breakage: Breakage): Promise<() => Promise<void>> {
  const texts = await broken(copy, breakage)
  const originals = await Promise.all([...texts.keys()].map(async (path) => [path, await readFile(path)] as const))
  for (const [path, text] of texts) await writeFile(path, text)
  return async () => {
    for (const [path, text] of originals) await writeFile(path, text)
  }
}

async function runTests(copy: string, { file, name }: Breakage['test'], env: NodeJS.ProcessEnv): Promise<Tally> {
  const report = join(copy, 'report.json')
  await rm(report, { force: true })
  const escaped = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    file,
    '-t',
    escaped,
    '--reporter=json',
    `--outputFile=${report}`,
  ]
  const child = spawn(process.execPath, args, { cwd: copy, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-20_000)
    })
  }
  const timer = setTimeout(() => child.kill('SIGTERM'), patienceMs)
  await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  const tally = { passed: 0, failed: 0, output }
  if (!existsSync(report)) return tally
  const { testResults } = JSON.parse(await readFile(report, 'utf8')) as {
    testResults: { assertionResults: { ancestorTitles: string[]; title: string; status: string }[] }[]
  }
  for (const { ancestorTitles, title, status } of testResults.flatMap(({ assertionResults }) => assertionResults)) {
    if (![...ancestorTitles, title].join(' > ').includes(name)) continue
    if (status === 'passed') tally.passed += 1
    if (status === 'failed') tally.failed += 1
  }
  return tally
}

const key = ({ test }: Breakage) => `${test.file} > ${test.name}`

async function main(words: string[]): Promise<number> {
  const chosen = breakages.filter(({ name }) => words.every((word) => name.includes(word)))
  const widest = Math.max(0, ...chosen.map(({ name }) => name.length))
  const line = (name: string, test: string, verdict: string) =>
    console.log(`${name.padEnd(widest)}  ${verdict.padEnd(9)}  ${test}`)
  for (const one of chosen) await broken(root, one)
  const copy = await copyTree()
  // One of each for all runs, in place of new ones each time.
  const [redis, mariadb] = await Promise.all([startRedis(), startMariadb()])
  const env = { ...process.env, TEST_REDIS_URL: redis.url, TEST_DATABASE_URL: mariadb.url }
  let escaped = 0
  try {
    // What fails by itself proves nothing when it fails.
    const sound = new Map<string, string | undefined>()
    for (const one of chosen) {
      if (sound.has(key(one))) continue
      const { passed, failed, output } = await runTests(copy, one.test, env)
      const problem = existsSync(join(copy, one.test.file))
        ? `${passed} passed, ${failed} failed`
        : 'there is no such file'
      sound.set(key(one), passed > 0 && failed === 0 ? undefined : `${problem}\n${failed > 0 ? output : ''}`)
    }
    line('breakage', 'test', 'caught')
    for (const one of chosen) {
      const unsound = sound.get(key(one))
      let caught = false
      let why = unsound && `the test does not pass on what is not broken: ${unsound}`
      if (!why) {
        const mend = await breakIt(copy, one)
        try {
          const { failed, passed, output } = await runTests(copy, one.test, env)
          caught = failed > 0
          if (!caught && passed === 0) why = `nothing could be run:\n${output}`
        } finally {
          await mend()
        }
      }
      line(one.name, key(one), caught ? 'yes' : 'NO')
      if (why) console.log(`  ${why}`)
      if (!caught) escaped += 1
    }
  } finally {
    await Promise.all([redis.cleanup(), mariadb.cleanup()])
    await rm(copy, { recursive: true, force: true })
  }
  console.log(escaped === 0 ? `all ${chosen.length} caught` : `${escaped} of ${chosen.length} not caught`)
  return escaped === 0 && chosen.length > 0 ? 0 : 1
}

process.exitCode = await main(process.argv.slice(2))
