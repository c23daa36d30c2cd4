/** P4 for narrowed feeds, whatever interleaves: each returns exactly the events of its topic, in order, or CURSOR_EXPIRED; and what they cost. */
import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Cursor, compare, type Event, type Position } from '../../src/events/events.ts'
import { type Feed, Follower } from '../../src/events/follower.ts'
import { FeedEvent, failures, savedRows, type Topic } from '../../src/events/topics.ts'
import { SpillwayError } from '../../src/model/error.ts'
import type { Model, Values } from '../../src/model/model.ts'
import { matches, type Narrowing } from '../../src/model/narrow.ts'
import { eventually } from '../harness/eventually.ts'
import { MemoryLog, type WakeUps } from '../harness/memory-log.ts'
import { Comment, Memo } from '../harness/models.ts'
import { quiet } from '../harness/quiet.ts'

/** A topic, and by which events it may be tested: independent of how topics are found. */
interface Taken {
  topic: Topic
  takes(event: Event): boolean
}

const rowsOf = (model: Model, narrowing: Narrowing = {}): Taken => ({
  topic: savedRows(model, narrowing),
  takes: (event) => event.type === 'saved' && event.model === model && matches(narrowing, event.row),
})
const failed: Taken = { topic: failures, takes: (event) => event.type === 'failed' }

const saved = (model: Model, values: Values): Event => ({
  type: 'saved',
  model,
  row: { id: randomUUID(), createdAt: new Date(0), savedAt: new Date(1), ...values },
})
const comment = (postId: string, author = 'ann'): Event => saved(Comment, { postId, author, body: 'b', rating: null })
const memo = (tenantId: string, topic: number): Event => saved(Memo, { tenantId, topic, text: 't' })
const failure = (): Event => ({
  type: 'failed',
  id: randomUUID(),
  failure: { code: 'REJECTED', message: 'no', attempts: 1, failedAt: new Date(0) },
})

// Joined, two of them would be one text.
const posts = ['p', 'pa', 'post 3,"']
const authors = ['ann', 'nn']
const taken: Taken[] = [
  rowsOf(Comment),
  ...posts.map((postId) => rowsOf(Comment, { postId })),
  rowsOf(Comment, { author: 'nn', postId: 'pa' }),
  rowsOf(Comment, { author: 'ann', postId: 'p' }),
  rowsOf(Comment, { author: 'ann' }),
  rowsOf(Comment, { postId: 'a post of nobody' }),
  rowsOf(Memo, { topic: 1 }),
  rowsOf(Memo, { tenantId: '1' }),
  failed,
]

const event: fc.Arbitrary<() => Event> = fc.oneof(
  fc.tuple(fc.constantFrom(...posts), fc.constantFrom(...authors)).map((values) => () => comment(...values)),
  fc.tuple(fc.constantFrom('1', '2'), fc.constantFrom(1, 2)).map((values) => () => memo(...values)),
  fc.constant(failure),
  fc.constant((): Event => ({ type: 'unknown' })),
)
const entry = fc.array(event, { minLength: 1, maxLength: 5 })
const entries = (maxLength: number) => fc.array(entry, { minLength: 1, maxLength })
/** Often near the end. */
const part = fc.oneof(fc.nat(1_000), fc.integer({ min: 900, max: 1_000 })).map((n) => n / 1_000)

type Step =
  | { do: 'append'; entries: (() => Event)[][]; wakeUps: WakeUps }
  | { do: 'open'; topic: number; from: number | undefined }
  | { do: 'read'; reader: number }
  | { do: 'close'; reader: number }
  | { do: 'turns'; turns: number }
  | { do: 'trim'; to: number }
  | { do: 'fail' | 'mend' | 'settle' | 'replace' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      entries: entries(4),
      wakeUps: fc.constantFrom<WakeUps>('with entries', 'with entries', 'without entries', 'lost'),
    }),
  },
  {
    weight: 16,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      topic: fc.nat(taken.length - 1),
      from: fc.option(part, { nil: undefined }),
    }),
  },
  { weight: 40, arbitrary: fc.record({ do: fc.constant('read' as const), reader: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('close' as const), reader: fc.nat(20) }) },
  { weight: 20, arbitrary: fc.record({ do: fc.constant('turns' as const), turns: fc.nat(4) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('trim' as const), to: part }) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'fail' }) },
  { weight: 6, arbitrary: fc.constant<Step>({ do: 'mend' }) },
  { weight: 6, arbitrary: fc.constant<Step>({ do: 'settle' }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: 'replace' }) },
)

