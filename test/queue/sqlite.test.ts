import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Enqueued } from '../../src/queue/queue.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'
import { openSqlite } from '../../src/sqlite/open.ts'
import { WriteQueue } from '../../src/sqlite/write-queue.ts'
import { type Child, launch } from '../harness/child.ts'
import { eventually } from '../harness/eventually.ts'
import { type TestSqlite, testSqlite } from '../harness/sqlite.ts'
import { item, queueSuite } from '../suites/queue.ts'

const shortLeaseMs = 1_000

queueSuite('SqliteQueue', async ({ capacity }) => {
  const { queue, cleanup } = await testSqlite({ capacity, leaseMs: shortLeaseMs })
  return { open: queue, reclaimMs: shortLeaseMs, cleanup }
})

const lots = { rows: 1_000, bytes: 64_000_000 }
const one = () => item(randomUUID(), 'something')

describe('SqliteQueue', () => {
  let sqlite: TestSqlite
  let children: Child[]

  beforeEach(async () => {
    sqlite = await testSqlite()
    children = []
  })
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(children.map(({ exited }) => exited))
    await sqlite.cleanup()
  })

  function child(what: string, args: string[] = [], onLine: (line: string) => void = () => {}): Child {
    const script = fileURLToPath(new URL('../harness/sqlite-child.ts', import.meta.url))
    const started = launch(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', script, what, sqlite.path, ...args],
      { onLine },
    )
    children.push(started)
    return started
  }

  /** Resolves when the child says the line. */
  async function said(started: Child, line: string): Promise<void> {
    await eventually(() => started.logs().includes(`${line}\n`) || !started.running(), { timeoutMs: 20_000 })
    if (!started.logs().includes(`${line}\n`)) throw new Error(`it never said "${line}": ${started.logs()}`)
  }

  describe('while another process holds the write lock', () => {
    test('for three seconds, enqueue waits and loses nothing; reads are answered', { timeout: 30_000 }, async () => {
      const queue = await sqlite.queue()
      await queue.enqueue([[one()]])
      const holder = child('lock', ['3000'])
      await said(holder, 'locked')
      const all = Array.from({ length: 200 }, one)
      let answered = 0
      const enqueueing = all.map(async (message) => {
        const replies = await queue.enqueue([[message]])
        answered++
        return replies
      })
      const receiving = queue.consumer('w').receive({ rows: 1, bytes: 1_000 }, 10_000)
      expect(await queue.status()).toMatchObject({ depth: 1 })
      expect(await queue.find([all[0]!.id])).toEqual([undefined])
      expect(answered).toBe(0)
      const replies = (await Promise.all(enqueueing)) as Enqueued[][][]
      expect(replies.every(([reply]) => reply?.[0]?.duplicate === false)).toBe(true)
      expect(await queue.status()).toMatchObject({ depth: 201 })
      expect(await receiving).toHaveLength(1)
    })

    test('for longer than the busy timeout, enqueue rejects with QUEUE_UNAVAILABLE and adds nothing', async () => {
      const queue = new SqliteQueue((await sqlite.file({ busyMs: 300 })).connect())
      const holder = child('lock', ['60000'])
      await said(holder, 'locked')
      const message = one()
      await expect(queue.enqueue([[message]])).rejects.toMatchObject({
        code: 'QUEUE_UNAVAILABLE',
        message: expect.stringMatching(/another process has kept its file locked for more than 300 ms.*Studio/),
        retryAfterMs: expect.any(Number),
      })
      // `receive` does not reject; it tries again.
      const receiving = queue.consumer('w').receive(lots, 20_000)
      holder.kill('SIGKILL')
      await holder.exited
      expect(await queue.find([message.id])).toEqual([undefined])
      expect(await queue.enqueue([[message]])).toMatchObject([[{ duplicate: false }]])
      expect(await receiving).toMatchObject([{ id: message.id, deliveries: 1 }])
      await queue.close()
    })
  })

  describe('after the kill -9 of a process', () => {
    test('every message it had acknowledged is there', { timeout: 60_000 }, async () => {
      const acknowledged: string[] = []
      const sender = child('accept', [], (line) => acknowledged.push(line))
      await eventually(() => acknowledged.length > 1_000, { timeoutMs: 30_000 })
      sender.kill('SIGKILL')
      await sender.exited
      const queue = await sqlite.queue()
      const states = await queue.find(acknowledged)
      expect(states.map((saveState) => saveState?.status)).toEqual(acknowledged.map(() => 'QUEUED'))
      const { depth } = await queue.status()
      // Its last transaction may have been committed without an acknowledgement.
      expect(depth).toBeGreaterThanOrEqual(acknowledged.length)
      const entries = await queue.consumer('w').receive({ rows: 1_000_000, bytes: 1e9 }, 0)
      expect(entries).toHaveLength(depth)
    })

    test('its entries are received again at once, and its delivery is counted', { timeout: 30_000 }, async () => {
      const queue = await sqlite.queue()
      const all = [one(), one(), one()]
      await queue.enqueue([all])
      const receiver = child('take')
      await said(receiver, 'taken')
      // It is alive, and its lease of one minute is valid for a process that opens the file later.
      const early = (await sqlite.queue()).consumer('early')
      expect(await early.receive(lots, 0)).toEqual([])
      receiver.kill('SIGKILL')
      await receiver.exited
      const consumer = (await sqlite.queue()).consumer('w')
      const entries = await consumer.receive(lots, 0)
      expect(entries.map(({ id, deliveries }) => [id, deliveries])).toEqual(all.map(({ id }) => [id, 2]))
    })
  })

  test('receive returns a message as soon as it is enqueued, not at the next refresh', async () => {
    const queue = await sqlite.queue()
    const consumer = queue.consumer('w')
    const since = performance.now()
    for (let i = 0; i < 20; i++) {
      const receiving = consumer.receive(lots, 10_000)
      await queue.status()
      await queue.enqueue([[one()]])
      await consumer.ack(await receiving)
    }
    // With a refresh once a second it would be ten seconds or more.
    expect(performance.now() - since).toBeLessThan(5_000)
  })

  test('returns the entries of a worker thread to the queue when the thread ends', { timeout: 30_000 }, async () => {
    const file = await sqlite.file()
    const queue = new SqliteQueue(file.connect())
    const all = [one(), one()]
    await queue.enqueue([all])
    const port = file.connect()
    const thread = new Worker(new URL('../harness/sqlite-receiver.ts', import.meta.url), {
      workerData: { port },
      transferList: [port],
    })
    const [received] = await once(thread, 'message')
    expect(received).toEqual(all.map(({ id }) => id))
    const consumer = queue.consumer('w')
    expect(await consumer.receive(lots, 0)).toEqual([])
    const receiving = consumer.receive(lots, 20_000)
    await thread.terminate()
    expect(await receiving).toMatchObject(all.map(({ id }) => ({ id, deliveries: 2 })))
    await queue.close()
  })

  test('enqueue rejects with QUEUE_UNAVAILABLE on a full disk, loses nothing, and works once there is space', async () => {
    const queue = new SqliteQueue((await sqlite.file({ maxPages: 200 })).connect())
    const enqueued: string[] = []
    const large = () => item(randomUUID(), 'x'.repeat(20_000))
    let refused = large()
    await expect(
      (async () => {
        for (let i = 0; i < 100; i++) {
          refused = large()
          await queue.enqueue([[refused]])
          enqueued.push(refused.id)
        }
      })(),
    ).rejects.toMatchObject({
      code: 'QUEUE_UNAVAILABLE',
      message: expect.stringMatching(/disk.*full.*free some space/),
    })
    expect(enqueued.length).toBeGreaterThan(10)
    // A message that fits is not refused with one that does not, sent at the same time.
    const small = item(randomUUID(), 'x')
    const [large1, small1] = await Promise.allSettled([queue.enqueue([[large()]]), queue.enqueue([[small]])])
    expect([large1.status, small1.status]).toEqual(['rejected', 'fulfilled'])
    enqueued.push(small.id)
    expect(await queue.find([refused.id])).toEqual([undefined])
    expect(await queue.status()).toMatchObject({ depth: enqueued.length })
    const consumer = queue.consumer('w')
    const entries = await consumer.receive(lots, 1_000)
    expect(entries.map(({ id }) => id)).toEqual(enqueued)
    await consumer.ack(entries.slice(0, 5))
    expect(await queue.enqueue([[refused]])).toMatchObject([[{ duplicate: false }]])
    await queue.close()
  })

  test('does not write to a file that was moved', async () => {
    const queue = await sqlite.queue()
    await queue.enqueue([[one()]])
    await rename(sqlite.path, `${sqlite.path}.elsewhere`)
    await expect(queue.enqueue([[one()]])).rejects.toMatchObject({
      code: 'QUEUE_UNAVAILABLE',
      message: expect.stringContaining('moved, deleted or replaced'),
    })
    await rename(`${sqlite.path}.elsewhere`, sqlite.path)
    await queue.enqueue([[one()]])
    expect(await queue.status()).toMatchObject({ depth: 2 })
  })

  test('rejects every call once its thread has ended by an error', async () => {
    const file = await sqlite.file()
    const queue = new SqliteQueue(file.connect())
    await queue.enqueue([[one()]])
    // It stands for a defect.
    file.connect().postMessage(undefined)
    await expect(file.failed).rejects.toThrow('the thread of the embedded queue ended by an error')
    await expect(queue.enqueue([[one()]])).rejects.toMatchObject({
      code: expect.stringMatching(/QUEUE_UNAVAILABLE|OUTCOME_UNKNOWN/),
    })
    await Promise.all([queue.close(), file.close()])
    expect(await (await sqlite.queue()).status()).toMatchObject({ depth: 1 })
  })

  describe('refuses to open', () => {
    const refusal = (pattern: RegExp) => ({ message: expect.stringMatching(pattern) })

    test('a folder that cannot be made', async () => {
      await mkdir(dirname(dirname(sqlite.path)), { recursive: true })
      await writeFile(dirname(sqlite.path), 'a file where the folder should be')
      await expect(sqlite.file()).rejects.toMatchObject(refusal(/folder .* cannot be made/))
    })

    test('a file that is no database', async () => {
      await mkdir(dirname(sqlite.path))
      await writeFile(sqlite.path, 'something else entirely '.repeat(100))
      await expect(sqlite.file()).rejects.toMatchObject(refusal(/queue\.db: its file is not a SQLite database/))
    })

    test('a folder in the place of the file', async () => {
      await mkdir(sqlite.path, { recursive: true })
      await expect(sqlite.file()).rejects.toMatchObject(refusal(/a folder or a device, not a regular file/))
    })

    test('the database of something else, which is left as it was', async () => {
      await mkdir(dirname(sqlite.path))
      const db = new DatabaseSync(sqlite.path)
      db.exec('CREATE TABLE Content (id TEXT)')
      db.close()
      const before = await readFile(sqlite.path)
      await expect(sqlite.file()).rejects.toMatchObject(
        refusal(/database of something else; give the queue a file of its own/),
      )
      expect((await readFile(sqlite.path)).equals(before)).toBe(true)
    })

    test('the file of another release', async () => {
      await (await sqlite.file()).close()
      const db = new DatabaseSync(sqlite.path)
      db.exec('PRAGMA user_version = 99')
      db.close()
      await expect(sqlite.file()).rejects.toMatchObject(refusal(/version 99, and this release .* version 2/))
    })

    test('a file that cannot be written', async () => {
      await (await sqlite.file()).close()
      // A write version that SQLite does not know makes a file read-only for everybody, root included, whom no rights stop.
      const file = await open(sqlite.path, 'r+')
      await file.write(Buffer.from([3]), 0, 1, 18)
      await file.close()
      await expect(sqlite.file()).rejects.toMatchObject(refusal(/cannot be written; check the rights/))
    })
  })

  test('rejects with QUEUE_UNAVAILABLE at once after its file was closed', async () => {
    const file = await sqlite.file()
    const queue = new SqliteQueue(file.connect())
    const consumer = queue.consumer('w')
    await queue.enqueue([[one()]])
    const receiving = consumer.receive({ rows: 1, bytes: 1 }, 0)
    await receiving
    const waiting = consumer.receive(lots, 20_000)
    await queue.status()
    await file.close()
    await file.close()
    expect(await waiting).toEqual([])
    await eventually(() =>
      queue.enqueue([[one()]]).then(
        () => false,
        (error) => error.code === 'QUEUE_UNAVAILABLE',
      ),
    )
    await expect(queue.find([''])).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' })
    await queue.close()
    // The entry of the queue's consumer is received again, though the consumer was not closed.
    expect(await (await sqlite.queue()).consumer('other').receive(lots, 0)).toMatchObject([{ deliveries: 2 }])
  })

  test('lets a process end that has closed everything', { timeout: 30_000 }, async () => {
    const started = child('come and go')
    await said(started, 'closed')
    expect(await started.exited).toBe(0)
    expect(started.logs()).toBe('closed\n')
    // A file that was closed in order has no other file beside it.
    await rm(sqlite.path)
    await expect(rm(dirname(sqlite.path), { recursive: false })).rejects.toMatchObject({ code: 'ERR_FS_EISDIR' })
    await expect(readFile(`${sqlite.path}-wal`)).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('WriteQueue', () => {
  let sqlite: TestSqlite
  let db: DatabaseSync
  let writeQueue: WriteQueue

  beforeEach(async () => {
    sqlite = await testSqlite()
    await (await sqlite.file()).close()
    const path = join(dirname(sqlite.path), 'write-queue.db')
    const file = openSqlite(path)
    db = file.db
    db.exec('CREATE TABLE t (a INTEGER PRIMARY KEY)')
    writeQueue = new WriteQueue({ db, guard: file.guard }, { busyMs: 1_000 })
  })
  afterEach(async () => {
    await writeQueue.drained()
    db.close()
    await sqlite.cleanup()
  })

  const rows = () =>
    db
      .prepare('SELECT a FROM t ORDER BY a')
      .all()
      .map(({ a }) => a)
  const insert = (a: number) => db.prepare('INSERT INTO t VALUES (?)').run(a)

  test('commits what is durable with synchronous=FULL, after any other write', async () => {
    const level = () => (db.prepare('PRAGMA synchronous').get() as { synchronous: number }).synchronous
    const durable = { durable: true }
    const relaxed = { durable: false }
    expect(await writeQueue.write(durable, level)).toBe(2)
    expect(await writeQueue.write(relaxed, level)).toBe(1)
    expect(await writeQueue.write(durable, level)).toBe(2)
    expect(await Promise.all([writeQueue.write(relaxed, level), writeQueue.write(durable, level)])).toEqual([2, 2])
  })

  test('rolls back a write that fails, and commits the others of its transaction', async () => {
    const outcomes = await Promise.allSettled([
      writeQueue.write({ durable: true }, () => void insert(1)),
      writeQueue.write({ durable: true }, () => {
        insert(2)
        throw new Error('a defect')
      }),
      writeQueue.write({ durable: true }, () => void insert(3)),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(outcomes[1]).toMatchObject({ reason: { message: 'a defect' } })
    expect(rows()).toEqual([1, 3])
  })

  test('rejects with OUTCOME_UNKNOWN after a COMMIT that may have had an effect, and goes on', async () => {
    // A deferred constraint is seen by COMMIT only, as a failed fsync is.
    db.exec('CREATE TABLE child (a INTEGER REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)')
    await expect(
      writeQueue.write({ durable: true }, () => db.exec('INSERT INTO child VALUES (7)')),
    ).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
    })
    await writeQueue.write({ durable: true }, () => insert(4))
    expect(rows()).toEqual([4])
    expect(db.prepare('SELECT count(*) AS n FROM child').get()).toEqual({ n: 0 })
  })
})
