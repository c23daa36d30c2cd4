/** FD7: with a damaged or foreign file the start fails, names the file and the reason, and does not change the file. */
import { spawnSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { uuidv7 } from 'uuidv7'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { classifySqlite } from '../../src/db/faults.ts'
import { SqliteFile } from '../../src/embedded/file.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { Content } from '../harness/contents.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore } from '../harness/stores.ts'
import { item } from '../suites/queue.ts'

let dir: string
let path: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'spillway-damaged-'))
  path = join(dir, 'test.db')
})
afterEach(() => rmSync(dir, { recursive: true }))

/** Opens it as a start does, writes something, and closes it: then it is a single file. */
const kinds = {
  store: async (rows: number) => {
    const store = await contentStore({ url: `file:${path}`, concurrency: 1, log: quiet() })
    try {
      await store.prepare(AbortSignal.timeout(20_000))
      for (let i = 0; i < rows; i++) {
        const now = new Date()
        await store.insert(Content, [{ id: uuidv7(), content: 'x'.repeat(1_000), createdAt: now, savedAt: now }])
      }
    } finally {
      await store.close()
    }
  },
  queue: async (rows: number) => {
    const file = await SqliteFile.open(path, { capacity: 1_000, retentionMs: 1_000, retentionBytes: 1_000 })
    const queue = new SqliteQueue(file.connect())
    await queue.enqueue(Array.from({ length: rows }, () => [item(uuidv7(), 'x'.repeat(1_000))]))
    await queue.close()
    await file.close()
  },
}

function overwrite(from: number, to: number): void {
  const bytes = readFileSync(path)
  for (let at = from; at < Math.min(to, bytes.length); at++) bytes[at] = (at * 131 + 17) % 256
  writeFileSync(path, bytes)
}

const foreign = () => {
  const db = new DatabaseSync(path)
  db.exec('CREATE TABLE Person (id TEXT)')
  db.close()
}

const damages: [name: string, damage: () => void, reason: RegExp][] = [
  ['its header is overwritten', () => overwrite(0, 100), /is not a SQLite database|is damaged/],
  ['its first page is overwritten behind the header', () => overwrite(100, 4_096), /is damaged/],
  ['pages in its middle are overwritten', () => overwrite(16_384, statSync(path).size - 8_192), /is damaged/],
  ['it is cut off within a page', () => truncateSync(path, statSync(path).size - 5_000), /is damaged/],
  ['it is cut off at half', () => truncateSync(path, Math.floor(statSync(path).size / 8_192) * 4_096), /is damaged/],
  ['its log is something else', () => writeFileSync(`${path}-wal`, 'x'.repeat(9_000)), /-wal is damaged/],
]

describe.each(Object.entries(kinds))('the %s’s file: the start ends with an error when', (kind, open) => {
  const owner = kind === 'store' ? 'The store' : 'The embedded queue'

  test.each(damages)('%s', async (_, damage, reason) => {
    await open(60)
    damage()
    const before = readFileSync(path)
    const error = await open(0).catch((e: Error) => e)
    expect(error?.message).toContain(`${owner} cannot use ${path}: `)
    expect(error?.message).toMatch(reason)
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  test('it is the database of something else', async () => {
    foreign()
    const before = readFileSync(path)
    await expect(open(0)).rejects.toThrow(`${owner} cannot use ${path}: it is the database of something else`)
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  test('it is the other one’s', async () => {
    await (kind === 'store' ? kinds.queue : kinds.store)(1)
    await expect(open(0)).rejects.toThrow(`${owner} cannot use ${path}: it is the database of something else`)
  })

  test('it is a folder', async () => {
    mkdirSync(path)
    await expect(open(0)).rejects.toThrow(`${owner} cannot use ${path}: it is a folder`)
  })

  test('its folder is a file', async () => {
    writeFileSync(join(dir, 'file'), '')
    path = join(dir, 'file', 'test.db')
    await expect(open(0)).rejects.toThrow(`${owner} cannot use ${path}: its folder ${join(dir, 'file')} cannot be made`)
  })
})

describe.each(Object.entries(kinds))('the %s’s file is begun', (_, open) => {
  test('when it is empty', async () => {
    writeFileSync(path, '')
    await open(1)
  })

  test('where a link to it leads', async () => {
    symlinkSync(join(dir, 'elsewhere.db'), path)
    await open(1)
    expect(statSync(join(dir, 'elsewhere.db')).size).toBeGreaterThan(4_096)
  })

  test('when only a log is left, which is kept under another name', async () => {
    writeFileSync(`${path}-wal`, 'all that is left')
    await open(1)
    const [orphan] = readdirSync(dir).filter((name) => name.endsWith('.orphan'))
    expect(readFileSync(join(dir, orphan!), 'utf8')).toBe('all that is left')
  })
})

test('npm run migrate prints its error once', () => {
  writeFileSync(path, 'this is no database'.repeat(100))
  const script = fileURLToPath(new URL('../../src/commands/migrate.ts', import.meta.url))
  const { stderr, status } = spawnSync(process.execPath, [script], {
    cwd: dir,
    env: { PATH: process.env.PATH, DATABASE_URL: 'FILE:./test.db', NODE_NO_WARNINGS: '1' },
    encoding: 'utf8',
  })
  expect(status).toBe(1)
  expect(stderr.match(/is not a SQLite database/g)).toHaveLength(1)
}, 60_000)

test('A store whose file another process keeps locked, or whose disk fails, says what to do', () => {
  const sqlite = (errcode: number, message: string) =>
    classifySqlite(Object.assign(new Error(message), { code: 'ERR_SQLITE_ERROR', errcode }))
  expect(sqlite(5, 'database is locked')).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/end what has it open/),
  })
  expect(sqlite(778, 'disk I/O error')).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/check that it has space/),
  })
})
