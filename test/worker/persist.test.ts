/** Persister on the real stores, whose databases reject rows for real reasons. */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Entry } from '../../src/queue/queue.ts'
import type { Outcome } from '../../worker/outcome.ts'
import { Persister } from '../../worker/persist.ts'
import { Content, contentMessage } from '../harness/contents.ts'
import { engine } from '../harness/engine.ts'
import { eventually, holds } from '../harness/eventually.ts'
import { startMariadb, type TestMariadb } from '../harness/mariadb.ts'
import { persistEntries } from '../harness/persist.ts'
import { quiet } from '../harness/quiet.ts'
import { mariadbStore, sqliteStore, type TestStore, watched } from '../harness/stores.ts'

/** Ways to make a database fail, in its own SQL. */
interface Trouble {
  make(): Promise<TestStore>
  /** From now on the table rejects a content that begins with "bad". */
  refuseBad(test: TestStore): Promise<void>
  /** From now on a content that begins with "odd" fails with a code that Spillway does not know. */
  failOnOdd(test: TestStore): Promise<void>
  /** From now on a unique index rejects equal contents. */
  onlyUnique(test: TestStore): Promise<void>
  /** From now on a content "child of ID" needs the row of that id. */
  onlyWithParents(test: TestStore): Promise<void>
  /** Makes the table unavailable, and available again. */
  away(test: TestStore): Promise<void>
  back(test: TestStore): Promise<void>
}

let server: TestMariadb
beforeAll(async () => {
  server = await startMariadb()
  // read_only stops this user, unlike root.
  await server.sql("CREATE USER app@'%'")
  await server.sql("GRANT ALL ON *.* TO app@'%'")
  await server.sql(`REVOKE ${engine.administration} ON *.* FROM app@'%'`)
})
afterAll(() => server?.cleanup())

const mariadb: Trouble = {
  async make() {
    const name = new URL(await server.createDatabase()).pathname.slice(1)
    return await mariadbStore({
      url: `mysql://app@127.0.0.1:${server.port}/${name}`,
      sql: (statement) => server.sql(statement, name),
    })
  },
  refuseBad: ({ sql }) => sql("ALTER TABLE Content ADD CONSTRAINT good CHECK (content NOT LIKE 'bad%')").then(() => {}),
  async failOnOdd({ sql }) {
    await sql('CREATE FUNCTION two() RETURNS INT RETURN (SELECT 1 UNION SELECT 2)')
    await sql(
      "CREATE TRIGGER odd BEFORE INSERT ON Content FOR EACH ROW SET NEW.content = IF(NEW.content LIKE 'odd%', two(), NEW.content)",
    )
  },
  onlyUnique: async ({ sql }) => {
    await sql('CREATE TABLE Once (content VARCHAR(100), UNIQUE INDEX one_each (content))')
    await sql(
      'CREATE TRIGGER once AFTER INSERT ON Content FOR EACH ROW INSERT INTO Once VALUES (LEFT(NEW.content, 100))',
    )
  },
  onlyWithParents: ({ sql }) =>
    sql(`ALTER TABLE Content
      ADD parent CHAR(36) CHARACTER SET ascii COLLATE ascii_bin AS (IF(content LIKE 'child of %', SUBSTR(content, 10, 36), NULL)) STORED,
      ADD FOREIGN KEY (parent) REFERENCES Content (id)`).then(() => {}),
  away: () => server.sql('SET GLOBAL read_only = 1').then(() => {}),
  back: () => server.sql('SET GLOBAL read_only = 0').then(() => {}),
}

