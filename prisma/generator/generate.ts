/**
 * `npm run generate`: makes the Prisma clients of both databases, and what Spillway's generator writes, as `prisma generate` does. By the same
 * generators, without Prisma's command line: that takes 220 MB, most of it for other commands.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GeneratorOptions } from '@prisma/generator-helper'
import { generateTables, manifest } from './generator.ts'
import { project } from './project.ts'
import { useQueryCompilerFile } from './query-compiler.ts'

// The ES modules of these packages import files that are not there.
const require = createRequire(import.meta.url)
const { getGenerators, loadSchemaContext } = require('@prisma/internals') as typeof import('@prisma/internals')
const { PrismaClientTsGenerator } =
  require('@prisma/client-generator-ts') as typeof import('@prisma/client-generator-ts')

class ClientGenerator extends PrismaClientTsGenerator {
  override async generate(options: GeneratorOptions): Promise<void> {
    await super.generate(options)
    await useQueryCompilerFile(options.generator.output!.value!)
  }
}

/** The generators by their `provider`. Any other one is a program, as with Prisma's command line. */
const registry: Parameters<typeof getGenerators>[0]['registry'] = {
  'prisma-client': { type: 'in-process', generator: new ClientGenerator() },
  'prisma-pothos-types': {
    type: 'rpc',
    generatorPath: join(dirname(require.resolve('@pothos/plugin-prisma')), '../bin/generator.js'),
    isNode: true,
  },
  'spillway-tables': {
    type: 'in-process',
    generator: { name: 'spillway-tables', getManifest: async () => manifest, generate: generateTables },
  },
}

/** MySQL's first: it writes the schema of SQLite. Rejects with Prisma's explanation of what is wrong with the schema. */
export async function generate(): Promise<void> {
  for (const path of ['prisma/schema.prisma', 'prisma/sqlite/schema.prisma']) {
    const cliProvidedPath = fileURLToPath(new URL(path, project))
    const schemaContext = await loadSchemaContext({ schemaPath: { cliProvidedPath }, printLoadMessage: false })
    const generators = await getGenerators({ schemaContext, registry, cliCommand: 'generate' })
    try {
      for (const generator of generators) await generator.generate()
    } finally {
      for (const generator of generators) generator.stop()
    }
  }
}

/** What is wrong, for the person who wrote the schema. */
export function problemsOf(error: unknown): string {
  const errors: Error[] = error instanceof AggregateError ? error.errors : [error]
  return errors.map(({ message }) => message).join('\n')
}

if (import.meta.main) {
  await generate().catch((error) => {
    console.error(problemsOf(error))
    process.exitCode = 1
  })
}
