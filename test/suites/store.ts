/** The contract of every Store, in the sentences of src/db/store.ts. */
import fc from 'fast-check'
import { uuidv7 } from 'uuidv7'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Store, StoreFault } from '../../src/db/store.ts'
import type { Row } from '../../src/model/model.ts'
import { Content, type ContentRow } from '../harness/contents.ts'

/** Stores on one empty database, prepared; the suite closes them. */
export interface StoreBed {
  open(): Promise<Store>
  /** Reads a column of a row without Prisma. */
  peek(id: string): Promise<{ hex: string; createdAt: string }>
  clean(): Promise<void>
}

const at = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms)
const row = (content: string, createdAt = at(0), savedAt = at(1)): ContentRow => ({
  id: uuidv7(),
  content,
  createdAt,
  savedAt,
})

/** The StoreFault of an insert that fails. */
export async function faultOf(insert: Promise<unknown>): Promise<StoreFault> {
  const error = await insert.then(
    () => new Error('it was written'),
    (e: unknown) => e,
  )
  if (error instanceof StoreFault) return error
  throw error
}

const awkward = {
  empty: '',
  NUL: 'a\0b\0',
  quotes: `'"\`''""\\'\\"`,
  backslashes: '\\\\0\\n\\Z\\%\\_\\',
  emoji: '😀👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿',
  '65,536 bytes': '😀'.repeat(16_384),
  CRLF: '\r\na\rb\nc\r\n',
  'spaces at both ends': '  a \t ',
  combining: 'e\u0301 \u00e9 \u1100\u1161 \uac00',
  noncharacters: '\uffff\ufffe\ufdd0\u{1fffe}\u{10ffff}',
  'byte order mark': '\ufeffa',
  controls: `${Array.from({ length: 33 }, (_, i) => String.fromCharCode(i)).join('')}\x7f\x80\x9f\u2028\u2029`,
  'placeholders and comments': '? ?? :a $1 -- # /* */ ; \x1a %s {{',
  numbers: '0123',
  'what looks like a date': '2026-01-01T00:00:00.000Z',
}

