/**
 * The embedded queue's database file, as the process that uses it sees it: a thread that owns the file, and message ports to it. A port
 * can be handed to another worker thread, whose SqliteQueue and SqliteEventLog then share the file without opening it again.
 */
import { once } from 'node:events'
import { resolve } from 'node:path'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import type { Log } from '../model/log.ts'
import type { FromThread, ThreadOptions, ToThread } from './thread.ts'

export interface SqliteFileOptions {
  /** Messages the queue takes. */
  capacity: number
  /** How long, and up to what size, the events log is kept. */
  retentionMs: number
  retentionBytes: number
  /** How long a message stays with who took it, unless held; it matters only to what other processes left behind. */
  leaseMs?: number
  /** How long a lock of another process is waited for. */
  busyMs?: number
  /** The size the file may grow to, in pages of 4 KiB; no limit but the disk's when absent. */
  maxPages?: number
  /** Names the store that the messages are written to, so that processes with different ones do not share a queue. */
  store?: string | undefined
  /** Told of files that other users can read, and of a file that is not in its place any more. */
  log?: Log
}

export class SqliteFile {
  readonly #thread: Worker
  #closed: Promise<void> | undefined
  /** Rejects when the thread dies by itself: whoever asks is told from then on that the queue is unavailable, until the process is
   *  started again. */
  readonly failed: Promise<never>

  private constructor(thread: Worker) {
    this.#thread = thread
    this.failed = once(thread, 'error').then(([cause]) => {
      throw new Error(`the thread of the embedded queue has died: ${(cause as Error).message}`, { cause })
    })
    this.failed.catch(() => {})
  }

  /** Throws an error that says what is wrong with the file, or its folder, and what to do. */
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

  /** A new way to the file, for one SqliteQueue or one SqliteEventLog, in this thread or in another. */
  connect(): MessagePort {
    if (this.#closed) throw new Error('The embedded queue is closed already: connect before closing it.')
    const { port1, port2 } = new MessageChannel()
    this.#thread.postMessage({ connect: port2 } satisfies ToThread, [port2])
    return port1
  }

  /** Finishes what was asked, and lets go of the file. May be called twice. */
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
