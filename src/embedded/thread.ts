/**
 * The worker thread that owns the embedded queue's database, so that an fsync never delays an event loop that serves clients. It
 * answers calls from any number of message ports. Invariant: entries that a port's consumers have received and not acknowledged return to
 * the queue when the port closes.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { EventsTables, eventsCalls } from '../events/sqlite-tables.ts'
import { queueCalls } from '../queue/sqlite-calls.ts'
import { QueueTables } from '../queue/sqlite-tables.ts'
import { sqliteCode } from '../sqlite/fault.ts'
import { inspector } from '../sqlite/guard.ts'
import { answerCalls, type Reply } from '../sqlite/rpc-server.ts'
import { WriteQueue } from '../sqlite/write-queue.ts'
import { openQueueDatabase } from './database.ts'

/** The SqliteFileOptions, without their defaults. */
export interface ThreadOptions {
  capacity: number
  retentionMs: number
  retentionBytes: number
  leaseMs: number
  busyMs: number
  maxPages: number | undefined
  /** The name of the store that this process writes the messages to; undefined if it writes none. */
  store: string | undefined
}

export type FromThread = { note: string } | { open: true }
export type ToThread = { connect: MessagePort } | 'close'

/** How long it takes at most until rows that another process added are noticed. */
const refreshMs = 1_000

interface Connection {
  readonly port: MessagePort
  release(): Promise<void>
  follows: boolean
}

const { path, options } = workerData as { path: string; options: ThreadOptions }
const connections = new Set<Connection>()
const underWay = new Set<Promise<void>>()

const send = (message: FromThread) => parentPort!.postMessage(message)
/** Sends a text to the log of the process. */
const note = (text: string) => send({ note: text })

const { db, guard, lock } = await openQueueDatabase(path, { ...options, note })
const writeQueue = new WriteQueue({ db, guard }, options)
const inspect = inspector(guard, 'the embedded queue', note)
const queue = new QueueTables({ db, writeQueue }, options)
const events = new EventsTables(db, writeQueue, options, (row) => {
  for (const { port, follows } of connections) if (follows) port.postMessage({ event: row } satisfies Reply<typeof row>)
})
await queue.leases.releaseDead()

const timer = setInterval(() => {
  queue.leases.wake()
  inspect()
  try {
    events.refresh()
  } catch (error) {
    // Another process may have the lock; the next refresh comes in a second.
    if (sqliteCode(error) === undefined) throw error
  }
}, refreshMs)

function serve(port: MessagePort): void {
  const { calls, release } = queueCalls(queue)
  const connection: Connection = { port, release, follows: false }
  const follow = (follows: boolean) => {
    connection.follows = follows
  }
  connections.add(connection)
  answerCalls(port, { ...calls, ...eventsCalls(events, follow) }, track)
  port.on('close', () => {
    connections.delete(connection)
    track(release())
  })
}

function track(work: Promise<void>): void {
  underWay.add(work)
  void work.finally(() => underWay.delete(work))
}

async function close(): Promise<void> {
  clearInterval(timer)
  queue.leases.close()
  for (const { release } of connections) track(release())
  while (underWay.size > 0) await Promise.allSettled(underWay)
  await writeQueue.drained()
  for (const { port } of connections) port.close()
  // Closing runs a checkpoint, unless another process reads.
  db.close()
  lock?.close()
  parentPort!.close()
}

parentPort!.on('message', (message: ToThread) => {
  if (message === 'close') void close()
  else serve(message.connect)
})
send({ open: true })
