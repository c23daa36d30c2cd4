/** What is written for people: that links lead somewhere, and that settings, codes, metrics, scripts and files named in it exist. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buildSchema, parse, validate } from 'graphql'
import { describe, expect, test } from 'vitest'
import { envExample } from '../../src/config.ts'
import { root } from '../harness/imports.ts'

const files = (folder: string) => readdirSync(join(root, folder)).map((name) => `${folder}/${name}`)
const pages = files('docs').filter((path) => path.endsWith('.md'))
const documents = [
  ...['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'llms.txt'],
  ...pages,
  ...files('examples').flatMap((folder) => files(folder).filter((path) => path.endsWith('/README.md'))),
]
const read = (path: string) => readFileSync(join(root, path), 'utf8')

const settings = [...envExample().matchAll(/^# ([A-Z_]+)=/gm)].map(([, name]) => name!)
const known = new Set([
  // The values of enums.
  ...[...read('schema.graphql').matchAll(/^ +([A-Z]+(?:_[A-Z]+)+)$/gm)].map(([, value]) => value!),
  ...settings,
  ...settings.map((name) => `${name}_FILE`),
  // Codes of errors and of dead letters, and of the client.
  ...[...read('client/error.ts').matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code!),
  ...[...read('src/model/error.ts').matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code!),
  // Codes of /readyz, and of errors that GraphQL itself has.
  ...['src/redis/setup.ts', 'src/redis/route.ts', 'src/sqlite/fault.ts'].flatMap((path) =>
    [...read(path).matchAll(/'([A-Z]+(?:_[A-Z]+)+)'/g)].map(([, code]) => code!),
  ),
  'GRAPHQL_PARSE_FAILED',
  'GRAPHQL_VALIDATION_FAILED',
  'OPERATION_RESOLUTION_FAILURE',
  'BAD_REQUEST',
  'NODE_ENV',
  // Of the examples.
  'SPILLWAY_URL',
  'SPILLWAY_TOKEN',
  'TEST_REDIS_URL',
  'TEST_DATABASE_URL',
  'TEST_MYSQLD',
  'TEST_REDIS_SERVER',
  // Of Node, and of the databases.
  'NODE_EXTRA_CA_CERTS',
  'CONNECTION_ADMIN',
  'GET_LOCK',
  'SPILLWAY_FAULT_TABLE',
])
const scripts = Object.keys(JSON.parse(read('package.json')).scripts)

/** As GitHub makes anchors of headings. */
const anchorsOf = (markdown: string) =>
  [...markdown.replace(/```[\s\S]*?```/g, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )

/** Everything that the text names and that there is not. */
function missing(path: string, markdown: string): string[] {
  const links = [...markdown.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!)
    .filter((link) => !/^\w+:/.test(link))
  const code = [...markdown.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text!)
  return [
    ...links.filter((link) => {
      const [file = '', anchor] = link.split('#')
      const target = file === '' ? path : join(dirname(path), file)
      if (file !== '' && !existsSync(join(root, target))) return true
      return anchor !== undefined && !anchorsOf(target === path ? markdown : read(target)).includes(anchor)
    }),
    ...code.flatMap((text) => {
      const names = /^([A-Z]+(?:_[A-Z]+)+)(?:=\S*)?$/.exec(text)
      const file = /^((?:src|worker|test|prisma|deploy|docs|web)\/[\w./-]+)$/.exec(text)
      if (names && !known.has(names[1]!)) return [names[1]!]
      return file && !existsSync(join(root, file[1]!)) ? [file[1]!] : []
    }),
    ...[...markdown.matchAll(/\bnpm run ([\w-]+)/g)].map(([, name]) => name!).filter((name) => !scripts.includes(name)),
  ]
}

test.each(documents)('%s names only what there is', (path) => {
  expect(missing(path, read(path))).toEqual([])
})

/** Of a page, without its code: level, text and line of each heading. */
function headingsOf(markdown: string) {
  const lines = markdown.replace(/```[\s\S]*?```/g, (code) => code.replace(/[^\n]/g, '')).split('\n')
  return lines.flatMap((line, at) => {
    const [, level, text] = /^(#+) (.*)$/.exec(line) ?? []
    return level === undefined ? [] : [{ level: level.length, text: text!, at }]
  })
}

// docs/faults.md ends with the table of a run, which is one.
test.each(['README.md', ...pages].filter((path) => path !== 'docs/faults.md'))(
  '%s has a heading to link to in every 100 lines, and a long page links to its sections where it begins',
  (path) => {
    const text = read(path)
    const headings = headingsOf(text)
    const places = [...headings.map(({ at }) => at), text.split('\n').length]
    for (const [i, at] of places.slice(1).entries()) expect(at - places[i]!, headings[i]!.text).toBeLessThanOrEqual(100)
    if (path === 'README.md' || text.split('\n').length < 150) return
    const begin = text
      .split('\n')
      .slice(0, headings.find(({ level }) => level === 2)!.at)
      .join('\n')
    for (const { level, text } of headings)
      if (level === 2) expect(begin, text).toContain(`(#${anchorsOf(`# ${text}`)[0]})`)
  },
)

test('llms.txt has the form of llmstxt.org, and every page of docs/ and every example', () => {
  const text = read('llms.txt')
  expect(text).toMatch(/^# Spillway\n\n> .+\n\n(?:.+\n\n)*## /)
  const [, ...sections] = text.split(/^## .+\n\n/m)
  const links = sections.flatMap((section) => section.trim().split('\n'))
  for (const link of links) expect(link).toMatch(/^- \[[^\]]+\]\([^)]+\): \S.*$/)
  const paths = links.map((link) => /\(([^)]+)\)/.exec(link)![1]!)
  const missing = [...pages, ...files('examples')].filter((path) => !paths.some((one) => one.startsWith(path)))
  expect(missing).toEqual([])
  expect(headingsOf(text).map(({ text }) => text)).toEqual([
    'Spillway',
    'Documents',
    'Reference',
    'Examples',
    'Optional',
  ])
})

test.each(files('examples'))(
  '%s has a README of one screen, or is a guide, and the versions of packages that are tested',
  (folder) => {
    if (folder === 'examples/comments') return
    expect(read(`${folder}/README.md`).split('\n').length).toBeLessThanOrEqual(50)
    if (!existsSync(join(root, folder, 'package.json'))) return
    const { dependencies, devDependencies = {} } = JSON.parse(read(`${folder}/package.json`))
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies }))
      expect(JSON.parse(read(`node_modules/${name}/package.json`)).version, name).toBe(version)
  },
)

