/**
 * A copy of this project that a test may change: it adds models, generates the clients, and starts processes from it (`boot` and
 * `spawnSpillway` take its path as `tree`). node_modules are those of the project, by symbolic links.
 */
import { execFile } from 'node:child_process'
import { appendFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { removeModels } from './own-models.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const copied = [
  'package.json',
  'tsconfig.json',
  'install-workspaces.mjs',
  'prisma',
  'src',
  'worker',
  'web',
  'test/harness',
  'test/package.json',
  'bench/package.json',
  'examples',
]

export interface Output {
  stdout: string
  stderr: string
}

export interface Tree extends AsyncDisposable {
  path: string
  /** Paths are relative to the copy. */
  read(file: string): Promise<string>
  write(file: string, text: string): Promise<void>
  append(file: string, text: string): Promise<void>
  /** Rejects where the text to be replaced is not in the file. */
  replace(file: string, from: string, to: string): Promise<void>
  remove(file: string): Promise<void>
  /** Runs the project's Node, with this process' own as `node` in node_modules/.bin. */
  node(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Output>
  /** Runs a command of the shell, such as `npm run generate`. */
  shell(command: string, env?: NodeJS.ProcessEnv): Promise<Output>
  /** Makes both clients, as `npm run generate` does. */
  generate(env?: NodeJS.ProcessEnv): Promise<void>
}

/** `models`: what follows in the Prisma schema. */
export async function copyTree(models = ''): Promise<Tree> {
  const path = await mkdtemp(join(tmpdir(), 'spillway-tree-'))
  const isMade = (source: string) => /prisma\/(mysql|sqlite)\/(generated|schema\.prisma)/.test(source)
  for (const name of copied)
    await cp(join(root, name), join(path, name), { recursive: true, filter: (source) => !isMade(source) })
  await linkModules(path)
  const at = (file: string) => join(path, file)
  const env = (more: NodeJS.ProcessEnv = {}) => ({
    ...process.env,
    PATH: [at('node_modules/.bin'), process.env.PATH].join(delimiter),
    ...more,
  })
  const tree: Tree = {
    path,
    read: (file) => readFile(at(file), 'utf8'),
    async write(file, text) {
      await mkdir(dirname(at(file)), { recursive: true })
      await writeFile(at(file), text)
    },
    append: (file, text) => appendFile(at(file), text),
    async replace(file, from, to) {
      const text = await tree.read(file)
      if (!text.includes(from)) throw new Error(`${file} does not have ${JSON.stringify(from)}`)
      await tree.write(
        file,
        text.replace(from, () => to),
      )
    },
    remove: (file) => rm(at(file), { recursive: true }),
    node: (args, more) =>
      run(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { cwd: path, env: env(more) }),
    shell: (command, more) => run('/bin/sh', ['-ec', command], { cwd: path, env: env(more) }),
    async generate(more) {
      await tree.node(['prisma/generator/generate.ts'], more)
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, maxRetries: 3 }),
  }
  await removeModels(tree)
  await tree.append('prisma/schema.prisma', models)
  return tree
}

/** Gives a folder the project's modules, with this process' own Node. */
export async function linkModules(path: string): Promise<void> {
  const [from, to] = [join(root, 'node_modules'), join(path, 'node_modules')]
  await mkdir(join(to, '.bin'), { recursive: true })
  for (const name of await readdir(from)) if (!name.startsWith('.')) await symlink(join(from, name), join(to, name))
  for (const name of await readdir(join(from, '.bin')))
    if (name !== 'node') await symlink(join(from, '.bin', name), join(to, '.bin', name))
  await symlink(process.execPath, join(to, '.bin/node'))
}

/** The line in the list of models. */
export async function addToIndex(tree: Tree, ...names: string[]): Promise<void> {
  const index = 'src/models/index.ts'
  for (const name of names) {
    await tree.replace(index, 'import ', `import { ${name} } from './${name.toLowerCase()}.ts'\nimport `)
    await tree.replace(index, 'models = [Content', `models = [Content, ${name}`)
  }
}
