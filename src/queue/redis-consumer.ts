/**
 * A worker's side of the queue on Redis. Invariant: an entry this consumer was given stays in its pending list until it is settled or
 * buried, and comes back, to this consumer or to another one, however its reply got lost:
 *
 * - after the start, a reconnect or an UNBLOCKED reply it reads its own pending entries (id 0) before new ones: `>` never shows an entry
 *   again whose first reply was lost;
 * - it claims what has been idle too long, its own name included, and renews its hold on what it works on;
 * - the blocking read has a connection of its own, a finite BLOCK and a deadline: a deaf connection is replaced;
 * - a lost group is made again at 0, never at $, which would pass over what was added in between.
 */
import type { Redis } from 'ioredis'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { sleep } from '../model/sleep.ts'
import type { RedisConnection } from '../redis/connection.ts'
import { prove } from '../redis/probe.ts'
import type { Consumer, DeadLetterInput, Entry } from './queue.ts'
import { type QueueKeys, queueProof, record, type Scripts } from './redis-scripts.ts'
import { stepsOf } from './steps.ts'

interface Options {
  name: string
  keys: QueueKeys
  /** For the blocking read only. */
  reading: RedisConnection
  settling: RedisConnection
  scripts: Redis & Scripts
  group: string
  rememberedIds: number
  reclaimMs: number
  log: Log
}

type Raw = [handle: string, fields: string[] | null]

/** A read that is answered late costs a reconnect; a busy server may well need a second more than it was given. */
const graceMs = 2_000

const lastId = '18446744073709551615-18446744073709551615'

export class RedisConsumer implements Consumer {
  readonly #deps: Options
  /** What it was given and has not settled, each with the number of its deliveries, this one included. */
  readonly #held = new Map<string, number>()
  readonly #closing = new AbortController()
  #groupKnown = false
  /** Where in its own pending list it reads next; undefined when that is done and new entries are due. */
  #ownFrom: string | undefined = '0'
  #claimFrom = '0-0'
  #claimAt = 0
  /** Of an entry. Before the first ones are there, as much as one may have unless set otherwise: a reply is read by count alone. */
  #averageBytes = 65_536
  #receiving: Promise<unknown> = Promise.resolve()
  #complaint: string | undefined
  #closed: Promise<void> | undefined

