/** The bundle: a program loads it if it was made of the sources as they are, and else the sources. */
import { appendFileSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { holds } from '../harness/eventually.ts'
import { spawnSpillway } from '../harness/process.ts'
import { copyTree, type Tree } from '../harness/tree.ts'

describe('a program', () => {
  let tree: Tree
  beforeAll(async () => {
    tree = await copyTree()
    await tree.generate()
    await tree.node(['src/commands/bundle.ts'])
  })
  afterAll(() => tree?.[Symbol.asyncDispose]())

  const ask = "import('./src/bundle.ts').then(({ programUrl }) => console.log(programUrl({ ...process.env })))"
  async function loads(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { stdout } = await tree.node([...args, '-e', ask], env)
    return stdout.trim().slice(`file://${tree.path}/`.length)
  }

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
  const { programUrl } = await import('../../src/bundle.ts')
  expect(programUrl({})).toMatch(process.env.CI ? /\/\.bundle\/program\.js$/ : /program\.[jt]s$/)
})