test('docs/protocol.md has operations that are valid', () => {
  const schema = buildSchema(read('schema.graphql'))
  const operations = [...read('docs/protocol.md').matchAll(/`((?:subscription |query )?\{ \w[^`…]*(?:"…"[^`…]*)*\})`/g)]
  expect(operations.length).toBeGreaterThanOrEqual(3)
  for (const [, operation] of operations) expect(validate(schema, parse(operation!)), operation!).toEqual([])
})

test('docs/settings.md has the defaults of .env.example in its table', () => {
  const defaults = Object.fromEntries(
    [...envExample().matchAll(/^# ([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
  )
  const [, table] = /^## Names and defaults$([\s\S]*?)^## /m.exec(read('docs/settings.md'))!
  const codesIn = (cell: string) => [...cell.matchAll(/`([^`]*)`/g)].map(([, text]) => text!)
  const rows = [...table!.matchAll(/^\| (`[^|]*)\|([^|]*)\|/gm)].flatMap(([, names, values]) =>
    codesIn(names!).map((name, i) => [name, codesIn(values!)[i] ?? '']),
  )
  expect(rows.length).toBeGreaterThan(10)
  for (const [name, value] of rows) expect(value, name).toBe(defaults[name!])
})

test('operations tells of every setting for whoever runs it that has no other place, and of every reason for a dead letter', () => {
  const text = read('docs/operations.md')
  for (const name of [
    'QUEUE_CAPACITY',
    'EVENTS_RETENTION_MS',
    'WORKER_CONCURRENCY',
    'WORKER_PORT',
    'DATABASE_READ_URL',
  ]) {
    expect(text).toContain(`\`${name}\``)
  }
  const [, codes] = /type FailureCode = (.*)/.exec(read('src/model/error.ts'))!
  for (const [, code] of codes!.matchAll(/'(\w+)'/g)) expect(text).toContain(`| \`${code}\``)
})

test('operations explains every metric of Spillway, and no other', () => {
  const told = [...read('src/telemetry/metrics.ts').matchAll(/'(spillway_\w+)'/g)].map(([, name]) => name!)
  expect(told.length).toBeGreaterThan(15)
  const text = read('docs/operations.md')
  const [, table] = /^## Metrics$([\s\S]*?)^## /m.exec(text)!
  const explained = [...table!.matchAll(/`(spillway_[a-z_]+[a-z])(?:\{[\w,]+\})?`/g)].map(([, name]) => name!)
  expect([...new Set(explained)].sort()).toEqual([...new Set(told)].sort())
})

