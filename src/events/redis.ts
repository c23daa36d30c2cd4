/**
 * The events log on Redis: a stream, and a channel (through graphql-redis-subscriptions) that wakes its followers.
 *
 *   {spillway:events}:log    the stream: entries of `p` (the id of the previous entry) and `d` (the events, JSON)
 *   {spillway:events}:meta   epoch, last (the id appended last), bytes
 *   {spillway:events}:sizes  "id bytes" of each entry, for trimming by size
 *   {spillway:events}:history   "ring:slot" -> "at counts" (history.ts)
 *
 * With several shards the events themselves are in the shards (batches.ts), and an entry's `d` is a reference to them: this log, the sequencer,
 * alone has the order. Every reader understands both kinds of entries, whatever the number of shards.
 *
 * Ids never go back within one key, and a log that was flushed gets a new epoch. A log whose tail was lost (a power cut without fsync, a
 * failover to a replica that was behind) continues with ids that differ from the lost ones (append.lua makes sure of that). A cursor among
 * the lost ids is not found, and the entry after it names another predecessor: the cursor is expired, and no event is skipped.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { RedisPubSub } from 'graphql-redis-subscriptions'
import type { Redis } from 'ioredis'
import type { Log } from '../model/log.ts'
import type { Models } from '../model/model.ts'
import { isObject } from '../model/parse.ts'
import { hashTag, type RedisAddress } from '../redis/address.ts'
import { RedisConnection } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import { scriptOf } from '../redis/script.ts'
import { Batches, decodeReference, encodeReference, isReference, type Reference } from './batches.ts'
import { decodeEvents, encodeEvents, readEvents } from './codec.ts'
import { type Event, type EventLog, expired, type KnownEvent, type LogEntry, type Position } from './events.ts'
import { RedisHistory } from './redis-history.ts'
import { ReplicaWait } from './replica-wait.ts'

export interface RedisEventLogOptions {
  retentionMs: number
  retentionBytes: number
  models: Models
  log: Log
  /** Into how many shards events are put; with 1, the default, they are in the log itself. */
  shards?: number
  /** How many replicas should have an event before it counts as appended. */
  replicas?: number
  /** The address of a shard, where it is not the log's. */
  addressOf?: (shard: number) => RedisAddress
}

/** A wake-up does not carry a larger entry; followers read it from the log. Redis keeps a copy of each wake-up for every slow subscriber. */
const publishWholeBytes = 256 * 1024

/** A read ends where it has as much, and has at most three entries more. */
const readBytes = 256 * 1024
/** Of entries whose events are elsewhere, so that their size is not known before they are read. */
const mostReferences = 16

const heartbeatMs = 5_000

const appendScript = scriptOf(new URL('lua/append.lua', import.meta.url))
const readScript = scriptOf(new URL('lua/read.lua', import.meta.url))

export class RedisEventLog implements EventLog {
  readonly #address: RedisAddress
  readonly #tag: string
  readonly #options: RedisEventLogOptions
  readonly #connection: RedisConnection
  readonly history: RedisHistory
  readonly #keys: { log: string; meta: string; sizes: string }
  readonly #channel: string
  readonly #own: string
  readonly #shards: number
  readonly #wait: ReplicaWait
  readonly #batches: Batches
  readonly #followers = new Set<() => Promise<void>>()
  readonly #wakes = new Set<() => void>()
  readonly #subscribers = new Set<RedisConnection>()