/** One reader of a feed, and what it must have read. */
class Reader {
  readonly taken: Taken
  readonly feed: Feed
  readonly start: Cursor
  readonly log: MemoryLog
  readonly got: FeedEvent[] = []
  /** Everything that was appended to the epoch in which the feed began. */
  readonly entries: MemoryLog['entries']
  isReading = false
  outcome: 'expired' | 'closed' | undefined
  /** The feed needs no entry up to this place. */
  place: Position

  constructor(taken: Taken, feed: Feed, start: Cursor, log: MemoryLog) {
    this.taken = taken
    this.feed = feed
    this.start = start
    this.log = log
    this.entries = log.entries
    this.place = start.position
  }

  read(): void {
    if (this.isReading || this.outcome) return
    this.isReading = true
    void this.feed.next().then(
      (events) => {
        this.isReading = false
        if (!events) this.outcome = 'closed'
        else {
          expect(events.length).toBeGreaterThan(0)
          this.got.push(...events)
          // A reader resumes with it.
          this.place = events.at(-1)!.cursor.position
        }
      },
      (error) => {
        this.isReading = false
        this.outcome = 'expired'
        expect(error).toMatchObject({ code: 'CURSOR_EXPIRED' })
        const { epoch, trimmed } = this.log
        expect(this.place.epoch !== epoch || this.place.major < trimmed, 'expired for no reason').toBe(true)
      },
    )
  }

  /** What the feed must return, up to an entry. */
  expected(upTo: number): FeedEvent[] {
    const all: FeedEvent[] = []
    for (const { position, previous, events } of this.entries.slice(this.start.position.major, upTo)) {
      for (const [i, event] of events.entries()) {
        const isBehind = position.major > this.start.position.major + 1 || i >= this.start.index
        const cursor =
          i + 1 === events.length
            ? { position, index: 0 }
            : { position: previous ?? { ...position, major: 0 }, index: i + 1 }
        if (isBehind && this.taken.takes(event)) all.push(new FeedEvent(cursor, event as FeedEvent['event']))
      }
    }
    return all
  }

  check(): void {
    const all = this.expected(this.entries.length)
    expect(this.got).toEqual(all.slice(0, this.got.length))
    const { end, cursor } = this.feed
    const last = this.got.at(-1)?.cursor ?? this.start
    expect(compare(cursor.position, last.position)).toBeGreaterThanOrEqual(0)
    if (!end || this.outcome) return
    // A heartbeat gives it: a client that resumes there must miss nothing.
    expect(this.isReading).toBe(true)
    expect(end).toBe(cursor)
    if (end.position.epoch === this.start.position.epoch)
      expect(this.got.length).toBe(this.expected(end.position.major).length)
  }
}

class System {
  readonly log = new MemoryLog()
  readonly follower = new Follower({ events: this.log, log: quiet() })
  readers: Reader[] = []
  readonly #closed: Reader[] = []

