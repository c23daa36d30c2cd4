/** Installs packages of Debian and Ubuntu that tests or the bench need, and starts none of their services. */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { find } from './binaries.ts'

export const installCommand = (packages: readonly string[]) =>
  `apt-get install -y --no-install-recommends ${packages.join(' ')}`

/** It takes root, and apt-get. */
export const canInstall = () => find('apt-get') !== undefined && process.getuid?.() === 0

/** Whether apt-get would find the package, perhaps after it has asked for what there is: a bare machine knows of none. */
export function isOffered(name: string): boolean {
  const shows = () => spawnSync('apt-cache', ['show', name], { stdio: 'ignore' }).status === 0
  if (shows()) return true
  if (spawnSync('apt-cache', ['show', 'redis-server'], { stdio: 'ignore' }).status === 0) return false
  run('apt-get', ['update'])
  return shows()
}

export function install(packages: readonly string[]): void {
  withoutServices(() => {
    run('apt-get', ['update'])
    run('apt-get', ['install', '-y', '--no-install-recommends', ...packages])
  })
}

/** Keeps the packages from starting services on the standard ports: Debian asks policy-rc.d, and 101 means no. */
function withoutServices(install: () => void): void {
  const policy = '/usr/sbin/policy-rc.d'
  const ours = !existsSync(policy)
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    install()
  } finally {
    if (ours) rmSync(policy)
  }
}

function run(command: string, args: string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const { status, error } = spawnSync(command, args, { env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? `exit code ${status}`}`)
}
