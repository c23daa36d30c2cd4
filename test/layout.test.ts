/**
 * The house keeps its shape: server -> app -> (db, cache, queue, events) -> model, and worker -> the same four -> model. Nothing imports
 * upwards; implementations are named by start.ts only; the environment is read by config.ts only; files stay small, folders shallow.
 */
import { describe, expect, test } from 'vitest'
import { filesUnder, importsOf, type SourceFile, withoutComments } from './harness/imports.ts'

/** What everybody above may know of a layer: its interface, not what it is made of. */
const interfaces = [
  'src/db/store.ts',
  'src/cache/cache.ts',
  'src/queue/queue.ts',
  'src/queue/digest.ts',
  'src/events/events.ts',
  // Made of an EventLog, whichever one.
  'src/events/follower.ts',
]
const model = 'src/model/'
const generated = 'prisma/mysql/generated/'

/** Where the file is, and what it may import of ours besides its own folder. The first rule that matches counts. */
const rules: { files: RegExp; may: string[]; alone?: true; own?: false }[] = [
  { files: /^src\/model\//, may: [], alone: true },
  // What implementations share: connections to Redis, and the thread that has the SQLite file of the queue and the events log.
  { files: /^src\/redis\//, may: [model] },
  { files: /^src\/sqlite\//, may: [model, 'src/queue/queue.ts', 'src/events/events.ts'] },
  // Commands of their own: npm run migrate, npm run studio.
  { files: /^src\/db\/(migrate-main|studio)\.ts$/, may: ['src/config.ts', model, 'prisma/studio.config.ts'] },
  // A SQLite file is opened, configured and guarded in one way.
  {
    files: /^src\/db\//,
    may: [model, 'prisma/', ...['fault', 'guard', 'open'].map((name) => `src/sqlite/${name}.ts`)],
  },
  { files: /^src\/cache\//, may: [model, 'src/redis/'] },
  { files: /^src\/(queue|events)\//, may: [model, 'src/redis/', 'src/sqlite/'] },
  { files: /^src\/app\//, may: [model, ...interfaces] },
  { files: /^src\/traces\//, may: [model, ...interfaces] },
  // The console as it was built, to serve it.
  { files: /^src\/server\/console\.ts$/, may: ['web/dist'] },
  { files: /^src\/server\//, may: [model, ...interfaces, 'src/app/', generated] },
  { files: /^src\/config\.ts$/, may: ['src/config/'], own: false },
  { files: /^src\/config\//, may: ['src/redis/address.ts'] },
  { files: /^src\/main\.ts$/, may: ['src/run.ts'], own: false },
  { files: /^src\/run\.ts$/, may: ['src/config.ts', 'src/start.ts', 'src/log/'], own: false },
  { files: /^src\/log\//, may: [model] },
  { files: /^src\/docs\.ts$/, may: ['src/config.ts', 'src/server/', 'schema.graphql', '.env.example'], own: false },
  { files: /^src\/dead-letters\.ts$/, may: ['src/config.ts', 'src/start.ts', 'src/queue/queue.ts', model], own: false },
  { files: /^src\/closing\.ts$/, may: [], own: false },
  { files: /^src\/start\.ts$/, may: ['src/', 'worker/'], own: false },
  { files: /^worker\/main\.ts$/, may: ['src/run.ts'], own: false },
  { files: /^worker\/thread\.ts$/, may: ['src/log/', 'src/start.ts', 'src/model/'], own: false },
  { files: /^worker\//, may: [model, ...interfaces] },
]

const folderOf = (path: string) =>
  `${path
    .split('/')
    .slice(0, path.startsWith('src/') ? 2 : 1)
    .join('/')}/`
const isOurs = (name: string) => /^(src|worker|prisma|test|bench|web|schema\.graphql|\.env)/.test(name)

/** Every import that the rules do not allow, as a sentence. */
function wrongImports(file: SourceFile): string[] {
  const rule = rules.find(({ files }) => files.test(file.path))
  if (!rule) return [`${file.path} has no rule in test/layout.test.ts: say there what it may import`]
  return importsOf(file).flatMap((name) => {
    if (name.startsWith('computed: ')) return [`${file.path} has an import that cannot be checked: ${name.slice(10)}`]
    if (!isOurs(name)) return rule.alone ? [`${file.path} imports ${name}; model imports nothing`] : []
    if (rule.own !== false && name.startsWith(folderOf(file.path))) return []
    if (rule.may.some((allowed) => (allowed.endsWith('/') ? name.startsWith(allowed) : name === allowed))) return []
    return [`${file.path} must not import ${name}`]
  })
}

/** Reading the environment; to hand all of it on to a child process is none. */
function readsEnvironment({ path, text }: SourceFile): string[] {
  if (path === 'src/config.ts') return []
  const code = withoutComments(text).replaceAll('...process.env', '')
  const reads =
    /\bprocess\s*(\?\.|\.)\s*env\b|\bprocess\s*\[|\benv\b[^\n]*['"](node:)?process['"]|\bimport\.meta\.env\b/
  return reads.test(code) ? [`${path} reads the environment; that is for src/config.ts`] : []
}

function wrongShape({ path, text }: SourceFile): string[] {
  const lines = text.split('\n').length - 1
  const depth = path.split('/').length - 1
  return [
    ...(lines > 400 ? [`${path} has ${lines} lines; at most 400: it holds more than one concept`] : []),
    ...(depth > (path.startsWith('src/') ? 3 : 2) ? [`${path} is more than two folders deep`] : []),
  ]
}

const sources = ['src', 'worker'].flatMap((folder) => filesUnder(folder))

test('there is something to look at', () => {
  expect(sources.length).toBeGreaterThan(20)
  const paths = sources.map(({ path }) => path)
  for (const path of ['src/start.ts', 'worker/worker.ts', ...interfaces]) expect(paths).toContain(path)
})

test('imports go one way, and only start.ts names implementations', () => {
  expect(sources.flatMap(wrongImports)).toEqual([])
})

test('only config.ts reads the environment', () => {
  expect(sources.flatMap(readsEnvironment)).toEqual([])
})

test('files are small and folders shallow', () => {
  expect(['src', 'worker'].flatMap((folder) => filesUnder(folder, /./)).flatMap(wrongShape)).toEqual([])
})

describe('a source that breaks a rule is found out:', () => {
  test.each([
    ['model imports a layer', 'src/model/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['model imports a built-in', 'src/model/x.ts', "import { join } from 'node:path'"],
    ['model imports a package', 'src/model/x.ts', "import * as z from 'zod'"],
    ['queue imports events', 'src/queue/x.ts', "import { compare } from '../events/events.ts'"],
    ['events imports queue', 'src/events/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['cache imports db', 'src/cache/x.ts', "import type { Reader } from '../db/store.ts'"],
    ['db imports cache', 'src/db/x.ts', "import type { Cache } from '../cache/cache.ts'"],
    ['db imports sqlite of the queue', 'src/db/x.ts', "import { SqliteFile } from '../embedded/file.ts'"],
    ['queue imports app', 'src/queue/x.ts', "import { makeApp } from '../app/app.ts'"],
    ['shared Redis code imports a layer', 'src/redis/x.ts', "import { RedisQueue } from '../queue/redis.ts'"],
    [
      'shared SQLite code imports an implementation',
      'src/sqlite/x.ts',
      "import { SqliteQueue } from '../queue/sqlite.ts'",
    ],
    ['traces import an implementation', 'src/traces/x.ts', "import { RedisQueue } from '../queue/redis.ts'"],
    ['app imports server', 'src/app/x.ts', "import { serve } from '../server/server.ts'"],
    ['app imports an implementation', 'src/app/x.ts', "import { RedisQueue } from '../queue/redis.ts'"],
    [
      'app imports what implementations share',
      'src/app/x.ts',
      "import { RedisConnection } from '../redis/connection.ts'",
    ],
    ['app imports the settings', 'src/app/x.ts', "import type { Config } from '../config.ts'"],
    ['server imports an implementation', 'src/server/x.ts', "import { PrismaStore } from '../db/prisma.ts'"],
    ['server imports start', 'src/server/x.ts', "import { startApi } from '../start.ts'"],
    ['server imports worker', 'src/server/x.ts', "import { Worker } from '../../worker/worker.ts'"],
    ['worker imports an implementation', 'worker/x.ts', "import { MemoryCache } from '../src/cache/memory.ts'"],
    ['worker imports app', 'worker/x.ts', "import { makeApp } from '../src/app/app.ts'"],
    ['worker imports server', 'worker/x.ts', "import { serve } from '../src/server/server.ts'"],
    ['worker imports start', 'worker/x.ts', "import { startWorker } from '../src/start.ts'"],
    ['main imports an implementation', 'src/main.ts', "import { RedisQueue } from './queue/redis.ts'"],
    ['config imports a layer', 'src/config.ts', "import type { Queue } from './queue/queue.ts'"],
    ['start imports a test', 'src/start.ts', "import { startRedis } from './harness/redis.ts'"],
    ['a folder without a rule', 'src/utils/x.ts', ''],
    ['over several lines', 'src/app/x.ts', "import {\n  serve,\n} from '../server/server.ts'"],
    ['for its effects', 'src/app/x.ts', "import '../server/server.ts'"],
    ['re-exported', 'src/app/x.ts', "export * from '../server/server.ts'"],
    ['at run time', 'src/app/x.ts', "const { serve } = await import('../server/server.ts')"],
    ['as a type', 'src/app/x.ts', "let s: import('../server/server.ts').Server"],
    ['with require', 'src/app/x.ts', "const { serve } = require('../server/server.ts')"],
    ['as a thread', 'src/app/x.ts', "new Worker(new URL('../../worker/embedded.ts', import.meta.url))"],
    ['computed', 'src/app/x.ts', 'await import(name)'],
    ['behind a comment', 'src/app/x.ts', "/* ' */ import '../server/server.ts' // '"],
  ])('%s', (_, path, text) => {
    expect(wrongImports({ path, text })).toHaveLength(1)
  })

  test.each([
    ['process.env.HOST', 'const host = process.env.HOST'],
    ['process.env, taken apart', 'const { HOST } = process.env'],
    ['process?.env', 'const host = process?.env.HOST'],
    ['process["env"]', "const host = process['env'].HOST"],
    ['env of node:process', "import { env } from 'node:process'"],
    ['handed on and read', 'spawn(x, { env: { ...process.env } }); process.env.HOST'],
  ])('%s', (_, text) => {
    expect(readsEnvironment({ path: 'src/app/x.ts', text })).toHaveLength(1)
  })

  test('401 lines, and a folder in a folder in a folder', () => {
    expect(wrongShape({ path: 'src/app/x.ts', text: 'x\n'.repeat(401) })).toHaveLength(1)
    expect(wrongShape({ path: 'src/a/b/c/x.ts', text: '' })).toHaveLength(1)
    expect(wrongShape({ path: 'worker/a/b/x.ts', text: '' })).toHaveLength(1)
  })
})

describe('what only looks like it is let pass:', () => {
  test.each([
    ['a comment', 'src/app/x.ts', "// import '../server/server.ts'\n/* import '../start.ts' */"],
    ['a comment after a string', 'src/app/x.ts', "const a = 'it\\'s' // import('../start.ts')"],
    ['an interface', 'src/app/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['its own folder', 'src/app/x.ts', "import { save } from './save.ts'"],
    ['a package', 'src/app/x.ts', "import { uuidv7 } from 'uuidv7'"],
    ['a file of another kind', 'src/queue/x.ts', "readFileSync(new URL('./lua/x.lua', import.meta.url))"],
  ])('%s', (_, path, text) => {
    expect(wrongImports({ path, text })).toEqual([])
  })

  test('the environment, handed on whole', () => {
    expect(
      readsEnvironment({ path: 'src/app/x.ts', text: 'spawn(x, { env: { ...process.env } }) // process.env' }),
    ).toEqual([])
  })
})
