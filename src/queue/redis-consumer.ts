/**
 * A worker's side of the queue on Redis. Invariant: an entry that this consumer received stays in its pending list until it is acknowledged
 * or dead-lettered, and is received again, by this consumer or by another one, even if a reply is lost:
 *
 * - After the start, a reconnect or an UNBLOCKED reply it reads its own pending entries (from id 0) before new ones: `>` does not return an
 *   entry again whose first reply was lost.
 * - It claims entries that have been idle for longer than the lease, its own included, and extends the lease of those it works on.
 * - The blocking read has a connection of its own, a finite BLOCK and a deadline: a connection that no longer answers is replaced.
 * - A lost consumer group is created again at 0. At $ it would skip what was enqueued in between.
 */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { sleep } from '../model/sleep.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import { stepsOf } from './dead-letter-steps.ts'
import type { Consumer, DeadLetterInput, Entry } from './queue.ts'
import { RedisAcks } from './redis-acks.ts'
import type { ReplicatedWrites } from './redis-replicas.ts'
import { type QueueKeys, queueProof, record, type Scripts } from './redis-scripts.ts'

interface Deps {
  /** For the blocking read only. */
  reading: RedisConnection
  /** For everything else: to acknowledge, to dead-letter, to extend the lease. */
  acking: RedisConnection
  /** Of the connection `acking`. */
  scripts: Redis & Scripts
  keys: QueueKeys
  writes: ReplicatedWrites
  log: Log
}

interface Options {
  name: string
  /** The consumer group. */
  group: string
  rememberedIds: number
  /** The lease. */
  reclaimMs: number
}

type Raw = [handle: string, fields: string[] | null]
type PendingEntry = [handle: string, consumer: string, idleMs: number, deliveries: number]

/** Added to the deadline of the blocking read. A late answer costs a reconnect, and a busy server may need one second more than BLOCK. */
const graceMs = 2_000
const lastId = '18446744073709551615-18446744073709551615'

export class RedisConsumer implements Consumer {
  readonly #deps: Deps
  readonly #options: Options
  /** The entries that it received and has not acknowledged, by their handles, with the number of their deliveries. */
  readonly #received = new Map<string, number>()
  readonly #closing = new AbortController()
  #groupKnown = false
  /** Where it reads next in its own pending list; undefined when it has read all of it, so that new entries come next. */
  #ownFrom: string | undefined = '0'
  #claimFrom = '0-0'
  #claimAt = 0
  /** The size of an entry, to turn a limit of bytes into a COUNT. At first the default limit of a content. */
  #averageBytes = 65_536
  #receiving: Promise<unknown> = Promise.resolve()
  readonly #acks: RedisAcks
  #lastLogged: string | undefined
  #closed: Promise<void> | undefined

  constructor(deps: Deps, options: Options) {
    this.#deps = deps
    this.#options = options
    deps.reading.onReady(() => {
      this.#ownFrom = '0'
    })
    this.#acks = new RedisAcks(deps, options)
  }

  receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const receiving = this.#receive(limit, waitMs)
    this.#receiving = receiving
    return receiving
  }

  async #receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    if (!(await this.#deps.reading.whenReady(waitMs, this.#closing.signal)) || this.#closing.signal.aborted) return []
    const count = Math.max(1, Math.min(limit.rows, Math.floor(limit.bytes / this.#averageBytes)))
    try {
      if (!this.#groupKnown) await this.#createGroup()
      const entries = (await this.#readOwn(count)) ?? (await this.#claim(count)) ?? (await this.#readNew(count, waitMs))
      if (entries.length > 0) await this.#deps.writes.settle(this.#deps.reading)
      for (const entry of entries) this.#received.set(entry.handle, entry.deliveries)
      this.#learnSize(entries)
      this.#lastLogged = undefined
      return entries
    } catch (error) {
      return await this.#recover(error as Error, waitMs)
    }
  }

  /** Returns entries of its own pending list that it has not received; undefined if there are none left. */
  async #readOwn(count: number): Promise<Entry[] | undefined> {
    const { keys } = this.#deps
    const { group, name } = this.#options
    while (this.#ownFrom !== undefined) {
      const from = this.#ownFrom
      const read = await this.#ask((client) =>
        client.xreadgroup('GROUP', group, name, 'COUNT', count, 'STREAMS', keys.stream, from),
      )
      const raw = rows(read)
      this.#ownFrom = raw.length === 0 ? undefined : raw.at(-1)![0]
      const entries = await this.#withDeliveries(raw.filter(([handle]) => !this.#received.has(handle)))
      if (entries.length > 0) return entries
    }
    return undefined
  }

  /** Claims entries whose lease has ended; undefined if there are none, or if it is too early to look again. */
  async #claim(count: number): Promise<Entry[] | undefined> {
    const { keys } = this.#deps
    const { group, name, reclaimMs } = this.#options
    while (performance.now() >= this.#claimAt) {
      const [next, raw] = (await this.#ask((client) =>
        client.xautoclaim(keys.stream, group, name, reclaimMs, this.#claimFrom, 'COUNT', count),
      )) as [string, Raw[]]
      this.#claimFrom = next
      if (next === '0-0') {
        // At a random time: otherwise the same consumer would be the first each time, also for what only another one can decode.
        this.#claimAt = performance.now() + reclaimMs * (0.15 + Math.random() / 5)
        this.#unregisterIdle()
      }
      const claimed = await this.#withDeliveries(raw)
      const entries = claimed.filter(({ handle }) => !this.#received.has(handle))
      // It received this one before; another worker may have received it in between.
      for (const { handle, deliveries } of claimed)
        if (this.#received.has(handle)) this.#received.set(handle, deliveries)
      if (entries.length > 0) {
        this.#deps.log.warn({ entries: entries.length }, 'received entries that another worker did not finish')
        return entries
      }
    }
    return undefined
  }

  /** Unregisters consumers without entries that have been idle for long: those of killed workers. One that comes back is registered again. */
  #unregisterIdle(): void {
    const { keys, acking, scripts } = this.#deps
    const { group, reclaimMs } = this.#options
    acking
      .ask(() => scripts.spillUnregister(keys.stream, group, '', reclaimMs * 6))
      .catch(() => {
        // The next round tries again.
      })
  }

  async #readNew(count: number, waitMs: number): Promise<Entry[]> {
    const { keys } = this.#deps
    const { group, name, reclaimMs } = this.#options
    // It ends before the next claim is due. Redis refuses a BLOCK that is not an integer.
    const block = Math.max(1, Math.floor(Math.min(waitMs, reclaimMs / 4)))
    const read = await this.#ask(
      (client) => client.xreadgroup('GROUP', group, name, 'COUNT', count, 'BLOCK', block, 'STREAMS', keys.stream, '>'),
      block + graceMs,
    )
    return rows(read).map(([handle, fields]) => entry(handle, fields!, 1))
  }

  /** Returns entries that were delivered before, with their number of deliveries. It drops those whose message another program has
   *  deleted from the stream, and logs an error. */
  async #withDeliveries(raw: Raw[]): Promise<Entry[]> {
    const { keys, log } = this.#deps
    const { group, name } = this.#options
    const deleted = raw.filter(([, fields]) => fields === null).map(([handle]) => handle)
    if (deleted.length > 0) {
      log.error(
        { entries: deleted.length },
        'entries were deleted from the queue before they were saved; no other program must write to this stream',
      )
      await this.#ask((client) => client.xack(keys.stream, group, ...deleted))
    }
    const withMessage = raw.filter(([, fields]) => fields !== null)
    if (withMessage.length === 0) return []
    const pending = (await this.#ask((client) =>
      // Between them there may be entries that it has received already.
      client.xpending(
        keys.stream,
        group,
        withMessage[0]![0],
        withMessage.at(-1)![0],
        withMessage.length + this.#received.size,
        name,
      ),
    )) as PendingEntry[]
    const deliveries = new Map(pending.map(([handle, , , count]) => [handle, count]))
    return withMessage.map(([handle, fields]) => entry(handle, fields!, deliveries.get(handle) ?? 2))
  }

  #ask<T>(run: (client: Redis) => Promise<T>, deadlineMs?: number): Promise<T> {
    return this.#deps.reading.ask(run, deadlineMs)
  }

  async #createGroup(): Promise<void> {
    const { keys } = this.#deps
    const { group } = this.#options
    await this.#ask(async (client) => {
      try {
        await client.xgroup('CREATE', keys.stream, group, '0', 'MKSTREAM')
      } catch (error) {
        if (!(error as Error).message.startsWith('BUSYGROUP')) throw error
      }
    })
    this.#groupKnown = true
    this.#ownFrom = '0'
  }

  /** Logs an error of a read and waits a moment, because its caller receives in a loop. Rejects for a defect only. */
  async #recover(error: Error, waitMs: number): Promise<Entry[]> {
    if (this.#closing.signal.aborted) return []
    if (!(error instanceof SpillwayError)) throw error
    const reason = (error.cause as Error | undefined)?.message ?? error.message
    // NOGROUP, or UNBLOCKED because the stream was deleted or the primary became a replica.
    if (/^(NOGROUP|UNBLOCKED)/.test(String(reason))) {
      this.#deps.log.error(
        { reason },
        'the queue lost its consumer group (flushed, failed over, or moved to another node); creating it again',
      )
      this.#groupKnown = false
    } else if (this.#deps.reading.ready && String(reason) !== this.#lastLogged) {
      // Each reason is logged once. Without the log, a server that refuses the read would look like an empty queue.
      this.#lastLogged = String(reason)
      this.#deps.log.error({ reason }, 'cannot read the queue; trying again')
    }
    this.#ownFrom = '0'
    await sleep(Math.min(waitMs, 100 + Math.random() * 200), this.#closing.signal)
    return []
  }

  #learnSize(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    const bytes = entries.reduce((sum, { body }) => sum + body.length, 0) / entries.length
    // It grows at once and shrinks slowly: too low a guess would cost memory.
    this.#averageBytes = Math.max(64, bytes, this.#averageBytes * 0.7)
  }

  markSaved(entries: readonly Entry[]): Promise<void> {
    return this.#acks.markSaved(entries)
  }

  async ack(entries: readonly Entry[]): Promise<void> {
    await this.#acks.ack(entries)
    this.#forget(entries)
  }

  async deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void> {
    const { keys: k, acking, scripts } = this.#deps
    const { group } = this.#options
    for (const some of stepsOf(deadLetters)) {
      const args = some.flatMap(({ entry, failure, existing }) => [
        ...[entry.handle, JSON.stringify(failure), Date.now(), entry.body],
        existing ? `${existing.digest} ${existing.at}` : '',
      ])
      await acking.ask(() =>
        scripts.spillDeadLetter(
          ...[k.stream, k.pending, k.deadIds, k.dead, k.attempts, k.saved, k.savedBefore, group, ...args],
        ),
      )
    }
    this.#forget(deadLetters.map(({ entry }) => entry))
  }

  release(entries: readonly Entry[]): Promise<void> {
    this.#forget(entries)
    return this.extendLease(entries, Math.floor(Math.random() * 0.75 * this.#options.reclaimMs))
  }

  async extendLease(entries: readonly Entry[], passedMs = 0): Promise<void> {
    const { keys, acking, scripts } = this.#deps
    const { group, name } = this.#options
    for (let i = 0; i < entries.length; i += 1_000) {
      const handles = entries.slice(i, i + 1_000).map(({ handle }) => handle)
      await acking.ask(() => scripts.spillExtendLease(keys.stream, group, name, passedMs, ...handles))
    }
  }

  countAttempt(entry: Entry): Promise<number> {
    return this.#count(entry, 1)
  }

  async withdrawAttempt(entry: Entry): Promise<void> {
    await this.#count(entry, -1)
  }

  #count(entry: Entry, change: number): Promise<number> {
    const { keys, acking, scripts } = this.#deps
    return acking.ask(() => scripts.spillAttempt(keys.stream, keys.attempts, entry.handle, change))
  }

  #forget(entries: readonly Entry[]): void {
    for (const { handle } of entries) this.#received.delete(handle)
  }

  async probe(): Promise<string | undefined> {
    const { keys, reading, acking, writes } = this.#deps
    const { group, name, reclaimMs } = this.#options
    // The reading connection may be blocked, so only its state is checked; the other connection runs the commands.
    const read = await reading.probe(async () => undefined)
    return (
      read ??
      (await acking.probe(async (client) => {
        // After the last possible id: it returns none.
        await client.xreadgroup('GROUP', group, name, 'COUNT', 1, 'STREAMS', keys.stream, lastId)
        await client.xautoclaim(keys.stream, group, name, reclaimMs, lastId, 'COUNT', 1)
        await client.xpending(keys.stream, group, lastId, lastId, 1, name)
        await client.xack(keys.stream, group, '0-1')
        await client.xclaim(keys.stream, group, name, reclaimMs, '0-1', 'JUSTID')
        if (writes.wanted) await client.call('WAIT', 0, 1)
        await client.unlink(keys.probe)
        // The key does not exist. A user who may not run RENAME gets another error.
        await client.rename(keys.probe, keys.probe).catch((error: Error) => {
          if (!error.message.includes('no such key')) throw error
        })
        await client.xgroup('DELCONSUMER', keys.stream, group, 'probe')
        return await prove(client, queueProof(keys, true))
      }))
    )
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    const { keys, reading, acking, scripts } = this.#deps
    const { group, name } = this.#options
    this.#closing.abort()
    reading.close()
    await this.#receiving
    // It may have received entries before this connection could be used for the first time.
    if (this.#received.size > 0) await acking.whenReady(500)
    try {
      await this.#return([...this.#received])
      // Until its pending list is read, that list may still have entries of a former consumer of its name.
      if (this.#ownFrom === undefined) await this.#returnUnseen()
      await acking.ask(() => scripts.spillUnregister(keys.stream, group, name))
    } catch {
      // The queue is unavailable. Another worker claims the entries when their lease has ended.
    }
    acking.close()
  }

  /** Returns entries to the queue: the next worker claims them, and this delivery is not counted, because it did not fail. */
  async #return(entries: readonly [handle: string, deliveries: number][]): Promise<void> {
    const { keys, acking, scripts } = this.#deps
    const { group, name, reclaimMs } = this.#options
    for (let i = 0; i < entries.length; i += 1_000) {
      const args = entries.slice(i, i + 1_000).flatMap(([handle, deliveries]) => [handle, deliveries - 1])
      await acking.ask(() => scripts.spillRelease(keys.stream, group, name, reclaimMs * 2, ...args))
    }
  }

  /** Returns the entries of a read that closing has interrupted, so that its reply was lost. */
  async #returnUnseen(): Promise<void> {
    const { keys, acking } = this.#deps
    const { group, name } = this.#options
    for (let from = '-'; ; ) {
      const pending = (await acking.ask((client) =>
        client.xpending(keys.stream, group, from, '+', 1_000, name),
      )) as PendingEntry[]
      const unseen = pending.filter(([handle]) => !this.#received.has(handle))
      await this.#return(unseen.map(([handle, , , count]) => [handle, count]))
      if (pending.length < 1_000) return
      from = `(${pending.at(-1)![0]}`
    }
  }
}

function rows(read: unknown): Raw[] {
  return ((read as [string, Raw[]][] | null)?.[0]?.[1] ?? []) as Raw[]
}

function entry(handle: string, fields: string[], deliveries: number): Entry {
  const { id, m } = record(fields)
  // An object that another program added has no message; the body shows its fields.
  return { handle, id, body: m ?? JSON.stringify(record(fields)), deliveries }
}
