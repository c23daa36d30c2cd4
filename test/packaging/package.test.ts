/**
 * The package `spillway`: packed, installed into an empty folder outside the repository, and a project made by its `init`, from the first save
 * to a column more, a worker beside it and its types. npm reads its cache, which `npm ci` has filled, before it asks the registry.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Child, launch } from '../harness/child.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { root } from '../harness/imports.ts'
import { inherited } from '../harness/process.ts'
import { copyTree } from '../harness/tree.ts'

const run = promisify(execFile)
let dir: string
let tarball: string
const children: Child[] = []

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spillway-package-'))
  await mkdir(join(dir, 'bin'))
  await symlink(process.execPath, join(dir, 'bin/node'))
  await mkdir(join(dir, 'empty'))
  tarball = await pack()
  await npm('empty', 'install', ...quick, tarball)
  await npx('empty', 'init', 'app')
  // For examples/inside-yoga.
  const project = join(dir, 'empty/app/package.json')
  const { dependencies, ...rest } = await json('empty/app/package.json')
  const { dependencies: ofTests } = JSON.parse(await readFile(join(root, 'test/package.json'), 'utf8'))
  const stitch = { '@graphql-tools/stitch': ofTests['@graphql-tools/stitch'] }
  await writeFile(project, JSON.stringify({ ...rest, dependencies: { ...dependencies, ...stitch } }))
  await npm('empty/app', 'install', ...quick)
  await cp(join(root, 'examples/inside-yoga/server.ts'), join(dir, 'empty/app/server.ts'))
}, 480_000)
afterAll(async () => {
  for (const child of children) child.kill('SIGTERM')
  await Promise.all(children.map(({ exited }) => exited))
  await rm(dir, { recursive: true, force: true, maxRetries: 3 })
})

// A request that hangs is repeated.
const quick = ['--prefer-offline', '--fetch-timeout=20000', '--no-audit', '--no-fund', '--no-update-notifier']
// npm trusts the registry as it does outside of the test.
const { NODE_EXTRA_CA_CERTS = '' } = process.env
const env = () => ({ ...inherited(), NODE_EXTRA_CA_CERTS, PATH: [join(dir, 'bin'), process.env.PATH].join(delimiter) })
const npm = (folder: string, ...args: string[]) => run('npm', args, { cwd: join(dir, folder), env: env() })
/** The command in the folder's node_modules, as `npx spillway`. */
const npx = (folder: string, ...args: string[]) =>
  run(join(dir, folder, 'node_modules/.bin/spillway'), args, { cwd: join(dir, folder), env: env() })

/** Packs a copy of this checkout, since packing changes its package.json for a moment. */
async function pack(): Promise<string> {
  await using tree = await copyTree()
  for (const name of [
    'package',
    'client',
    'test/package.json',
    'install-workspaces.mjs',
    'node-version.mjs',
    '.env.example',
  ])
    await cp(join(root, name), join(tree.path, name), { recursive: true })
  for (const name of ['README.md', 'LICENSE']) await cp(join(root, name), join(tree.path, name))
  const before = await tree.read('package.json')
  const { stdout } = await tree.shell(`npm pack --silent --pack-destination ${dir}`)
  expect(await tree.read('package.json')).toBe(before)
  return join(dir, stdout.trim().split('\n').at(-1)!)
}

const json = async (path: string) => JSON.parse(await readFile(join(dir, path), 'utf8'))

async function bytesOf(path: string): Promise<number> {
  const stat = await lstat(path)
  const parts = stat.isDirectory() ? (await readdir(path)).map((name) => bytesOf(join(path, name))) : []
  return (await Promise.all(parts)).reduce((sum, bytes) => sum + bytes, stat.blocks * 512)
}

interface Started {
  child: Child
  url: string | undefined
}

/** Starts a script of the project by npm, and waits until it is ready. */
async function start(script: 'start' | 'worker', settings: Record<string, string>): Promise<Started> {
  const child = launch('npm', ['run', script], {
    cwd: join(dir, 'empty/app'),
    env: { ...env(), PORT: '0', ...settings },
  })
  children.push(child)
  const ready = await holds(
    () => {
      const [line] = /^\{.*"msg":"(listening|working)"\}$/m.exec(child.logs()) ?? []
      if (!line) throw new Error(child.logs())
      return JSON.parse(line) as { url?: string }
    },
    { timeoutMs: 60_000 },
  )
  return { child, url: ready.url }
}

