/**
 * The queue over several shards, each of them a RedisQueue. Everything about an id is in one shard: the id tells which (shard-of.ts). Invariants:
 * a shard that is unavailable or slow holds up its own ids only; ids that this process makes are of its home shard, which is one that works;
 * messages, dead letters and saved ids of every number of shards that was ever used are found (layouts.ts).
 *
 * A request whose ids are of several shards is enqueued by reserveAndCommit (spanning.ts), all or none.
 */
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { Layouts } from './layouts.ts'
import type {
  Consumer,
  DeadLetter,
  DeadLetterRange,
  DeadLetterStep,
  Durability,
  Enqueued,
  Item,
  Queue,
  QueueStatus,
  ReplicaState,
  SaveState,
  ShardState,
} from './queue.ts'
import type { RedisQueue } from './redis.ts'
import { groupBy, shardOf, withShard } from './shard-of.ts'
import { ShardedConsumer } from './sharded-consumer.ts'
import { ShardedDeadLetters } from './sharded-dead-letters.ts'
import { firstOf, ShardedOperations } from './sharded-operations.ts'
import { ShardedStates, settled } from './sharded-states.ts'
import { enqueueSpanning } from './spanning.ts'

export interface ShardedQueueOptions {
  /** The number of shards that new ids are spread over. */
  shards: number
  log: Log
}

/** For how long this process makes ids of one shard: they fill all shards evenly, and the calls stay large. */
const homeMs = 1_000
/** A shard that has refused, or let a call wait for so long, is no home shard for a while. */
const slowMs = 300
const avoidedMs = 1_000
/** How long the start waits for each shard. */
const prepareMs = 1_000
/** How long `status` waits for a shard, where another one has answered. */
const statusMs = 500

interface Use {
  /** performance.now() of the oldest call that waits for an answer; undefined if none does. */
  since: number | undefined
  calls: number
  avoidedUntil: number
}

export class ShardedQueue implements Queue {
  readonly #open: (shard: number) => RedisQueue
  readonly #shards: number
  readonly #queues = new Map<number, RedisQueue>()
  readonly #first: RedisQueue
  readonly #uses: Use[]
  readonly #layouts: Layouts
  readonly #states: ShardedStates
  readonly #deadLetters: ShardedDeadLetters
  readonly operations: ShardedOperations
  readonly #consumers = new Map<ShardedConsumer, string>()
  readonly #log: Log
  /** Left out with one shard: an id that it refuses cannot go to another one. */
  readonly homeId?: (id: string) => string
  #home = 0
  #homeUntil = 0