export function storeSuite(name: string, make: () => Promise<StoreBed>): void {
  describe(`${name}: the contract of a store`, () => {
    let bed: StoreBed
    let store: Store
    beforeAll(async () => {
      bed = await make()
      store = await bed.open()
    })
    afterAll(async () => {
      await store.close()
      await bed.clean()
    })

    test.each(Object.entries(awkward))('P8: find returns content unchanged: %s', async (_, content) => {
      const written = row(content)
      await store.insert(Content, [row('before'), written, row('after')])
      expect(await store.find(Content, [written.id])).toEqual([written])
      expect((await bed.peek(written.id)).hex.toLowerCase()).toBe(Buffer.from(content).toString('hex'))
    })

    test('P8: find returns content unchanged: any Unicode text', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.string({ unit: 'binary', maxLength: 50 }), { minLength: 1, maxLength: 20 }),
          async (texts) => {
            const rows = texts.map((text) => row(text))
            await store.insert(Content, rows)
            expect(
              byId(
                await store.find(
                  Content,
                  rows.map(({ id }) => id),
                ),
              ),
            ).toEqual(byId(rows))
          },
        ),
        { numRuns: 50 },
      )
    })

    test('dates keep their milliseconds, in UTC, whatever the time zones of process, session and server', async () => {
      const dates = [0, 1, 10, 100, 999, 1_000].map((ms) => new Date(Date.UTC(2026, 2, 29, 1, 30) + ms))
      const rows = [...dates, new Date(Date.UTC(1970, 0, 1)), new Date(Date.UTC(2099, 11, 31, 23, 59, 59, 999))].map(
        (date) => row('a date', date, date),
      )
      await store.insert(Content, rows)
      expect(
        byId(
          await store.find(
            Content,
            rows.map(({ id }) => id),
          ),
        ),
      ).toEqual(byId(rows))
      expect((await bed.peek(rows[1]!.id)).createdAt.replace('T', ' ').slice(0, 23)).toBe('2026-03-29 01:30:00.001')
    })

    test('insert writes all or none: a duplicate id fails the whole insert as duplicate', async () => {
      const there = row('there')
      await store.insert(Content, [there])
      const others = [row('other'), row('another')]
      const fault = await faultOf(store.insert(Content, [others[0]!, { ...there, content: 'changed' }, others[1]!]))
      expect(fault.kind).toBe('duplicate')
      expect(fault.vendorCode).toMatch(/^(1062|1555)$/)
      expect(await store.find(Content, [there.id, ...others.map(({ id }) => id)])).toEqual([there])
    })

    test('insert writes all or none: the same id twice in one call is a duplicate', async () => {
      const twice = row('a')
      expect((await faultOf(store.insert(Content, [twice, { ...twice, content: 'b' }]))).kind).toBe('duplicate')
      expect(await store.existing(Content, [twice.id])).toEqual([])
    })

    test('insert of nothing does nothing', async () => {
      await store.insert(Content, [])
    })

    test('insert writes maxRows rows, and refuses one more as too large', async () => {
      const createdAt = at(-86_400_000)
      const rows = Array.from({ length: store.limits(Content).rows }, (_, i) => row(`${i}`, createdAt))
      await store.insert(Content, rows)
      expect(await store.find(Content, [rows[0]!.id, rows.at(-1)!.id])).toHaveLength(2)
      expect(store.limits(Content).rows).toBeGreaterThanOrEqual(1_000)
      expect((await faultOf(store.insert(Content, [...rows, row('one more')]))).kind).toBe('too-large')
    })

    test.each(['x', '\\', "'", '\0', '😀'])(
      'insert takes maxBytes bytes, and refuses one more as too large: %j',
      async (unit) => {
        const bytes = Buffer.byteLength(unit)
        const most = unit.repeat(Math.floor(store.limits(Content).bytes / bytes))
        const half = Math.floor(most.length / 2 / unit.length) * unit.length
        const createdAt = at(-86_400_000)
        const rows = [row(most.slice(0, half), createdAt), row(most.slice(half), createdAt)]
        await store.insert(Content, rows)
        expect(
          byId(
            await store.find(
              Content,
              rows.map(({ id }) => id),
            ),
          ),
        ).toEqual(byId(rows))
        const fault = await faultOf(store.insert(Content, [...rows, row(unit.repeat(bytes))]))
        expect(fault.kind).toBe('too-large')
        expect(fault.message).toContain(String(store.limits(Content).bytes))
      },
    )

    test('find and existing return the existing rows of up to 1,000 ids', async () => {
      const rows = Array.from({ length: 600 }, (_, i) => row(`${i}`))
      await store.insert(Content, rows)
      const ids = [...rows.map(({ id }) => id), ...Array.from({ length: 400 }, () => uuidv7())]
      expect(byId(await store.find(Content, ids))).toEqual(byId(rows))
      expect(byId(await store.existing(Content, ids))).toEqual(byId(rows))
      expect(await store.find(Content, [])).toEqual([])
      expect(await store.existing(Content, [])).toEqual([])
    })

    test('find matches an id exactly', async () => {
      const there = row('there')
      await store.insert(Content, [there])
      expect(
        await store.find(Content, [there.id.toUpperCase(), ` ${there.id}`, there.id.slice(0, -1), `${there.id}\0`]),
      ).toEqual([])
    })

    test('writers at the same time, with overlapping rows, write each row once', async () => {
      const second = await bed.open()
      try {
        // Each batch twice, the second time in reverse: without one order of locks, these would deadlock.
        const rows = Array.from({ length: 900 }, (_, i) => row(`${i}`))
        const batches = Array.from({ length: 30 }, (_, i) => rows.slice(i * 30, i * 30 + 30)).flatMap((batch) => [
          batch,
          batch.toReversed(),
        ])
        const outcomes = await Promise.all(
          batches.map((batch, i) =>
            (i % 2 ? store : second).insert(Content, batch).then(
              () => 'written',
              (fault: StoreFault) => fault.kind,
            ),
          ),
        )
        expect(outcomes.filter((outcome) => outcome === 'written')).toHaveLength(30)
        expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(30)
        expect(
          byId(
            await store.find(
              Content,
              rows.map(({ id }) => id),
            ),
          ),
        ).toEqual(byId(rows))
      } finally {
        await second.close()
      }
    })

    test('close may be called twice', async () => {
      const other = await bed.open()
      await other.close()
      await other.close()
    })
  })

  describe(`${name}: pages`, () => {
    let bed: StoreBed
    let store: Store
    /** Newest first, as every page is. Many share their createdAt, so that the id decides. */
    let rows: ContentRow[]
    beforeAll(async () => {
      bed = await make()
      store = await bed.open()
      rows = Array.from({ length: 57 }, (_, i) => row(`${i}`, at(Math.floor(i / 10) * 5)))
      await store.insert(Content, shuffled(rows))
      rows.sort((a, b) => +b.createdAt - +a.createdAt || (a.id < b.id ? 1 : -1))
    })
    afterAll(async () => {
      await store.close()
      await bed.clean()
    })

    test('without a cursor: the newest, or backwards the oldest; newest first in either case', async () => {
      expect(await store.page(Content, { take: 10, skip: 0, where: {} })).toEqual(rows.slice(0, 10))
      expect(await store.page(Content, { take: -10, skip: 0, where: {} })).toEqual(rows.slice(-10))
      expect(await store.page(Content, { take: 0, skip: 0, where: {} })).toEqual([])
      expect(await store.page(Content, { take: 100, skip: 0, where: {} })).toEqual(rows)
    })

    test('from every cursor, in both directions, with and without the row itself', async () => {
      for (const [i, { id: cursor }] of rows.entries()) {
        expect(await store.page(Content, { take: 7, skip: 1, cursor, where: {} })).toEqual(rows.slice(i + 1, i + 8))
        expect(await store.page(Content, { take: 7, skip: 0, cursor, where: {} })).toEqual(rows.slice(i, i + 7))
        expect(await store.page(Content, { take: -7, skip: 1, cursor, where: {} })).toEqual(
          rows.slice(Math.max(0, i - 7), i),
        )
        expect(await store.page(Content, { take: -7, skip: 0, cursor, where: {} })).toEqual(
          rows.slice(Math.max(0, i - 6), i + 1),
        )
      }
    })

    test('a cursor that names no row is undefined, the end of the list is a page without rows', async () => {
      expect(await store.page(Content, { take: 10, skip: 1, cursor: uuidv7(), where: {} })).toBeUndefined()
      expect(await store.page(Content, { take: -10, skip: 1, cursor: 'no uuid', where: {} })).toBeUndefined()
      expect(await store.page(Content, { take: 10, skip: 1, cursor: rows.at(-1)!.id, where: {} })).toEqual([])
      expect(await store.page(Content, { take: -10, skip: 1, cursor: rows[0]!.id, where: {} })).toEqual([])
      expect(await store.page(Content, { take: 0, skip: 1, cursor: rows[3]!.id, where: {} })).toEqual([])
    })
  })
}

const byId = (rows: readonly Row[]) => rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))

/** Shuffles: the same order for the same length. */
function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item, i) => ({ item, key: ((i * 7919) % 104_729) % 97 }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}
