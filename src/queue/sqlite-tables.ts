/**
 * The save states of the embedded queue, in the thread that owns the database. Invariant: an id that was enqueued is a row of `pending`, or
 * of `letter`, or (while it is among the last saved ids) of `saved`, and each step between them is one transaction. sqlite-leases.ts has
 * what a consumer received, sqlite-dead-letters.ts the dead letters.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Code, Failure } from '../model/error.ts'
import { codeOf, retryAfterMs } from '../sqlite/fault.ts'
import { prepareAll, type Statements } from '../sqlite/open.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import type { DeadLetterRange, DeadLetterStep, Enqueued, Item, Queue, QueueStatus, SaveState } from './queue.ts'
import { DeadLetterTables } from './sqlite-dead-letters.ts'
import { Leases } from './sqlite-leases.ts'
import { OperationTables } from './sqlite-operation-tables.ts'

/** Why a request was refused; a plain object, because an error loses its fields on the way to another thread. */
export interface Refusal {
  code: Code
  message: string
  retryAfterMs?: number
}

/** An entry to dead-letter, and the row that has its id. */
export interface DeadLetterInput {
  handle: number
  failure: Failure
  existing?: { digest: string; at: number } | undefined
}

interface Deps {
  db: DatabaseSync
  writeQueue: WriteQueue
}

export interface QueueOptions {
  capacity: number
  leaseMs: number
}

const rememberedIds = 60_000

export class QueueTables {
  readonly #writeQueue: WriteQueue
  readonly #options: QueueOptions
  readonly #sql: Statements
  readonly #deadLetters: DeadLetterTables
  readonly leases: Leases
  readonly operations: OperationTables

  constructor({ db, writeQueue }: Deps, options: QueueOptions) {
    this.#writeQueue = writeQueue
    this.#options = options
    this.#sql = prepareAll(db, new URL('sqlite.sql', import.meta.url))
    this.#deadLetters = new DeadLetterTables(this.#sql)
    this.leases = new Leases({ sql: this.#sql, writeQueue }, options)
    this.operations = new OperationTables({ sql: this.#sql, writeQueue })
  }

  async enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | Refusal)[]> {
    const outcome = await this.#writeQueue.write({ durable: true }, () => {
      let depth = this.#counter('depth')
      const before = depth
      const replies = requests.map((request) => {
        const reply = this.#decide(request, depth)
        if (!Array.isArray(reply)) return reply
        for (const [i, item] of request.entries()) {
          if (reply[i]!.duplicate) continue
          this.#add(item)
          depth++
        }
        return reply
      })
      // Set, not added to: another program may have emptied the table `message`, or the table `counter`.
      if (depth > before) this.#sql('set depth').run(depth)
      return { replies, added: depth > before }
    })
    if (outcome.added) this.leases.wake()
    return outcome.replies
  }

  #add({ id, digest, at, body }: Item): void {
    const { lastInsertRowid } = this.#sql('add').run(id, digest, at, body)
    this.#sql('pend').run(id, lastInsertRowid)
  }

  /** Returns what enqueueing the request would do. It changes nothing. */
  #decide(request: readonly Item[], depth: number): Enqueued[] | Refusal {
    const ofRequest = new Map<string, SaveState>()
    let added = 0
    const enqueued: Enqueued[] = []
    for (const { id, digest, at, fresh: isFresh = false } of request) {
      const earlier = ofRequest.get(id)
      const known = earlier?.digest === digest ? earlier : isFresh ? undefined : this.#saveState(id, digest)
      if (known) {
        enqueued.push({ ...known, duplicate: true })
        continue
      }
      if (earlier || (!isFresh && this.#isKnown(id))) {
        return {
          code: 'ID_CONFLICT',
          message: `The id ${id} is already used for other content; use a new id for each content.`,
        }
      }
      const conflicts = isFresh ? 0 : this.#deadLetters.conflicts(id)
      const saveState: SaveState = { status: 'QUEUED', digest, at, conflicts }
      ofRequest.set(id, saveState)
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

  /** Returns the save state of the id; with a digest, that of this content of the id. */
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

  /** Whether the id is known: pending, saved or a dead letter without ID_CONFLICT. */
  #isKnown(id: string): boolean {
    return Boolean(this.#sql('pending').get(id) ?? this.#sql('saved').get(id)) || this.#deadLetters.makesKnown(id)
  }

  /** Goes through the write queue, as saves do, so that it tests the file, the disk and the lock. Returns a code if it fails. */
  async probe(): Promise<string | undefined> {
    try {
      await this.#writeQueue.write({ durable: false }, () => {
        this.#sql('count').run(0, 'messages')
        // Every table that a save needs until it is acknowledged.
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
        deadLetters: this.#counter('dead letter count'),
        capacity: this.#options.capacity,
        durability: 'FSYNC',
        paused: this.operations.pauseNow(),
      }
    })
  }

