/** The contract of every EventLog: each test holds one sentence of src/events/events.ts. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compare, type EventLog, type KnownEvent, type LogEntry, type Position } from '../../src/events/events.ts'
import { contentOf, savedEvent } from '../harness/events.ts'
import { eventually } from '../harness/eventually.ts'

export interface EventsBench {
  /** One more connection to the same log, ready for use, as another process has it. */
  open(): Promise<EventLog>
  /** Closes every connection (closing one twice is harmless) and removes the data. */
  cleanup(): Promise<void>
}

export interface Retention {
  retentionMs: number
  retentionBytes: number
}

const saved = (content: string, createdAt = new Date('2026-11-25T12:00:00.001Z')): KnownEvent =>
  savedEvent(content, { createdAt, savedAt: new Date(+createdAt + 12) })

const failed = (message: string): KnownEvent => ({
  type: 'failed',
  id: randomUUID(),
  failure: { code: 'REJECTED', message, attempts: 2, failedAt: new Date('1969-12-31T23:59:59.999Z') },
})

/** Reads from a position to the end. */
async function readAll(log: EventLog, after: Position, limit = 1_000): Promise<LogEntry[]> {
  const all: LogEntry[] = []
  let position = after
  for (;;) {
    const entries = await log.read(position, limit)
    if (entries.length === 0) return all
    expect(entries.length).toBeLessThanOrEqual(limit)
    all.push(...entries)
    position = entries.at(-1)!.position
  }
}

/** Positions grow, and each entry names its predecessor. */
function expectChain(entries: readonly LogEntry[], before: Position | undefined): void {
  let previous = before
  for (const entry of entries) {
    expect(entry.previous).toEqual(previous)
    if (previous) expect(compare(previous, entry.position)).toBeLessThan(0)
    previous = entry.position
  }
}