async function stop({ child }: Started): Promise<void> {
  child.kill('SIGTERM')
  await child.exited
  expect(child.logs()).toContain('"msg":"stopped"')
}

async function save(url: string | undefined, comment: object): Promise<void> {
  const answer = await fetch(`${url}/comments`, { method: 'POST', body: JSON.stringify(comment) })
  expect(await answer.json()).toMatchObject({ status: 'QUEUED' })
}

const list = async (url: string | undefined) =>
  (await (await fetch(`${url}/comments?postId=1`)).json()).results as Record<string, unknown>[]

test('npm i spillway takes at most 300 MiB, and runs no install script of any package', async () => {
  const megabytes = (await bytesOf(join(dir, 'empty/node_modules'))) / 1024 ** 2
  const packages = Object.entries<{ hasInstallScript?: boolean }>((await json('empty/package-lock.json')).packages)
  console.log(`npm i spillway: ${megabytes.toFixed(0)} MiB, ${packages.length} packages`)
  expect(megabytes).toBeLessThan(300)
  expect(packages.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([])
})

test('the package has every file that its programs load by a URL: threads, scripts, SQL, the console, the settings of Studio', async () => {
  const dist = join(dir, 'empty/node_modules/spillway/dist')
  const programs = await readdir(dist, { recursive: true })
  const named = await Promise.all(
    programs
      .filter((path) => path.endsWith('.js'))
      .map(async (path) => {
        const text = await readFile(join(dist, path), 'utf8')
        return [...text.matchAll(/\bnew URL\('([^']+)', import\.meta\.url\)/g)].map(([, name]) =>
          join(path, '..', name!),
        )
      }),
  )
  const files = [...new Set(named.flat())].filter((path) => path !== '.')
  expect(files).toContain('worker/embedded.js')
  expect(files).toContain('web/dist/')
  expect(files.filter((path) => !existsSync(join(dist, path)))).toEqual([])
})

test('npx spillway init makes a project whose npm start saves over HTTP, and which a browser sees the console of', async () => {
  const api = await start('start', {})
  await save(api.url, { postId: '1', body: 'Hello' })
  await holds(async () => expect(await list(api.url)).toMatchObject([{ postId: '1', body: 'Hello', rating: null }]))
  const refused = await fetch(`${api.url}/comments`, { method: 'POST', body: '{"postId":"1","body":" "}' })
  expect([refused.status, (await refused.json()).errors[0].message]).toEqual([400, expect.stringContaining('blank')])
  const page = await (await fetch(`${api.url}/`, { headers: { accept: 'text/html' } })).text()
  const [, script] = /src="(\/console\/assets\/[^"]+\.js)"/.exec(page)!
  expect((await fetch(`${api.url}${script}`)).status).toBe(200)
  await stop(api)
}, 180_000)

/** What spillway-client sees of the models. */
const typed = `import type { models } from './index.ts'
type Input = NonNullable<(typeof models)[number]['shape']>['input']
export const input: Input = { postId: '1', body: 'Hello' }
// @ts-expect-error there is no such column
export const wrong: Input = { postId: '1', text: 'Hello' }
`

test('its definitions agree with its migrations, its models with their types, and spillway-client finds the types in them', async () => {
  await writeFile(join(dir, 'empty/app/models/typed.ts'), typed)
  expect((await npx('empty/app', 'migration', 'nothing')).stdout).toContain('nothing that the migrations lack')
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const { stdout } = await run(process.execPath, [tsc, '--noEmit'], { cwd: join(dir, 'empty/app') }).catch(
    (error: { stdout: string }) => error,
  )
  expect(stdout).toBe('')
}, 180_000)

