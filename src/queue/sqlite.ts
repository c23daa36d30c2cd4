/**
 * The embedded queue: a client of the thread that owns its SQLite file (../embedded/thread.ts). sqlite-tables.ts and sqlite-leases.ts are its
 * other end. Its durability is always FSYNC: WAL with synchronous=FULL.
 */
import type { MessagePort } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'
import { sleep } from '../model/sleep.ts'
import { RpcClient } from '../sqlite/rpc-client.ts'
import { keptInPlace, noHandle, stepsOf } from './dead-letter-steps.ts'
import {
  type Consumer,
  type DeadLetter,
  type DeadLetterInput,
  type DeadLetterRange,
  type DeadLetterStep,
  type Enqueued,
  type Entry,
  handlesAtOnce,
  type Item,
  type Queue,
  type QueueStatus,
  type SaveState,
} from './queue.ts'
import { type QueueCalls, queueQuestions } from './sqlite-calls.ts'
import { SqliteOperations } from './sqlite-operations.ts'

/** Added to the time that a `receive` waits. */
const receiveGraceMs = 15_000

export class SqliteQueue implements Queue {
  readonly #rpc: RpcClient<QueueCalls>
  readonly #consumers = new Set<SqliteConsumer>()
  readonly operations: SqliteOperations
  #next = 1

  /** `port` is one that `SqliteFile.connect` returned, for this queue alone. */
  constructor(port: MessagePort) {
    this.#rpc = new RpcClient(port, queueQuestions)
    this.operations = new SqliteOperations(this.#rpc)
  }

  async enqueue(requests: readonly (readonly Item[])[]): Promise<(Enqueued[] | SpillwayError)[]> {
    const replies = await this.#rpc.call('enqueue', [requests])
    return replies.map((reply) => {
      if (Array.isArray(reply)) return reply
      const { code, message, ...details } = reply
      return new SpillwayError(code, message, details)
    })
  }

  find(ids: readonly string[], digest?: string): Promise<(SaveState | undefined)[]> {
    return this.#rpc.call('find', [ids, digest])
  }

  probe(): Promise<string | undefined> {
    return this.#rpc.codeOf(() => this.#rpc.call('probe', []))
  }

  status(): Promise<QueueStatus> {
    return this.#rpc.call('status', [])
  }

  async deadLetters(limit: number, range: DeadLetterRange = {}): ReturnType<Queue['deadLetters']> {
    for (const bound of [range.newerThan, range.olderThan])
      if (bound !== undefined && !isHandle(bound)) throw noHandle()
    return await this.#rpc.call('deadLetters', [limit, range])
  }

  async deadLetter(handle: string): Promise<DeadLetter | undefined> {
    if (!isHandle(handle)) return undefined
    const around = { newerThan: String(Number(handle) - 1), olderThan: String(Number(handle) + 1) }
    return (await this.#rpc.call('deadLetters', [1, around])).deadLetters[0]
  }

  deadLettersOf(ids: readonly string[]): ReturnType<Queue['deadLettersOf']> {
    return this.#rpc.call('deadLettersOf', [ids])
  }

  retry(handles: readonly string[], { dryRun = false } = {}): Promise<DeadLetterStep> {
    return this.#rpc.call(dryRun ? 'retried' : 'retry', [handles.slice(0, handlesAtOnce)])
  }

  async replace(handle: string, item: Item): Promise<SaveState | undefined> {
    if (!isHandle(handle)) return undefined
    const replaced = await this.#rpc.call('replace', [handle, item])
    if (replaced === 'KEPT') throw keptInPlace(item.id)
    return replaced
  }

  discard(handles: readonly string[]): Promise<DeadLetterStep> {
    return this.#rpc.call('discard', [handles.slice(0, handlesAtOnce)])
  }

  consumer(name: string): Consumer {
    const consumer = new SqliteConsumer({ rpc: this.#rpc }, { number: this.#next++, name })
    this.#consumers.add(consumer)
    return consumer
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    await this.#rpc.close()
  }
}

class SqliteConsumer implements Consumer {
  readonly #rpc: RpcClient<QueueCalls>
  readonly #number: number
  readonly #name: string
  readonly #closing = new AbortController()
  #receiving: Promise<unknown> = Promise.resolve()
  #closed: Promise<void> | undefined

  constructor({ rpc }: { rpc: RpcClient<QueueCalls> }, { number, name }: { number: number; name: string }) {
    this.#rpc = rpc
    this.#number = number
    this.#name = name
  }

  receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const receiving = this.#receive(limit, waitMs)
    this.#receiving = receiving
    return receiving
  }

  async #receive(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const since = performance.now()
    if (this.#closing.signal.aborted) return []
    try {
      return await this.#rpc.call('receive', [this.#number, this.#name, limit, waitMs], waitMs + receiveGraceMs)
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      // It waits, because its caller receives in a loop, which would use a whole core.
      await sleep(waitMs - (performance.now() - since), this.#closing.signal)
      return []
    }
  }

  async markSaved(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#rpc.call('markSaved', [entries.map(handleOf)])
  }

  async ack(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#rpc.call('ack', [entries.map(handleOf)])
  }

  async deadLetter(deadLetters: readonly DeadLetterInput[]): Promise<void> {
    for (const some of stepsOf(deadLetters)) {
      const deadLettered = some.map(({ entry, failure, existing }) => ({ handle: handleOf(entry), failure, existing }))
      await this.#rpc.call('deadLetter', [deadLettered])
    }
  }

  async extendLease(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#rpc.call('extendLease', [this.#number, entries.map(handleOf)])
  }

  async release(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#rpc.call('releaseEntries', [this.#number, entries.map(handleOf)])
  }

  countAttempt(entry: Entry): Promise<number> {
    return this.#rpc.call('countAttempt', [handleOf(entry)])
  }

  withdrawAttempt(entry: Entry): Promise<void> {
    return this.#rpc.call('withdrawAttempt', [handleOf(entry)])
  }

  probe(): Promise<string | undefined> {
    return this.#rpc.codeOf(() => this.#rpc.call('probe', []))
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    try {
      await this.#rpc.call('unregister', [this.#number])
    } catch (error) {
      // Its entries are received again when the port has closed, or when their lease has ended.
      if (!(error instanceof SpillwayError)) throw error
    }
    await this.#receiving
  }
}

const isHandle = (text: string) => /^\d{1,15}$/.test(text)

function handleOf({ handle }: Entry): number {
  return Number(handle)
}