  constructor(address: RedisAddress, options: RedisEventLogOptions) {
    this.#address = address
    this.#options = options
    this.#tag = hashTag(address, 'events')
    const key = (name: string) => `${this.#tag}:${name}`
    this.#keys = { log: key('log'), meta: key('meta'), sizes: key('sizes') }
    this.#channel = key('wake')
    this.#own = key('probe')
    this.#connection = new RedisConnection(address, {
      role: 'events log',
      keeps: true,
      tag: this.#tag,
      log: options.log,
      deadlineMs: 5_000,
    })
    this.history = new RedisHistory(this.#connection, key('history'))
    this.#connection.client.defineCommand('spillAppend', { numberOfKeys: 3, lua: appendScript })
    this.#connection.client.defineCommand('spillRead', { numberOfKeys: 2, lua: readScript })
    const { shards = 1, addressOf = () => address, retentionMs, replicas = 0, log } = options
    this.#shards = shards
    this.#wait = new ReplicaWait(replicas)
    this.#batches = new Batches({
      shards,
      addressOf,
      retentionMs,
      replicas,
      log,
      onReady: () => {
        for (const wake of this.#wakes) wake()
      },
    })
  }

  async append(entries: readonly (readonly KnownEvent[])[]): Promise<void> {
    if (entries.length === 0) return
    const { log, meta, sizes } = this.#keys
    const texts = entries.map(encodeEvents)
    const written = this.#shards > 1 ? await this.#putIntoShard(entries, texts) : texts
    const { retentionMs, retentionBytes } = this.#options
    const args = [this.#channel, randomBytes(9).toString('base64url'), retentionMs, retentionBytes, publishWholeBytes]
    const trimmed = await this.#connection.ask(async (client) => {
      const { spillAppend } = client as Redis & { spillAppend(...args: (string | number)[]): Promise<string[]> }
      const trimmed = await spillAppend.call(client, log, meta, sizes, ...args, randomInt(100_000), ...written)
      // The messages are acknowledged next, perhaps at another server: a failover of this one must not lose their events alone.
      await this.#wait.confirm(client)
      return trimmed
    })
    if (trimmed.length > 0) this.#batches.remove(trimmed.map(trimmedReference))
  }

  /** Returns the references to append. If the append fails, the texts expire. */
  async #putIntoShard(entries: readonly (readonly KnownEvent[])[], texts: readonly string[]): Promise<string[]> {
    const references = await this.#batches.put(texts.map((text, i) => ({ text, count: entries[i]!.length })))
    return references.map(encodeReference)
  }

  async tail(): Promise<Position> {
    const [epoch, last] = await this.#connection.read(async (client) => {
      await client.hsetnx(this.#keys.meta, 'epoch', randomBytes(9).toString('base64url'))
      return await client.hmget(this.#keys.meta, 'epoch', 'last')
    })
    return position(epoch!, isId(last) ? last : '')
  }

  async read(after: Position, limit: number): Promise<LogEntry[]> {
    const from = `${after.major}-${after.minor}`
    // Begins with the entry at the position itself, which proves that the position belongs to this log.
    const [meta, all] = await this.#connection.read(() => this.#read(from === '0-0' ? '-' : from, limit + 1))
    const [epoch, last] = meta
    if (epoch !== after.epoch) throw expired()
    // Another program's entries are skipped.
    const found = all.filter(([, [p, , d]]) => p === 'p' && d === 'd')
    const entries = found[0]?.[0] === from ? found.slice(1) : found
    // The position is valid if its own entry was found, if the next entry names it, or if it is the end of the log.
    const proven = found.length > entries.length || (entries[0] ? entries[0][1][1] || '0-0' : (last ?? '0-0')) === from
    if (!proven) throw expired()
    const some = consecutive(entries, from).slice(0, limit)
    const areReferences = some.some(([, [, , , d = '']]) => isReference(d))
    return await this.#intact(epoch, areReferences ? some.slice(0, mostReferences) : some)
  }

  /** The entries up to the first one that is damaged, or whose events are lost or cannot be read now. If that is the first one, throws: a reader
   *  right before lost events has an expired cursor, and one before an unavailable shard waits. */
  async #intact(epoch: string, entries: readonly [string, string[]][]): Promise<LogEntry[]> {
    const { models } = this.#options
    const fetched = await this.#fetch(entries.map(([, fields]) => fields[3] ?? ''))
    const intact: LogEntry[] = []
    for (const [i, [id, [, p = '', , d = '']]] of entries.entries()) {
      const events = p === '' || isId(p) ? (fetched ? fetched[i] : decodeEvents(d, models)) : undefined
      if (!Array.isArray(events)) {
        if (intact.length === 0) throw events ?? expired()
        break
      }
      const previous = p === '' ? undefined : position(epoch, p)
      intact.push({ position: position(epoch, id), previous, events })
    }
    return intact
  }

  /** The events of each text, which are behind its reference if it is one; undefined if no text is one. */
  async #fetch(texts: readonly string[]): Promise<(Event[] | Error | undefined)[] | undefined> {
    if (!texts.some(isReference)) return undefined
    const { models } = this.#options
    const references = texts.map((text) => (isReference(text) ? decodeReference(text) : undefined))
    const known = references.filter((reference) => reference !== undefined)
    const found = new Map<Reference, string | null | Error>()
    for (const [i, text] of (await this.#batches.fetch(known)).entries()) found.set(known[i]!, text)
    return texts.map((text, i) => {
      const reference = references[i]
      if (!reference) return decodeEvents(text, models)
      const batch = found.get(reference)
      if (typeof batch !== 'string') return batch ?? undefined
      const events = decodeEvents(batch, models)
      return events?.length === reference.count ? events : undefined
    })
  }

  /** Of small entries `count`, of others fewer. */
  #read(from: string, count: number): Promise<[[string | null, string | null], [string, string[]][]]> {
    const client = this.#connection.client as Redis & {
      spillRead(...args: (string | number)[]): Promise<[[string | null, string | null], [string, string[]][]]>
    }
    return client.spillRead(this.#keys.log, this.#keys.meta, from, count, readBytes)
  }

  async probe(): Promise<string | undefined> {
    const { log, meta, sizes } = this.#keys
    const appended = await this.#connection.probe(async (client) => {
      await this.#read('-', 1)
      const keys = { [meta]: 'hash', [log]: 'stream', [sizes]: 'list' } as const
      return await prove(client, { own: this.#own, keys, always: true, channel: this.#channel })
    })
    const subscribed = await Promise.all([...this.#subscribers].map((one) => one.probe(subscribing(this.#channel))))
    return appended ?? subscribed.find((code) => code !== undefined) ?? (await this.#batches.probe())
  }

  follow(wake: (entry?: LogEntry) => void): () => Promise<void> {
    const { log } = this.#options
    let stopped = false
    const subscriber = new RedisConnection(this.#address, { role: 'events wake-up', tag: this.#tag, log })
    this.#subscribers.add(subscriber)
    this.#wakes.add(wake)
    // Repeated: the first SUBSCRIBE subscribes; each later one checks that a silent connection is still alive.
    let refused = false
    const subscribe = async () => {
      if (!subscriber.ready) return
      try {
        await subscriber.ask(subscribing(this.#channel))
        refused = false
      } catch (error) {
        if (!refused)
          log.warn({ reason: (error as Error).message }, 'cannot subscribe to wake-ups; events come with delay')
        refused = true
      }
    }
    subscriber.onReady(async () => {
      await subscribe()
      // Wake-ups that were published meanwhile are lost.
      if (!stopped) wake()
    })
    const heartbeat = setInterval(subscribe, heartbeatMs)
    // One subscription for this process, since the library buffers without bound for each subscription. When Redis refuses the library's
    // own SUBSCRIBE, the unhandled rejection ends the process; so that one always succeeds, and the real one is sent above.
    const pubsub = new RedisPubSub({
      publisher: this.#connection.client,
      subscriber: {
        on: (event: string, listener: (...args: unknown[]) => void) => subscriber.client.on(event, listener),
        subscribe: (_channel: string, answer: (error: null) => void) => answer(null),
      } as never,
    })
    void pubsub.subscribe(this.#channel, (message: unknown) => {
      try {
        if (!stopped && !isProbe(message)) wake(readWake(message, this.#options.models))
      } catch (error) {
        // Rethrown, it would end the process.
        log.error({ err: error }, 'a wake-up of the events log could not be handled')
      }
    })
    const stop = async () => {
      stopped = true
      clearInterval(heartbeat)
      this.#followers.delete(stop)
      this.#subscribers.delete(subscriber)
      this.#wakes.delete(wake)
      subscriber.close()
    }
    this.#followers.add(stop)
    return stop
  }

  async close(): Promise<void> {
    await Promise.all([...this.#followers].map((stop) => stop()))
    this.#batches.close()
    this.#connection.close()
  }
}

/** Up to the first entry that does not follow the one before it. Throws CURSOR_EXPIRED where that is the first of them: others were behind `from`. */
function consecutive(entries: [string, string[]][], from: string): [string, string[]][] {
  let before = from
  const end = entries.findIndex(([id, [, p]]) => {
    const follows = (p || '0-0') === before
    before = id
    return !follows
  })
  if (end === 0) throw expired()
  return end < 0 ? entries : entries.slice(0, end)
}

function position(epoch: string, id: string): Position {
  const [major = 0, minor = 0] = id === '' ? [] : id.split('-').map(Number)
  return { epoch, major, minor }
}

/** From what append.lua returns. */
function trimmedReference(text: string): Pick<Reference, 'shard' | 'key'> {
  const [shard = '', key = ''] = text.split(' ')
  return { shard: Number(shard), key }
}

const isId = (value: unknown): value is string => typeof value === 'string' && /^\d{1,15}-\d{1,15}$/.test(value)

const subscribing = (channel: string) => async (client: Redis) => void (await client.subscribe(channel))

/** Published by the probe of some process. */
const isProbe = (message: unknown) => isObject(message) && message.probe === true

/** The entry that a wake-up carries; undefined if it carries none, or if another program published it: then the log is read. */
function readWake(message: unknown, models: Models): LogEntry | undefined {
  if (!isObject(message)) return undefined
  const { epoch, id, previous } = message
  const events = readEvents(message.events, models)
  if (!events || typeof epoch !== 'string' || !isId(id) || !(previous === '' || isId(previous))) return undefined
  return {
    position: position(epoch, id),
    previous: previous === '' ? undefined : position(epoch, previous),
    events,
  }
}
