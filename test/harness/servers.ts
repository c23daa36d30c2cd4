/**
 * Before the first test (vitest's globalSetup): one Redis and one MariaDB for the whole run. Where a server, or the browser, is not
 * installed it is installed, as root on Debian and Ubuntu, and elsewhere the run stops with the command to type. Nothing is skipped.
 */
import type { TestProject } from 'vitest/node'
import {
  chromiumShell,
  find,
  findChromium,
  findGalera,
  findHaproxy,
  findMariadb,
  findNginx,
  findPromtool,
  findRedis,
} from './binaries.ts'
import { useCompileCache } from './compile-cache.ts'
import { canInstall, install, installCommand, isOffered } from './install.ts'
import { startMariadb } from './mariadb.ts'
import { startRedis } from './redis.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    redisUrl: string
    /** Of the server; it names no database. */
    databaseUrl: string
  }
}

/** TEST_REDIS_URL and TEST_DATABASE_URL (a user who may create databases) take the place of the servers started here. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { TEST_REDIS_URL, TEST_DATABASE_URL } = process.env
  checkNode()
  // Whatever the URLs say: fault tests take servers of their own.
  installMissing()
  const [redis, mariadb] = await Promise.all([
    TEST_REDIS_URL ? undefined : startRedis(),
    TEST_DATABASE_URL ? undefined : startMariadb(),
  ])
  const stop = async () => void (await Promise.all([redis?.cleanup(), mariadb?.cleanup()]))
  const urls = { redisUrl: TEST_REDIS_URL ?? redis!.url, databaseUrl: TEST_DATABASE_URL ?? mariadb!.url }
  project.provide('redisUrl', urls.redisUrl)
  project.provide('databaseUrl', urls.databaseUrl)
  try {
    await useCompileCache(urls)
  } catch (error) {
    await stop()
    throw error
  }
  return stop
}

function checkNode(): void {
  const [major = 0] = process.versions.node.split('.').map(Number)
  if (major >= 24) return
  throw new Error(
    `this is Node ${process.versions.node}; Spillway needs 24 or newer. "npm test" runs on the one in node_modules.`,
  )
}

function installMissing(): void {
  const missing = [
    ...(findRedis() ? [] : ['redis-server']),
    ...(findMariadb() ? [] : ['mariadb-server']),
    ...missingBrowser(),
    ...(findPromtool() ? [] : ['prometheus']),
    ...(find('openssl') ? [] : ['openssl']),
    ...(findNginx() ? [] : ['nginx']),
    ...(findHaproxy() ? [] : ['haproxy']),
    ...(findGalera() ? [] : ['galera-4']),
  ]
  if (missing.length === 0) return
  const command = installCommand(missing)
  if (!canInstall()) throw new Error(advice(missing, command))
  console.log(`The tests run against real servers. Installing ${missing.join(' and ')}: ${command}`)
  install(missing)
  const found = [findRedis(), findMariadb(), findChromium(), findPromtool(), findNginx(), findHaproxy(), findGalera()]
  if (found.includes(undefined)) throw new Error(`${missing.join(' and ')} were installed, and are not on the PATH`)
}

function missingBrowser(): string[] {
  if (find(chromiumShell)) return []
  if (canInstall() && isOffered(chromiumShell)) return [chromiumShell]
  return findChromium() ? [] : ['chromium']
}

function advice(missing: readonly string[], command: string): string {
  const brew = missing.map((name) => name.replace(/-server$/, '')).join(' ')
  return (
    `the tests run against real servers, and ${missing.join(' and ')} cannot be found on the PATH. ` +
    `Debian, Ubuntu: sudo ${command}. macOS: brew install ${brew}. Then run npm test again.`
  )
}