test('operations and the dashboard name every stage of spillway_batch_duration_seconds, and no other', () => {
  const [, type] = /type Stage = (.*)/.exec(read('src/model/meter.ts'))!
  const stages = [...type!.matchAll(/'(\w+)'/g)].map(([, stage]) => stage!).sort()
  const [, row] = /`spillway_batch_duration_seconds\{stage\}`\s*\|(.*)\|$/m.exec(read('docs/operations.md'))!
  expect([...row!.matchAll(/`(\w+)`/g)].map(([, stage]) => stage!).sort()).toEqual(stages)
  const { panels } = JSON.parse(read('deploy/grafana/dashboards/spillway.json'))
  const { description } = panels.find(({ title }: { title: string }) => title.startsWith('Stages of a batch'))
  expect([...description.matchAll(/(\w+): /g)].map(([, stage]: string[]) => stage!).sort()).toEqual(stages)
})

test('the map and the picture in CONTRIBUTING.md name every folder of src/, and no other', () => {
  const folders = readdirSync(join(root, 'src'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
  const [, map] = /^## Map of the source$[\s\S]*?```\n([\s\S]*?)```/m.exec(read('CONTRIBUTING.md'))!
  const named = [...map!.matchAll(/\bsrc\/(\w+)\/|, (\w+)\/ /g)].map(([, room, file]) => room ?? file!)
  expect([...new Set(named)].sort()).toEqual(folders)
  const [, picture] = /^## The house$([\s\S]*?)^## /m.exec(read('CONTRIBUTING.md'))!
  const drawn = [...picture!.matchAll(/\b([a-z]+)\//g)].map(([, room]) => room!)
  expect(folders.filter((folder) => !drawn.includes(folder))).toEqual([])
})

/** Steps of CONTRIBUTING's "one save": `file: name` or `file: name, name` for what the file is said to define. */
function undefinedSteps(markdown: string): string[] {
  return [...markdown.matchAll(/`([\w/.-]+\.(?:ts|lua)): ([^`]+)`/g)].flatMap(([, file, names]) => {
    if (!existsSync(join(root, file!))) return [file!]
    const source = read(file!)
    return names!
      .split(', ')
      .filter((name) => !name.split('.').every((part) => defines(source, file!, part)))
      .map((name) => `${file}: ${name}`)
  })
}

/** Whether the source has a function, a class or a method of this name; a constructor or an exported constant counts, too. */
function defines(source: string, file: string, name: string): boolean {
  if (file.endsWith('.lua')) return new RegExp(`\\bfunction ${name}\\b`).test(source)
  const declared = new RegExp(`^(export )?(async )?(function|class|const) ${name}\\b`, 'm')
  const member = new RegExp(`^ +(async |readonly )?${name}(<.*>)?(\\(|: )`, 'm')
  return declared.test(source) || member.test(source)
}

test('CONTRIBUTING.md follows one save through functions that exist, from the body to the event', () => {
  const [, path] = /^## One save, from body to event$([\s\S]*?)^## /m.exec(read('CONTRIBUTING.md'))!
  expect(undefinedSteps(path!)).toEqual([])
  const steps = [...path!.matchAll(/^\d+\. .*?`([\w/.-]+): /gm)].map(([, file]) => file!)
  expect(steps.length).toBeGreaterThan(12)
  expect(steps[0]).toBe('src/http/route.ts')
  expect(steps.at(-1)).toBe('src/graphql/http-streams.ts')
})

describe('found out:', () => {
  test.each([
    ['a step in no file', '`src/app/accept.ts: Saves.save`', 'src/app/accept.ts'],
    ['a function that its file calls and does not define', '`src/app/save.ts: encode`', 'src/app/save.ts: encode'],
    ['a method of an old name', '`worker/publisher.ts: Publisher.announce`', 'worker/publisher.ts: Publisher.announce'],
    ['the second of two names', '`src/app/save.ts: Saves.save, accept`', 'src/app/save.ts: accept'],
  ])('%s', (_, markdown, problem) => {
    expect(undefinedSteps(markdown)).toEqual([problem])
  })

  test.each([
    ['a link to no file', '[x](nowhere.md)', 'nowhere.md'],
    ['a link to no heading', '# One\n[x](#two)', '#two'],
    ['a setting that is none', '`QUEUE_CAPACTIY`', 'QUEUE_CAPACTIY'],
    ['a file that is not there', '`src/queue/kafka.ts`', 'src/queue/kafka.ts'],
    ['a script that is none', 'npm run wokrer', 'wokrer'],
  ])('%s', (_, markdown, problem) => {
    expect(missing('README.md', markdown)).toEqual([problem])
  })
})

test('docs/browser.md has the lines that test/live/clients.test.ts runs', () => {
  expect(read('docs/browser.md')).toContain(read('test/harness/ten-lines.js'))
})
