/** Prisma's command line, run by this process' Node whatever the one on the PATH is. Only Studio needs it: it takes 220 MB. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

const { resolve } = createRequire(import.meta.url)

export function prismaCli(): string {
  const manifest = installed()
  const { bin } = JSON.parse(readFileSync(manifest, 'utf8')) as { bin: { prisma: string } }
  return fileURLToPath(new URL(bin.prisma, pathToFileURL(manifest)))
}

function installed(): string {
  try {
    return resolve('prisma/package.json')
  } catch {
    const { version } = JSON.parse(readFileSync(resolve('@prisma/client/package.json'), 'utf8')) as { version: string }
    throw new Error(
      `Prisma Studio is part of Prisma's command line, which is not installed: run "npm install --save-dev prisma@${version}"`,
    )
  }
}
