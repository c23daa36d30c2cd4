/** The bundle: a program loads it if it was made of the sources as they are, and else the sources. */
import { execFile } from 'node:child_process'
import { appendFileSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { root } from '../harness/imports.ts'
import { inherited, spawnSpillway } from '../harness/process.ts'
import { copyTree, type Tree } from '../harness/tree.ts'

/** What a program in this folder would load. Vitest's own processes have modules preloaded. */
async function loadedIn(cwd: string, args: readonly string[] = [], more: NodeJS.ProcessEnv = {}): Promise<string> {
  const ask = "import('./src/bundle.ts').then(({ programUrl }) => console.log(programUrl({ ...process.env })))"
  const env = { ...inherited(), ...more }
  const all = ['--disable-warning=ExperimentalWarning', ...args, '-e', ask]
  return (await promisify(execFile)(process.execPath, all, { cwd, env })).stdout.trim()
}

describe('a program', () => {
  let tree: Tree
  beforeAll(async () => {
    tree = await copyTree()
    await tree.generate()
    await tree.node(['src/commands/bundle.ts'])
  })
  afterAll(() => tree?.[Symbol.asyncDispose]())

  const loads = async (args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) =>
    (await loadedIn(tree.path, args, env)).slice(`file://${tree.path}/`.length)

  test('loads the bundle, with all its threads, and saves a row', async () => {
    expect(await loads()).toBe('.bundle/program.js')
    appendFileSync(join(tree.path, '.bundle/program.js'), `\nconsole.log('loaded from the bundle')\n`)
    const api = await spawnSpillway('api', {}, { tree: tree.path })
    try {
      const { id } = await api.client.save('bundled')
      await holds(async () => expect(await api.client.receipt(id)).toMatchObject({ status: 'SAVED' }))
      expect(api.logs()).toContain('loaded from the bundle')
    } finally {
      api.kill('SIGTERM')
    }
    expect(await api.exited, api.logs()).toBe(0)
  })

  test.each([
    ['a module is preloaded, which may patch others', ['--import', 'data:text/javascript,0'], {}],
    ['NODE_OPTIONS preloads one', [], { NODE_OPTIONS: '--require node:os' }],
    ['Node watches the sources', [], { WATCH_REPORT_DEPENDENCIES: '1' }],
  ])('loads the sources where %s', async (_, args, env) => {
    expect(await loads(args, env)).toBe('src/program.ts')
  })

  test('loads the sources as soon as one of them has changed, and the bundle when it is made again', async () => {
    await tree.append('src/models/content.ts', '\n')
    expect(await loads()).toBe('src/program.ts')
    await tree.node(['src/commands/bundle.ts'])
    expect(await loads()).toBe('.bundle/program.js')
    utimesSync(join(tree.path, 'prisma/mysql/generated/client.ts'), 1, 1)
    expect(await loads()).toBe('src/program.ts')
    await tree.remove('.bundle/manifest.json')
    expect(await loads()).toBe('src/program.ts')
  })
})

test('npm ci has made the bundle of this checkout, and nothing after it changed a source', async () => {
  // Where nobody works on it: a change makes programs load the sources, until the next npm run bundle.
  expect(await loadedIn(root)).toMatch(process.env.CI ? /\/\.bundle\/program\.js$/ : /program\.[jt]s$/)
})
