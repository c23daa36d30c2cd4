/**
 * The rooms of the house and the arrows between them: main → run → start → (server → graphql → (http, app), worker) → (queue, events, cache,
 * db) → (redis, sqlite) → model ← models. Nothing imports against an arrow, no imports run in a circle, only src/open.ts names implementations, and
 * only src/config.ts reads the environment.
 */
import { describe, expect, test } from 'vitest'
import { circlesIn, filesUnder, importsOf, type SourceFile, withoutComments } from './harness/imports.ts'

/** What other rooms may import of queue, events, cache and db: the interfaces, not the implementations. */
const interfaces = [
  'src/db/store.ts',
  'src/cache/cache.ts',
  'src/queue/queue.ts',
  'src/queue/operations.ts',
  'src/events/events.ts',
  'src/events/history.ts',
  // They read any EventLog.
  'src/events/follower.ts',
  'src/events/topics.ts',
]
const model = 'src/model/'
const config = ['src/config.ts', 'src/config/']
const models = 'src/models/index.ts'

interface Rule {
  room: string
  files: RegExp
  /** Files, and folders with a slash at the end, that they may import besides their own room. */
  may: string[]
  /** Of these, they may import types only. */
  mayTypes?: string[]
  /** Packages and built-ins, if it may not import all of them. */
  packages?: string[]
  /** Computed imports, as they stand. */
  computed?: string[]
}

