/**
 * The queue on Redis: a stream with one consumer group, and these keys, which have one hash tag so that Redis Cluster keeps them together:
 *
 *   {spillway:0}:queue     the stream: entries of `id`, `m` (the message) and `d` ("digest at")
 *   {spillway:0}:pending   id -> "digest at handle", for every pending id
 *   {spillway:0}:saved, :saved-before       id -> "digest at handle", the ids saved last, in two generations
 *   {spillway:0}:dead      the dead letters: a stream of `id`, `m`, `f` (why), `d` (digest), `at`
 *   {spillway:0}:dead-ids  the index of the dead letters by their ids: a sorted set (lua/dead-letters.lua)
 *   {spillway:0}:dead-index   the index as release 0.1 wrote it; it is deleted, and dead-ids rebuilt from the dead letters
 *   {spillway:0}:attempts  handle -> number of attempts
 *   {spillway:0}:reserved  id -> "token until": ids of requests of several shards that are about to be enqueued (spanning.ts)
 *   {spillway:0}:layouts   the numbers of shards that were used (layouts.ts)
 *   {spillway:0}:paused    who paused persisting, and when; it exists while persisting is paused
 *   {spillway:0}:worker-names, :workers   what each worker reported last, of shard 0 only
 *   {spillway:0}:fence     written where a call that waits for replicas has nothing else to write
 *
 * Of several shards, number 3 has the tag {spillway:3}.
 *
 * The save state of an id changes only in the scripts in lua/, each of which is one atomic step. The stream is never trimmed: MAXLEN would
 * delete messages that no worker has received. Works on Redis 6.2, 7 and Valkey.
 */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { hashTag, type RedisAddress } from '../redis/address.ts'
import { RedisConnection, retryAfterMs } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import type {
  Consumer,
  DeadLetter,
  DeadLetterRange,
  DeadLetterStep,
  Enqueued,
  Item,
  Queue,
  QueueStatus,
  SaveState,
} from './queue.ts'
import { RedisConsumer } from './redis-consumer.ts'
import { failureOf, RedisDeadLetters } from './redis-dead-letters.ts'
import { pauseOf, RedisOperations } from './redis-operations.ts'
import { ReplicatedWrites } from './redis-replicas.ts'
import {
  defineScripts,
  type QueueKeys,
  queueKeys,
  queueProof,
  record,
  type SaveStateReply,
  type Scripts,
} from './redis-scripts.ts'
import { evicting, readServer, refusalOf, type ServerState } from './redis-server.ts'

const group = 'workers'
const rememberedIds = 50_000
const refreshEveryMs = 1_000
/** QUEUE_SHARDS is at most this. */
const mostShards = 64
/** How long the ids of a request of several shards are reserved (spanning.ts). */
const defaultReservedMs = 10_000
/** Small, because each id may be a dead letter, which the script reads with its body. */
const foundAtOnce = 100
const silent: Log = { info() {}, warn() {}, error() {} }

export interface RedisQueueOptions {
  capacity: number
  /** How many replicas must have a save before it is acknowledged. */
  replicas?: number
  log: Log
  /** Called when the server is found to evict keys: a queue there may lose saves. */
  onEvicting?: (error: Error) => void
  /** Which shard of the queue it is; left out: the only one, number 0. */
  shard?: number
  /** How long `reserve` reserves ids: twice the time after which nothing is committed (spanning.ts). */
  reservedMs?: number
  /** The lease. Another worker claims entries that have been idle for longer; a worker must extend its lease three times in it. */
  reclaimMs?: number
}

export class RedisQueue implements Queue {
  readonly #address: RedisAddress
  readonly #tag: string
  readonly #options: RedisQueueOptions
  readonly #connection: RedisConnection
  readonly #scripts: Redis & Scripts
  readonly #keys: QueueKeys
  readonly #writes: ReplicatedWrites
  readonly #deadLetters: RedisDeadLetters
  readonly operations: RedisOperations
  readonly #consumers = new Set<Consumer>()
  readonly #refreshing: NodeJS.Timeout
  /** The last known state of the server; undefined before the first answer, and after every reconnect. */
  #server: Promise<ServerState | undefined> | undefined
  /** What that promise has resolved to. */
  #state: ServerState | undefined
  #hidden = ''

