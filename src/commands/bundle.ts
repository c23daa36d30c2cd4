/**
 * npm run bundle, a part of `npm ci`: writes the bundle that `npm start` and `npm run worker` load (src/bundle.ts says when). Rolldown comes with
 * Vite, an optional dependency: without it there is no bundle, and a start takes longer.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { isAbsolute, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'rolldown'
import { type BundleManifest, bundle, stampOf } from '../bundle.ts'

const root = fileURLToPath(bundle.root)
const folder = fileURLToPath(bundle.folder)
const source = (path: string) => fileURLToPath(new URL(path, bundle.root))

/** By the names of their files in the bundle. */
const entries = {
  program: 'src/program.ts',
  models: 'src/models/index.ts',
  thread: 'src/embedded/thread.ts',
  embedded: 'worker/embedded.ts',
}
/** Loaded by a browser's first request for GraphiQL, and larger than everything else. */
const external = ['@graphql-yoga/render-graphiql']

/** What a source finds beside itself it still finds there, but for what is in the bundle, too. */
const urls: Plugin = {
  name: 'urls',
  transform(code, id) {
    if (id.includes('/node_modules/') || !code.includes('import.meta.url')) return null
    const path = relative(root, id)
    const inBundle = (name: string) => `new URL('${name}.js', import.meta.url)`
    if (path === entries.models) return code.replace('import.meta.url', `${inBundle('models')}.href`)
    const own = `new URL(${JSON.stringify(relative(folder, id))}, import.meta.url).href`
    return code.replace(/new URL\('(?:\.\/)?(\w+)\.ts', (import\.meta\.url)\)|import\.meta\.url/g, (text, name) =>
      name === undefined ? own : name in entries ? inBundle(name) : text.replace('import.meta.url', own),
    )
  },
}

/** The models are imported by their name: those of a package's project are not known when it is built. */
const models: Plugin = {
  name: 'models',
  load(id) {
    if (relative(root, id) !== 'src/project.ts') return null
    return `export const loadModels = () => import(${JSON.stringify(source(entries.models))})`
  },
}

const rolldown = await import('rolldown').catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
  return undefined
})
if (!rolldown)
  console.log(
    'The bundle is not built, since optional dependencies were left out (Vite). A start takes longer without it.',
  )
else await write(rolldown)

async function write({ rolldown }: typeof import('rolldown')): Promise<void> {
  const own = new Set<string>()
  const recorded: Plugin = {
    name: 'sources',
    buildEnd() {
      for (const id of this.getModuleIds()) {
        const path = relative(root, id)
        if (isAbsolute(id) && !/^(\.\.|node_modules)\//.test(path)) own.add(path)
      }
    },
  }
  // All parts share one graphql.
  const graphql = createRequire(import.meta.url).resolve('graphql')
  const made = await rolldown({
    cwd: root,
    input: Object.fromEntries(Object.entries(entries).map(([name, path]) => [name, source(path)])),
    platform: 'node',
    external,
    resolve: { alias: { graphql$: graphql } },
    plugins: [urls, models, recorded],
    onLog: (level, log) => {
      if (level === 'warn' && log.code === 'UNRESOLVED_IMPORT') return
      if (level === 'warn') console.warn(log.message)
    },
  })
  const { output } = await made.write({
    dir: folder,
    format: 'esm',
    keepNames: true,
    chunkFileNames: '[name]-[hash].js',
  })
  await made.close()
  const files = output.map(({ fileName }) => fileName)
  const manifestFile = new URL('manifest.json', bundle.folder)
  // A process that has started from the bundle before may still import a file of it.
  const before: BundleManifest | undefined = existsSync(manifestFile)
    ? JSON.parse(readFileSync(manifestFile, 'utf8'))
    : undefined
  const kept = ['manifest.json', ...files, ...(before?.files ?? [])]
  for (const name of readdirSync(folder))
    if (!kept.includes(name)) rmSync(new URL(name, bundle.folder), { recursive: true })
  // With a changed lock, dependencies may be others: a mended one must not stay out.
  const manifests = ['package.json', 'package-lock.json'].filter((name) => existsSync(source(name)))
  const sources = Object.fromEntries([...manifests, ...own].map((path) => [path, stampOf(path)]))
  const manifest: BundleManifest = { root: bundle.root, sources, files }
  writeFileSync(manifestFile, JSON.stringify(manifest))
  console.log(`The bundle is in ${relative(root, folder)}: ${own.size} sources in ${files.length} files.`)
}
