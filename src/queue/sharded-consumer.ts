/**
 * A worker's side of a queue of several shards: the consumers of all of them. Invariants: a shard that is unavailable delays no entries of
 * others; what it keeps for the next call is bounded, and its leases are extended; an entry's handle names its shard.
 */
import { SpillwayError } from '../model/error.ts'
import type { Consumer, DeadLetterInput, Entry } from './queue.ts'
import { groupBy, splitHandle, withShardOf } from './shard-of.ts'

/** How often it extends the leases of entries that it keeps. */
const extendLeaseEveryMs = 3_000
/** A call that waits for less waits so long for the answers of the shards: without them it could not return anything. */
const answerMs = 50

interface Shard {
  consumer: Consumer
  /** Received, and not yet returned. */
  kept: Entry[]
  /** A call of `receive` is under way. */
  isReceiving: boolean
}

export class ShardedConsumer implements Consumer {
  readonly #shards = new Map<number, Shard>()
  readonly #extending: NodeJS.Timeout
  /** The shard from which the next call takes first. */
  #first = 0
  /** Resolves when a shard has entries, or fails. */
  #news = Promise.withResolvers<void>()
  #failure: unknown
  #isClosed = false
  #closed: Promise<void> | undefined

  constructor(consumers: ReadonlyMap<number, Consumer>) {
    for (const [shard, consumer] of consumers) this.add(shard, consumer)
    this.#extending = setInterval(() => this.#extendKept(), extendLeaseEveryMs)
    this.#extending.unref()
  }

