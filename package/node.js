/** The Node that runs this, and the package that has the one which Spillway is tested with. */
import { readFileSync } from 'node:fs'

export const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

const [major, minor] = process.versions.node.split('.').map(Number)
export const isNewEnough = major > 24 || (major === 24 && minor >= 9)

const name = `node-${process.platform}-${process.arch}`
/** The version is undefined where there is no such package. */
export const nodePackage = { name, version: manifest.peerDependencies?.[name] }