  constructor(address: RedisAddress, options: RedisQueueOptions) {
    this.#address = address
    this.#options = options
    const { shard } = options
    this.#tag = hashTag(address, String(shard ?? 0))
    const role = shard === undefined ? 'queue' : `queue shard ${shard}`
    this.#keys = queueKeys(this.#tag)
    this.#connection = new RedisConnection(address, { role, tag: this.#tag, log: options.log })
    this.#scripts = defineScripts(this.#connection.client)
    this.#writes = new ReplicatedWrites(
      {
        connection: this.#connection,
        // Without a log: the other connection logs what is wrong with the server.
        open: () => new RedisConnection(address, { role, tag: this.#tag, log: silent }),
        server: async () => await this.#server,
        log: options.log,
      },
      { replicas: options.replicas ?? 0, fence: this.#keys.fence, onUnconfirmed: () => this.#refresh() },
    )
    this.#deadLetters = new RedisDeadLetters({
      connection: this.#connection,
      scripts: this.#scripts,
      writes: this.#writes,
      keys: this.#keys,
      log: options.log,
    })
    this.operations = new RedisOperations({
      connection: this.#connection,
      scripts: this.#scripts,
      writes: this.#writes,
      keys: this.#keys,
    })
    this.#connection.onReady(() => {
      // A restarted or replaced server may have other settings.
      this.#server = undefined
      this.#state = undefined
      this.#refresh()
    })
    this.#refreshing = setInterval(() => this.#refresh(), refreshEveryMs)
  }

  /** Asks the server for its state. The last one is valid until the answer arrives. */
  #refresh(): void {
    if (!this.#connection.ready) return
    const asked = this.#connection.ask((client) => this.#readServer(client)).catch(() => undefined)
    this.#server ??= asked
    void asked.then((state) => {
      this.#server = asked
      this.#state = state
      this.#warnOfHidden(state?.hidden.join(' and ') ?? '')
      this.#writes.logServer(state)
      if (state?.evicts) this.#options.onEvicting?.(evicting(state.evicts))
    })
  }

  #readServer(client: Redis): Promise<ServerState> {
    return readServer(client, this.#writes.wanted)
  }

  /** Warns once, and again when it is something else. */
  #warnOfHidden(hidden: string): void {
    if (hidden === this.#hidden) return
    this.#hidden = hidden
    if (hidden === '') return
    this.#options.log.warn(
      { hidden },
      `the queue's Redis does not answer ${hidden} for this user: the durability reported is the least that is certain, and ` +
        'eviction and the memory limit may go unnoticed; give the user the rights that docs/operations.md lists',
    )
  }

  /** The connection of everything but the consumers; the caller may use it for commands of its own. */
  get connection(): RedisConnection {
    return this.#connection
  }

  async enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    if (requests.every((request) => request.length === 0)) return requests.map(() => [])
    const refused = refusalOf(this.#state ?? (await this.#server))
    if (refused) return requests.map(() => refused)
    return await this.#enqueue(requests, this.#options.capacity, '')
  }

  /**
   * Checks a part of a request as `enqueue` does, and reserves its new ids and their room under the token, for `reservedMs`. Rejects with
   * QUEUE_FULL or ID_CONFLICT where `enqueue` would refuse it; with QUEUE_UNAVAILABLE, caused by 'reserved', where another request has
   * reserved one of the ids.
   */
  async reserve(items: readonly Item[], token: string): Promise<void> {
    const refused = refusalOf(await this.#server) ?? (await this.#writes.refusal())
    if (refused) throw refused
    const [result] = await this.#enqueue([items], this.#options.capacity, `reserve ${token}`)
    if (result instanceof SpillwayError) throw result
  }

  /** Enqueues what is reserved under the token. */
  async commit(items: readonly Item[], token: string): Promise<Enqueued[]> {
    const [result] = await this.#enqueue([items], Number.MAX_SAFE_INTEGER, `commit ${token}`)
    if (result instanceof SpillwayError) throw result
    return result!
  }

  /** Rejects, with OUTCOME_UNKNOWN or QUEUE_UNAVAILABLE, unless enough replicas have what the queue has now. */
  confirm(): Promise<void> {
    return this.#writes.confirm()
  }

  /** Ends reservations of the token. */
  async release(items: readonly Item[], token: string): Promise<void> {
    const ids = items.map(({ id }) => id)
    await this.#connection.ask(() => this.#scripts.spillUnreserve(this.#keys.reserved, token, ...ids))
  }

  /** Records a number of shards, if one is given; returns all that were recorded before, and when each was last used. */
  async layouts(shards: number | undefined): Promise<[shards: number, seen: number][]> {
    const { layouts, stream, saved, dead } = this.#keys
    const found = await this.#connection.ask(() =>
      this.#scripts.spillLayouts(layouts, stream, saved, dead, shards ?? '', Date.now(), mostShards),
    )
    return found.flatMap((seen, n) => (seen === null ? [] : [[n + 1, Number(seen)] as [number, number]]))
  }

  /** `reserving`: '', or 'reserve TOKEN', or 'commit TOKEN'. */
  async #enqueue(
    requests: readonly (readonly Item[])[],
    capacity: number,
    reserving: string,
  ): Promise<(Enqueued[] | SpillwayError)[]> {
    const k = this.#keys
    const args: (string | number)[] = [
      ...[k.stream, k.pending, k.oldDeadIndex, k.deadIds, k.dead, k.saved, k.savedBefore, k.reserved, k.fence],
      capacity,
      reserving,
      this.#options.reservedMs ?? defaultReservedMs,
      this.#writes.wanted ? 'fence' : '',
    ]
    for (const request of requests) {
      args.push(request.every(({ fresh }) => fresh) ? -request.length : request.length)
      for (const { id, digest, at, body } of request) args.push(id, `${digest} ${at}`, body)
    }
    // A reservation acknowledges nothing.
    const waits = !reserving.startsWith('reserve')
    const { reply: replies, unconfirmed } = await this.#deadLetters.write('spillEnqueue', args, waits)
    return replies.map((reply, g) => {
      if (typeof reply === 'string') return this.#refusal(reply)
      if (unconfirmed) return unconfirmed
      return requests[g]!.map((item, n): Enqueued => {
        const known = reply === 0 ? 0 : reply[n]!
        if (typeof known === 'number')
          return { status: 'QUEUED', digest: item.digest, at: item.at, conflicts: known, duplicate: false }
        return { ...saveState(known), duplicate: true }
      })
    })
  }

  #refusal(reply: string): SpillwayError {
    if (reply === 'QUEUE_FULL') {
      return new SpillwayError(
        'QUEUE_FULL',
        `The queue is at its capacity of ${this.#options.capacity} messages; try again shortly.`,
        {
          retryAfterMs,
        },
      )
    }
    const [code, id] = reply.split(' ')
    if (code === 'RESERVED')
      return new SpillwayError(
        'QUEUE_UNAVAILABLE',
        `The id ${id} is being enqueued by another request. Nothing was changed; try again.`,
        { retryAfterMs, cause: 'reserved' },
      )
    return new SpillwayError(
      'ID_CONFLICT',
      `The id ${id} is already used for other content; use a new id for each content.`,
    )
  }

  async find(ids: readonly string[], digest = ''): Promise<(SaveState | undefined)[]> {
    const k = this.#keys
    const chunks: Promise<(0 | SaveStateReply)[]>[] = []
    for (let i = 0; i < ids.length; i += foundAtOnce) {
      const some = ids.slice(i, i + foundAtOnce)
      chunks.push(
        this.#deadLetters.read(() =>
          this.#scripts.spillFind(
            ...[k.pending, k.oldDeadIndex, k.deadIds, k.dead, k.saved, k.savedBefore, digest, ...some],
          ),
        ),
      )
    }
    return (await Promise.all(chunks)).flat().map((reply) => (reply === 0 ? undefined : saveState(reply)))
  }

  async probe(): Promise<string | undefined> {
    const refused = refusalOf(await this.#server)
    if (refused) return refused.code === 'QUEUE_FULL' ? refused.code : 'EVICTS'
    return (
      (await this.#connection.probe((client) => prove(client, queueProof(this.#keys, false)))) ??
      (await this.#writes.probe())
    )
  }

  async status(): Promise<QueueStatus> {
    const k = this.#keys
    const [depth, inFlight, oldest, deadLetters, paused, server] = await this.#connection.read((client) =>
      Promise.all([
        client.xlen(k.stream),
        client.xpending(k.stream, group).then(
          (summary) => Number(summary[0]),
          (error: Error) => (error.message.startsWith('NOGROUP') ? 0 : Promise.reject(error)),
        ),
        client.xrange(k.stream, '-', '+', 'COUNT', 1),
        client.xlen(k.dead),
        client.get(k.paused).then(pauseOf),
        this.#server?.then((state) => state ?? this.#readServer(client)) ?? this.#readServer(client),
      ]),
    )
    const { capacity } = this.#options
    const isReplicated = this.#writes.wanted && server.durability === 'FSYNC'
    const durability = isReplicated ? 'REPLICATED' : server.durability
    const numbers = { depth, inFlight, oldestAgeMs: age(oldest[0]), deadLetters, capacity, paused }
    return { ...numbers, durability, ...this.#writes.stateOf(server) }
  }

  deadLetters(limit: number, range?: DeadLetterRange): ReturnType<Queue['deadLetters']> {
    return this.#deadLetters.deadLetters(limit, range)
  }

  deadLetter(handle: string): Promise<DeadLetter | undefined> {
    return this.#deadLetters.deadLetter(handle)
  }

  deadLettersOf(ids: readonly string[]): ReturnType<Queue['deadLettersOf']> {
    return this.#deadLetters.deadLettersOf(ids)
  }

  retry(handles: readonly string[], options?: { dryRun?: boolean }): Promise<DeadLetterStep> {
    return this.#deadLetters.retry(handles, options)
  }

  replace(handle: string, item: Item): Promise<SaveState | undefined> {
    return this.#deadLetters.replace(handle, item)
  }

  discard(handles: readonly string[]): Promise<DeadLetterStep> {
    return this.#deadLetters.discard(handles)
  }

  consumer(name: string): Consumer {
    const { log, reclaimMs = 10_000 } = this.#options
    const tag = this.#tag
    const shard = this.#options.shard === undefined ? '' : ` shard ${this.#options.shard}`
    const acking = new RedisConnection(this.#address, { role: `worker${shard}`, tag, log, deadlineMs: 5_000 })
    const deps = {
      reading: new RedisConnection(this.#address, { role: `worker-reader${shard}`, tag, log }),
      acking,
      scripts: defineScripts(acking.client),
      keys: this.#keys,
      writes: this.#writes,
      log,
    }
    const consumer = new RedisConsumer(deps, { name, group, rememberedIds, reclaimMs })
    this.#consumers.add(consumer)
    return consumer
  }

  async close(): Promise<void> {
    clearInterval(this.#refreshing)
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    this.#writes.close()
    this.#connection.close()
  }
}

function saveState([status, digest, at, conflicts, failure]: SaveStateReply): SaveState {
  return {
    status: status as SaveState['status'],
    digest,
    at: Number(at),
    conflicts,
    ...(failure === undefined ? {} : { failure: failureOf(failure, Number(at)) }),
  }
}

/** Returns the age by the message's own time. The entry's id has the server's time, and Redis never lets that go back. */
function age(entry: [string, string[]] | undefined): number {
  if (!entry) return 0
  const at = /"at":(\d+)/.exec(record(entry[1]).m?.slice(0, 200) ?? '')?.[1] ?? entry[0].split('-')[0]
  return Math.max(0, Date.now() - Number(at))
}