  add(shard: number, consumer: Consumer): void {
    this.#shards.set(shard, { consumer, kept: [], isReceiving: false })
    if (this.#isClosed) void consumer.close()
  }

  shardCount(): number {
    return this.#shards.size
  }

  shardOf({ handle }: Entry): number {
    return splitHandle(handle).shard
  }

  async receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    if (this.#shards.size === 1 && !this.#isClosed) return await this.#shards.get(0)!.consumer.receive(limit, waitMs)
    const until = performance.now() + waitMs
    let isLate = false
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.max(waitMs, answerMs))
    }).then(() => {
      isLate = true
    })
    try {
      for (let asked = false; ; asked = true) {
        if (this.#isClosed) return []
        this.#throwFailure()
        this.#news = Promise.withResolvers()
        const leftMs = until - performance.now()
        if (leftMs > 0 || !asked) this.#receiveMore(limit, Math.max(1, leftMs))
        const entries = this.#take(limit)
        const isReceiving = [...this.#shards.values()].some((shard) => shard.isReceiving)
        if (entries.length > 0 || isLate || (leftMs <= 0 && !isReceiving)) return entries
        await Promise.race([this.#news.promise, late])
      }
    } finally {
      clearTimeout(timer)
    }
  }

  #throwFailure(): void {
    const failure = this.#failure
    this.#failure = undefined
    if (failure !== undefined) throw failure
  }

  /** Lets each shard receive that has nothing kept. Of the bytes each has its part, so that what is kept is bounded. */
  #receiveMore(limit: { rows: number; bytes: number }, waitMs: number): void {
    const bytes = Math.max(1, Math.floor(limit.bytes / this.#shards.size))
    for (const [index, shard] of this.#shards) {
      if (shard.isReceiving || shard.kept.length > 0) continue
      shard.isReceiving = true
      shard.consumer
        .receive({ rows: limit.rows, bytes }, waitMs)
        .then(
          (entries) => {
            shard.kept = entries.map((entry) => renamed(entry, withShardOf(index, entry.handle)))
          },
          (error) => {
            this.#failure = error
          },
        )
        .finally(() => {
          shard.isReceiving = false
          this.#news.resolve()
        })
    }
  }

  #take({ rows, bytes }: { rows: number; bytes: number }): Entry[] {
    const taken: Entry[] = []
    let size = 0
    const shards = [...this.#shards.values()]
    for (let n = 0; n < shards.length; n += 1) {
      const shard = shards[(this.#first + n) % shards.length]!
      let count = 0
      for (const { body } of shard.kept) {
        if (taken.length + count >= rows || (taken.length + count > 0 && size + body.length > bytes)) break
        size += body.length
        count += 1
      }
      taken.push(...shard.kept.splice(0, count))
    }
    this.#first += 1
    return taken
  }

  #extendKept(): void {
    const kept = [...this.#shards.values()].flatMap((shard) => shard.kept)
    // Where it fails, another worker may receive them, too.
    if (kept.length > 0) this.extendLease(kept).catch(() => {})
  }

  markSaved(entries: readonly Entry[]): Promise<void> {
    return this.#each(entries, (consumer, some) => consumer.markSaved(some))
  }

  ack(entries: readonly Entry[]): Promise<void> {
    return this.#each(entries, (consumer, some) => consumer.ack(some))
  }

  async deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void> {
    const groups = groupBy(deadLetters, ({ entry }) => this.shardOf(entry))
    await this.#all(groups, (consumer, some) =>
      consumer.deadLetter(some.map((deadLetter) => ({ ...deadLetter, entry: own(deadLetter.entry) }))),
    )
  }

  extendLease(entries: readonly Entry[]): Promise<void> {
    return this.#each(entries, (consumer, some) => consumer.extendLease(some))
  }

  release(entries: readonly Entry[]): Promise<void> {
    return this.#each(entries, (consumer, some) => consumer.release(some))
  }

  countAttempt(entry: Entry): Promise<number> {
    return this.#of(entry).countAttempt(own(entry))
  }

  withdrawAttempt(entry: Entry): Promise<void> {
    return this.#of(entry).withdrawAttempt(own(entry))
  }

  #of(entry: Entry): Consumer {
    return this.#shards.get(this.shardOf(entry))!.consumer
  }

  #each(entries: readonly Entry[], act: (consumer: Consumer, some: readonly Entry[]) => Promise<void>): Promise<void> {
    if (this.#shards.size === 1) return act(this.#shards.get(0)!.consumer, entries)
    const groups = groupBy(entries, (entry) => this.shardOf(entry))
    return this.#all(groups, (consumer, some) => act(consumer, some.map(own)))
  }

  /** Does it in all shards, and then rejects if it failed in one. */
  async #all<T>(groups: Map<number, T[]>, act: (consumer: Consumer, some: T[]) => Promise<void>): Promise<void> {
    const results = await Promise.allSettled(
      [...groups].map(([shard, some]) => act(this.#shards.get(shard)!.consumer, some)),
    )
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    // A defect first, then what may have been done.
    const isUnknown = (reason: unknown) => !(reason instanceof SpillwayError) || reason.code === 'OUTCOME_UNKNOWN'
    if (reasons.length > 0) throw reasons.find(isUnknown) ?? partly(reasons[0], results.length > reasons.length)
  }

  /** Undefined if it can work on at least one shard. */
  async probe(): Promise<string | undefined> {
    const codes = await Promise.all(
      [...this.#shards].map(async ([shard, { consumer }]) => {
        const code = await consumer.probe()
        return code === undefined || this.#shards.size === 1 ? code : `SHARD_${shard} ${code}`
      }),
    )
    return codes.includes(undefined) ? undefined : codes[0]
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** Each consumer returns what it has received, and so what is kept here. */
  async #close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#extending)
    this.#news.resolve()
    await Promise.all([...this.#shards.values()].map(({ consumer }) => consumer.close()))
  }
}

/** The entry as its shard knows it. */
function own(entry: Entry): Entry {
  const { shard, handle } = splitHandle(entry.handle)
  return shard === 0 ? entry : renamed(entry, handle)
}

const renamed = ({ id, body, deliveries }: Entry, handle: string): Entry => ({ handle, id, body, deliveries })

/** Something was changed if another shard did its part. */
function partly(error: SpillwayError, isPartly: boolean): SpillwayError {
  if (!isPartly) return error
  return new SpillwayError('OUTCOME_UNKNOWN', 'One shard of the queue failed, and others did their part.', {
    retryAfterMs: error.retryAfterMs ?? 1_000,
    cause: error,
  })
}