const sqlite: Trouble = {
  make: sqliteStore,
  refuseBad: ({ sql }) =>
    sql(
      "CREATE TRIGGER good BEFORE INSERT ON Content WHEN new.content LIKE 'bad%' BEGIN SELECT RAISE(ABORT, 'not good'); END",
    ).then(() => {}),
  failOnOdd: ({ sql }) =>
    sql(
      "CREATE TRIGGER odd BEFORE INSERT ON Content WHEN new.content LIKE 'odd%' BEGIN SELECT json(new.content); END",
    ).then(() => {}),
  onlyUnique: async ({ sql }) => {
    await sql('CREATE TABLE Once (content TEXT UNIQUE)')
    await sql('CREATE TRIGGER once AFTER INSERT ON Content BEGIN INSERT INTO Once VALUES (NEW.content); END')
  },
  onlyWithParents: ({ sql }) =>
    sql(`ALTER TABLE Content ADD COLUMN parent TEXT
      AS (CASE WHEN content LIKE 'child of %' THEN substr(content, 10, 36) END) VIRTUAL REFERENCES Content (id)`).then(
      () => {},
    ),
  // As a migration does.
  away: ({ sql }) => sql('ALTER TABLE Content RENAME TO Elsewhere').then(() => {}),
  back: ({ sql }) => sql('ALTER TABLE Elsewhere RENAME TO Content').then(() => {}),
}

let handles = 0
const at = Date.UTC(2026, 10, 25, 12)
const raw = (body: string, id: string | undefined = undefined): Entry => ({
  handle: String(++handles),
  id,
  body,
  deliveries: 1,
})
const entry = (content: string, id: string = randomUUID()): Entry => raw(contentMessage(id, content, at + handles), id)
const entries = (count: number, content = 'good') => Array.from({ length: count }, (_, n) => entry(`${content} ${n}`))
const contentOf = ({ body }: Entry) => JSON.parse(body).data.content as string

