/**
 * The embedded queue, in the thread that owns the database. Invariant: an id that was accepted is a row of `pending`, or of `letter`, or
 * (for as long as it is remembered) of `saved`, and each step between them is one transaction.
 *
 * A message that was taken has a row in `delivery`, which says who holds it until when; it stays there when it is given back, since the
 * count of its deliveries must survive. New messages are those after the newest one taken: `seq` only grows.
 */
import type { DatabaseSync } from 'node:sqlite'
import { type Code, type Failure, SpillwayError } from '../model/error.ts'
import { codeOf, retryAfterMs } from '../sqlite/fault.ts'
import { prepareAll, type Statements } from '../sqlite/open.ts'
import { mayLive, thisProcess } from '../sqlite/process.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import type { Enqueued, Entry, Item, QueueStatus, SaveState } from './queue.ts'
import { DeadLetterTables } from './sqlite-dead-letters.ts'

/** Why a group was not accepted; a plain object, since errors lose their fields on the way to another thread. */
export interface Refusal {
  code: Code
  message: string
  retryAfterMs?: number
}

/** A message to bury, and what has its id. */
export interface DeadLetterInput {
  handle: number
  failure: Failure
  existing?: { digest: string; at: number } | undefined
}

/** What the thread knows of a consumer. */
export interface Receiver {
  name: string
  /** Its row in `owner`, from the first take on. */
  owner: number | undefined
  closed: boolean
}

export interface QueueOptions {
  capacity: number
  leaseMs: number
}

const rememberedIds = 60_000
const pauseAfterFaultMs = 250

interface MessageRow {
  seq: number
  id: string
  body: string
  count: number
}

export class QueueTables {
  readonly #writeQueue: WriteQueue
  readonly #options: QueueOptions
  readonly #sql: Statements
  readonly #deadLetters: DeadLetterTables
  readonly #waiting = new Set<() => void>()
  /** The newest message this process has taken. Only committed takes move it. */
  #newest = 0
  #wakes = 0
  #closing = false

  constructor(db: DatabaseSync, writeQueue: WriteQueue, options: QueueOptions) {
    this.#writeQueue = writeQueue
    this.#options = options
    this.#sql = prepareAll(db, new URL('sqlite.sql', import.meta.url))
    this.#deadLetters = new DeadLetterTables(this.#sql)
  }

