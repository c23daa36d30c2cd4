/** FileGuard: the commits that it refuses (FA6), and the changes that other processes may make to an open file. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FileDisplaced } from '../../src/sqlite/fault.ts'
import { inspector } from '../../src/sqlite/guard.ts'
import { type OpenFile, openSqlite } from '../../src/sqlite/open.ts'
import { holds } from '../harness/eventually.ts'

/** A database with 20 rows in a folder of its own. */
interface Place {
  dir: string
  folder: string
  path: string
  file: OpenFile
}

let place: Place
let dir: string
let folder: string
let path: string
let file: OpenFile
beforeEach(() => {
  place = open()
  ;({ dir, folder, path, file } = place)
})
afterEach(() => close(place))

function open(): Place {
  const dir = mkdtempSync(join(tmpdir(), 'spillway-guard-'))
  const folder = join(dir, 'data')
  const path = join(folder, 'test.db')
  const file = openSqlite(path)
  file.db.exec('CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)')
  write(20, 100, file)
  return { dir, folder, path, file }
}

function close({ file, dir }: Place): void {
  file.db.close()
  rmSync(dir, { recursive: true })
}

/** Commits as all code does. */
function write(rows: number, bytes = 100, { guard, db } = file): void {
  for (let i = 0; i < rows; i++) {
    guard.assertWritable()
    db.prepare('INSERT INTO t (b) VALUES (?)').run('x'.repeat(bytes))
    guard.committed()
  }
}

/** The number of rows that a process reads which opens the file now. */
async function rowsForOthers(): Promise<number> {
  return Number(await another("print(db.prepare('SELECT count(*) AS n FROM t').get().n)"))
}

/** Runs it in another process, with `db` open; resolves to what it prints. */
async function another(script: string): Promise<string> {
  const code = `
    const { DatabaseSync } = require('node:sqlite')
    const db = new DatabaseSync(process.argv[1], { timeout: 5000 })
    const print = (x) => process.stdout.write(String(x))
    ${script}
    db.close()`
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '-e', code, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  child.stdout.on('data', (chunk) => {
    printed += chunk
  })
  const [exit] = await once(child, 'close')
  expect(exit).toBe(0)
  return printed
}

const moved = /was moved, deleted or replaced; put it back or restart Spillway/

