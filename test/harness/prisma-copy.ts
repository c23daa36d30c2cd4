/** A folder with this project's Prisma generators and sources, and with the test's own models in the place of the project's. */
import { execFile } from 'node:child_process'
import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { linkModules } from './tree.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))

export interface PrismaCopy extends AsyncDisposable {
  path: string
  /** Runs the project's Node, with this process' own as `node` in node_modules/.bin. */
  node(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<{ stdout: string; stderr: string }>
  /** Makes both clients, as `npm run generate` does. */
  generate(env?: NodeJS.ProcessEnv): Promise<void>
}

/** `beside`: the models are added to the project's, whose migrations and tests are copied, too. */
export async function copyPrisma(models: string, { beside = false } = {}): Promise<PrismaCopy> {
  const path = await mkdtemp(join(tmpdir(), 'spillway-prisma-'))
  // A user's models and migrations are not the tests' business.
  const leftOut = beside
    ? /prisma\/(mysql|sqlite)\/(generated|schema\.prisma)/
    : /prisma\/(mysql|sqlite)\/(generated|schema\.prisma|migrations\/.)/
  const isLeftOut = (source: string) => leftOut.test(source)
  const tests = beside ? ['vitest.config.ts', 'test/harness', 'test/db'] : []
  for (const name of ['package.json', 'tsconfig.json', 'prisma', 'src', ...tests])
    await cp(join(root, name), join(path, name), { recursive: true, filter: (source) => !isLeftOut(source) })
  await linkModules(path)
  const schema = join(path, 'prisma/schema.prisma')
  await (beside ? appendFile(schema, models) : replaceModels(schema, models))
  const node: PrismaCopy['node'] = (args, env = {}) =>
    run(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
      cwd: path,
      env: { ...process.env, PATH: [join(path, 'node_modules/.bin'), process.env.PATH].join(delimiter), ...env },
    })
  return {
    path,
    node,
    async generate(env) {
      await node(['prisma/generator/generate.ts'], env)
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  }
}

async function replaceModels(schema: string, models: string): Promise<void> {
  const [head] = /^[\s\S]*?^datasource \w+ \{[^}]*\}\n/m.exec(await readFile(schema, 'utf8'))!
  await writeFile(schema, head + models)
}