describe.each([
  [engine.name, mariadb],
  ['SQLite', sqlite],
] as const)('Persister on %s', (name, trouble) => {
  let made: TestStore
  let store: ReturnType<typeof watched>
  let log: ReturnType<typeof quiet>
  let stopping: AbortController
  let persister: Persister

  beforeEach(async () => {
    made = await trouble.make()
    store = watched(made.store)
    log = quiet()
    stopping = new AbortController()
    persister = new Persister(
      { store },
      { model: Content, maxAttempts: 2, log, signal: stopping.signal, retryForMs: 300 },
    )
  })
  afterEach(() => made.cleanup())

  /** The outcome of the entries once none of their rows is parked. */
  async function persisted(batch: readonly Entry[]): Promise<Outcome> {
    const { parked, ...outcome } = await persistEntries(persister, batch)
    await eventually(
      async () => {
        if (parked.length === 0) return true
        const { parked: left, ...more } = await persister.retry(parked)
        parked.splice(0, parked.length, ...left)
        outcome.saved.push(...more.saved)
        outcome.entries.push(...more.entries)
        outcome.deadLetters.push(...more.deadLetters)
        return parked.length === 0
      },
      { timeoutMs: 20_000 },
    )
    outcome.deadLetters.sort((a, b) => batch.indexOf(a.entry) - batch.indexOf(b.entry))
    return outcome
  }

  /** All rows: id -> content. */
  async function rows(): Promise<Map<string, string>> {
    const all = await made.sql('SELECT id, content FROM Content')
    return new Map(all.map(({ id, content }) => [id, content]))
  }

  const expectRows = async (expected: readonly Entry[]) =>
    expect(await rows()).toEqual(new Map(expected.map((one) => [one.id, contentOf(one)])))

  test('inserts a batch by one statement and returns its rows in order', async () => {
    const batch = entries(1_000)
    const before = Date.now()
    const { saved, entries: done, deadLetters } = await persisted(batch)
    expect(store.inserts).toMatchObject([{ rows: 1_000 }])
    expect(store.lookUps).toBe(0)
    expect(deadLetters).toEqual([])
    expect(done).toEqual(batch)
    expect(saved.map(({ row: { id, content, createdAt } }) => [id, content, +createdAt])).toEqual(
      batch.map((one) => [one.id, contentOf(one), JSON.parse(one.body).at]),
    )
    expect(saved.every(({ row: { savedAt } }) => +savedAt >= before && +savedAt <= Date.now())).toBe(true)
    await expectRows(batch)
    // The rows of the events equal the rows of the table, to the millisecond.
    const some = saved.slice(0, 50).map(({ row }) => row)
    const found = await made.store.find(
      Content,
      some.map(({ id }) => id),
    )
    expect(found.sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual(some.sort((a, b) => (a.id < b.id ? -1 : 1)))
    expect(await persisted([])).toEqual({ saved: [], entries: [], deadLetters: [] })
  })

  describe('for an id that the table has', () => {
    test('returns a row of equal content as saved, so that it is published again', async () => {
      const batch = entries(20)
      const first = await persisted(batch)
      store.inserts.length = 0
      const again = batch.map((one) => ({ ...one, handle: `again ${one.handle}`, deliveries: 2 }))
      const second = await persisted(again)
      expect(second.saved).toEqual(first.saved)
      expect(second.entries).toEqual(again)
      expect(second.deadLetters).toEqual([])
      expect(store.inserts).toHaveLength(1)
      await expectRows(batch)
    })

    test('makes a dead letter ID_CONFLICT of other content and leaves the row as it is', async () => {
      const batch = entries(3)
      await persisted(batch)
      const others = batch.map(({ id }) => entry('something else', id))
      const { saved, entries: done, deadLetters } = await persisted(others)
      expect([saved, done]).toEqual([[], []])
      expect(deadLetters).toMatchObject(
        others.map((one) => ({ entry: one, id: one.id, failure: { code: 'ID_CONFLICT', attempts: 1 } })),
      )
      await expectRows(batch)
    })

    test.each([
      ['by a space at the end', 'text', 'text '],
      ['in upper and lower case', 'text', 'TEXT'],
      ['in how an accent is written', '\u00e9', 'e\u0301'],
      ['by an accent', 'e', '\u00e9'],
      ['by a NUL', 'a', 'a\0'],
      ['from the empty text', '', ' '],
    ])('makes a dead letter ID_CONFLICT of content that differs %s', async (_, one, other) => {
      const first = entry(one)
      await persisted([first])
      const { deadLetters } = await persisted([entry(other, first.id)])
      expect(deadLetters).toMatchObject([{ failure: { code: 'ID_CONFLICT' } }])
      await expectRows([first])
    })

    test('inserts the new rows of the batch in two statements', async () => {
      const old = entries(30, 'old')
      await persisted(old)
      store.inserts.length = 0
      const fresh = entries(500, 'new')
      const equal = old.slice(0, 15).map((one) => ({ ...one }))
      const different = old.slice(15).map(({ id }) => entry('else', id))
      const batch = [...fresh.slice(0, 250), ...equal, ...different, ...fresh.slice(250)]
      const { saved, entries: done, deadLetters } = await persisted(batch)
      expect(saved.map(({ row }) => row.id)).toEqual(
        [...fresh.slice(0, 250), ...equal, ...fresh.slice(250)].map(({ id }) => id),
      )
      expect(done).toHaveLength(515)
      expect(deadLetters.map(({ entry }) => entry)).toEqual(different)
      expect(store.inserts.map(({ rows }) => rows)).toEqual([530, 500])
      await expectRows([...old, ...fresh])
    })

    test('makes one row of entries with equal content in one batch, and a dead letter ID_CONFLICT of other content', async () => {
      const [a, b] = entries(2) as [Entry, Entry]
      const twins = [entry(contentOf(a), a.id), entry(contentOf(a), a.id)]
      const other = entry('something else', a.id)
      const { saved, entries: done, deadLetters } = await persisted([a, twins[0]!, other, b, twins[1]!])
      expect(saved.map(({ row }) => row.id)).toEqual([a.id, b.id])
      expect(new Set(done)).toEqual(new Set([a, ...twins, b]))
      expect(deadLetters).toMatchObject([{ entry: other, failure: { code: 'ID_CONFLICT' } }])
      expect(store.inserts).toMatchObject([{ rows: 2 }])
      await expectRows([a, b])
    })
  })

  describe('dead-letters a row that the database rejects:', () => {
    beforeEach(() => trouble.refuseBad(made))

    test('it alone among 1,000, with REJECTED', async () => {
      const batch = entries(1_000)
      const bad = entry('bad')
      batch[737] = bad
      const { saved, entries: done, deadLetters } = await persisted(batch)
      expect(deadLetters).toMatchObject([
        {
          entry: bad,
          id: bad.id,
          failure: { code: 'REJECTED', message: expect.stringContaining('rejects this Content') },
        },
      ])
      // The message that clients get contains neither the database's own message nor the content.
      expect(deadLetters[0]!.failure.message).not.toMatch(/not good|CONSTRAINT|bad/)
      const good = batch.filter((one) => one !== bad)
      expect(saved.map(({ row }) => row.id)).toEqual(good.map(({ id }) => id))
      expect(done).toHaveLength(999)
      await expectRows(good)
      // The first one, and two for each halving of 1,000.
      expect(store.inserts.length).toBeLessThanOrEqual(21)
    })

    test.each([
      ['the first', [0]],
      ['the last', [99]],
      ['neighbours', [49, 50]],
      ['many', [0, 1, 2, 30, 63, 64, 98, 99]],
      ['all', Array.from({ length: 100 }, (_, n) => n)],
    ])('%s of 100, and no other', async (_, places) => {
      const batch = entries(100)
      for (const place of places) batch[place] = entry(`bad ${place}`)
      const bad = batch.filter((one) => contentOf(one).startsWith('bad'))
      const good = batch.filter((one) => !bad.includes(one))
      const { saved, deadLetters } = await persisted(batch)
      expect(deadLetters.map(({ entry }) => entry)).toEqual(bad)
      expect(saved.map(({ row }) => row.id)).toEqual(good.map(({ id }) => id))
      await expectRows(good)
    })

    test('among rows whose ids the table has', async () => {
      const old = entries(40)
      await persisted(old)
      const bad = entry('bad')
      const other = entry('else', old[0]!.id)
      const fresh = entries(10, 'new')
      const { saved, deadLetters } = await persisted([...old.slice(1), bad, other, ...fresh])
      expect(deadLetters.map(({ entry, failure }) => [entry, failure.code])).toEqual(
        expect.arrayContaining([
          [bad, 'REJECTED'],
          [other, 'ID_CONFLICT'],
        ]),
      )
      expect(deadLetters).toHaveLength(2)
      expect(saved).toHaveLength(49)
      await expectRows([...old, ...fresh])
    })
  })

  test('retries a row with an error of an unknown code for `retryForMs`, then dead-letters it with GAVE_UP', async () => {
    await trouble.failOnOdd(made)
    const batch = entries(8)
    const odd = entry('odd')
    batch[5] = odd
    const since = performance.now()
    const { saved, deadLetters } = await persisted(batch)
    expect(deadLetters).toMatchObject([{ entry: odd, failure: { code: 'GAVE_UP' } }])
    expect(deadLetters[0]!.failure.attempts).toBeGreaterThanOrEqual(2)
    expect(performance.now() - since).toBeGreaterThan(300)
    expect(saved).toHaveLength(7)
    await expectRows(batch.filter((one) => one !== odd))
  })

  test('dead-letters a row whose value in another unique index than the id exists', async () => {
    await trouble.onlyUnique(made)
    const first = entry('same')
    await persisted([first])
    const batch = [...entries(5), entry('same'), ...entries(5, 'more')]
    const { saved, deadLetters } = await persisted(batch)
    expect(deadLetters).toMatchObject([
      {
        entry: batch[5],
        failure: {
          code: 'REJECTED',
          attempts: 2,
          message: expect.stringMatching(/same value in the unique index \w+/),
        },
      },
    ])
    expect(saved).toHaveLength(10)
    expect((await rows()).size).toBe(11)
  })

  test('dead-letters a row whose parent is not saved within `retryForMs`, and saves the others at once (FA5)', async () => {
    await trouble.onlyWithParents(made)
    const [parent, child, orphan] = [entry('a parent'), entry(''), entry(`child of ${randomUUID()}`)]
    const early = entry(`child of ${parent.id}`, child.id)
    const first = await persistEntries(persister, [early, orphan, ...entries(5)])
    expect(first.saved).toHaveLength(5)
    expect(first.deadLetters).toEqual([])
    expect(first.parked.map(({ fault }) => fault.kind)).toEqual(['reference', 'reference'])
    await persisted([parent])
    const patient = new Persister(
      { store },
      { model: Content, maxAttempts: 2, log, signal: stopping.signal, retryForMs: 60_000 },
    )
    const { deadLetters, parked, saved } = await patient.retry(first.parked)
    expect(saved.map(({ row }) => row.id)).toEqual([early.id])
    expect([deadLetters, parked.length]).toEqual([[], 1])
    const rejected = await eventually(async () => {
      const round = await persister.retry(parked)
      parked.splice(0, parked.length, ...round.parked)
      return round.deadLetters.length > 0 && round.deadLetters
    })
    expect(performance.now() - first.parked[1]!.since).toBeGreaterThan(300)
    expect(rejected).toMatchObject([{ entry: orphan, failure: { code: 'REJECTED' } }])
    expect((await rows()).size).toBe(7)
  })

  test('keeps a row whose parent was in flight when it failed, and is saved when the round ends (FA5)', async () => {
    await trouble.onlyWithParents(made)
    const parent = entry('a parent')
    const children = [entry(`child of ${parent.id}`), entry(`child of ${parent.id}`)] as const
    let isBusy = true
    const busy = new Persister(
      { store },
      { model: Content, maxAttempts: 1, log, signal: stopping.signal, retryForMs: 1, isBusy: () => isBusy },
    )
    const { parked } = await persistEntries(busy, [...children, ...entries(5)])
    expect(parked).toHaveLength(2)
    const insert = store.insert.bind(store)
    store.insert = async (model, rows) => {
      if (isBusy && rows.length === 1 && rows[0]!.id === children[1].id) {
        await persisted([parent])
        isBusy = false
      }
      await insert(model, rows)
    }
    const round = await busy.retry(parked)
    expect(round.saved.map(({ row }) => row.id)).toEqual([children[1].id])
    expect([round.deadLetters, round.parked.length]).toEqual([[], 1])
    const { saved } = await busy.retry(round.parked)
    expect(saved.map(({ row }) => row.id)).toEqual([children[0].id])
  })

  test('leaves no row behind when it probes an empty table or a full one', async () => {
    await store.probe(Content)
    await expectRows([])
    const batch = entries(3)
    await persisted(batch)
    await store.probe(Content)
    await expectRows(batch)
  })

  describe('dead-letters a message that cannot be a row and saves the others:', () => {
    test.each([
      ['no JSON', () => raw('something'), 'UNDECODABLE', /not JSON/],
      ['JSON that is no object', () => raw('[]'), 'UNDECODABLE', /version/],
      ['null', () => raw('null'), 'UNDECODABLE', /not a JSON object/],
      [
        'no content',
        () => raw(JSON.stringify({ v: 1, type: 'content', id: randomUUID(), at })),
        'REJECTED',
        /content of Content is missing/,
      ],
      [
        'a time that is none',
        () => raw(`{"v":1,"type":"content","id":"${randomUUID()}","at":"now","content":"x"}`),
        'UNDECODABLE',
        /lacks/,
      ],
      ['an id that is no UUID', () => entry('x', '42'), 'REJECTED', /UUID/],
      ['an id in upper case', () => entry('x', randomUUID().toUpperCase()), 'REJECTED', /lower-case UUID/],
      ['a lone surrogate', () => entry('\ud800'), 'REJECTED', /content of Content/],
    ])('%s', async (_, make, code, message) => {
      const good = entries(4)
      const broken = make()
      const { saved, entries: done, deadLetters } = await persisted([...good.slice(0, 2), broken, ...good.slice(2)])
      expect(deadLetters).toMatchObject([
        {
          entry: broken,
          failure: { code, message: expect.stringMatching(message), attempts: 1, failedAt: expect.any(Date) },
        },
      ])
      expect(deadLetters[0]!.id).toBe(broken.id ?? broken.handle)
      expect(saved.map(({ row }) => row.id)).toEqual(good.map(({ id }) => id))
      expect(done).toEqual(good)
      await expectRows(good)
    })
  })

  describe('while the database is unavailable,', () => {
    afterEach(() => trouble.back(made).catch(() => {}))

    test('waits beyond `maxAttempts` and dead-letters nothing', async () => {
      const batch = entries(50)
      await trouble.away(made)
      const persisting = persisted(batch)
      // More attempts than a row gets that fails alone.
      await holds(() => expect(store.inserts.length).toBeGreaterThan(4))
      expect(log.said).toContain(
        'the database takes no rows of this model; the worker waits for it and saves none of them meanwhile',
      )
      await trouble.back(made)
      const { saved, deadLetters } = await persisting
      expect(saved).toHaveLength(50)
      expect(deadLetters).toEqual([])
      await expectRows(batch)
    })

    test('stops waiting when the worker stops', async () => {
      await trouble.away(made)
      const persisting = persisted(entries(5))
      const stopped = expect(persisting).rejects.toMatchObject({ name: 'Stopped' })
      await holds(() => expect(store.inserts.length).toBeGreaterThan(1))
      const since = performance.now()
      stopping.abort()
      const begun = store.inserts.length
      await stopped
      expect(performance.now() - since).toBeLessThan(2_000)
      await trouble.back(made)
      // The insert under way may still succeed; its entries are in the queue, and come back. None begins after it.
      await rows()
      expect(store.inserts.length).toBe(begun)
    })
  })

  describe('inserts by one statement', () => {
    test('no more rows than the database takes', { timeout: 60_000 }, async () => {
      const batch = entries(store.limits(Content).rows + 10, '')
      const { saved } = await persisted(batch)
      expect(saved).toHaveLength(batch.length)
      expect(store.inserts.map(({ rows }) => rows)).toEqual([store.limits(Content).rows, 10])
      expect((await rows()).size).toBe(batch.length)
    })

    test('no more bytes than the database takes, counted in UTF-8', { timeout: 60_000 }, async () => {
      // A character has 3 bytes; counted in code units, all rows would fit into one statement.
      const batch = Array.from({ length: 40 }, () => entry('€'.repeat(100_000)))
      const { saved } = await persisted(batch)
      expect(saved).toHaveLength(40)
      expect(store.inserts.length).toBeGreaterThan(1)
      for (const { bytes } of store.inserts) expect(bytes).toBeLessThanOrEqual(store.limits(Content).bytes)
      // No statement is smaller than necessary.
      expect(store.inserts.length).toBeLessThanOrEqual(Math.ceil((40 * 300_000) / store.limits(Content).bytes) + 1)
      await expectRows(batch)
    })

    test('no content that is too large for any statement: it is dead-lettered and the others are saved', {
      timeout: 60_000,
    }, async () => {
      const good = entries(4)
      const huge = entry('x'.repeat(store.limits(Content).bytes + 1))
      const { saved, deadLetters } = await persisted([...good.slice(0, 2), huge, ...good.slice(2)])
      expect(deadLetters).toMatchObject([
        {
          entry: huge,
          failure: {
            code: 'REJECTED',
            message: expect.stringContaining('larger than the database takes in one statement'),
          },
        },
      ])
      expect(saved.map(({ row }) => row.id)).toEqual(good.map(({ id }) => id))
    })
  })

  if (name !== 'SQLite') {
    test('splits a batch until it fits after the server lowered its limit', {
      timeout: 60_000,
    }, async () => {
      const before = store.limits(Content).bytes
      await server.sql('SET GLOBAL max_allowed_packet = 1048576')
      try {
        // A session keeps the limit it began with: end the pool's connections.
        const connections = await server.sql(`SELECT id FROM ${engine.processlist} WHERE user = 'app'`)
        for (const { id } of connections) await server.sql(`KILL ${id}`).catch(() => {})
        const small = Array.from({ length: 20 }, () => entry('x'.repeat(200_000)))
        const huge = entry('y'.repeat(2_000_000))
        const { saved, deadLetters } = await persisted([...small.slice(0, 10), huge, ...small.slice(10)])
        expect(store.limits(Content).bytes).toBeLessThan(before)
        expect(saved.map(({ row }) => row.id)).toEqual(small.map(({ id }) => id))
        expect(deadLetters).toMatchObject([{ entry: huge, failure: { code: 'REJECTED' } }])
        await expectRows(small)
      } finally {
        await server.sql('SET GLOBAL max_allowed_packet = 16777216')
      }
    })
  }
})
