/**
 * npm run bench: Spillway beside what people use instead, and beside what the machine can do at all.
 *
 *   npm run bench -- [--quick] [--only NAME,…] [--rounds N] [--profile]
 *
 * A run of everything writes bench/RESULTS.md and bench/results.svg, which say of a scenario that failed that it did; --quick, --only and fewer than three rounds
 * print only, and profile with --profile only.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { fsyncTime } from './machine.ts'
import { type Pace, Parts } from './parts.ts'
import { type Profile, readProfile } from './profile.ts'
import { markdown, terminalTable } from './report.ts'
import { type Result, runScenario, type Scenario, unmeasured } from './scenario.ts'
import {
  accept1K,
  accept10K,
  acceptConnections,
  acceptGraphql,
  acceptMany,
  acceptRest,
  equalRates,
  metered,
} from './scenarios/accept.ts'
import { contents, contentsMany } from './scenarios/contents.ts'
import { delivery } from './scenarios/delivery.ts'
import { draining } from './scenarios/drain.ts'
import { embedded } from './scenarios/embedded.ts'
import { endToEnd } from './scenarios/end-to-end.ts'
import { documents, fanOut, fanOutSingle } from './scenarios/fan-out.ts'
import { idle } from './scenarios/idle.ts'
import { idle100k } from './scenarios/idle-100k.ts'
import { latency } from './scenarios/latency.ts'
import { processes } from './scenarios/processes.ts'
import { replicated } from './scenarios/replicas.ts'
import { rooms } from './scenarios/rooms.ts'
import { spiking } from './scenarios/spike.ts'
import { starting } from './scenarios/start.ts'
import { picture } from './svg.ts'

const all: Scenario[] = [
  acceptGraphql,
  accept1K,
  accept10K,
  acceptConnections,
  equalRates,
  acceptRest,
  acceptMany,
  metered,
  replicated,
  draining,
  contents,
  contentsMany,
  endToEnd,
  latency,
  spiking,
  embedded,
  fanOut,
  fanOutSingle,
  documents,
  rooms,
  delivery,
  idle,
  idle100k,
  processes,
  starting,
]

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    profile: { type: 'boolean', default: false },
  },
})
const names = all.map(({ name }) => name)
const only = values.only?.flatMap((some) => some.split(','))
const unknown = only?.find((name) => !names.includes(name))
if (unknown !== undefined) stop(`There is no scenario ${unknown}; there are ${names.join(', ')}.`)
if (values.rounds !== undefined && !/^[1-9]\d?$/.test(values.rounds))
  stop('--rounds must be a whole number from 1 to 99.')

const { quick } = values
/** Fewer are not worth writing down. */
const leastRounds = 3
const pace: Pace = quick
  ? { rounds: 1, seconds: 1, warmUpSeconds: 0.7, quick }
  : { rounds: 5, seconds: 5, warmUpSeconds: 2, quick }
if (values.rounds) pace.rounds = Number(values.rounds)
const scenarios = all.filter(({ name }) => only?.includes(name) ?? true)
const isWhole = !quick && scenarios.length === all.length && pace.rounds >= leastRounds
const started = performance.now()

/** A preloaded module makes a program load its sources, whose paths say what a function belongs to. */
const fromSources = ['--import', 'data:text/javascript,0']

progress('bundling Spillway, as npm ci does')
await promisify(execFile)(process.execPath, [fileURLToPath(new URL('../src/commands/bundle.ts', import.meta.url))])
// On the disk, where an fsync costs what it costs.
process.env.TMPDIR ??= tmpdir()
progress('starting Redis, a cache and MariaDB')
const parts = await Parts.start(pace)
const fsync = fsyncTime(parts.redis.dir)
progress(fsync)
const results: Result[] = []
const profiles = new Map<string, Profile>()
let failed = false
try {
  for (const scenario of scenarios) {
    try {
      results.push(await runScenario(scenario, parts, progress))
      if (scenario.profile && (values.profile || isWhole)) {
        progress(`${scenario.name}: profiling`)
        const profile = await profiled(scenario)
        if (profile) profiles.set(scenario.title, profile)
      }
    } catch (error) {
      failed = true
      finishProgress()
      console.error(`${scenario.name} failed:`, error)
      results.push(unmeasured(scenario, 'it failed'))
    }
  }
} finally {
  await parts.stop()
}
finishProgress()
if (failed) process.exitCode = 1
const text = markdown(results, profiles, pace, fsync)
if (!isWhole) {
  console.log(profiles.size > 0 ? text.slice(text.indexOf('## Where')) : '')
  console.log(terminalTable(results))
  console.log('\nNothing was written: only a full run of three rounds or more writes bench/RESULTS.md.')
} else {
  await writeFile(new URL('RESULTS.md', import.meta.url), text)
  await writeFile(new URL('results.svg', import.meta.url), picture(results))
  console.log(terminalTable(results))
  console.log('\nWritten: bench/RESULTS.md, bench/results.svg')
}

async function profiled(scenario: Scenario): Promise<Profile | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-profile-'))
  try {
    const running = await scenario.contenders[0]!.start(parts, [...fromSources, '--cpu-prof', `--cpu-prof-dir=${dir}`])
    await running.measure()
    await running.stop()
    return await readProfile(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** One line that changes where somebody is looking, a line each where nobody is. */
function progress(line: string): void {
  const text = `${String(Math.round((performance.now() - started) / 1_000)).padStart(4)} s  ${line}`
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`)
  else process.stderr.write(`${text}\n`)
}

function finishProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
}

function stop(message: string): never {
  console.error(message)
  process.exit(2)
}
