/**
 * `npm pack` and `npm publish` run it: before, to build dist/ and to write the package.json of the package; after, with `restore`, to bring back
 * that of the checkout. dist/ has the programs as JavaScript with their types, the console, and Prisma's generator of clients in one file: a
 * project needs neither Prisma's command line nor what builds the console.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, globSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const at = (path: string) => join(root, path)
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: root, stdio: 'inherit' })

const manifestOfCheckout = at('package/checkout.json')
/** Bundled into `prismaFile`. */
const bundled = ['@prisma/internals', '@prisma/client-generator-ts']
const prismaFile = 'dist/prisma/generator/prisma.cjs'

async function build(): Promise<void> {
  rmSync(at('dist'), { recursive: true, force: true })
  node(require.resolve('typescript/package.json').replace('package.json', 'bin/tsc'), '-p', 'package')
  for (const file of globSync('dist/**/*.js', { cwd: root })) rewrite(file, namesOfFiles)
  for (const file of globSync('dist/**/*.d.ts', { cwd: root })) rewrite(file, namesOfTypes)
  for (const file of globSync('src/**/*.{lua,sql}', { cwd: root })) cpSync(at(file), at(`dist/${file}`))
  if (!existsSync(at('web/dist/index.html'))) node('web/build.ts')
  cpSync(at('web/dist'), at('dist/web/dist'), { recursive: true })
  await bundlePrisma()
  writeManifest()
}

/** As the compiler does for imports: what a program loads by its URL is JavaScript now. */
const namesOfFiles = (text: string) => text.replace(/(new URL\('[^']+)\.ts(', import\.meta\.url\))/g, '$1.js$2')

const namesOfTypes = (text: string) => text.replace(/('\.{1,2}\/[^'\n]+)\.ts'/g, "$1.js'")

function rewrite(file: string, change: (text: string) => string): void {
  const text = readFileSync(at(file), 'utf8')
  const changed = change(text)
  if (changed !== text) writeFileSync(at(file), changed)
}

async function bundlePrisma(): Promise<void> {
  const entry = at('dist/prisma/generator/entry.cjs')
  writeFileSync(entry, `module.exports = { ${bundled.map((name) => `...require('${name}')`).join(', ')} }\n`)
  // Vite has it.
  const { rolldown } = await import('rolldown')
  const bundle = await rolldown({ input: entry, platform: 'node', onLog: () => {} })
  await bundle.write({ file: at(prismaFile), format: 'cjs', minify: true, codeSplitting: false })
  await bundle.close()
  rmSync(entry)
  const wasm = 'prisma_schema_build_bg.wasm'
  const schema = createRequire(require.resolve('@prisma/internals')).resolve('@prisma/prisma-schema-wasm')
  cpSync(join(dirname(schema), wasm), at(`dist/prisma/generator/${wasm}`))
  cpSync(require.resolve('@prisma/client/package.json').replace('package.json', 'LICENSE'), at(`${prismaFile}.LICENSE`))
  rewrite('dist/prisma/generator/generate.js', (text) =>
    bundled.reduce((code, name) => code.replace(`require('${name}')`, `require('./prisma.cjs')`), text),
  )
}

function writeManifest(): void {
  cpSync(at('package.json'), manifestOfCheckout)
  const { name, version, description, license, type, engines, bin, exports, files, ...rest } = JSON.parse(
    readFileSync(manifestOfCheckout, 'utf8'),
  )
  const dependencies = Object.fromEntries(Object.entries(rest.dependencies).filter(([each]) => !bundled.includes(each)))
  // A project installs one if the machine's Node is too old.
  const nodes = Object.entries(rest.optionalDependencies).filter(([each]) => each.startsWith('node-'))
  const manifest = {
    ...{ name, version, description, license, type, engines, bin, exports, files, dependencies },
    peerDependencies: Object.fromEntries(nodes),
    peerDependenciesMeta: Object.fromEntries(nodes.map(([each]) => [each, { optional: true }])),
  }
  writeFileSync(at('package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

// Before a build, too: one may have been interrupted.
if (existsSync(manifestOfCheckout)) renameSync(manifestOfCheckout, at('package.json'))
if (process.argv[2] !== 'restore') await build()