describe('FileGuard refuses a commit when', () => {
  const renamedAndBack = (...names: string[]) => ({
    displace: () => {
      for (const name of names) renameSync(join(folder, name), join(dir, name))
    },
    restore: () => {
      for (const name of names) renameSync(join(dir, name), join(folder, name))
    },
  })
  const removed = (...names: string[]) => ({
    displace: () => {
      for (const name of names) rmSync(join(folder, name))
    },
  })
  const displacements: Record<string, { displace(): void; restore?(): void }> = {
    'all files are removed': removed('test.db', 'test.db-wal', 'test.db-shm'),
    'the database is removed': removed('test.db'),
    'the log is removed': removed('test.db-wal'),
    'the index is removed': removed('test.db-shm'),
    'all files are renamed': renamedAndBack('test.db', 'test.db-wal', 'test.db-shm'),
    'the database is renamed': renamedAndBack('test.db'),
    'the log is renamed': renamedAndBack('test.db-wal'),
    'the index is renamed': renamedAndBack('test.db-shm'),
    'the database is removed and a hard link of it stays': {
      displace() {
        linkSync(path, join(dir, 'link.db'))
        rmSync(path)
      },
      restore: () => linkSync(join(dir, 'link.db'), path),
    },
    'a folder takes the place of the database': {
      displace() {
        renameSync(path, `${path}.moved`)
        mkdirSync(path)
      },
    },
    'a file takes the place of the folder': {
      displace() {
        renameSync(folder, `${folder}.moved`)
        writeFileSync(folder, '')
      },
      restore() {
        rmSync(folder)
        renameSync(`${folder}.moved`, folder)
      },
    },
    'the database is replaced by a copy': {
      displace() {
        copyFileSync(path, join(dir, 'copy.db'))
        renameSync(path, `${path}.moved`)
        renameSync(join(dir, 'copy.db'), path)
      },
      restore: () => renameSync(`${path}.moved`, path),
    },
    'the log is replaced by a copy': {
      displace() {
        copyFileSync(`${path}-wal`, join(dir, 'copy'))
        renameSync(join(dir, 'copy'), `${path}-wal`)
      },
    },
  }

  test.each(Object.entries(displacements))('%s', (_, { displace, restore }) => {
    displace()
    expect(() => file.guard.assertInPlace()).toThrow(moved)
    expect(() => file.guard.assertWritable()).toThrow(moved)
    // A statement that was running.
    expect(() => file.guard.committed()).toThrow(FileDisplaced)
    expect(file.guard.inspect()?.message).toMatch(moved)
    expect(() => write(1)).toThrow(moved)
    if (!restore) return
    restore()
    expect(file.guard.inspect()).toBeUndefined()
    write(1)
    expect(file.db.prepare('SELECT count(*) AS n FROM t').get()).toEqual({ n: 21 })
    expect(file.db.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
  })

  const overwritings: [string, (place: Place) => void][] = [
    ['another file is copied over the database', ({ path }) => writeFileSync(path, 'x'.repeat(8_192))],
    [
      'an older copy is copied over the database',
      ({ path, dir, file }) => {
        copyFileSync(path, join(dir, 'copy.db'))
        write(20, 100, file)
        copyFileSync(join(dir, 'copy.db'), path)
      },
    ],
    ['the database is truncated', ({ path }) => truncateSync(path)],
    ['the log is truncated', ({ path }) => truncateSync(`${path}-wal`)],
    ['the log is cut short', ({ path }) => truncateSync(`${path}-wal`, 8_192)],
  ]

  test.each(overwritings)('%s between a statement and its commit', (_, overwrite) => {
    file.guard.assertWritable()
    file.db.prepare('INSERT INTO t (b) VALUES (?)').run('x')
    overwrite(place)
    file.guard.committed()
    expect(() => write(1)).toThrow('was overwritten by another program; restart Spillway')
  })

  test(`${overwritings.map(([how]) => how).join(', or ')}`, async () => {
    // Side by side, because each waits for as long as a checkpoint may take.
    const places = overwritings.map(([how, overwrite]) => ({ how, overwrite, ...open() }))
    try {
      await Promise.all(
        places.map(async ({ how, overwrite, ...its }) => {
          const refuses = () =>
            expect(() => write(1, 100, its.file), how).toThrow('was overwritten by another program; restart Spillway')
          overwrite(its)
          // At first it may be the checkpoint of another process, and is waited for.
          refuses()
          await holds(() => expect(its.file.guard.inspect()?.errcode, how).toBe(1_032))
          refuses()
        }),
      )
    } finally {
      places.forEach(close)
    }
  })
})

test('FileGuard.inspect checkpoints commits of a removed log into the database', async () => {
  rmSync(`${path}-wal`)
  expect(file.guard.inspect()?.message).toMatch(moved)
  expect(await rowsForOthers()).toBe(20)
})

test('FileGuard.inspect keeps the log of a replaced database away from the new one', async () => {
  await another('db.exec("PRAGMA wal_checkpoint(TRUNCATE)")')
  copyFileSync(path, join(dir, 'copy.db'))
  write(10)
  renameSync(path, `${path}.moved`)
  renameSync(join(dir, 'copy.db'), path)
  file.guard.inspect()
  expect(await rowsForOthers()).toBe(20)
  expect(readdirSync(folder).filter((name) => name.endsWith('.orphan'))).toHaveLength(2)
})

test('inspector notes once that a file is gone, and once that it is back', () => {
  const notes: string[] = []
  const inspect = inspector(file.guard, 'the store', (text) => notes.push(text))
  inspect()
  renameSync(path, `${path}.moved`)
  inspect()
  inspect()
  renameSync(`${path}.moved`, path)
  inspect()
  inspect()
  expect(notes).toEqual([
    `the store (${path}) is unavailable: its file was moved, deleted or replaced; put it back or restart Spillway`,
    `the store (${path}) has its files in place again, and goes on`,
  ])
})

describe('FileGuard goes on after', () => {
  test('checkpoints and restarts of the log of its own', () => {
    write(3_000, 8_000)
    expect(file.guard.inspect()).toBeUndefined()
  }, 60_000)

  test.each([
    ['a checkpoint', 'db.exec("PRAGMA wal_checkpoint(PASSIVE)")'],
    ['a checkpoint that empties the log', 'db.exec("PRAGMA wal_checkpoint(TRUNCATE)")'],
    [
      'two checkpoints',
      'for (let i = 0; i < 2; i++) db.exec("INSERT INTO t (b) VALUES (1); PRAGMA wal_checkpoint(RESTART); INSERT INTO t (b) VALUES (1)")',
    ],
    ['an edit', 'db.exec("UPDATE t SET b = 1 WHERE a = 1")'],
    ['VACUUM', 'db.exec("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")'],
    ['a backup', 'db.prepare("VACUUM INTO ?").run(process.argv[1] + process.pid)'],
  ])('%s by another process', async (_, script) => {
    await another(script)
    write(5)
    await another(script)
    expect(file.guard.inspect()).toBeUndefined()
    write(5)
  })
})
