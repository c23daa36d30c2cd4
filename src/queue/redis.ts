/**
 * The queue on Redis: a stream with one consumer group, and beside it, under one hash tag so that Redis Cluster keeps them together,
 *
 *   {spillway:0}:queue     the stream: entries of `id`, `m` (the message) and `d` ("digest at")
 *   {spillway:0}:pending   id -> "digest at handle", for every id in the stream
 *   {spillway:0}:saved, :saved-before       id -> "digest at handle", the ids saved last, in two generations
 *   {spillway:0}:dead      the dead letters: a stream of `id`, `m`, `f` (why), `d` (digest), `at`
 *   {spillway:0}:dead-ids  the dead letters by their ids: a sorted set (lua/letters.lua)
 *   {spillway:0}:dead-index   the same as release 0.1 wrote it; it is deleted, and dead-ids made from the letters
 *   {spillway:0}:attempts  handle -> tries by itself
 *
 * What an id is, changes only inside the scripts in lua/, each one atomic step. The stream is never trimmed: MAXLEN would delete
 * messages that no worker has seen. Works on Redis 6.2, 7 and Valkey.
 */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import type { RedisAddress } from '../redis/address.ts'
import { RedisConnection, retryAfterMs } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import type { Consumer, Enqueued, Item, Queue, QueueStatus, SaveState } from './queue.ts'
import { RedisConsumer } from './redis-consumer.ts'
import { failureOf, RedisDeadLetters } from './redis-dead-letters.ts'
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
/** Each may be a dead letter, read with its body. */
const foundAtOnce = 100

export interface RedisQueueOptions {
  capacity: number
  log: Log
  /** Told when the server is found to evict keys at will: no queue can be kept there. */
  onEvicting?: (error: Error) => void
  /** Entries whose worker has not been heard of for so long are taken by another one. Workers are heard of three times as often. */
  reclaimMs?: number
}

export class RedisQueue implements Queue {
  readonly #address: RedisAddress
  readonly #options: RedisQueueOptions
  readonly #connection: RedisConnection
  readonly #scripts: Redis & Scripts
  readonly #keys: QueueKeys
  readonly #deadLetters: RedisDeadLetters
  readonly #consumers = new Set<Consumer>()
  readonly #refreshing: NodeJS.Timeout
  /** What the server was last seen to do; undefined until it was asked, and again after every reconnect. */
  #server: Promise<ServerState | undefined> | undefined
  #hidden = ''

