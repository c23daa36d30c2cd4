import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { models } from '../harness/contents.ts'
import { type TestSqlite, testSqlite } from '../harness/sqlite.ts'
import { eventsSuite } from '../suites/events.ts'

eventsSuite('SqliteEventLog', async (retention) => {
  const { events, cleanup } = await testSqlite(retention)
  return { open: events, cleanup }
})

describe('SqliteEventLog', () => {
  let sqlite: TestSqlite

  beforeEach(async () => {
    sqlite = await testSqlite()
  })
  afterEach(() => sqlite.cleanup())

  const failed = (message: string) =>
    ({
      type: 'failed',
      id: 'an id',
      failure: { code: 'GAVE_UP', message, attempts: 1, failedAt: new Date(0) },
    }) as const

  test('reports an entry that another program deleted as CURSOR_EXPIRED', async () => {
    const log = await sqlite.events()
    const start = await log.tail()
    await log.append([1, 2, 3, 4, 5].map((n) => [failed(String(n))]))
    const db = new DatabaseSync(sqlite.path)
    db.exec('DELETE FROM log WHERE major = 3')
    db.close()
    const upToHole = await log.read(start, 10)
    expect(upToHole.map(({ position }) => position.major)).toEqual([1, 2])
    await expect(log.read(upToHole[1]!.position, 10)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    await expect(log.read({ ...start, major: 3 }, 10)).resolves.toHaveLength(2)
  })

  test('opens a file whose epoch was deleted with a new one, and expires earlier cursors', async () => {
    const log = await sqlite.events()
    await log.append([[failed('before')]])
    const before = await log.tail()
    const db = new DatabaseSync(sqlite.path)
    db.exec('DELETE FROM epoch')
    db.close()
    const again = await sqlite.events()
    expect((await again.tail()).epoch).not.toBe(before.epoch)
    await expect(again.read(before, 1)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
  })

  test('reads at most some megabytes at once, and always one entry', async () => {
    const log = await sqlite.events()
    const start = await log.tail()
    await log.append([1, 2, 3, 4, 5].map((n) => [failed(String(n).repeat(1_500_000))]))
    await log.append([[failed('x'.repeat(6_000_000))]])
    expect(await log.read(start, 10)).toHaveLength(2)
    expect(await log.read({ ...start, major: 5 }, 10)).toHaveLength(1)
  })

  test('reuses the space of trimmed entries', async () => {
    const file = await sqlite.file({ retentionBytes: 1_048_576 })
    const log = new SqliteEventLog(file.connect(), { models })
    for (let i = 0; i < 100; i++) await log.append([[failed('x'.repeat(100_000))]])
    await log.close()
    await file.close()
    const db = new DatabaseSync(sqlite.path)
    const { kept } = db.prepare('SELECT sum(bytes) AS kept FROM log').get() as { kept: number }
    const { counted } = db.prepare("SELECT value AS counted FROM counter WHERE name = 'log bytes'").get() as {
      counted: number
    }
    const { page_count: pages } = db.prepare('PRAGMA page_count').get() as { page_count: number }
    db.close()
    expect(kept).toBeLessThanOrEqual(1_048_576)
    expect(counted).toBe(kept)
    expect(pages * 4096).toBeLessThan(4_000_000)
  })
})