test('a Yoga server saves and reads through the package in its own schema (examples/inside-yoga)', async () => {
  const child = launch('node', ['server.ts'], {
    cwd: join(dir, 'empty/app'),
    env: { ...env(), PORT: '0', DATABASE_URL: 'file:./yoga.db', QUEUE_URL: 'file:./yoga-queue.db' },
  })
  children.push(child)
  const url = await holds(() => /^http:.*$/m.exec(child.logs())![0], { timeoutMs: 60_000 })
  const ask = async (query: string) => {
    const headers = { 'content-type': 'application/json', 'x-user': 'ann' }
    return (await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query }) })).json()
  }
  const save = 'saveComment(input: { postId: "1", body: "Hello" }, waitMs: 20000)'
  expect(await ask(`mutation { ${save} { status comment { body } } }`)).toEqual({
    data: { saveComment: { status: 'SAVED', comment: { body: 'Hello' } } },
  })
  expect(await ask('{ me comments(postId: "1") { edges { node { body } } } }')).toEqual({
    data: { me: 'ann', comments: { edges: [{ node: { body: 'Hello' } }] } },
  })
  child.kill('SIGTERM')
  expect(await child.exited).toBe(0)
}, 180_000)

test('a column added by npm run migration is saved by a worker beside the API, with Redis and MariaDB', async () => {
  const schema = join(dir, 'empty/app/prisma/schema.prisma')
  const text = await readFile(schema, 'utf8')
  await writeFile(schema, text.replace(/^ {2}rating .*$/m, '$&\n  mood      String?  @db.VarChar(20)'))
  await npm('empty/app', 'run', 'migration', '--', 'add_mood')
  const database = await freshDatabase()
  const settings = { DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl() }
  const [api, worker] = await Promise.all([
    start('start', { ...settings, API_PROCESSES: '2' }),
    start('worker', settings),
  ])
  await save(api.url, { postId: '1', body: 'Hello', mood: 'glad' })
  await holds(async () => expect(await list(api.url)).toMatchObject([{ body: 'Hello', mood: 'glad' }]))
  expect(await database.sql('SELECT body, mood FROM Comment')).toEqual([{ body: 'Hello', mood: 'glad' }])
  await Promise.all([stop(api), stop(worker)])
  const { stdout } = await run('npm', ['run', '--silent', 'dead-letters', '--', 'list'], {
    cwd: join(dir, 'empty/app'),
    env: { ...env(), ...settings },
  })
  expect(stdout).toBe('dead letters: 0\n')
}, 180_000)

describe('spillway', () => {
  test('init refuses a folder that has files, and names no other', async () => {
    await expect(npx('empty', 'init', 'app')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/app is not empty: name a new folder/),
    })
  })

  test('init gives a project in a folder "Spillway" another name, since npm installs no package into one of its own name', async () => {
    await npx('empty', 'init', 'Spillway')
    expect((await json('empty/Spillway/package.json')).name).toBe('app')
    await npx('empty', 'init', 'My App_2')
    expect((await json('empty/My App_2/package.json')).name).toBe('my-app-2')
  })

  test('start in a folder without models says what to do', async () => {
    await expect(npx('empty', 'start')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/There is no models\/index\.ts in this folder.*spillway init/),
    })
  })

  test('studio names the package that it needs', async () => {
    await expect(npx('empty/app', 'studio')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/npm install --save-dev prisma@7/),
    })
  })

  describe('on a Node that is too old', () => {
    const old =
      'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.19.0"}})'
    const spillway = (...args: string[]) =>
      run(process.execPath, ['--import', old, join(dir, 'empty/node_modules/spillway/package/spillway.js'), ...args], {
        cwd: join(dir, 'empty'),
        env: env(),
      })
    const name = `node-${process.platform}-${process.arch}`

    test('says what to install, and init adds it to the project', async () => {
      await expect(spillway('start')).rejects.toMatchObject({
        code: 1,
        stderr: expect.stringMatching(new RegExp(`Spillway needs Node 24.9 or newer.*20.19.0.*npm install ${name}@24`)),
      })
      await spillway('init', 'old')
      expect((await json('empty/old/package.json')).optionalDependencies).toEqual({
        [name]: expect.stringMatching(/^24\./),
      })
    })

    test('runs by the Node in node_modules', async () => {
      const folder = join(dir, 'empty/node_modules', name)
      await mkdir(join(folder, 'bin'), { recursive: true })
      await writeFile(join(folder, 'package.json'), '{}')
      await symlink(process.execPath, join(folder, 'bin/node'))
      await expect(spillway('migration', 'A name that is none')).rejects.toMatchObject({
        code: 1,
        stderr: expect.stringContaining('A migration needs a name'),
      })
    })
  })
})
