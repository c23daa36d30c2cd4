/**
 * Before `npm run check`, `npm test` and `npm run bench`: installs the packages of the workspaces test/ and bench/, which `npm ci` leaves out
 * (.npmrc), where one of them or of Spillway's own is missing or has another version. usage: node install-workspaces.mjs WORKSPACE…
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const json = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
const versionOf = (name) => {
  try {
    return json(`node_modules/${name}/package.json`).version
  } catch {
    return undefined
  }
}
const missing = ['.', ...process.argv.slice(2)]
  .flatMap((folder) => Object.entries(json(`${folder}/package.json`).dependencies))
  .filter(([name, version]) => versionOf(name) !== version.split('@').at(-1))
if (missing.length > 0) {
  console.error(`Installing the packages of test/ and bench/, as ${missing[0].join(' ')} is not installed …`)
  const options = [
    '--workspaces',
    '--include-workspace-root',
    '--no-save',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  ]
  const { status } = spawnSync('npm', ['install', ...options], {
    cwd: new URL('.', import.meta.url),
    stdio: ['ignore', 2, 2],
  })
  if (status !== 0) {
    console.error(
      'They were not installed: npm needs the registry of packages for it. The message above has the cause.',
    )
    process.exit(1)
  }
}
