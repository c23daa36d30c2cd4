/**
 * The numbers of shards that were ever used, so that a change of QUEUE_SHARDS loses nothing. Each shard keeps them in a hash,
 * {spillway:0}:layouts: the number, with the time at which a process with it was last seen. A process records its own number in a shard
 * before it enqueues anything there; the first one with a number then waits until all others have seen it. All shards of all numbers are
 * drained, and their dead letters listed, for ever. Ids are looked up where the numbers of the last day put them, which is longer than clients
 * retry.
 */
import { sleep } from '../model/sleep.ts'
import type { RedisQueue } from './redis.ts'
import { shardOf } from './shard-of.ts'

const lookUpMs = 86_400_000
const refreshEveryMs = 5_000
/** After so long, every process that runs has seen a number that was recorded. */
const noticedMs = refreshEveryMs + 1_000

interface Options {
  shards: number
  /** Called when a larger number of shards is known than before. */
  onShards: (shards: number) => void
}

export class Layouts {
  readonly #queues: readonly RedisQueue[]
  readonly #options: Options
  /** By number of shards: when it was last used. */
  readonly #seen = new Map<number, number>()
  readonly #asked: Promise<void>[] = []
  readonly #recorded: Promise<void>[] = []
  readonly #timer: NodeJS.Timeout
  readonly #closing = new AbortController()
  /** The shards in which this number is recorded. */
  readonly #isRecorded = new Set<number>()
  #others: readonly number[] = []
  #isKnown = false
  /** Resolves when other processes have seen that this number is used now; undefined if it was used before, or no other one was. */
  #noticed: Promise<void> | undefined
  #isNoticed = true
  /** Whether this process enqueues: one that only reads records nothing. */
  #isUsed = false

  /** `queues`: those of the present layout. */
  constructor(queues: readonly RedisQueue[], options: Options) {
    this.#queues = queues
    this.#options = options
    this.#seen.set(options.shards, Date.now())
    for (const [shard, queue] of queues.entries()) queue.connection.onReady(() => this.#refresh(shard))
    this.#timer = setInterval(() => {
      for (const shard of queues.keys()) this.#refresh(shard)
    }, refreshEveryMs)
    this.#timer.unref()
  }

  #refresh(shard: number): void {
    const queue = this.#queues[shard]!
    if (!queue.connection.ready) return
    const asked = this.#ask(queue)
    this.#asked[shard] = asked
    asked.catch(() => {})
    if (!this.#isUsed) return
    // A record that was made is valid for ever.
    this.#recorded[shard] ??= asked
    asked.then(
      () => {
        this.#recorded[shard] = asked
        this.#isRecorded.add(shard)
      },
      () => {
        if (this.#recorded[shard] === asked) delete this.#recorded[shard]
      },
    )
  }

  async #ask(queue: RedisQueue): Promise<void> {
    const before = this.largest
    const since = Date.now() - lookUpMs
    const isRecorded = this.#isUsed
    const found = await queue.layouts(isRecorded ? this.#options.shards : undefined)
    for (const [shards, seen] of found) this.#seen.set(shards, Math.max(seen, this.#seen.get(shards) ?? 0))
    const used = found.flatMap(([shards, seen]) => (seen > since ? [shards] : []))
    // Processes of another number may run: until they have seen this one, they do not look ids up where this one puts them.
    if (isRecorded && used.length > 0 && !used.includes(this.#options.shards))
      this.#noticed ??= this.#waitUntilNoticed()
    this.#others = [...this.#seen].flatMap(([shards, seen]) =>
      shards !== this.#options.shards && seen > since ? [shards] : [],
    )
    this.#isKnown = true
    if (this.largest > before) this.#options.onShards(this.largest)
  }

  async #waitUntilNoticed(): Promise<void> {
    this.#isNoticed = false
    await sleep(noticedMs, this.#closing.signal)
    this.#isNoticed = true
  }

  /** Whether `known` has nothing to wait for. */
  get isKnown(): boolean {
    return this.#isKnown
  }

  /** Whether `known` and `recorded` of the shard have nothing to wait for: calls of a queue of one shard do not wait in vain then. */
  isSettled(shard: number): boolean {
    return this.#isKnown && this.#isNoticed && this.#isRecorded.has(shard)
  }

  /**
   * Resolves when this layout is recorded in the shard, and every other process knows of it; from then on it is recorded in all. Rejects
   * as RedisConnection.ask does.
   */
  async recorded(shard: number): Promise<void> {
    if (!this.#isUsed) {
      this.#isUsed = true
      for (const each of this.#queues.keys()) this.#refresh(each)
    }
    if (this.#recorded[shard] === undefined) this.#refresh(shard)
    // Not ready: the call that follows says so.
    await this.#recorded[shard]
    await this.#noticed
  }

  /** Resolves when one of the shards that are ready has answered, or all have failed. Ids are looked up after that only. */
  async known(): Promise<void> {
    if (this.#isKnown) return
    await Promise.any(this.#asked.filter((asked) => asked !== undefined)).catch(() => {})
  }

  get largest(): number {
    return Math.max(...this.#seen.keys())
  }

  /** Whether ids may be where another layout put them: an earlier one, or that of another process. */
  get hasOthers(): boolean {
    return this.#others.length > 0
  }

  get others(): readonly number[] {
    return this.#others
  }

  /** Every shard that may have dead letters of an id; that of the present layout first. */
  shardsOf(id: string): number[] {
    return [...new Set([this.#options.shards, ...this.#seen.keys()].map((shards) => shardOf(id, shards)))]
  }

  close(): void {
    this.#closing.abort()
    clearInterval(this.#timer)
  }
}