  /** `open` returns the queue of a shard, whose capacity is a part of the whole. Shards of other layouts are opened when they are known. */
  constructor(open: (shard: number) => RedisQueue, { shards, log }: ShardedQueueOptions) {
    this.#open = open
    this.#shards = shards
    this.#log = log
    this.#uses = Array.from({ length: shards }, () => ({ since: undefined, calls: 0, avoidedUntil: 0 }))
    for (let shard = 0; shard < shards; shard += 1) this.#queues.set(shard, open(shard))
    this.#first = this.#queues.get(0)!
    this.#layouts = new Layouts([...this.#queues.values()], { shards, onShards: (all) => this.#openUpTo(all) })
    this.#states = new ShardedStates(this.#queues, this.#layouts, shards)
    this.#deadLetters = new ShardedDeadLetters(this.#queues, this.#layouts)
    this.operations = new ShardedOperations(() => [...this.#queues.values()].map((queue) => queue.operations))
    if (shards > 1) this.homeId = (id) => withShard(id, this.#homeShard(), shards)
  }

  #openUpTo(shards: number): void {
    for (let shard = 0; shard < shards; shard += 1) {
      if (this.#queues.has(shard)) continue
      const queue = this.#open(shard)
      this.#queues.set(shard, queue)
      this.#log.info({ shard }, 'a shard of another number of shards is drained, too')
      for (const [consumer, name] of this.#consumers) consumer.add(shard, queue.consumer(name))
    }
  }

  /** Resolves when every shard of this layout is ready and the other layouts are known, or after `timeoutMs`. */
  async whenReady(timeoutMs: number): Promise<void> {
    const present = Array.from({ length: this.#shards }, (_, shard) => this.#queues.get(shard)!)
    await Promise.all(present.map((queue) => queue.connection.whenReady(timeoutMs)))
    await this.#layouts.known()
    await Promise.all([...this.#queues.values()].map((queue) => queue.connection.whenReady(timeoutMs)))
  }

  /** Call before saves are accepted. Resolves when the other processes know this number of shards, or no shard can be reached. */
  async prepare(): Promise<void> {
    const present = Array.from({ length: this.#shards }, (_, shard) => shard)
    await Promise.all(present.map((shard) => this.#queues.get(shard)!.connection.whenReady(prepareMs)))
    await Promise.allSettled(present.map((shard) => this.#layouts.recorded(shard)))
  }

  /** Whether no id can be in another shard than the first. */
  #isOne(): boolean {
    return this.#shards === 1 && !this.#layouts.hasOthers
  }

  #homeShard(): number {
    const now = performance.now()
    if (now >= this.#homeUntil || !this.#works(this.#home, now)) {
      const working = this.#uses.flatMap((_, shard) => (this.#works(shard, now) ? [shard] : []))
      const candidates = working.length > 0 ? working : [...this.#uses.keys()]
      this.#home = candidates[Math.floor(Math.random() * candidates.length)]!
      this.#homeUntil = now + homeMs
    }
    return this.#home
  }

  #works(shard: number, now: number): boolean {
    const { since, avoidedUntil } = this.#uses[shard]!
    if (now < avoidedUntil || (since !== undefined && now - since > slowMs)) return false
    return this.#queues.get(shard)!.connection.ready
  }

  /** The shard of all ids of a request; the number of shards if they are of several. */
  shardOf(request: readonly Item[]): number {
    if (request.length === 0 || this.#shards === 1) return 0
    const shard = shardOf(request[0]!.id, this.#shards)
    for (let i = 1; i < request.length; i += 1) if (shardOf(request[i]!.id, this.#shards) !== shard) return this.#shards
    return shard
  }

  enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    if (this.#isOne() && this.#layouts.isSettled(0)) return this.#first.enqueue(requests)
    return this.#enqueue(requests)
  }

  async #enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    await this.#layouts.known()
    if (this.#isOne()) {
      await this.#layouts.recorded(0)
      return await this.#first.enqueue(requests)
    }
    const results: (Enqueued[] | SpillwayError)[] = requests.map(() => [])
    const known = await this.#states.ofOtherLayouts(requests)
    // In their order: a request may have the ids of one before it.
    let single: number[] = []
    const flush = async () => {
      const groups = groupBy(single, (i) => this.shardOf(requests[i]!))
      single = []
      await Promise.all(
        [...groups].map(async ([shard, indexes]) => {
          const some = await this.#enqueueInto(
            shard,
            indexes.map((i) => requests[i]!),
          )
          for (const [n, i] of indexes.entries()) results[i] = some[n]!
        }),
      )
    }
    for (const [i, request] of requests.entries()) {
      if (request.length === 0) continue
      const earlier = known?.get(request)
      if (earlier || this.shardOf(request) === this.#shards) {
        await flush()
        results[i] = earlier instanceof SpillwayError ? earlier : await this.#enqueueOne(request, earlier)
      } else single.push(i)
    }
    await flush()
    return results
  }

  async #enqueueInto(shard: number, requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    const use = this.#uses[shard]!
    use.calls += 1
    use.since ??= performance.now()
    let results: (Enqueued[] | SpillwayError)[]
    try {
      await this.#layouts.recorded(shard)
      results = await this.#queues.get(shard)!.enqueue(requests)
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      results = requests.map(() => error)
    } finally {
      use.calls -= 1
      use.since = use.calls > 0 ? performance.now() : undefined
    }
    if (results.some((result) => result instanceof SpillwayError && result.code !== 'ID_CONFLICT'))
      use.avoidedUntil = performance.now() + avoidedMs
    return results
  }

  /** Enqueues a request whose ids are of several shards, or known from other layouts. */
  async #enqueueOne(request: readonly Item[], known?: Map<Item, Enqueued>): Promise<Enqueued[] | SpillwayError> {
    const rest = known ? request.filter((item) => !known.has(item)) : request
    const parts = groupBy(rest, ({ id }) => shardOf(id, this.#shards))
    let added: Enqueued[] | SpillwayError = []
    if (parts.size === 1) [added] = (await this.#enqueueInto([...parts.keys()][0]!, [rest])) as [Enqueued[]]
    else if (parts.size > 1) {
      await Promise.all([...parts.keys()].map((shard) => this.#layouts.recorded(shard))).catch(() => {})
      added = await enqueueSpanning(
        rest,
        [...parts].map(([shard, items]) => ({ queue: this.#queues.get(shard)!, items })),
      )
    }
    if (added instanceof SpillwayError) return added
    const each = added.values()
    return request.map((item) => known?.get(item) ?? each.next().value!)
  }

  find(ids: readonly string[], digest = ''): Promise<(SaveState | SpillwayError | undefined)[]> {
    if (this.#isOne() && this.#layouts.isKnown) return this.#first.find(ids, digest)
    return this.#find(ids, digest)
  }

  async #find(ids: readonly string[], digest: string): Promise<(SaveState | SpillwayError | undefined)[]> {
    await this.#layouts.known()
    if (this.#isOne()) return await this.#first.find(ids, digest)
    return await this.#states.find(ids, digest)
  }

  /** Undefined if at least one shard takes saves. */
  async probe(): Promise<string | undefined> {
    const present = Array.from({ length: this.#shards }, (_, shard) => this.#queues.get(shard)!)
    const codes = await Promise.all(present.map((queue) => queue.probe()))
    if (codes.includes(undefined)) return undefined
    if (this.#shards === 1 || codes.includes('QUEUE_FULL'))
      return codes.find((code) => code === 'QUEUE_FULL') ?? codes[0]
    return `SHARD_0 ${codes[0]}`
  }

  /** Adds up what the shards that answer have. Rejects if none does. */
  async status(): Promise<QueueStatus> {
    if (this.#queues.size === 1) return await this.#queues.get(0)!.status()
    const all = [...this.#queues].map(([shard, queue]) => ({ shard, queue, status: settled(queue.status()) }))
    const first = Promise.any(
      all.map(async ({ status }) => {
        const one = await status
        if (one instanceof SpillwayError) throw one
      }),
    ).catch(() => {})
    let timer: NodeJS.Timeout | undefined
    const late = first.then(
      () =>
        new Promise<undefined>((resolve) => {
          timer = setTimeout(() => resolve(undefined), statusMs)
        }),
    )
    const answers = await Promise.all(
      all.map(async ({ shard, queue, status }) => {
        const one = await Promise.race([status, late])
        if (one !== undefined && !(one instanceof SpillwayError)) return { shard, status: one, code: undefined }
        const code = one === undefined ? 'TIMEOUT' : await queue.connection.probe(async () => undefined)
        return { shard, status: undefined, code: code ?? one?.code ?? 'ERROR', error: one }
      }),
    )
    clearTimeout(timer)
    const known = answers.flatMap(({ status }) => status ?? [])
    if (known.length === 0) throw answers.find(({ error }) => error)!.error!
    const sum = (field: 'depth' | 'inFlight' | 'deadLetters' | 'capacity') =>
      known.reduce((total, status) => total + status[field], 0)
    return {
      depth: sum('depth'),
      inFlight: sum('inFlight'),
      oldestAgeMs: Math.max(...known.map(({ oldestAgeMs }) => oldestAgeMs)),
      deadLetters: sum('deadLetters'),
      capacity: sum('capacity'),
      paused: firstOf(known.map(({ paused }) => paused)),
      durability: known.map(({ durability }) => durability).reduce(leastOf),
      ...replicasOf(known),
      ...(answers.length > 1 && { shards: answers.map(({ shard, code }): ShardState => ({ shard, code })) }),
    }
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
    const consumer = new ShardedConsumer(
      new Map([...this.#queues].map(([shard, queue]) => [shard, queue.consumer(name)])),
    )
    this.#consumers.set(consumer, name)
    return consumer
  }

  async close(): Promise<void> {
    this.#layouts.close()
    await Promise.all([...this.#consumers.keys()].map((consumer) => consumer.close()))
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()))
  }
}

const durabilities: readonly Durability[] = ['MEMORY', 'EVERYSEC', 'FSYNC', 'REPLICATED']

function leastOf(a: Durability, b: Durability): Durability {
  return durabilities.indexOf(a) < durabilities.indexOf(b) ? a : b
}

function replicasOf(known: readonly QueueStatus[]): { replicas?: ReplicaState } {
  const all = known.flatMap(({ replicas }) => replicas ?? [])
  if (all.length === 0) return {}
  const connected = all.flatMap((one) => one.connected ?? [])
  return {
    replicas: {
      required: Math.max(...all.map(({ required }) => required)),
      connected: connected.length === 0 ? undefined : Math.min(...connected),
      unconfirmed: all.reduce((sum, { unconfirmed }) => sum + unconfirmed, 0),
    },
  }
}
