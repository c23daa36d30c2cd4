/**
 * The follower: one per API process. It reads the log once for the whole process, puts the newest entries into the ring, and wakes the
 * feeds and the watchers that they concern. Invariant: an entry enters the ring only after its predecessor; where a wake-up brings an entry whose
 * predecessor is not the tail, the entries between are read from the log first.
 */
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { type Cursor, compare, type EventLog, type LogEntry, type Position } from './events.ts'
import { type Feed, Feeds } from './feeds.ts'
import { follows, Ring } from './ring.ts'
import type { Topic } from './topics.ts'
import { type Watcher, Watchers } from './watchers.ts'

export type { Feed } from './feeds.ts'

const readEntries = 16
/** The log is also read this often: a wake-up may be lost. */
const refreshEveryMs = 3_000
/** How long `end` waits for the first read of the log. */
const startTimeoutMs = 2_000

export class Follower {
  readonly #events: EventLog
  readonly #log: Log
  readonly #ring = new Ring()
  readonly #feeds: Feeds
  readonly #watchers = new Watchers()
  readonly #started: PromiseWithResolvers<void> = Promise.withResolvers()
  #closed = false
  #lastLogged: string | undefined
  #catchingUp: Promise<void> | undefined
  /** A refresh was asked for while one was running. */
  #refreshAgain = false
  #unfollow: (() => Promise<void>) | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(deps: { events: EventLog; log: Log }) {
    this.#events = deps.events
    this.#log = deps.log
    this.#feeds = new Feeds({ events: deps.events, ring: this.#ring })
  }

  start(): void {
    this.#unfollow = this.#events.follow((entry) => this.#wake(entry))
    this.#timer = setInterval(() => this.#refresh(), refreshEveryMs)
    this.#refresh()
  }

  #wake(entry: LogEntry | undefined): void {
    const { tail } = this.#ring
    if (entry && tail && !this.#catchingUp && follows(entry, tail)) this.#push([entry])
    else if (!entry || !tail || entry.position.epoch !== tail.epoch || compare(entry.position, tail) > 0)
      this.#refresh()
  }

  /** Reads what the log has behind the tail; once more if it was called meanwhile. */
  #refresh(): void {
    if (this.#catchingUp) {
      this.#refreshAgain = true
      return
    }
    this.#catchingUp = this.#catchUp()
      .catch((error: Error) => this.#logDefect(error))
      .finally(() => {
        this.#catchingUp = undefined
        if (this.#refreshAgain && !this.#closed) {
          this.#refreshAgain = false
          this.#refresh()
        }
      })
  }

  /** The connection logs an outage. Any other error is a defect: it is logged once, and again when another one comes. */
  #logDefect(error: Error): void {
    if (error instanceof SpillwayError || error.message === this.#lastLogged) return
    this.#lastLogged = error.message
    this.#log.error({ err: error }, 'cannot read the events log; trying again')
  }

  async #catchUp(): Promise<void> {
    if (!this.#ring.tail) {
      await this.#skipToEnd()
      this.#started.resolve()
    }
    let skipped = false
    while (!this.#closed) {
      let entries: LogEntry[]
      try {
        entries = await this.#events.read(this.#ring.tail!, readEntries)
      } catch (error) {
        if (!(error instanceof SpillwayError && error.code === 'CURSOR_EXPIRED')) throw error
        // Reading from the end of the log failed, too, so its key `meta` is damaged. The next refresh tries again.
        if (skipped) return
        skipped = true
        this.#log.warn({}, 'the events log was replaced or trimmed under the follower; going on from its end')
        await this.#skipToEnd()
        continue
      }
      if (entries.length === 0) {
        this.#feeds.retry()
        this.#lastLogged = undefined
        return
      }
      this.#push(entries)
    }
  }

  /** Empties the ring. A feed whose next events are lost gets CURSOR_EXPIRED at its next read; each watcher reads the state of its id. */
  async #skipToEnd(): Promise<void> {
    const tail = await this.#events.tail()
    this.#feeds.reset()
    this.#ring.reset(tail)
    this.#watchers.missed()
  }

  #push(entries: readonly LogEntry[]): void {
    this.#ring.push(entries)
    this.#watchers.notify(entries)
    this.#feeds.push(entries)
  }

  /** Calls back with every event of the ids until the returned function is called. */
  watch(ids: readonly string[], watcher: Watcher): () => void {
    return this.#watchers.watch(ids, watcher)
  }

  /** A feed of a topic from behind `after`, or from the end of the log. Throws CURSOR_EXPIRED; QUEUE_UNAVAILABLE where the end cannot be read in time. */
  async feed(topic: Topic, after?: Cursor): Promise<Feed> {
    if (after) await this.#feeds.check(after)
    return this.#feeds.open(topic, after ?? { position: await this.end(), index: 0 })
  }

  /** The end of the log as this process knows it; undefined until the log was read for the first time. */
  get tail(): Position | undefined {
    return this.#ring.tail
  }

  /** The tail; waits for the first read of the log. Throws QUEUE_UNAVAILABLE where that takes too long. */
  async end(): Promise<Position> {
    if (!this.#ring.tail) await this.#untilStarted()
    return this.#ring.tail!
  }

  async #untilStarted(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      const message = 'The events log cannot be reached; try again shortly.'
      const refuse = () => reject(new SpillwayError('QUEUE_UNAVAILABLE', message, { retryAfterMs: 1_000 }))
      timer = setTimeout(refuse, startTimeoutMs)
    })
    await Promise.race([this.#started.promise, timeout]).finally(() => clearTimeout(timer))
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#feeds.close()
    clearInterval(this.#timer)
    await this.#unfollow?.()
    await this.#catchingUp
  }
}
