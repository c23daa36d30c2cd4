/**
 * The embedded queue: a SQLite file that a thread of its own owns (../sqlite/thread.ts; the statements are there). Here is only what
 * stands between it and its callers. Always FSYNC: WAL with synchronous=FULL.
 */
import type { MessagePort } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'
import { pause } from '../model/sleep.ts'
import { SqlitePort } from '../sqlite/rpc-client.ts'
import type { Accepted, Burial, Consumer, Entry, Item, Queue, QueueStatus, Standing } from './queue.ts'
import { inSteps, stepsOf } from './steps.ts'

/** Beyond the time a take was to wait for. */
const takeGraceMs = 15_000
/** Of dead letters, in one transaction. */
const idsAtOnce = 100

export class SqliteQueue implements Queue {
  readonly #port: SqlitePort
  readonly #consumers = new Set<SqliteConsumer>()
  #next = 1

  /** A port of SqliteFile's `connect`, for this queue alone. */
  constructor(port: MessagePort) {
    this.#port = new SqlitePort(port)
  }

  async accept(groups: readonly (readonly Item[])[]): Promise<(Accepted[] | SpillwayError)[]> {
    const replies = await this.#port.call('accept', [groups])
    return replies.map((reply) => {
      if (Array.isArray(reply)) return reply
      const { code, message, ...details } = reply
      return new SpillwayError(code, message, details)
    })
  }

  find(ids: readonly string[], digest?: string): Promise<(Standing | undefined)[]> {
    return this.#port.call('find', [ids, digest])
  }

  probe(): Promise<string | undefined> {
    return this.#port.probe()
  }

  status(): Promise<QueueStatus> {
    return this.#port.call('status', [])
  }

  async deadLetters(first: number, after?: string): ReturnType<Queue['deadLetters']> {
    if (after !== undefined && !/^\d{1,15}$/.test(after)) {
      throw new SpillwayError(
        'BAD_USER_INPUT',
        'after is no place in the dead letters; use one that a page of them gave you',
      )
    }
    return await this.#port.call('deadLetters', [first, after])
  }

  retry(ids: readonly string[]): Promise<number> {
    return inSteps(ids, idsAtOnce, async (some) => [await this.#port.call('retry', [some]), some.length])
  }

  discard(ids: readonly string[]): Promise<number> {
    return inSteps(ids, idsAtOnce, (some) => this.#port.call('discard', [some]))
  }

  consumer(name: string): Consumer {
    const consumer = new SqliteConsumer(this.#port, this.#next++, name)
    this.#consumers.add(consumer)
    return consumer
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    await this.#port.close()
  }
}

class SqliteConsumer implements Consumer {
  readonly #port: SqlitePort
  readonly #number: number
  readonly #name: string
  readonly #closing = new AbortController()
  #taking: Promise<unknown> = Promise.resolve()
  #closed: Promise<void> | undefined

  constructor(port: SqlitePort, number: number, name: string) {
    this.#port = port
    this.#number = number
    this.#name = name
  }

  take(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const taking = this.#take(limit, waitMs)
    this.#taking = taking
    return taking
  }

  async #take(limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    const since = performance.now()
    if (this.#closing.signal.aborted) return []
    try {
      return await this.#port.call('take', [this.#number, this.#name, limit, waitMs], waitMs + takeGraceMs)
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error
      // Not at once: who takes in a loop would turn in it as fast as it can.
      await pause(waitMs - (performance.now() - since), this.#closing.signal)
      return []
    }
  }

  async confirm(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#port.call('confirm', [entries.map(handleOf)])
  }

  async settle(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#port.call('settle', [entries.map(handleOf)])
  }

  async bury(letters: readonly Burial[]): Promise<void> {
    for (const some of stepsOf(letters)) {
      const buried = some.map(({ entry, failure, stands }) => ({ handle: handleOf(entry), failure, stands }))
      await this.#port.call('bury', [buried])
    }
  }

  async hold(entries: readonly Entry[]): Promise<void> {
    if (entries.length > 0) await this.#port.call('hold', [this.#number, entries.map(handleOf)])
  }

  attempt(entry: Entry): Promise<number> {
    return this.#port.call('attempt', [handleOf(entry)])
  }

  forgive(entry: Entry): Promise<void> {
    return this.#port.call('forgive', [handleOf(entry)])
  }

  probe(): Promise<string | undefined> {
    return this.#port.probe()
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    try {
      await this.#port.call('leave', [this.#number])
    } catch (error) {
      // What it holds is handed out again when the port closes, or when the lease is over.
      if (!(error instanceof SpillwayError)) throw error
    }
    await this.#taking
  }
}

function handleOf({ handle }: Entry): number {
  return Number(handle)
}
