/** Rows whose parents wait in the queue behind them, for longer than a row without a parent is retried. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import type { Writer } from '../../src/db/store.ts'
import type { Item } from '../../src/queue/queue.ts'
import { Worker } from '../../worker/worker.ts'
import { digestOfContent, models } from '../harness/contents.ts'
import { holds } from '../harness/eventually.ts'
import { quiet } from '../harness/quiet.ts'
import { testSqlite } from '../harness/sqlite.ts'
import { mariadbStore } from '../harness/stores.ts'
import { item } from '../suites/queue.ts'

const retryForMs = 300
const statementMs = 200

const save = (content: string, id: string = randomUUID(), at = Date.now()): Item =>
  item(id, content, digestOfContent(content), at)

test.each([
  // In full batches, of which the worker has as many in flight as it may: it receives nothing for longer than retryForMs.
  ['in a worker that is busy with a slow store', { batch: 2, at: 0 }],
  // The batches are not full, because a message may be large.
  ['in messages that are received late', { batch: 20, at: -60_000 }],
])(
  'FA5: Worker dead-letters no row whose parent waits in the queue behind it, %s',
  {
    timeout: 150_000,
  },
  async (_, { batch, at }) => {
    const stored = await mariadbStore()
    const sqlite = await testSqlite()
    try {
      await stored.sql(`ALTER TABLE Content
      ADD parent CHAR(36) CHARACTER SET ascii COLLATE ascii_bin AS (IF(content LIKE 'child of %', SUBSTR(content, 10, 36), NULL)) STORED,
      ADD CONSTRAINT descent FOREIGN KEY (parent) REFERENCES Content (id)`)
      const queue = await sqlite.queue()
      const parent: string = randomUUID()
      const children = Array.from({ length: 24 }, (_, n) =>
        save(`child of ${parent} ${n}`, randomUUID(), Date.now() + at),
      )
      const all = [...children, save('a parent', parent, Date.now() + at)]
      for (const one of all) await queue.enqueue([[one]])
      const slow: Writer = {
        limits: (model) => stored.store.limits(model),
        existing: (model, ids) => stored.store.existing(model, ids),
        probe: (model) => stored.store.probe(model),
        async insert(model, rows) {
          await new Promise((resolve) => setTimeout(resolve, statementMs))
          await stored.store.insert(model, rows)
        },
      }
      const events = await sqlite.events()
      const consumer = queue.consumer('w')
      if (at < 0) {
        // Few at a time, as by the bound of bytes.
        const receive = consumer.receive.bind(consumer)
        consumer.receive = (limit, waitMs) => receive({ ...limit, rows: 3 }, waitMs)
      }
      const worker = new Worker(
        { consumer, store: slow, cache: { invalidate: async () => {} }, events },
        { models, batch, concurrency: 1, maxAttempts: 1, cacheTtlMs: 1_000, retryForMs, log: quiet() },
      )
      worker.start()
      try {
        await holds(async () => expect(await queue.status()).toMatchObject({ depth: 0, deadLetters: 0 }), {
          timeoutMs: 100_000,
          intervalMs: 100,
        })
      } finally {
        await worker.stop()
      }
      expect(await stored.sql('SELECT id FROM Content')).toHaveLength(all.length)
    } finally {
      await sqlite.cleanup()
      await stored.cleanup()
    }
  },
)