  constructor(address: RedisAddress, options: RedisQueueOptions) {
    this.#address = address
    this.#options = options
    this.#keys = queueKeys(address.prefix)
    this.#connection = new RedisConnection(address, { role: 'queue', log: options.log })
    this.#scripts = defineScripts(this.#connection.client)
    this.#deadLetters = new RedisDeadLetters(this.#connection, this.#scripts, this.#keys, options.log)
    this.#connection.onReady(() => {
      // A restarted or replaced server may have other settings.
      this.#server = undefined
      this.#refresh()
    })
    this.#refreshing = setInterval(() => this.#refresh(), refreshEveryMs)
  }

  /** Asks the server how it is; what it said last stands until the answer is there. */
  #refresh(): void {
    if (!this.#connection.ready) return
    const asked = this.#connection.ask(readServer).catch(() => undefined)
    this.#server ??= asked
    void asked.then((state) => {
      this.#server = asked
      this.#tellHidden(state?.hidden.join(' and ') ?? '')
      if (state?.evicts) this.#options.onEvicting?.(evicting(state.evicts))
    })
  }

  /** Once, and again when it is something else. */
  #tellHidden(hidden: string): void {
    if (hidden === this.#hidden) return
    this.#hidden = hidden
    if (hidden === '') return
    this.#options.log.warn(
      { hidden },
      `the queue's Redis does not answer ${hidden} for this user: durability is reported as what is certain, and eviction and its ` +
        'memory limit may go unseen; docs/operations.md lists the rights',
    )
  }

  /** The connection that status and receipts use; others who only ask may share it. */
  get connection(): RedisConnection {
    return this.#connection
  }

  async enqueue(groups: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    if (groups.every((group) => group.length === 0)) return groups.map(() => [])
    const refused = refusalOf(await this.#server)
    if (refused) return groups.map(() => refused)
    const k = this.#keys
    const args: (string | number)[] = [this.#options.capacity]
    for (const group of groups) {
      args.push(group.every(({ fresh }) => fresh) ? -group.length : group.length)
      for (const { id, digest, at, body } of group) args.push(id, `${digest} ${at}`, body)
    }
    const replies = await this.#deadLetters.ask(() =>
      this.#scripts.spillEnqueue(
        ...[k.stream, k.pending, k.oldDeadIndex, k.deadIds, k.dead, k.saved, k.savedBefore, ...args],
      ),
    )
    return replies.map((reply, g) => {
      if (typeof reply === 'string') return this.#refusal(reply)
      return groups[g]!.map((item, n): Enqueued => {
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
    const id = reply.slice('ID_CONFLICT '.length)
    return new SpillwayError(
      'ID_CONFLICT',
      `The id ${id} was accepted with other content; use an id of its own for each content.`,
    )
  }

  async find(ids: readonly string[], digest = ''): Promise<(SaveState | undefined)[]> {
    const k = this.#keys
    const chunks: Promise<(0 | SaveStateReply)[]>[] = []
    for (let i = 0; i < ids.length; i += foundAtOnce) {
      const some = ids.slice(i, i + foundAtOnce)
      chunks.push(
        this.#deadLetters.ask(() =>
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
    return await this.#connection.probe((client) => prove(client, queueProof(this.#keys, false)))
  }

  async status(): Promise<QueueStatus> {
    const k = this.#keys
    const [depth, inFlight, oldest, deadLetters, server] = await this.#connection.ask((client) =>
      Promise.all([
        client.xlen(k.stream),
        client.xpending(k.stream, group).then(
          (summary) => Number(summary[0]),
          (error: Error) => (error.message.startsWith('NOGROUP') ? 0 : Promise.reject(error)),
        ),
        client.xrange(k.stream, '-', '+', 'COUNT', 1),
        client.xlen(k.dead),
        this.#server?.then((state) => state ?? readServer(client)) ?? readServer(client),
      ]),
    )
    const { capacity } = this.#options
    return { depth, inFlight, oldestAgeMs: age(oldest[0]), deadLetters, capacity, durability: server.durability }
  }

  deadLetters(first: number, after?: string): ReturnType<Queue['deadLetters']> {
    return this.#deadLetters.deadLetters(first, after)
  }

  retry(ids: readonly string[]): Promise<number> {
    return this.#deadLetters.retry(ids)
  }

  discard(ids: readonly string[]): Promise<number> {
    return this.#deadLetters.discard(ids)
  }

  consumer(name: string): Consumer {
    const { log, reclaimMs = 10_000 } = this.#options
    const settling = new RedisConnection(this.#address, { role: 'worker', log, deadlineMs: 5_000 })
    const consumer = new RedisConsumer({
      name,
      keys: this.#keys,
      reading: new RedisConnection(this.#address, { role: 'worker-reader', log }),
      settling,
      scripts: defineScripts(settling.client),
      group,
      rememberedIds,
      reclaimMs,
      log,
    })
    this.#consumers.add(consumer)
    return consumer
  }

  async close(): Promise<void> {
    clearInterval(this.#refreshing)
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
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

/** The message's own time, not the entry's id: ids follow the server's clock and never go back, times may. */
function age(entry: [string, string[]] | undefined): number {
  if (!entry) return 0
  const at = /"at":(\d+)/.exec(record(entry[1]).m?.slice(0, 200) ?? '')?.[1] ?? entry[0].split('-')[0]
  return Math.max(0, Date.now() - Number(at))
}
