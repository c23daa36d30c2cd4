/**
 * The embedded queue's database file, for the process that uses it: a thread that owns the file, and message ports to that thread. A port
 * can be transferred to another worker thread, whose SqliteQueue or SqliteEventLog then shares the file without opening it again.
 */
import { once } from 'node:events'
import { resolve } from 'node:path'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import type { Log } from '../model/log.ts'
import type { FromThread, ThreadOptions, ToThread } from './thread.ts'

export interface SqliteFileOptions {
  /** How many messages the queue may have. */
  capacity: number
  /** How long an entry of the events log is kept. */
  retentionMs: number
  /** The size above which the oldest entries of the events log are removed. */
  retentionBytes: number
  /** The lease. It matters only to entries of another process that may have ended. */
  leaseMs?: number
  /** How long a write waits for the lock of another process. */
  busyMs?: number
  /** The largest size of the file, in pages of 4 KiB; without it, only the disk limits the size. */
  maxPages?: number
  /** The name of the store that the messages are written to: processes with different stores must not share a queue. */
  store?: string | undefined
  /** Gets warnings of files that other users can read, and of a file that is no longer in its place. */
  log?: Log
}

export class SqliteFile {
  readonly #thread: Worker
  #closed: Promise<void> | undefined
  /** Rejects when the thread ends by an error. From then on every call rejects with QUEUE_UNAVAILABLE, until the process is restarted. */
  readonly failed: Promise<never>

  private constructor(thread: Worker) {
    this.#thread = thread
    this.failed = once(thread, 'error').then(([cause]) => {
      throw new Error(`the thread of the embedded queue ended by an error: ${(cause as Error).message}`, { cause })
    })
    this.failed.catch(() => {})
  }

  /** Opens the file, or creates it. Rejects with an error that says what is wrong with the file, or its folder, and what to do. */
  static async open(path: string, options: SqliteFileOptions): Promise<SqliteFile> {
    const { leaseMs = 60_000, busyMs = 5_000, maxPages, store, capacity, retentionMs, retentionBytes, log } = options
    const file = resolve(path)
    const threadOptions: ThreadOptions = { capacity, retentionMs, retentionBytes, leaseMs, busyMs, maxPages, store }
    const thread = new Worker(new URL('thread.ts', import.meta.url), {
      name: 'spillway-sqlite',
      workerData: { path: file, options: threadOptions },
    })
    const opened = Promise.withResolvers<void>()
    thread.on('error', opened.reject)
    thread.on('message', (message: FromThread) => {
      if ('note' in message) log?.warn({}, message.note)
      else opened.resolve()
    })
    await opened.promise
    return new SqliteFile(thread)
  }

  /** Returns a new port to the thread, for one SqliteQueue or one SqliteEventLog, in this thread or in another. */
  connect(): MessagePort {
    if (this.#closed) throw new Error('The embedded queue is closed; connect() must be called before close().')
    const { port1, port2 } = new MessageChannel()
    this.#thread.postMessage({ connect: port2 } satisfies ToThread, [port2])
    return port1
  }

  /** Waits for the calls under way, and closes the file. May be called twice. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    if (this.#thread.threadId === -1) return
    const exited = once(this.#thread, 'exit')
    this.#thread.postMessage('close' satisfies ToThread)
    await exited
  }
}