  deadLetters(limit: number, range: DeadLetterRange): ReturnType<Queue['deadLetters']> {
    return this.#writeQueue.read(() => this.#deadLetters.page(limit, range))
  }

  deadLettersOf(ids: readonly string[]): ReturnType<Queue['deadLettersOf']> {
    return this.#writeQueue.read(() => ids.map((id) => this.#deadLetters.handlesOf(id)))
  }

  async retry(handles: readonly string[]): Promise<DeadLetterStep> {
    const step = await this.#writeQueue.write({ durable: true }, () => {
      const { done, deadLetters } = this.#deadLetters.retriable(handles, (id) => this.#isPending(id))
      for (const { handle, id } of deadLetters) this.#sql('pend').run(id, this.#deadLetters.retry(handle))
      this.#count('messages', deadLetters.length)
      this.#count('letters', -deadLetters.length)
      return { done, changed: deadLetters.map(({ handle }) => handle) }
    })
    if (step.changed.length > 0) this.leases.wake()
    return step
  }

  /** Returns what `retry` would do, and changes nothing. */
  retried(handles: readonly string[]): Promise<DeadLetterStep> {
    return this.#writeQueue.read(() => {
      const { done, deadLetters } = this.#deadLetters.retriable(handles, (id) => this.#isPending(id))
      return { done, changed: deadLetters.map(({ handle }) => handle) }
    })
  }

  /** 'KEPT': the dead letter stays where retry would leave it. */
  async replace(handle: string, item: Item): Promise<SaveState | 'KEPT' | undefined> {
    const { id, digest, at } = item
    const state = await this.#writeQueue.write({ durable: true }, () => {
      if (this.#deadLetters.idAt(handle) !== id) return undefined
      const { deadLetters } = this.#deadLetters.retriable([handle], (one) => this.#isPending(one))
      if (deadLetters.length === 0) return 'KEPT'
      this.#add(item)
      this.#deadLetters.discard(handle)
      this.#count('messages', 1)
      this.#count('letters', -1)
      return { status: 'QUEUED', digest, at, conflicts: this.#deadLetters.conflicts(id) } as const
    })
    if (typeof state === 'object') this.leases.wake()
    return state
  }

  #isPending(id: string): boolean {
    return this.#sql('pending').get(id) !== undefined
  }

  discard(handles: readonly string[]): Promise<DeadLetterStep> {
    return this.#writeQueue.write({ durable: true }, () => {
      const changed = handles.filter((handle) => this.#deadLetters.discard(handle))
      this.#count('letters', -changed.length)
      return { done: handles.length, changed }
    })
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
        if (existing) this.#sql('remember existing').run(existing.digest, existing.at, handle)
        count += Number(this.#sql('dead letter').run(code, message, attempts, failedAt.getTime(), handle).changes)
        // Removed one by one, so that an entry that is named twice becomes one dead letter.
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

  #counter(name: 'depth' | 'dead letter count'): number {
    return (this.#sql(name).get() as { value: number }).value
  }

  #count(name: 'messages' | 'letters', change: number): void {
    if (change === 0) return
    const { changes } = this.#sql('count').run(change, name)
    if (changes === 0) this.#sql('recount').run()
  }
}
