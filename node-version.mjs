/** Part of `npm ci`: stops with advice on a Node that cannot run Spillway. Plain JavaScript, so that an old one can read it. */
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 9)) {
  console.error(
    `Spillway needs Node 24.9 or newer, and this is ${process.versions.node}.\n` +
      'On Linux (x64, arm64) npm installs one beside it, unless optional dependencies are left out.\n' +
      'Elsewhere, install Node 24 (https://nodejs.org), and run npm ci again.',
  )
  process.exit(1)
}