  constructor(options: Options) {
    this.#deps = options
    options.reading.onReady(() => {
      this.#ownFrom = '0'
    })
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
      if (!this.#groupKnown) await this.#makeGroup()
      const entries = (await this.#own(count)) ?? (await this.#claim(count)) ?? (await this.#fresh(count, waitMs))
      for (const entry of entries) this.#held.set(entry.handle, entry.deliveries)
      this.#learn(entries)
      this.#complaint = undefined
      return entries
    } catch (error) {
      return await this.#recover(error as Error, waitMs)
    }
  }

  /** Entries of its own pending list that it does not hold; undefined when there are none left. */
  async #own(count: number): Promise<Entry[] | undefined> {
    const { keys, group, name } = this.#deps
    while (this.#ownFrom !== undefined) {
      const from = this.#ownFrom
      const read = await this.#ask((client) =>
        client.xreadgroup('GROUP', group, name, 'COUNT', count, 'STREAMS', keys.stream, from),
      )
      const raw = rows(read)
      this.#ownFrom = raw.length === 0 ? undefined : raw.at(-1)![0]
      const entries = await this.#known(raw.filter(([handle]) => !this.#held.has(handle)))
      if (entries.length > 0) return entries
    }
    return undefined
  }

  /** Entries that nobody has been heard of for; undefined when there are none, or it is too early to look again. */
  async #claim(count: number): Promise<Entry[] | undefined> {
    const { keys, group, name, reclaimMs } = this.#deps
    while (performance.now() >= this.#claimAt) {
      const [next, raw] = (await this.#ask((client) =>
        client.xautoclaim(keys.stream, group, name, reclaimMs, this.#claimFrom, 'COUNT', count),
      )) as [string, Raw[]]
      this.#claimFrom = next
      if (next === '0-0') {
        this.#claimAt = performance.now() + reclaimMs / 4
        this.#forgetGone()
      }
      const claimed = await this.#known(raw)
      const entries = claimed.filter(({ handle }) => !this.#held.has(handle))
      // Its own, or its own again: another worker may have had it meanwhile.
      for (const { handle, deliveries } of claimed) if (this.#held.has(handle)) this.#held.set(handle, deliveries)
      if (entries.length > 0) {
        this.#deps.log.warn({ entries: entries.length }, 'took entries that another worker left unfinished')
        return entries
      }
    }
    return undefined
  }

  /** Names of consumers that hold nothing and were not heard of for long: killed ones. One that comes back has its name again. */
  #forgetGone(): void {
    const { keys, group, settling, scripts, reclaimMs } = this.#deps
    settling
      .ask(() => scripts.spillUnregister(keys.stream, group, '', reclaimMs * 6))
      .catch(() => {
        // Then at the next look.
      })
  }

  async #fresh(count: number, waitMs: number): Promise<Entry[]> {
    const { keys, group, name, reclaimMs } = this.#deps
    // Not past the next look for what a dead worker left. Whole, or Redis refuses it.
    const block = Math.max(1, Math.floor(Math.min(waitMs, reclaimMs / 4)))
    const read = await this.#ask(
      (client) => client.xreadgroup('GROUP', group, name, 'COUNT', count, 'BLOCK', block, 'STREAMS', keys.stream, '>'),
      block + graceMs,
    )
    return rows(read).map(([handle, fields]) => entry(handle, fields!, 1))
  }

  /** Entries that were handed out before, with how often. One whose message is gone (somebody deleted it) is dropped, loudly. */
  async #known(raw: Raw[]): Promise<Entry[]> {
    const { keys, group, name, log } = this.#deps
    const gone = raw.filter(([, fields]) => fields === null).map(([handle]) => handle)
    if (gone.length > 0) {
      log.error(
        { entries: gone.length },
        'entries were deleted from the queue before they were saved; somebody else writes to this stream',
      )
      await this.#ask((client) => client.xack(keys.stream, group, ...gone))
    }
    const there = raw.filter(([, fields]) => fields !== null)
    if (there.length === 0) return []
    const pending = (await this.#ask((client) =>
      // Between them may stand what it holds already.
      client.xpending(keys.stream, group, there[0]![0], there.at(-1)![0], there.length + this.#held.size, name),
    )) as [string, string, number, number][]
    const deliveries = new Map(pending.map(([handle, , , count]) => [handle, count]))
    return there.map(([handle, fields]) => entry(handle, fields!, deliveries.get(handle) ?? 2))
  }

  #ask<T>(run: (client: Redis) => Promise<T>, deadlineMs?: number): Promise<T> {
    return this.#deps.reading.ask(run, deadlineMs)
  }

  async #makeGroup(): Promise<void> {
    const { keys, group } = this.#deps
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

  /** Nothing of what may go wrong while reading is the caller's concern; but it must not become a hot loop either. */
  async #recover(error: Error, waitMs: number): Promise<Entry[]> {
    if (this.#closing.signal.aborted) return []
    if (!(error instanceof SpillwayError)) throw error
    const reason = (error.cause as Error | undefined)?.message ?? error.message
    // NOGROUP, or UNBLOCKED because the stream went away or the master became a replica.
    if (/^(NOGROUP|UNBLOCKED)/.test(String(reason))) {
      this.#deps.log.error({ reason }, 'the queue lost its consumer group (flushed, or failed over); making it again')
      this.#groupKnown = false
    } else if (this.#deps.reading.ready && String(reason) !== this.#complaint) {
      // Once, and again when it is another one: a refusal that nobody hears of would look like an empty queue.
      this.#complaint = String(reason)
      this.#deps.log.error({ reason }, 'cannot read the queue; trying again')
    }
    this.#ownFrom = '0'
    await sleep(Math.min(waitMs, 100 + Math.random() * 200), this.#closing.signal)
    return []
  }

  #learn(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    const bytes = entries.reduce((sum, { body }) => sum + body.length, 0) / entries.length
    // Up at once, down slowly: memory is what must not be guessed too low.
    this.#averageBytes = Math.max(64, bytes, this.#averageBytes * 0.7)
  }

  markSaved(entries: readonly Entry[]): Promise<void> {
    return this.#ack('markSaved', entries)
  }

  async ack(entries: readonly Entry[]): Promise<void> {
    await this.#ack('ack', entries)
    this.#release(entries)
  }

  async #ack(how: 'markSaved' | 'ack', entries: readonly Entry[]): Promise<void> {
    const { keys: k, group, rememberedIds, settling, scripts } = this.#deps
    const calls: Promise<unknown>[] = []
    for (let i = 0; i < entries.length; i += 1_000) {
      const some = entries.slice(i, i + 1_000)
      const args = [...some.map(({ handle }) => handle), ...some.map(({ id }) => id ?? '')]
      calls.push(
        settling.ask(() =>
          scripts.spillAck(
            ...[k.stream, k.pending, k.saved, k.savedBefore, k.attempts, how, group, rememberedIds, ...args],
          ),
        ),
      )
    }
    await Promise.all(calls)
  }

  async deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void> {
    const { keys: k, group, settling, scripts } = this.#deps
    for (const some of stepsOf(deadLetters)) {
      const args = some.flatMap(({ entry, failure, existing }) => [
        ...[entry.handle, JSON.stringify(failure), Date.now(), entry.body],
        existing ? `${existing.digest} ${existing.at}` : '',
      ])
      await settling.ask(() =>
        scripts.spillDeadLetter(
          k.stream,
          k.pending,
          k.deadIds,
          k.dead,
          k.attempts,
          k.saved,
          k.savedBefore,
          group,
          ...args,
        ),
      )
    }
    this.#release(deadLetters.map(({ entry }) => entry))
  }

  async extendLease(entries: readonly Entry[]): Promise<void> {
    const { keys, group, name, settling, scripts } = this.#deps
    for (let i = 0; i < entries.length; i += 1_000) {
      const handles = entries.slice(i, i + 1_000).map(({ handle }) => handle)
      await settling.ask(() => scripts.spillExtendLease(keys.stream, group, name, ...handles))
    }
  }

  countAttempt(entry: Entry): Promise<number> {
    return this.#count(entry, 1)
  }

  async withdrawAttempt(entry: Entry): Promise<void> {
    await this.#count(entry, -1)
  }

  async #count(entry: Entry, change: number): Promise<number> {
    const { keys, settling, scripts } = this.#deps
    return await settling.ask(() => scripts.spillAttempt(keys.stream, keys.attempts, entry.handle, change))
  }

  #release(entries: readonly Entry[]): void {
    for (const { handle } of entries) this.#held.delete(handle)
  }

  async probe(): Promise<string | undefined> {
    const { keys, group, name, reading, settling, reclaimMs } = this.#deps
    // It may be waiting for new entries: whether it is connected says enough, the rest is asked of the other one.
    const read = await reading.probe(async () => undefined)
    return (
      read ??
      (await settling.probe(async (client) => {
        // Behind the last of its own entries: none is handed out.
        await client.xreadgroup('GROUP', group, name, 'COUNT', 1, 'STREAMS', keys.stream, lastId)
        await client.xautoclaim(keys.stream, group, name, reclaimMs, lastId, 'COUNT', 1)
        await client.xpending(keys.stream, group, lastId, lastId, 1, name)
        await client.xack(keys.stream, group, '0-1')
        await client.xclaim(keys.stream, group, name, reclaimMs, '0-1', 'JUSTID')
        await client.unlink(keys.probe)
        // There is none to rename, which only one who may rename is told.
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
    const { keys, group, name, reading, settling, scripts } = this.#deps
    this.#closing.abort()
    reading.close()
    await this.#receiving
    try {
      await this.#giveBack([...this.#held])
      // Before its first look it does not know what is a predecessor's.
      if (this.#ownFrom === undefined) await this.#giveBackUnseen()
      await settling.ask(() => scripts.spillUnregister(keys.stream, group, name))
    } catch {
      // Out of reach: the entries are taken by another worker when they have been idle for long enough.
    }
    settling.close()
  }

  /** As if they had been idle for long enough: the next worker that looks takes them. A clean stop is no failed delivery. */
  async #giveBack(entries: readonly [handle: string, deliveries: number][]): Promise<void> {
    const { keys, group, name, settling, scripts, reclaimMs } = this.#deps
    for (let i = 0; i < entries.length; i += 1_000) {
      const args = entries.slice(i, i + 1_000).flatMap(([handle, deliveries]) => [handle, deliveries - 1])
      await settling.ask(() => scripts.spillRelease(keys.stream, group, name, reclaimMs * 2, ...args))
    }
  }

  /** What was handed to the take that closing has cut short: its reply was lost. */
  async #giveBackUnseen(): Promise<void> {
    const { keys, group, name, settling } = this.#deps
    for (let from = '-'; ; ) {
      const pending = (await settling.ask((client) => client.xpending(keys.stream, group, from, '+', 1_000, name))) as [
        string,
        string,
        number,
        number,
      ][]
      const unseen = pending.filter(([handle]) => !this.#held.has(handle))
      await this.#giveBack(unseen.map(([handle, , , count]) => [handle, count]))
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
  // A foreign object has no message; show what it has.
  return { handle, id, body: m ?? JSON.stringify(record(fields)), deliveries }
}