  async open(n: number, from: number | undefined): Promise<void> {
    const { topic } = taken[n]!
    const start = from === undefined ? undefined : this.#cursorAt(from)
    const { trimmed, epoch } = this.log
    try {
      const feed = await this.follower.feed(topic, start)
      const begins = start ?? feed.cursor
      const reader = new Reader(taken[n]!, feed, begins, this.log)
      // The follower may not know yet that the log was replaced: such a feed expires.
      if (begins.position.epoch === this.log.epoch) this.readers.push(reader)
      else feed.close()
    } catch (error) {
      if (!(error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED')) throw error
      const now = this.log
      expect(start && (start.position.major < Math.max(trimmed, now.trimmed) || epoch !== now.epoch)).toBe(true)
    }
  }

  /** Of some event in the log, or of its beginning. */
  #cursorAt(part: number): Cursor {
    const before = { epoch: this.log.epoch, major: 0, minor: 0 }
    const cursors = this.log.entries.flatMap(({ position, previous, events }) =>
      events.map(
        (_, i): Cursor =>
          i + 1 === events.length ? { position, index: 0 } : { position: previous ?? before, index: i + 1 },
      ),
    )
    return [{ position: before, index: 0 }, ...cursors][Math.round(part * cursors.length)]!
  }

  /** Until nothing goes on, with a log that can be read. */
  async settle(): Promise<void> {
    this.log.fails = false
    // The follower looks at the log every few seconds; a read that fails may end after the first look.
    for (const _ of ['first', 'second']) {
      this.log.wake()
      await this.#quiet()
    }
    for (const reader of this.#closed) expect(reader.isReading).toBe(false)
    for (const reader of this.readers) {
      reader.check()
      if (!reader.isReading) continue
      expect(reader.feed.end?.position).toEqual(this.log.end)
      reader.place = this.log.end
    }
  }

  async #quiet(): Promise<void> {
    let reads = -1
    for (let still = 0; still < 8; still = reads === this.log.reads && this.log.reading === 0 ? still + 1 : 0) {
      reads = this.log.reads
      await turn()
    }
  }

  async run(step: Step): Promise<void> {
    const reader = 'reader' in step ? this.readers[step.reader % this.readers.length] : undefined
    if (step.do === 'append') {
      this.log.wakeUps = step.wakeUps
      this.log.add(...step.entries.map((events) => events.map((make) => make())))
    } else if (step.do === 'open') await this.open(step.topic, step.from)
    else if (step.do === 'read') reader?.read()
    else if (step.do === 'close') {
      reader?.feed.close()
      if (reader) this.#closed.push(reader)
      this.readers = this.readers.filter((one) => one !== reader)
    } else if (step.do === 'turns') for (let n = step.turns; n > 0; n -= 1) await turn()
    else if (step.do === 'trim') this.log.trim(Math.round(step.to * this.log.entries.length))
    else if (step.do === 'fail') this.log.fails = true
    else if (step.do === 'mend') this.log.fails = false
    else if (step.do === 'settle') await this.settle()
    else this.log.replace()
    for (const reader of this.readers) reader.check()
  }

  /** Reads everything: each feed has all of its events, or has expired. */
  async finish(): Promise<void> {
    for (let before = -1, got = 0; before !== got; ) {
      for (const reader of this.readers) reader.read()
      await this.settle()
      before = got
      got = this.readers.reduce((sum, reader) => sum + reader.got.length, 0)
    }
    for (const reader of this.readers) {
      expect(reader.outcome).not.toBe('closed')
      if (reader.outcome === undefined) expect(reader.got).toEqual(reader.expected(reader.entries.length))
    }
  }
}

describe('Feeds', () => {
  test('P4: each returns exactly the events of its topic, in order, or CURSOR_EXPIRED', async () => {
    const counts = { events: 0, expired: 0 }
    await fc.assert(
      fc.asyncProperty(
        entries(60),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 20 }),
        fc.array(step, { minLength: 10, maxLength: 80 }),
        async (history, delays, steps) => {
          const system = new System()
          const { log, follower } = system
          log.add(...history.map((events) => events.map((make) => make())))
          let n = 0
          log.delay = () => delays[n++ % delays.length]!
          follower.start()
          try {
            await follower.end()
            for (const step of steps) await system.run(step)
            await system.finish()
          } finally {
            await follower.close()
          }
          for (const { got, outcome } of system.readers) {
            counts.events += got.length
            counts.expired += outcome === 'expired' ? 1 : 0
          }
        },
      ),
      { numRuns: Number(process.env.RUNS ?? 800) },
    )
    expect(counts.events).toBeGreaterThan(1_000)
    expect(counts.expired).toBeGreaterThan(10)
  }, 120_000)

