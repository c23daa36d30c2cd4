/**
 * What another process does to an embedded queue, for tests that lock it out or kill it: `node sqlite-child.ts WHAT PATH`.
 * Every line of its output is one thing that was done.
 */
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { SqliteFile } from '../../src/embedded/file.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { models } from './contents.ts'

const [what, path, ms = '0'] = process.argv.slice(2) as [string, string, string?]

const failure = { code: 'GAVE_UP', message: 'none', attempts: 1, failedAt: new Date(0) } as const

const say = (line: string) => process.stdout.write(`${line}\n`)

async function open() {
  const file = await SqliteFile.open(path, { capacity: 1_000_000, retentionMs: 3_600_000, retentionBytes: 1_000_000 })
  return { file, queue: new SqliteQueue(file.connect()), events: new SqliteEventLog(file.connect(), { models }) }
}

const message = (id: string) => ({ id, digest: 'd', at: Date.now(), body: 'x'.repeat(500) })

if (what === 'lock') {
  const db = new DatabaseSync(path, { timeout: 5_000 })
  db.exec('BEGIN IMMEDIATE')
  say('locked')
  setTimeout(() => db.close(), Number(ms))
}

if (what === 'accept') {
  const { queue } = await open()
  const enqueue = async (): Promise<void> => {
    for (;;) {
      const id = randomUUID()
      await queue.enqueue([[message(id)]])
      say(id)
    }
  }
  await Promise.all(Array.from({ length: 16 }, enqueue))
}

if (what === 'take') {
  const { queue } = await open()
  for (const { id } of await queue.consumer('child').receive({ rows: 10, bytes: 1_000_000 }, 1_000)) say(id!)
  say('taken')
}

if (what === 'come and go') {
  const { file, queue, events } = await open()
  const consumer = queue.consumer('child')
  const stop = events.follow(() => {})
  await queue.enqueue([[message(randomUUID())]])
  const entries = await consumer.receive({ rows: 10, bytes: 1_000_000 }, 1_000)
  await events.append([entries.map(({ id }) => ({ type: 'failed', id: id!, failure }))])
  await consumer.ack(entries)
  const waiting = consumer.receive({ rows: 10, bytes: 1_000_000 }, 60_000)
  await stop()
  await queue.close()
  await waiting
  await events.close()
  await file.close()
  say('closed')
}
