/** `npm run studio`: Prisma Studio on the store that DATABASE_URL names. Arguments are passed on, as in `npm run studio -- --browser none`. */
import { spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { filePath } from '../config/urls.ts'
import { readConfig } from '../config.ts'
import { splitHosts } from '../model/hosts.ts'
import { prismaCli } from './prisma-cli.ts'

/** Studio opens SQLite by an absolute URL only, decodes nothing in it, and would create a missing file. */
function studioUrl(databaseUrl: string): string {
  if (!databaseUrl.startsWith('file:')) return firstHost(databaseUrl)
  const path = resolve(filePath(databaseUrl))
  if (!existsSync(path))
    throw new Error(`the store's file ${path} does not exist: run "npm run migrate" or "npm start" to create it`)
  if (!statSync(path).isFile()) {
    throw new Error(`${path} is a folder or a device; expected the store's file: set DATABASE_URL=file:PATH to it`)
  }
  return `file://${path}`
}

/** Studio connects to one host. */
function firstHost(url: string): string {
  const { list, single } = splitHosts(url)
  const [first, ...others] = list.split(',')
  if (others.length > 0) console.log(`Prisma Studio uses the first host of DATABASE_URL: ${first}`)
  return single
}

try {
  const config = fileURLToPath(new URL('../../prisma/studio.config.ts', import.meta.url))
  const studio = spawn(process.execPath, [prismaCli(), 'studio', '--config', config, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, STUDIO_DATABASE_URL: studioUrl(readConfig().databaseUrl), CHECKPOINT_DISABLE: '1' },
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => studio.kill(signal))
  studio.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal!]
  })
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