/** `wakesWithEntries`: whether a wake-up carries its entry, if that is small. */
export function eventsSuite(
  name: string,
  make: (retention: Retention) => Promise<EventsBench>,
  { wakesWithEntries = true } = {},
): void {
  describe(`${name}: the contract of an events log`, () => {
    const ample = { retentionMs: 3_600_000, retentionBytes: 268_435_456 }
    let bench: EventsBench
    let log: EventLog
    let start: Position

    beforeEach(async () => {
      bench = await make(ample)
      log = await bench.open()
      start = await log.tail()
    })
    afterEach(() => bench.cleanup())

    test('tail of an empty log is its end, and read returns nothing after it', async () => {
      expect(start.epoch).toMatch(/^[A-Za-z0-9_-]{8,32}$/)
      expect(await log.read(start, 10)).toEqual([])
      expect(await log.tail()).toEqual(start)
      expect(await (await bench.open()).tail()).toEqual(start)
    })

    test('each log has its own epoch', async () => {
      const second = await make(ample)
      try {
        expect((await (await second.open()).tail()).epoch).not.toBe(start.epoch)
      } finally {
        await second.cleanup()
      }
    })

    test('read returns entries in order, each with the position of its predecessor', async () => {
      const texts = Array.from({ length: 30 }, (_, i) => `content ${i}`)
      const appended = texts.map((text) => [saved(text)])
      await log.append(appended.slice(0, 1))
      await log.append(appended.slice(1, 20))
      await log.append([])
      await log.append(appended.slice(20))
      const entries = await readAll(log, start)
      expect(entries.map(({ events }) => events)).toEqual(appended)
      expectChain(entries, undefined)
      expect(await log.tail()).toEqual(entries.at(-1)!.position)
      expect(await log.read(entries.at(-1)!.position, 10)).toEqual([])
    })

    test('every connection reads the same order of all connections’ entries', async () => {
      const other = await bench.open()
      await Promise.all(
        Array.from({ length: 50 }, (_, i) => (i % 2 ? log : other).append([[saved(`a ${i}`)], [saved(`b ${i}`)]])),
      )
      const entries = await readAll(log, start)
      expect(entries).toHaveLength(100)
      expectChain(entries, undefined)
      expect(await readAll(other, start)).toEqual(entries)
      const text = ({ events: [event] }: LogEntry) => contentOf(event!)
      // One append stays together.
      for (let i = 0; i < 100; i += 2) {
        expect(text(entries[i + 1]!)).toBe(String(text(entries[i]!)).replace('a', 'b'))
      }
    })

    test('read continues from any entry, with at most `limit` entries', async () => {
      await log.append(Array.from({ length: 10 }, (_, i) => [saved(`content ${i}`)]))
      const all = await readAll(log, start)
      expect(await log.read(start, 3)).toEqual(all.slice(0, 3))
      expect(await readAll(log, start, 3)).toEqual(all)
      for (const [i, { position }] of all.entries()) expect(await readAll(log, position)).toEqual(all.slice(i + 1))
    })

    test('read returns dates and text unchanged', async () => {
      const events = [
        ...['', '😀👩‍👩‍👧‍👦 é', 'a\0b', `'"\`\\;--`, '\u2028\r\n\t', 'x'.repeat(65_536), '😀'.repeat(16_384)].flatMap(
          (text) => [saved(text), failed(text)],
        ),
        saved('old', new Date(-1)),
        saved('far', new Date('9999-12-31T23:59:59.999Z')),
      ]
      await log.append([events])
      const [entry] = await log.read(start, 1)
      expect(entry!.events).toEqual(events)
    })

    test('read returns a large entry whole', async () => {
      const events = Array.from({ length: 1_000 }, (_, i) => saved(`${i} ${'x'.repeat(2_000)}`))
      await log.append([[saved('before')], events, [saved('after')]])
      const entries = await readAll(log, start)
      expect(entries.map(({ events }) => events.length)).toEqual([1, 1_000, 1])
      expect(entries[1]!.events).toEqual(events)
    })

    describe('read fails with CURSOR_EXPIRED for a position', () => {
      const expired = { code: 'CURSOR_EXPIRED', message: expect.stringContaining('Read a page') }

      test('of another log', async () => {
        await log.append([[saved('one')]])
        await expect(log.read({ ...start, epoch: 'another-log' }, 10)).rejects.toMatchObject(expired)
        await expect(log.read({ ...(await log.tail()), epoch: 'another-log' }, 10)).rejects.toMatchObject(expired)
      })

      test('of the future', async () => {
        await log.append([[saved('one')]])
        const tail = await log.tail()
        await expect(log.read({ ...tail, major: tail.major + 1 }, 10)).rejects.toMatchObject(expired)
        await expect(log.read({ ...tail, minor: tail.minor + 1 }, 10)).rejects.toMatchObject(expired)
      })

      test('without an entry', async () => {
        await log.append([[saved('one')]])
        const tail = await log.tail()
        await log.append([[saved('two')]])
        await expect(log.read({ ...tail, minor: tail.minor + 999_999 }, 10)).rejects.toMatchObject(expired)
      })

      test('whose later entries were trimmed by their age', async () => {
        const short = await make({ ...ample, retentionMs: 1_000 })
        try {
          const log = await short.open()
          const start = await log.tail()
          await log.append([[saved('first')]])
          const first = await log.tail()
          await log.append([[saved('second')]])
          expect(await log.read(first, 10)).toHaveLength(1)
          await eventually(async () => {
            await log.append([[saved('later')]])
            await expect(log.read(first, 10)).rejects.toMatchObject(expired)
            return true
          })
          await expect(log.read(start, 10)).rejects.toMatchObject(expired)
          const tail = await log.tail()
          await log.append([[saved('last')]])
          expect(await log.read(tail, 10)).toMatchObject([{ previous: tail }])
        } finally {
          await short.cleanup()
        }
      })

      test('whose later entries were trimmed by size, and not for the entry before the oldest one', async () => {
        const small = await make({ ...ample, retentionBytes: 1_048_576 })
        try {
          const log = await small.open()
          const start = await log.tail()
          const positions = [start]
          for (let i = 0; i < 40; i++) {
            await log.append([[saved('x'.repeat(100_000))]])
            positions.push(await log.tail())
          }
          const kept = await Promise.all(
            positions.map((position) =>
              log.read(position, 1).then(
                () => true,
                (error) => {
                  expect(error).toMatchObject(expired)
                  return false
                },
              ),
            ),
          )
          const from = kept.indexOf(true)
          // About ten entries fit; an implementation may keep a few more.
          expect(from).toBeGreaterThan(5)
          expect(from).toBeLessThan(positions.length - 8)
          expect(kept.slice(from)).not.toContain(false)
          const entries = await readAll(log, positions[from]!)
          expect(entries.map(({ position }) => position)).toEqual(positions.slice(from + 1))
          expectChain(entries, positions[from])
        } finally {
          await small.cleanup()
        }
      })
    })

    describe('followers', () => {
      /** Follows as the API does: uses the entries of wake-ups, and reads the log if one does not follow. */
      function follower(log: EventLog) {
        const woken: LogEntry[] = []
        const seen: LogEntry[] = []
        let position = start
        let reading = Promise.resolve()
        let wakes = 0
        const look = async () => {
          const entries = await readAll(log, position)
          seen.push(...entries)
          position = entries.at(-1)?.position ?? position
        }
        const unfollow = log.follow((entry) => {
          wakes++
          if (entry) woken.push(entry)
          reading = reading.then(look)
          // `stop` reports it.
          reading.catch(() => {})
        })
        const stop = async () => {
          await unfollow()
          await reading
        }
        return { woken, seen, stop, wakes: () => wakes }
      }

      test('are woken for every entry of every connection', async () => {
        const other = await bench.open()
        const followers = [follower(log), follower(log), follower(other)]
        const appended = Array.from({ length: 40 }, (_, i) => [saved(`content ${i}`), failed(`failure ${i}`)])
        for (const [i, events] of appended.entries()) await (i % 2 ? log : other).append([events])
        const all = await readAll(log, start)
        for (const { seen, woken, stop } of followers) {
          await eventually(() => seen.length === all.length)
          expect(seen).toEqual(all)
          // At most once for each, in order, and equal to the entries of the log.
          const positions = new Set(woken.map(({ position }) => JSON.stringify(position)))
          expect(positions.size).toBe(woken.length)
          expect(woken).toEqual(all.filter(({ position }) => positions.has(JSON.stringify(position))))
          await stop()
        }
      })

      test('get an entry as soon as it is appended, with its wake-up if that carries it', async () => {
        const { seen, woken, wakes, stop } = follower(log)
        // The follower has subscribed when the first wake-up, which has no entry, comes.
        await eventually(() => wakes() > 0)
        const events = [saved('something'), failed('else')]
        const since = performance.now()
        await log.append([events])
        const came = wakesWithEntries ? woken : seen
        await eventually(() => came.length === 1, { intervalMs: 1 })
        expect(performance.now() - since).toBeLessThan(1_000)
        expect(came[0]!.events).toEqual(events)
        await stop()
      })

      test('are woken for a large entry, too', async () => {
        const { seen, stop } = follower(log)
        const events = Array.from({ length: 1_000 }, (_, i) => saved(`${i} ${'x'.repeat(2_000)}`))
        await log.append([events])
        await eventually(() => seen.length === 1)
        expect(seen[0]!.events).toEqual(events)
        await stop()
      })

      test('are woken no more once stopped, while the others are', async () => {
        const [stopped, goesOn] = [follower(log), follower(log)]
        await log.append([[saved('one')]])
        await eventually(() => stopped.seen.length === 1 && goesOn.seen.length === 1)
        await stopped.stop()
        await stopped.stop()
        const before = stopped.wakes()
        await log.append([[saved('two')]])
        await eventually(() => goesOn.seen.length === 2)
        expect(stopped.wakes()).toBe(before)
        await goesOn.stop()
      })
    })

    test('entries are there when the log is opened again', async () => {
      await log.append([[saved('one')], [failed('two')]])
      const entries = await readAll(log, start)
      await log.close()
      await log.close()
      const again = await bench.open()
      expect(await again.tail()).toEqual(entries.at(-1)!.position)
      expect(await readAll(again, start)).toEqual(entries)
      await again.append([[saved('three')]])
      expectChain(await again.read(entries.at(-1)!.position, 10), entries.at(-1)!.position)
    })
  })
}