/** The first rule that matches a file holds. */
const rules: Rule[] = [
  { room: 'model', files: /^src\/model\//, may: [], packages: ['decimal.js', 'node:crypto'] },
  // The models of this Spillway, and the only room that names the generated Prisma clients.
  { room: 'models', files: /^src\/models\//, may: [model, 'prisma/', 'prisma'], mayTypes: ['src/graphql/builder.ts'] },
  { room: 'redis', files: /^src\/redis\//, may: [model] },
  { room: 'sqlite', files: /^src\/sqlite\//, may: [model] },
  { room: 'db', files: /^src\/db\//, may: [model, 'src/sqlite/'] },
  { room: 'cache', files: /^src\/cache\//, may: [model, 'src/redis/'] },
  { room: 'queue', files: /^src\/queue\//, may: [model, 'src/redis/', 'src/sqlite/'] },
  { room: 'events', files: /^src\/events\//, may: [model, 'src/redis/', 'src/sqlite/'] },
  // The thread that owns the embedded queue's file.
  { room: 'embedded', files: /^src\/embedded\//, may: [model, 'src/sqlite/', 'src/queue/', 'src/events/'] },
  { room: 'app', files: /^src\/app\//, may: [model, ...interfaces] },
  { room: 'http', files: /^src\/http\//, may: [model, ...interfaces, 'src/app/'] },
  { room: 'telemetry', files: /^src\/telemetry\//, may: [model, ...interfaces], mayTypes: ['src/app/'] },
  {
    room: 'graphql',
    files: /^src\/graphql\//,
    may: [model, ...interfaces, 'src/app/', 'src/http/'],
    mayTypes: ['src/telemetry/'],
  },
  // The console's files, as they were built.
  { room: 'server', files: /^src\/server\/console\.ts$/, may: [model, 'src/http/', 'web/dist'] },
  {
    room: 'server',
    files: /^src\/server\//,
    may: [model, ...interfaces, 'src/app/', 'src/http/', 'src/graphql/'],
    mayTypes: ['src/telemetry/'],
  },
  {
    room: 'config',
    files: /^src\/config(\.ts$|\/)/,
    may: ['src/model/hosts.ts', 'src/db/address.ts', 'src/redis/address.ts'],
  },
  {
    room: 'open',
    files: /^src\/open\.ts$/,
    may: [
      model,
      ...config,
      ...['queue', 'events', 'cache', 'db', 'embedded'].map((room) => `src/${room}/`),
      'src/redis/address.ts',
      'src/telemetry/otel.ts',
    ],
  },
  // The embedded worker's thread opens what it needs by itself: it starts with the settings alone.
  {
    room: 'worker',
    files: /^worker\/embedded\.ts$/,
    may: [model, 'src/open.ts', 'src/telemetry/log-errors.ts'],
    mayTypes: [...config, 'src/db/dialect.ts'],
    // The models, whose module the API names.
    computed: ['import(modelsUrl)'],
  },
  {
    room: 'worker',
    files: /^worker\/working\.ts$/,
    may: [model, ...interfaces, 'src/telemetry/traced-worker.ts'],
    mayTypes: config,
  },
  // The models are imported by a URL: a user's project has its own.
  {
    room: 'project',
    files: /^src\/project\.ts$/,
    may: [model, 'prisma/generator/project.ts'],
    mayTypes: ['src/start.ts'],
    computed: ['import(modelsUrl.href)'],
  },
  {
    room: 'main',
    files: /^(src|worker)\/main\.ts$/,
    may: ['src/bundle.ts'],
    mayTypes: ['src/program.ts'],
    computed: ['import(programUrl({ ...process.env })'],
  },
  // It names the program, which it does not load.
  { room: 'bundle', files: /^src\/bundle\.ts$/, may: ['src/program.ts', ''] },
  {
    room: 'commands',
    files: /^src\/commands\/bundle\.ts$/,
    may: ['src/bundle.ts'],
    computed: ['import(${JSON.stringify(source(entries.models)'],
  },
  // What main loads, from the sources or from the bundle.
  { room: 'program', files: /^src\/program\.ts$/, may: ['src/run.ts', 'src/project.ts'] },
  { room: 'worker', files: /^worker\//, may: [model, ...interfaces] },
  {
    room: 'start',
    files: /^src\/start\.ts$/,
    may: [
      model,
      'src/open.ts',
      'src/app/',
      'src/http/',
      'src/server/',
      'src/graphql/schema.ts',
      'src/graphql/subschema.ts',
      'src/telemetry/metrics.ts',
      'src/telemetry/history-recorder.ts',
      ...['spawn', 'working'].map((name) => `worker/${name}.ts`),
    ],
    mayTypes: [...interfaces, ...config, 'src/db/dialect.ts', 'src/processes/member.ts'],
  },
  // The API processes of a machine: what the primary does for them, and what each of them sees of it.
  {
    room: 'processes',
    files: /^src\/processes\//,
    may: [model, 'src/http/client-limits.ts', 'src/telemetry/'],
    mayTypes: ['src/http/connection-limit.ts'],
  },
  {
    room: 'run',
    files: /^src\/run\.ts$/,
    may: ['src/config.ts', 'src/start.ts', 'src/processes/', 'src/telemetry/'],
  },
  // A package of its own, which no other room imports.
  { room: 'client', files: /^client\//, may: [], packages: ['react'] },
  // What the package exports.
  {
    room: 'package',
    files: /^src\/index\.ts$/,
    may: [model, 'src/config.ts', 'src/start.ts', 'src/telemetry/log.ts'],
    mayTypes: ['src/graphql/builder.ts', 'src/graphql/subschema.ts'],
  },
  {
    room: 'commands',
    files: /^src\/commands\//,
    may: [
      model,
      ...interfaces,
      ...config,
      'src/open.ts',
      'src/project.ts',
      'src/app/',
      models,
      'src/graphql/schema.ts',
      // The marker of an incomplete migration, and the definitions that a migration is made from.
      'src/db/migrate.ts',
      'prisma/generator/',
      'prisma/studio.config.ts',
      'schema.graphql',
      '.env.example',
    ],
  },
]

const isOurs = (name: string) => /^(src|worker|client|prisma|test|bench|web|schema\.graphql|\.env)/.test(name)
const allows = (list: readonly string[] = [], name: string) =>
  list.some((allowed) => (allowed.endsWith('/') ? name.startsWith(allowed) : name === allowed))
const ruleOf = (path: string) => rules.find(({ files }) => files.test(path))

/** Every import that the rules do not allow, as a sentence. */
function wrongImports(file: SourceFile): string[] {
  const rule = ruleOf(file.path)
  if (!rule) return [`${file.path} is in no room: add a rule to test/layout.test.ts that says what it may import`]
  return importsOf(file).flatMap(({ name, type }) => {
    if (name.startsWith('computed: ')) {
      const call = name.slice(10)
      return rule.computed?.includes(call) ? [] : [`${file.path} has an import that cannot be checked: ${call}`]
    }
    if (!isOurs(name)) {
      const isAllowed = rule.packages?.includes(name) ?? true
      return isAllowed ? [] : [`${file.path} imports ${name}; ${rule.room} may import ${rule.packages!.join(', ')}`]
    }
    if (ruleOf(name)?.room === rule.room || allows(rule.may, name)) return []
    if (!allows(rule.mayTypes, name)) return [`${file.path} must not import ${name}`]
    return type ? [] : [`${file.path} must not import ${name}, except for types`]
  })
}

/** Which file imports which, and which room imports which; `import type`, `import()` and `new URL()` count. */
function graphsOf(files: readonly SourceFile[]) {
  const importedBy = (file: SourceFile) => importsOf(file).flatMap(({ name }) => (ruleOf(name) ? name : []))
  const ofFiles = new Map(files.map((file) => [file.path, importedBy(file)]))
  const ofRooms = new Map(rules.map(({ room }) => [room, new Set<string>()]))
  for (const [path, names] of ofFiles)
    for (const name of names) ofRooms.get(ruleOf(path)!.room)!.add(ruleOf(name)!.room)
  return { ofFiles, ofRooms }
}

/** Reads of the environment; to hand all of it on to a child process is none. */
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

const sources = ['src', 'worker', 'client']
  .flatMap((folder) => filesUnder(folder))
  .filter(({ path }) => !path.startsWith('client/dist/'))

test('the layout test finds the source files', () => {
  expect(sources.length).toBeGreaterThan(20)
  const paths = sources.map(({ path }) => path)
  for (const path of ['src/start.ts', 'src/open.ts', 'worker/worker.ts', ...interfaces]) expect(paths).toContain(path)
})

test('imports follow the arrows between the rooms, and only src/open.ts names implementations', () => {
  expect(sources.flatMap(wrongImports)).toEqual([])
})

test('no imports run in a circle, neither between files nor between rooms', () => {
  const { ofFiles, ofRooms } = graphsOf(sources)
  expect(circlesIn(ofFiles)).toEqual([])
  expect(circlesIn(ofRooms)).toEqual([])
})

test('only src/config.ts reads the environment', () => {
  expect(sources.flatMap(readsEnvironment)).toEqual([])
})

test('source files have at most 400 lines and folders are at most two levels deep', () => {
  expect(['src', 'worker'].flatMap((folder) => filesUnder(folder, /./)).flatMap(wrongShape)).toEqual([])
})

describe('the layout test reports a source that breaks a rule:', () => {
  test.each([
    ['model imports a layer', 'src/model/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['model imports a built-in', 'src/model/x.ts', "import { join } from 'node:path'"],
    ['model imports a package', 'src/model/x.ts', "import * as z from 'zod'"],
    ['model imports the models', 'src/model/x.ts', "import { models } from '../models/index.ts'"],
    ['models imports app', 'src/models/x.ts', "import { makeApp } from '../app/app.ts'"],
    ['app imports the models', 'src/app/x.ts', "import { Content } from '../models/content.ts'"],
    ['graphql imports the models', 'src/graphql/x.ts', "import { models } from '../models/index.ts'"],
    ['start imports the models', 'src/start.ts', "import { models } from './models/index.ts'"],
    ['main imports one model', 'src/main.ts', "import { Content } from './models/content.ts'"],
    ['worker imports the models', 'worker/x.ts', "import { models } from '../src/models/index.ts'"],
    ['the embedded worker imports the models', 'worker/embedded.ts', "import { models } from '../src/models/index.ts'"],
    ['the embedded worker has a computed import of another name', 'worker/embedded.ts', 'await import(name)'],
    ['model imports another package than decimal.js', 'src/model/x.ts', "import { uuidv7 } from 'uuidv7'"],
    ['queue imports events', 'src/queue/x.ts', "import { compare } from '../events/events.ts'"],
    ['events imports queue', 'src/events/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['cache imports db', 'src/cache/x.ts', "import type { Reader } from '../db/store.ts'"],
    ['db imports cache', 'src/db/x.ts', "import type { Cache } from '../cache/cache.ts'"],
    [
      'db imports a generated client',
      'src/db/x.ts',
      "import { PrismaClient } from '../../prisma/mysql/generated/client.ts'",
    ],
    [
      'graphql imports a generated client',
      'src/graphql/x.ts',
      "import type { A } from '../../prisma/mysql/generated/client.ts'",
    ],
    ['db imports the embedded queue', 'src/db/x.ts', "import { SqliteFile } from '../embedded/file.ts'"],
    ['embedded imports db', 'src/embedded/x.ts', "import { PrismaStore } from '../db/prisma.ts'"],
    ['queue imports app', 'src/queue/x.ts', "import { makeApp } from '../app/app.ts'"],
    ['shared Redis code imports a layer', 'src/redis/x.ts', "import { RedisQueue } from '../queue/redis.ts'"],
    [
      'shared SQLite code imports an implementation',
      'src/sqlite/x.ts',
      "import { SqliteQueue } from '../queue/sqlite.ts'",
    ],
    ['shared SQLite code imports an interface', 'src/sqlite/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['telemetry imports an implementation', 'src/telemetry/x.ts', "import { RedisQueue } from '../queue/redis.ts'"],
    ['telemetry imports app for more than types', 'src/telemetry/x.ts', "import { Bytes } from '../app/bytes.ts'"],
    ['http imports graphql', 'src/http/x.ts', "import { schema } from '../graphql/schema.ts'"],
    ['http imports server', 'src/http/x.ts', "import { serve } from '../server/server.ts'"],
    ['app imports http', 'src/app/x.ts', "import { HttpError } from '../http/error.ts'"],
    ['graphql imports server', 'src/graphql/x.ts', "import { serve } from '../server/server.ts'"],
    [
      'graphql imports metrics for more than types',
      'src/graphql/x.ts',
      "import { Metrics } from '../telemetry/metrics.ts'",
    ],
    ['server imports open', 'src/server/x.ts', "import { openQueue } from '../open.ts'"],
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
    ['worker imports open', 'worker/x.ts', "import { openQueue } from '../src/open.ts'"],
    ['worker imports the settings', 'worker/x.ts', "import type { Config } from '../src/config.ts'"],
    ['the embedded worker imports start', 'worker/embedded.ts', "import { startWorker } from '../src/start.ts'"],
    ['start imports an implementation', 'src/start.ts', "import { RedisQueue } from './queue/redis.ts'"],
    ['start imports the reader of settings', 'src/start.ts', "import { readConfig } from './config.ts'"],
    ['open imports start', 'src/open.ts', "import { startApi } from './start.ts'"],
    ['open imports worker', 'src/open.ts', "import { Worker } from '../worker/worker.ts'"],
    ['a command imports start', 'src/commands/x.ts', "import { startApi } from '../start.ts'"],
    ['a command imports an implementation', 'src/commands/x.ts', "import { PrismaStore } from '../db/prisma.ts'"],
    ['main imports an implementation', 'src/main.ts', "import { RedisQueue } from './queue/redis.ts'"],
    ['config imports a layer', 'src/config.ts', "import type { Queue } from './queue/queue.ts'"],
    ['start imports a test', 'src/start.ts', "import { startRedis } from '../test/harness/redis.ts'"],
    ['a folder without a rule', 'src/utils/x.ts', ''],
    ['over several lines', 'src/app/x.ts', "import {\n  serve,\n} from '../server/server.ts'"],
    ['for its effects', 'src/app/x.ts', "import '../server/server.ts'"],
    ['re-exported', 'src/app/x.ts', "export * from '../server/server.ts'"],
    ['at run time', 'src/app/x.ts', "const { serve } = await import('../server/server.ts')"],
    ['as a type', 'src/app/x.ts', "let s: import('../server/server.ts').Server"],
    ['with require', 'src/app/x.ts', "const { serve } = require('../server/server.ts')"],
    ['as a thread', 'src/app/x.ts', "new Worker(new URL('../../worker/embedded.ts', import.meta.url))"],
    [
      'as a type and a value',
      'src/graphql/x.ts',
      "import type { A } from '../telemetry/a.ts'\nimport { B } from '../telemetry/a.ts'",
    ],
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

  test.each([
    ['at run time', "import './b.ts'"],
    ['as a type', "import type { B } from './b.ts'"],
    ['as a thread', "new Worker(new URL('b.ts', import.meta.url))"],
    ['by import()', "await import('./b.ts')"],
  ])('two files that import each other, one of them %s', (_, text) => {
    const files = [
      { path: 'src/app/a.ts', text },
      { path: 'src/app/b.ts', text: "import './c.ts'" },
      { path: 'src/app/c.ts', text: "import './a.ts'" },
      { path: 'src/app/d.ts', text: "import './a.ts'" },
    ]
    expect(circlesIn(graphsOf(files).ofFiles)).toEqual([['src/app/a.ts', 'src/app/b.ts', 'src/app/c.ts']])
  })

  test('three rooms that import each other in a circle', () => {
    const files = [
      { path: 'src/queue/a.ts', text: "import type { B } from '../sqlite/b.ts'" },
      { path: 'src/sqlite/c.ts', text: "import '../embedded/d.ts'" },
      { path: 'src/embedded/e.ts', text: "import '../queue/f.ts'" },
    ]
    expect(circlesIn(graphsOf(files).ofFiles)).toEqual([])
    expect(circlesIn(graphsOf(files).ofRooms)).toEqual([['sqlite', 'queue', 'embedded']])
  })

  test('401 lines, and a folder in a folder in a folder', () => {
    expect(wrongShape({ path: 'src/app/x.ts', text: 'x\n'.repeat(401) })).toHaveLength(1)
    expect(wrongShape({ path: 'src/a/b/c/x.ts', text: '' })).toHaveLength(1)
    expect(wrongShape({ path: 'worker/a/b/x.ts', text: '' })).toHaveLength(1)
  })
})

describe('the layout test accepts a source with', () => {
  test.each([
    ['a comment', 'src/app/x.ts', "// import '../server/server.ts'\n/* import '../start.ts' */"],
    ['a comment after a string', 'src/app/x.ts', "const a = 'it\\'s' // import('../start.ts')"],
    ['a type of metrics', 'src/graphql/x.ts', "import type { Metrics } from '../telemetry/metrics.ts'"],
    ['an interface', 'src/app/x.ts', "import type { Queue } from '../queue/queue.ts'"],
    ['its own folder', 'src/app/x.ts', "import { save } from './save.ts'"],
    ['a package', 'src/app/x.ts', "import { uuidv7 } from 'uuidv7'"],
    ['decimal.js in model', 'src/model/x.ts', "import { Decimal } from 'decimal.js'"],
    ['the models by a URL, in the project', 'src/project.ts', 'await import(modelsUrl.href)'],
    ['the models by a URL, in the embedded worker', 'worker/embedded.ts', 'await import(modelsUrl)'],
    ['a file of another kind', 'src/queue/x.ts', "readFileSync(new URL('./lua/x.lua', import.meta.url))"],
  ])('%s', (_, path, text) => {
    expect(wrongImports({ path, text })).toEqual([])
  })

  test('the whole environment, handed on to a child process', () => {
    expect(
      readsEnvironment({ path: 'src/app/x.ts', text: 'spawn(x, { env: { ...process.env } }) // process.env' }),
    ).toEqual([])
  })
})