  describe('of keys that an entry does not have', () => {
    const rooms = Array.from({ length: 1_000 }, (_, n) => `room ${n}`)
    let log: MemoryLog
    let follower: Follower
    beforeEach(async () => {
      log = new MemoryLog()
      follower = new Follower({ events: log, log: quiet() })
      follower.start()
      await follower.end()
      await turns(3)
    })
    afterEach(() => follower.close())

    const open = async (postId: string, after?: Cursor) => await follower.feed(savedRows(Comment, { postId }), after)

    test('are not woken, and their cursors are the end of the log', async () => {
      const feeds = await Promise.all(rooms.map((postId) => open(postId)))
      let woken = 0
      const waiting = feeds.map((feed) => feed.next().finally(() => (woken += 1)))
      const reads = log.reads
      for (let n = 0; n < 50; n += 1) {
        log.add([comment('room 7'), comment('elsewhere'), failure()])
        await turns(1)
        expect(woken).toBe(1)
        if (n === 0) void feeds[7]!.next()
      }
      expect(log.reads).toBe(reads)
      expect(await waiting[7]).toHaveLength(1)
      expect(new Set(feeds.filter((_, n) => n !== 7).map(({ end }) => end)).size).toBe(1)
      expect(feeds[0]!.cursor).toEqual({ position: log.end, index: 0 })
    })

    test('and of the same key share one array', async () => {
      const feeds = await Promise.all(Array.from({ length: 100 }, () => open('room 1')))
      const waiting = feeds.map((feed) => feed.next())
      log.add([comment('room 1'), comment('room 2'), comment('room 1')])
      const [first, ...others] = await Promise.all(waiting)
      expect(first!.map(({ cursor }) => cursor.index)).toEqual([1, 0])
      for (const other of others) expect(other).toBe(first)
    })

    test.each([
      ['small', 1, 3],
      ['large', 20_000, 1],
    ])(
      'and of the same key share one array of the entries that came together, where these are %s',
      async (_what, bytes, together) => {
        const feeds = await Promise.all(Array.from({ length: 100 }, () => open('room 1')))
        const waiting = feeds.map((feed) => feed.next())
        const large = () => saved(Comment, { postId: 'room 1', author: 'ann', body: 'b'.repeat(bytes), rating: null })
        log.add([large()], [comment('room 2')], [large(), comment('room 2')], [large()])
        const [first, ...others] = await Promise.all(waiting)
        expect(first).toHaveLength(together)
        for (const other of others) expect(other).toBe(first)
        const rest = 3 - together
        for (let n = 0; n < rest; n += 1) expect(await feeds[n]!.next()).toHaveLength(1)
      },
    )

    test('cost nothing for each key while an entry with a thousand keys is divided', async () => {
      let looks = 0
      // An entry whose events count how often they are looked at.
      const events = rooms.map((postId): Event => {
        const event = comment(postId) as Extract<Event, { type: 'saved' }>
        return {
          ...event,
          get row() {
            looks += 1
            return event.row
          },
        } as Event
      })
      const feeds = await Promise.all(rooms.map((postId) => open(postId)))
      const waiting = feeds.map((feed) => feed.next())
      log.add(events)
      for (const [n, all] of (await Promise.all(waiting)).entries()) {
        expect(all!.map(({ event }) => event)).toEqual([events[n]])
      }
      expect(looks).toBeLessThan(rooms.length * 10)
    })

    test.each([
      ['fit into memory', 1, 100],
      ['do not fit into memory', 20_000, 1_500],
    ])('catch up from a thousand old cursors with few reads of a log whose rows %s', async (_what, length, most) => {
      const body = 'b'.repeat(length)
      const history = Array.from({ length: 6_000 }, (_, n) =>
        saved(Comment, { postId: rooms[(n * 7) % 1_000]!, author: 'ann', body, rating: null }),
      )
      log.wakeUps = 'lost'
      log.add(...history.map((event) => [event]))
      log.wake()
      await eventually(() => compare(follower.tail!, log.end) === 0)
      const feeds = await Promise.all(
        rooms.map((postId, n) => open(postId, { position: { ...log.end, major: n }, index: 0 })),
      )
      const reads = log.reads
      const got = feeds.map((): Event[] => [])
      const reading = feeds.map(async (feed, n) => {
        for (let events = await feed.next(); events; events = await feed.next())
          got[n]!.push(...events.map(({ event }) => event))
      })
      await eventually(() => feeds.every(({ end }) => end !== undefined), { timeoutMs: 30_000 })
      const expected = rooms.map((): Event[] => [])
      for (const [n, event] of history.entries()) {
        const room = (n * 7) % 1_000
        if (n >= room) expected[room]!.push(event)
      }
      expect(got).toEqual(expected)
      // Each alone, the feeds would read 5.5 million entries.
      expect(log.reads - reads).toBeLessThan(most)
      for (const feed of feeds) feed.close()
      await Promise.all(reading)
    })
  })
})

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await turn()
}
