/** Embedded queues and events logs of a test's own: files in a directory that goes with the test. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SqliteFile, type SqliteFileOptions } from '../../src/embedded/file.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { models } from './contents.ts'
import { temporary } from './temporary.ts'

export interface TestSqlite {
  readonly path: string
  /** Opens the file once more, with a thread of its own. */
  file(options?: Partial<SqliteFileOptions>): Promise<SqliteFile>
  queue(): Promise<SqliteQueue>
  events(): Promise<SqliteEventLog>
  /** Closes what it has opened, and removes the directory. */
  cleanup(): Promise<void>
}

export async function testSqlite(options: Partial<SqliteFileOptions> = {}): Promise<TestSqlite> {
  const dir = await temporary('spillway-sqlite-')
  const path = join(dir, 'data', 'queue.db')
  const closers: (() => Promise<void>)[] = []
  const defaults = { capacity: 100_000, retentionMs: 3_600_000, retentionBytes: 268_435_456 }
  const file = async (more: Partial<SqliteFileOptions> = {}) => {
    const opened = await SqliteFile.open(path, { ...defaults, ...options, ...more })
    closers.unshift(() => opened.close())
    return opened
  }
  return {
    path,
    file,
    async queue() {
      const queue = new SqliteQueue((await file()).connect())
      closers.unshift(() => queue.close())
      return queue
    },
    async events() {
      const events = new SqliteEventLog((await file()).connect(), { models })
      closers.unshift(() => events.close())
      return events
    },
    async cleanup() {
      for (const close of closers) await close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
