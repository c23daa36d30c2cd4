/** The store on SQLite: the contract, and a file that other processes write to, too. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { uuidv7 } from 'uuidv7'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { classifySqlite } from '../../src/db/faults.ts'
import { whileBusy } from '../../src/db/node-sqlite.ts'
import type { PrismaStore } from '../../src/db/prisma.ts'
import { sqlitePath } from '../../src/db/sqlite.ts'
import { Content } from '../harness/contents.ts'
import { quiet } from '../harness/quiet.ts'
import { contentStore, prismaOf } from '../harness/stores.ts'
import { storeSuite } from '../suites/store.ts'

const open = async (path: string) => {
  const store = await contentStore({ url: `file:${path}`, concurrency: 2, log: quiet() })
  await store.prepare(AbortSignal.timeout(20_000))
  return store
}

storeSuite('SQLite', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'spillway-store-'))
  const path = join(dir, 'made', 'on the way', 'store.db')
  return {
    open: () => open(path),
    async peek(id) {
      const db = new DatabaseSync(path, { readOnly: true })
      const row = db
        .prepare('SELECT hex(content) AS hex, CAST(createdAt AS TEXT) AS createdAt FROM Content WHERE id = ?')
        .get(id)
      db.close()
      return row as { hex: string; createdAt: string }
    },
    clean: () => rm(dir, { recursive: true }),
  }
})

describe('A store on SQLite', () => {
  test('fails an insert of which a trigger drops rows without an error', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'spillway-store-'))
    const store = await open(join(dir, 'store.db'))
    try {
      const db = new DatabaseSync(join(dir, 'store.db'))
      db.exec(
        "CREATE TRIGGER drops BEFORE INSERT ON Content WHEN NEW.content = 'dropped' BEGIN SELECT RAISE(IGNORE); END",
      )
      db.close()
      const row = (content: string) => ({ id: uuidv7(), content, createdAt: new Date(), savedAt: new Date() })
      await store.insert(Content, [row('kept')])
      await expect(store.insert(Content, [row('kept'), row('dropped')])).rejects.toMatchObject({
        kind: 'unknown',
        vendorCode: 'ROW_COUNT',
      })
    } finally {
      await store.close()
      await rm(dir, { recursive: true })
    }
  })

  let dir: string
  let path: string
  let store: PrismaStore
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'spillway-store-'))
    path = join(dir, 'store.db')
    store = await open(path)
  })
  afterEach(async () => {
    await store.close()
    await rm(dir, { recursive: true })
  })
  const row = (content: string) => ({ id: uuidv7(), content, createdAt: new Date(), savedAt: new Date() })
  const pragma = async (name: string) =>
    Object.values((await prismaOf(store).$queryRawUnsafe<object[]>(`PRAGMA ${name}`))[0]!)[0]

  test('uses WAL and full sync on every connection, also those of transactions', async () => {
    const settings = async (client: Pick<ReturnType<typeof prismaOf>, '$queryRawUnsafe'>) =>
      Promise.all(
        ['journal_mode', 'synchronous'].map(
          async (name) => Object.values((await client.$queryRawUnsafe<object[]>(`PRAGMA ${name}`))[0]!)[0],
        ),
      )
    expect((await settings(prismaOf(store))).map(String)).toEqual(['wal', '2'])
    await prismaOf(store).$transaction(async (tx) => expect((await settings(tx)).map(String)).toEqual(['wal', '2']))
    expect((await settings(prismaOf(store))).map(String)).toEqual(['wal', '2'])
    expect(String(await pragma('integrity_check'))).toBe('ok')
  })

  test('insert waits 3 s for the write lock of another process, without blocking the event loop, and writes once', async () => {
    const other = await lockHolder(path)
    const row1 = row('waited')
    const began = performance.now()
    let ticks = 0
    const ticking = setInterval(() => ticks++, 10)
    const released = release(other, 3_000)
    await store.insert(Content, [row1])
    clearInterval(ticking)
    await released
    expect(performance.now() - began).toBeGreaterThan(2_900)
    expect(ticks).toBeGreaterThan(50)
    expect(await store.find(Content, [row1.id])).toEqual([row1])
    const rows = [row('later'), row('later still')]
    await store.insert(Content, rows)
    expect(await store.page(Content, { take: 10, skip: 0, where: {} })).toHaveLength(3)
    // The lock is free: another process gets it at once.
    await release(await lockHolder(path), 0)
  })

  test('is unavailable while another process never releases its lock, and writes nothing', async () => {
    const other = await lockHolder(path)
    const error = await whileBusy(200, () => {
      const db = new DatabaseSync(path, { timeout: 1 })
      try {
        db.exec("INSERT INTO Content VALUES ('a', 'b', 'c', 'd')")
      } finally {
        db.close()
      }
    }).catch((e: unknown) => e)
    expect(classifySqlite(error)).toMatchObject({ kind: 'unavailable', vendorCode: '5' })
    await release(other, 0)
    await store.insert(Content, [row('after')])
    expect(await store.page(Content, { take: 10, skip: 0, where: {} })).toHaveLength(1)
  })

  test('reads while another process has the write lock', async () => {
    await store.insert(Content, [row('a')])
    const other = await lockHolder(path)
    const began = performance.now()
    expect(await store.page(Content, { take: 10, skip: 0, where: {} })).toHaveLength(1)
    expect(performance.now() - began).toBeLessThan(1_000)
    await release(other, 0)
  })

  test('rolls back a whole transaction of Prisma’s, and goes on', async () => {
    const data = row('in a transaction')
    await expect(
      prismaOf(store).$transaction(async (tx) => {
        await tx.content.create({ data })
        throw new Error('changed my mind')
      }),
    ).rejects.toThrow('changed my mind')
    expect(await store.find(Content, [data.id])).toEqual([])
    await prismaOf(store).$transaction([prismaOf(store).content.create({ data })])
    expect(await store.find(Content, [data.id])).toEqual([data])
  })

  test('writes dates as Prisma’s own client does, so that all rows sort together', async () => {
    const data = row('by Prisma')
    await prismaOf(store).content.create({ data })
    await store.insert(Content, [{ ...data, id: uuidv7(), content: 'by us' }])
    const kinds = await prismaOf(store).$queryRawUnsafe<object[]>(
      'SELECT DISTINCT CAST(createdAt AS TEXT) AS t, typeof(createdAt) AS k FROM Content',
    )
    expect(kinds).toEqual([{ t: data.createdAt.toISOString().replace('Z', '+00:00'), k: 'text' }])
  })

  test('is unavailable to readers and writers without its table', async () => {
    await prismaOf(store).$executeRawUnsafe('ALTER TABLE Content RENAME TO Elsewhere')
    await expect(store.insert(Content, [row('a')])).rejects.toMatchObject({ kind: 'unavailable', vendorCode: '1' })
    await expect(store.page(Content, { take: 1, skip: 0, where: {} })).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryAfterMs: 1_000,
    })
  })

  test('reports a row that breaks a rule as rejected', async () => {
    await prismaOf(store).$executeRawUnsafe(
      "CREATE TRIGGER no_bad BEFORE INSERT ON Content WHEN new.content = 'bad' BEGIN SELECT RAISE(ABORT, 'no bad'); END",
    )
    await expect(store.insert(Content, [row('good'), row('bad')])).rejects.toMatchObject({
      kind: 'rejected',
      vendorCode: '1811',
      message: 'no bad',
      rule: undefined,
    })
    expect(await store.page(Content, { take: 1, skip: 0, where: {} })).toEqual([])
  })

  test('is unavailable while the disk is full', async () => {
    const pages = Number(await pragma('page_count'))
    await pragma(`max_page_count = ${pages}`)
    await expect(store.insert(Content, [row('x'.repeat(100_000))])).rejects.toMatchObject({
      kind: 'unavailable',
      vendorCode: '13',
    })
    await pragma('max_page_count = 1000000')
    await store.insert(Content, [row('x'.repeat(100_000))])
  })

  test('reads a page in the middle of many rows by a range of the index', async () => {
    const plan = await prismaOf(store).$queryRawUnsafe<{ detail: string }[]>(
      'EXPLAIN QUERY PLAN SELECT * FROM Content WHERE createdAt <= ? AND (createdAt < ? OR id < ?) ORDER BY createdAt DESC, id DESC LIMIT 20',
      '2026',
      '2026',
      'x',
    )
    expect(plan.map(({ detail }) => detail)).toEqual([
      'SEARCH Content USING INDEX Content_createdAt_id_idx (createdAt<?)',
    ])
  })

  test('says what is wrong with a URL', async () => {
    expect(sqlitePath('file:///var/lib/a%20b.db')).toBe('/var/lib/a b.db')
    expect(() => sqlitePath('file::memory:')).toThrow(/must be a file/)
    expect(() => sqlitePath('file:a.db?mode=ro')).toThrow(/must be a file/)
    await expect(contentStore({ url: 'postgres://a:secret@b/c', concurrency: 1, log: quiet() })).rejects.toThrow(
      /mysql:\/\/ or file:/,
    )
    await expect(
      contentStore({ url: 'file:a.db', readUrl: 'mysql://a/b', concurrency: 1, log: quiet() }),
    ).rejects.toThrow(/no replica/)
  })
})

/** Another process, in the middle of a write. */
async function lockHolder(path: string): Promise<ChildProcess> {
  const script = `
    const { DatabaseSync } = require('node:sqlite')
    const db = new DatabaseSync(process.argv[1], { timeout: 5000 })
    db.exec('BEGIN IMMEDIATE')
    console.log('locked')
    process.stdin.once('data', () => { db.exec('COMMIT'); db.close(); process.exit() })`
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '-e', script, path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout!, 'data')
  return child
}

async function release(child: ChildProcess, afterMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, afterMs))
  child.stdin!.write('now')
  await once(child, 'exit')
}
