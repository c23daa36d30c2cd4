/**
 * Part of `npm ci`: stops with advice on a Node that cannot run Spillway, and removes 70 MB of the Node that npm installed. Plain JavaScript, so
 * that an old one can read it.
 */
import { existsSync, rmSync, symlinkSync } from 'node:fs'

const [major, minor] = process.versions.node.split('.').map(Number)
const folder = `node-${process.platform}-${process.arch}`
const bundled = `${folder}/bin/node`
if (major > 24 || (major === 24 && minor >= 9)) {
  // The one in node_modules, or the machine's own.
} else if (existsSync(`node_modules/${bundled}`)) {
  // npm 10 (of Node 20) was seen to install it without a link in node_modules/.bin, where npm's scripts find it.
  if (!existsSync('node_modules/.bin/node')) symlinkSync(`../${bundled}`, 'node_modules/.bin/node')
} else {
  console.error(
    `Spillway needs Node 24.9 or newer, and this is ${process.versions.node}.\n` +
      'On Linux (x64, arm64) npm installs one beside it, unless optional dependencies are left out.\n' +
      'Elsewhere, install Node 24 (https://nodejs.org), and run npm ci again.',
  )
  process.exit(1)
}

// Headers for compiling addons, and manual pages.
for (const part of ['include', 'share']) rmSync(`node_modules/${folder}/${part}`, { recursive: true, force: true })
