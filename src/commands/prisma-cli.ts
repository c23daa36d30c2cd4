/** Prisma's command line, run by this process' Node whatever the one on the PATH is. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

export function prismaCli(): string {
  const manifest = createRequire(import.meta.url).resolve('prisma/package.json')
  const { bin } = JSON.parse(readFileSync(manifest, 'utf8')) as { bin: { prisma: string } }
  return fileURLToPath(new URL(bin.prisma, pathToFileURL(manifest)))
}
