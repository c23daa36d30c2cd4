/**
 * The leases of the embedded queue: which consumer has received which entry, until when, and how often. Invariant: while a lease lasts, no
 * other consumer receives its entry.
 *
 * An entry that was received has a row in `delivery`. The row stays when the entry is returned, because the number of its deliveries must
 * survive. New entries are those after the newest one received: `seq` only grows.
 */
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { SpillwayError } from '../model/error.ts'
import type { Statements } from '../sqlite/open.ts'
import type { WriteQueue } from '../sqlite/write-queue.ts'
import type { Entry } from './queue.ts'

/** The state of a consumer in the thread. */
export interface Receiver {
  name: string
  /** The id of its row in `owner`; undefined before its first `receive`. */
  owner: number | undefined
  closed: boolean
}

interface Deps {
  sql: Statements
  writeQueue: WriteQueue
}

const pauseAfterFaultMs = 250

interface MessageRow {
  seq: number
  id: string
  body: string
  count: number
}

export class Leases {
  readonly #sql: Statements
  readonly #writeQueue: WriteQueue
  readonly #leaseMs: number
  readonly #waiting = new Set<() => void>()
  /** The newest message this process has received, in a transaction that was committed. */
  #newest = 0
  #wakes = 0
  #closing = false

  constructor({ sql, writeQueue }: Deps, { leaseMs }: { leaseMs: number }) {
    this.#sql = sql
    this.#writeQueue = writeQueue
    this.#leaseMs = leaseMs
  }

  /** Waits in the thread that owns the database, so that it returns a message as soon as it is enqueued. */
  async receive(receiver: Receiver, limit: { rows: number; bytes: number }, waitMs: number): Promise<Entry[]> {
    // A lease that ends wakes nobody. Two consumers that were woken together would look in the same order each time, and what the first one
    // cannot decode would never reach the second.
    const until = performance.now() + waitMs * (0.5 + Math.random() / 2)
    for (;;) {
      const wakes = this.#wakes
      let faulty = false
      try {
        // Not fsynced: if a power cut undoes it, the messages are received once more.
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
      // It replaces a consumer of its name in this process that was not closed.
      this.#sql('release by name').run(receiver.name, host, process)
      this.#sql('drop owner by name').run(receiver.name, host, process)
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
    for (const { seq } of rows) this.#sql('deliver').run(seq, owner, now + this.#leaseMs)
    return { rows, owner }
  }

  extendLease(receiver: Receiver, handles: readonly number[]): Promise<void> {
    return this.#setLease(receiver, handles, this.#leaseMs)
  }

  releaseEntries(receiver: Receiver, handles: readonly number[]): Promise<void> {
    return this.#setLease(receiver, handles, Math.floor((0.25 + Math.random()) * this.#leaseMs))
  }

  async #setLease({ owner }: Receiver, handles: readonly number[], ms: number): Promise<void> {
    if (owner === undefined) return
    await this.#writeQueue.write({ durable: false }, () => {
      this.#sql('extend lease').run(Date.now() + ms, owner, JSON.stringify(handles))
    })
  }

  /** Returns 1 for an entry that another consumer has acknowledged: nothing is counted for it. */
  countAttempt(handle: number): Promise<number> {
    return this.#writeQueue.write({ durable: true }, () => {
      const row = this.#sql('count attempt').get(handle) as { attempts: number } | undefined
      return row?.attempts ?? 1
    })
  }

  async withdrawAttempt(handle: number): Promise<void> {
    await this.#writeQueue.write({ durable: true }, () => this.#sql('withdraw attempt').run(handle))
  }

  /** Returns the entries of a consumer that closes to the queue, as if they had not been received. */
  unregister(receiver: Receiver): Promise<void> {
    return this.#end(receiver, 'return')
  }

  /** Returns the entries of a consumer whose thread has ended to the queue; their deliveries are counted. */
  release(receiver: Receiver): Promise<void> {
    return this.#end(receiver, 'release')
  }

  async #end(receiver: Receiver, how: 'return' | 'release'): Promise<void> {
    receiver.closed = true
    // Ends a `receive` under way, whose transaction comes before this one.
    this.wake()
    await this.#writeQueue.write({ durable: false }, () => {
      if (receiver.owner === undefined) return
      this.#sql(how).run(receiver.owner)
      this.#sql('drop owner').run(receiver.owner)
    })
    this.wake()
  }

  /** Returns the entries of processes that have ended to the queue. */
  async releaseDead(): Promise<void> {
    await this.#writeQueue.write({ durable: false }, () => {
      for (const owner of this.#sql('owners').all() as unknown as { id: number; host: string; process: string }[]) {
        if (mayLive(owner)) continue
        this.#sql('release').run(owner.id)
        this.#sql('drop owner').run(owner.id)
      }
    })
  }

  /** Lets every `receive` under way look for entries again. */
  wake(): void {
    this.#wakes++
    for (const wake of this.#waiting) wake()
  }

  /** Lets every `receive` under way resolve. */
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
}

function entryOf({ seq, id, body, count }: MessageRow): Entry {
  return { handle: String(seq), id, body, deliveries: count + 1 }
}

/** A process, in a form that tells it from a later one with the same pid: in a container, every process has the pid 1. */
interface Owner {
  host: string
  /** The pid and, on Linux, the id of the boot and the start time of the process. */
  process: string
}

const thisProcess: Owner = { host: hostname(), process: `${process.pid} ${startOf(process.pid)}` }

/** Returns false only if the process has certainly ended. Processes of another host count as alive. */
function mayLive(owner: Owner): boolean {
  if (owner.host !== thisProcess.host || owner.process === thisProcess.process) return true
  const pid = Number.parseInt(owner.process, 10)
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return owner.process === `${pid} ${startOf(pid)}`
}

function startOf(pid: number): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    // The program's name is in parentheses and may contain any character; the start time is the 20th field after it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
    return `${boot} ${fields[19]}`
  } catch {
    return ''
  }
}
