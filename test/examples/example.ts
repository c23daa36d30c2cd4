/** An example with a page, built by Vite as it stands, and served as Vite's dev server serves it: with its proxy before the API. */

import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build, preview } from 'vite'
import { vi } from 'vitest'
import { root } from '../harness/imports.ts'
import { inherited } from '../harness/process.ts'

export interface Served extends AsyncDisposable {
  url: string
}

/** A place for copies of examples that finds what they find in the repository: packages, and schema.graphql two folders up. */
export async function workshop(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'spillway-examples-'))
  await symlink(join(root, 'node_modules'), join(path, 'node_modules'))
  await cp(join(root, 'schema.graphql'), join(path, 'schema.graphql'))
  await mkdir(join(path, 'examples'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) }
}

interface Options {
  /** Of the workshop. */
  path: string
  /** Of the API. */
  api: string
  /** Packages in place of others. */
  alias?: Record<string, string>
}

export async function serveExample(name: string, { path, api, alias = {} }: Options): Promise<Served> {
  const folder = await mkdtemp(join(path, 'examples', `${name}-`))
  await cp(join(root, 'examples', name), folder, { recursive: true })
  if (name === 'relay') {
    const compiler = join(root, 'node_modules/relay-compiler/cli.js')
    await promisify(execFile)(process.execPath, [compiler], { cwd: folder, env: inherited() })
  }
  return await serveFolder(folder, { api, alias })
}

/** `pages`: the HTML files of the folder, without their ending. */
export async function serveFolder(
  folder: string,
  { api, alias = {}, pages = ['index'] }: { api?: string; alias?: Record<string, string>; pages?: readonly string[] },
): Promise<Served> {
  // React's build for production, as `vite build` has it.
  vi.stubEnv('NODE_ENV', 'production')
  vi.stubEnv('SPILLWAY_URL', api)
  try {
    const config = { root: folder, configLoader: 'native', resolve: { alias } } as const
    const input = pages.map((page) => join(folder, `${page}.html`))
    await build({ ...config, logLevel: 'warn', build: { chunkSizeWarningLimit: 2_000, rolldownOptions: { input } } })
    // It would print each request that the API does not answer.
    const server = await preview({ ...config, logLevel: 'silent', preview: { host: '127.0.0.1', port: 0 } })
    return { url: server.resolvedUrls!.local[0]!, [Symbol.asyncDispose]: () => server.close() }
  } finally {
    vi.unstubAllEnvs()
  }
}
