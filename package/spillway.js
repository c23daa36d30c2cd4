#!/usr/bin/env node
/**
 * The command `spillway`. It runs the programs of dist/ by a Node that is new enough: this one, or else the package node-linux-… beside
 * Spillway. Plain JavaScript, so that an old Node can read it.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { init } from './init.js'
import { isNewEnough, manifest, nodePackage } from './node.js'

const programs = {
  start: 'src/main.js',
  worker: 'worker/main.js',
  migrate: 'src/commands/migrate.js',
  migration: 'src/commands/migration.js',
  generate: 'prisma/generator/generate.js',
  'dead-letters': 'src/commands/dead-letters.js',
  studio: 'src/commands/studio.js',
  conformance: 'src/commands/conformance.js',
}

const usage = `usage: spillway init FOLDER        a new project
       spillway start               the API, and the worker where the queue is embedded
       spillway worker              a worker of a queue on Redis
       spillway migrate             prepares the database, as every start does
       spillway migration NAME      writes a migration, from the difference between the schema and the migrations
       spillway generate            makes the Prisma clients
       spillway dead-letters list | retry | discard
       spillway studio              Prisma Studio on the configured store
       spillway conformance URL     whether a server keeps what docs/protocol.md promises
All but init run in the folder of the project. The settings come from the environment and .env.`

function main([command, ...args]) {
  if (command === '--version') return console.log(manifest.version)
  if (command === '--help') return console.log(usage)
  if (command === 'init') return init(args)
  if (!Object.hasOwn(programs, command ?? '')) fail(usage)
  run(fileURLToPath(new URL(`../dist/${programs[command]}`, import.meta.url)), args)
}

function run(program, args) {
  const node = findNode()
  const all = ['--disable-warning=ExperimentalWarning', program, ...args]
  // In place of this process, where Node can do that: signals then need no forwarding.
  if (process.execve && process.platform !== 'win32') {
    process.emitWarning = () => {}
    process.execve(node, [node, ...all], process.env)
  }
  const child = spawn(node, all, { stdio: 'inherit' })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => child.kill(signal))
  child.on('error', ({ message }) => fail(`${node} cannot be run: ${message}`))
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
}

function findNode() {
  if (isNewEnough) return process.execPath
  for (const from of [join(process.cwd(), 'x'), import.meta.url]) {
    try {
      return join(dirname(createRequire(from).resolve(`${nodePackage.name}/package.json`)), 'bin/node')
    } catch {
      // It is not installed there.
    }
  }
  const { name, version } = nodePackage
  fail(
    `Spillway needs Node 24.9 or newer, and this is ${process.versions.node}. ${
      version ? `Run "npm install ${name}@${version}", or install Node 24.` : 'Install Node 24: https://nodejs.org'
    }`,
  )
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

try {
  main(process.argv.slice(2))
} catch (error) {
  fail(error.message)
}