  async enqueue(groups: readonly (readonly Item[])[]): Promise<(Enqueued[] | Refusal)[]> {
    const outcome = await this.#writeQueue.write({ durable: true }, () => {
      let depth = this.#counter('depth')
      const before = depth
      const replies = groups.map((group) => {
        const reply = this.#judge(group, depth)
        if (!Array.isArray(reply)) return reply
        for (const [i, item] of group.entries()) {
          if (reply[i]!.duplicate) continue
          const { lastInsertRowid } = this.#sql('add').run(item.id, item.digest, item.at, item.body)
          this.#sql('pend').run(item.id, lastInsertRowid)
          depth++
        }
        return reply
      })
      // Not added to what it was: somebody may have emptied the table of messages, or that of counters.
      if (depth > before) this.#sql('set depth').run(depth)
      return { replies, added: depth > before }
    })
    if (outcome.added) this.wake()
    return outcome.replies
  }

  /** What accepting the group would come to. Changes nothing. */
  #judge(group: readonly Item[], depth: number): Enqueued[] | Refusal {
    const ours = new Map<string, SaveState>()
    let added = 0
    const enqueued: Enqueued[] = []
    for (const { id, digest, at, fresh: isFresh = false } of group) {
      const mine = ours.get(id)
      const known = mine?.digest === digest ? mine : isFresh ? undefined : this.#saveState(id, digest)
      if (known) {
        enqueued.push({ ...known, duplicate: true })
        continue
      }
      if (mine || (!isFresh && this.#isTaken(id))) {
        return {
          code: 'ID_CONFLICT',
          message: `The id ${id} was accepted with other content; use an id of its own for each content.`,
        }
      }
      const conflicts = isFresh ? 0 : this.#deadLetters.conflicts(id)
      const saveState: SaveState = { status: 'QUEUED', digest, at, conflicts }
      ours.set(id, saveState)
      enqueued.push({ ...saveState, duplicate: false })
      added++
    }
    if (added > 0 && depth + added > this.#options.capacity) {
      const message = `The queue is at its capacity of ${this.#options.capacity} messages; try again shortly.`
      return { code: 'QUEUE_FULL', message, retryAfterMs }
    }
    return enqueued
  }

  find(ids: readonly string[], digest: string | undefined): Promise<(SaveState | undefined)[]> {
    return this.#writeQueue.read(() => ids.map((id) => this.#saveState(id, digest)))
  }

  /** Where the id stands; with a digest, where that content of it does. */
  #saveState(id: string, digest: string | undefined): SaveState | undefined {
    for (const [status, name] of [
      ['QUEUED', 'pending'],
      ['SAVED', 'saved'],
    ] as const) {
      const row = this.#sql(name).get(id) as { digest: string; at: number } | undefined
      if (row && (digest === undefined || row.digest === digest))
        return { status, digest: row.digest, at: row.at, conflicts: this.#deadLetters.conflicts(id) }
    }
    return this.#deadLetters.saveState(id, digest)
  }

  /** Whether the id stands for some content, whichever. */
  #isTaken(id: string): boolean {
    return Boolean(this.#sql('pending').get(id) ?? this.#sql('saved').get(id)) || this.#deadLetters.isTaken(id)
  }

  /** Through the lane that saves take, so that the file, the disk and the lock are proved; a code where it cannot be done. */
  async probe(): Promise<string | undefined> {
    try {
      await this.#writeQueue.write({ durable: false }, () => {
        this.#sql('count').run(0, 'messages')
        // Every table that a save needs, to be accepted and to be settled.
        this.#counter('depth')
        this.#saveState('', undefined)
        this.#deadLetters.conflicts('')
        this.#markSaved('[]')
        this.#remove('[]')
      })
      return undefined
    } catch (error) {
      return codeOf(error)
    }
  }

  status(): Promise<QueueStatus> {
    return this.#writeQueue.read(() => {
      const now = Date.now()
      const oldest = this.#sql('oldest').get() as { at: number } | undefined
      const { value: inFlight } = this.#sql('in flight').get(now) as { value: number }
      return {
        depth: this.#counter('depth'),
        inFlight,
        oldestAgeMs: oldest ? Math.max(0, now - oldest.at) : 0,
        deadLetters: this.#counter('letter count'),
        capacity: this.#options.capacity,
        durability: 'FSYNC',
      }
    })
  }

  deadLetters(first: number, after: string | undefined): Promise<ReturnType<DeadLetterTables['page']>> {
    return this.#writeQueue.read(() => this.#deadLetters.page(first, Number(after ?? 0)))
  }

  /** Of each id one; none of one that is pending: one id, one message in the queue. */
  async retry(ids: readonly string[]): Promise<number> {
    const moved = await this.#writeQueue.write({ durable: true }, () => {
      let count = 0
      for (const id of ids) {
        const seq = this.#sql('pending').get(id) ? undefined : this.#deadLetters.retry(id)
        if (seq === undefined) continue
        this.#sql('pend').run(id, seq)
        count++
      }
      this.#count('messages', count)
      this.#count('letters', -count)
      return count
    })
    if (moved > 0) this.wake()
    return moved
  }

  /** A bounded number of letters: how many, and with how many of the ids it is done. */
  discard(ids: readonly string[]): Promise<[count: number, done: number]> {
    return this.#writeQueue.write({ durable: true }, () => {
      const [count, done] = this.#deadLetters.discard(ids)
      this.#count('letters', -count)
      return [count, done]
    })
  }

  /** Waits inside the thread that owns the database, so that a message is handed out the moment it is accepted. */
  async receive(receiver: Receiver, limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const until = performance.now() + waitMs
    for (;;) {
      const wakes = this.#wakes
      let faulty = false
      try {
        // Not fsynced: should a power cut undo it, the messages are merely handed out once more.
        const { rows, owner } = await this.#writeQueue.write({ durable: false }, () => this.#receive(receiver, limit))
        receiver.owner = owner
        for (const row of rows) if (row.count === 0) this.#newest = Math.max(this.#newest, row.seq)
        if (rows.length > 0) return rows.map(entryOf)
      } catch (error) {
        if (!(error instanceof SpillwayError)) throw error
        faulty = true
      }
      const left = until - performance.now()
      if (left <= 0 || receiver.closed || this.#closing) return []
      if (faulty) await this.#woken(Math.min(left, pauseAfterFaultMs))
      else if (wakes === this.#wakes) await this.#woken(left)
    }
  }

  #receive(
    receiver: Receiver,
    limit: { rows: number; bytes: number },
  ): { rows: MessageRow[]; owner: number | undefined } {
    if (receiver.closed) return { rows: [], owner: receiver.owner }
    const { host, process } = thisProcess
    let { owner } = receiver
    if (owner === undefined) {
      // What had its name in this process was never closed, and is replaced by this.
      this.#sql('release those of').run(receiver.name, host, process)
      this.#sql('drop those of').run(receiver.name, host, process)
      owner = Number(this.#sql('add owner').run(receiver.name, host, process).lastInsertRowid)
    }
    const now = Date.now()
    const rows: MessageRow[] = []
    let bytes = 0
    const fill = (found: Iterable<MessageRow>) => {
      for (const row of found) {
        bytes += Buffer.byteLength(row.body)
        if (rows.length > 0 && bytes > limit.bytes) return
        rows.push(row)
      }
    }
    fill(this.#sql('returned').iterate(now, limit.rows) as unknown as Iterable<MessageRow>)
    const room = limit.rows - rows.length
    if (room > 0 && bytes <= limit.bytes)
      fill(this.#sql('fresh').iterate(this.#newest, room) as unknown as Iterable<MessageRow>)
    for (const { seq } of rows) this.#sql('deliver').run(seq, owner, now + this.#options.leaseMs)
    return { rows, owner }
  }

  markSaved(handles: readonly number[]): Promise<void> {
    const list = JSON.stringify(handles)
    return this.#writeQueue.write({ durable: true }, () => this.#markSaved(list))
  }

  ack(handles: readonly number[]): Promise<void> {
    const list = JSON.stringify(handles)
    return this.#writeQueue.write({ durable: true }, () => {
      this.#markSaved(list)
      this.#remove(list)
    })
  }

  #markSaved(list: string): void {
    const { changes } = this.#sql('remember').run(list)
    if (changes === 0) return
    this.#sql('remove pending').run(list)
    this.#sql('forget').run(rememberedIds)
  }

  deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void> {
    return this.#writeQueue.write({ durable: true }, () => {
      let count = 0
      for (const { handle, failure, existing } of deadLetters) {
        const { code, message, attempts, failedAt } = failure
        if (existing) this.#sql('remember another').run(existing.digest, existing.at, handle)
        count += Number(this.#sql('dead letter').run(code, message, attempts, failedAt.getTime(), handle).changes)
        // At once, so that an entry that is named twice makes one letter.
        this.#sql('remove pending').run(`[${handle}]`)
        this.#remove(`[${handle}]`)
      }
      this.#count('letters', count)
    })
  }

  #remove(list: string): void {
    this.#sql('remove deliveries').run(list)
    this.#count('messages', -Number(this.#sql('remove').run(list).changes))
  }

  async extendLease(receiver: Receiver, handles: readonly number[]): Promise<void> {
    const { owner } = receiver
    if (owner === undefined) return
    await this.#writeQueue.write({ durable: false }, () => {
      this.#sql('extend lease').run(Date.now() + this.#options.leaseMs, owner, JSON.stringify(handles))
    })
  }

  /** 1 for an entry that somebody else settled meanwhile: there is nothing left to count. */
  countAttempt(handle: number): Promise<number> {
    return this.#writeQueue.write({ durable: true }, () => {
      const row = this.#sql('attempt').get(handle) as { attempts: number } | undefined
      return row?.attempts ?? 1
    })
  }

  async withdrawAttempt(handle: number): Promise<void> {
    await this.#writeQueue.write({ durable: true }, () => this.#sql('forgive').run(handle))
  }

  /** Gives back what it holds, as if it had not been handed out. */
  unregister(receiver: Receiver): Promise<void> {
    return this.#end(receiver, 'give back')
  }

  /** Gives back what it held when it died. */
  lose(receiver: Receiver): Promise<void> {
    return this.#end(receiver, 'release')
  }

  async #end(receiver: Receiver, how: 'give back' | 'release'): Promise<void> {
    receiver.closed = true
    // Lets a take under way see it, and puts this one behind it.
    this.wake()
    await this.#writeQueue.write({ durable: false }, () => {
      if (receiver.owner === undefined) return
      this.#sql(how).run(receiver.owner)
      this.#sql('drop owner').run(receiver.owner)
    })
    this.wake()
  }

  /** Gives back what processes held that are gone. */
  async releaseDead(): Promise<void> {
    await this.#writeQueue.write({ durable: false }, () => {
      for (const owner of this.#sql('owners').all() as unknown as { id: number; host: string; process: string }[]) {
        if (mayLive(owner)) continue
        this.#sql('release').run(owner.id)
        this.#sql('drop owner').run(owner.id)
      }
    })
  }

  /** There may be something to take. */
  wake(): void {
    this.#wakes++
    for (const wake of this.#waiting) wake()
  }

  /** Takes under way resolve. */
  close(): void {
    this.#closing = true
    this.wake()
  }

  #woken(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#waiting.add(done)
    })
  }

  #counter(name: 'depth' | 'letter count'): number {
    return (this.#sql(name).get() as { value: number }).value
  }

  #count(name: 'messages' | 'letters', change: number): void {
    if (change === 0) return
    const { changes } = this.#sql('count').run(change, name)
    if (changes === 0) this.#sql('recount').run()
  }
}

function entryOf({ seq, id, body, count }: MessageRow): Entry {
  return { handle: String(seq), id, body, deliveries: count + 1 }
}
