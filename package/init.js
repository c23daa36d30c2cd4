/** `spillway init FOLDER`: writes the project in template/ into a new folder. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isNewEnough, manifest, nodePackage } from './node.js'

const template = fileURLToPath(new URL('./template/', import.meta.url))

export function init(args) {
  if (args.length !== 1 || args[0].startsWith('-')) throw new Error('usage: spillway init FOLDER')
  const folder = resolve(args[0])
  if (existsSync(folder) && readdirSync(folder).some((name) => name !== '.git')) {
    throw new Error(`${folder} is not empty: name a new folder, or an empty one`)
  }
  mkdirSync(folder, { recursive: true })
  cpSync(template, folder, { recursive: true })
  // npm packs no file of these names.
  for (const name of ['gitignore', 'env']) renameSync(join(folder, name), join(folder, `.${name}`))
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(packageOf(folder), null, 2)}\n`)
  const there = relative(process.cwd(), folder)
  console.log(`wrote ${there || '.'}\n\n${there ? `cd ${there}\n` : ''}npm install\nnpm start`)
}

function packageOf(folder) {
  const name = basename(folder)
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '')
  const scripts = ['start', 'worker', 'migrate', 'migration', 'generate', 'dead-letters', 'studio']
  return {
    // npm installs no package into one of its own name.
    name: name === '' || name === manifest.name ? 'app' : name,
    private: true,
    type: 'module',
    scripts: {
      prepare: 'spillway generate',
      // exec: a signal to npm reaches the process.
      ...Object.fromEntries(scripts.map((script) => [script, `exec spillway ${script}`])),
    },
    dependencies: {
      '@prisma/client': manifest.dependencies['@prisma/client'],
      spillway: specOf(folder),
    },
    // This machine's Node is too old; npm's scripts then run on this one.
    ...(!isNewEnough && nodePackage.version
      ? { optionalDependencies: { [nodePackage.name]: nodePackage.version } }
      : undefined),
  }
}

/** From where this package was installed: a tarball, or the registry. */
function specOf(folder) {
  const own = fileURLToPath(new URL('..', import.meta.url))
  const modules = dirname(resolve(own))
  try {
    const { packages } = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8'))
    const { resolved = '' } = packages[`node_modules/${basename(resolve(own))}`]
    if (resolved.startsWith('file:')) {
      return `file:${relative(folder, resolve(dirname(modules), resolved.slice('file:'.length)))}`
    }
  } catch {
    // Not installed by npm.
  }
  return manifest.version
}
