/**
 * The worker thread that owns the database, so that an fsync never holds up an event loop that serves clients. It answers calls from
 * any number of message ports. Invariant: what a port's consumers have taken and not settled is given back when the port closes.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'
import type { Item } from '../queue/queue.ts'
import { EventsTables, type LogRow } from './events-tables.ts'
import { sqliteCode } from './fault.ts'
import type { ThreadOptions } from './file.ts'
import { inspector } from './guard.ts'
import { openQueueDatabase } from './queue-database.ts'
import { type DeadLetterInput, QueueTables, type Receiver } from './queue-tables.ts'
import { WriteQueue } from './write-queue.ts'

/** What other processes add is seen at the latest so long after. */
const refreshMs = 1_000

interface Connection {
  readonly port: MessagePort
  readonly receivers: Map<number, Receiver>
  follows: boolean
}

const { path, options } = workerData as { path: string; options: ThreadOptions }
const connections = new Set<Connection>()
const underWay = new Set<Promise<void>>()

/** What a port can ask for. The callers' types are made from this. */
function callsOf(queue: QueueTables, events: EventsTables, connection: Connection) {
  const receiver = (number: number, name = ''): Receiver => {
    let known = connection.receivers.get(number)
    if (!known) {
      known = { name, owner: undefined, closed: false }
      connection.receivers.set(number, known)
    }
    return known
  }
  return {
    enqueue: (groups: readonly (readonly Item[])[]) => queue.enqueue(groups),
    find: (ids: readonly string[], digest: string | undefined) => queue.find(ids, digest),
    probe: () => queue.probe(),
    status: () => queue.status(),
    deadLetters: (first: number, after: string | undefined) => queue.deadLetters(first, after),
    retry: (ids: readonly string[]) => queue.retry(ids),
    discard: (ids: readonly string[]) => queue.discard(ids),
    receive: (consumer: number, name: string, limit: { rows: number; bytes: number }, waitMs: number) =>
      queue.receive(receiver(consumer, name), limit, waitMs),
    markSaved: (handles: readonly number[]) => queue.markSaved(handles),
    ack: (handles: readonly number[]) => queue.ack(handles),
    deadLetter: (deadLetters: readonly DeadLetterInput[]) => queue.deadLetter(deadLetters),
    extendLease: (consumer: number, handles: readonly number[]) => queue.extendLease(receiver(consumer), handles),
    countAttempt: (handle: number) => queue.countAttempt(handle),
    withdrawAttempt: (handle: number) => queue.withdrawAttempt(handle),
    unregister: (consumer: number) => queue.unregister(receiver(consumer)),
    append: (entries: readonly string[]) => events.append(entries),
    tail: () => events.tail(),
    read: (after: { epoch: string; major: number; minor: number }, limit: number) => events.read(after, limit),
    follow: async (follows: boolean) => {
      connection.follows = follows
    },
  }
}

export type Calls = ReturnType<typeof callsOf>

export interface Request {
  number: number
  method: keyof Calls
  args: unknown[]
}

export type Reply =
  | { number: number; value: unknown }
  | { number: number; error: Pick<SpillwayError, 'code' | 'message' | 'retryAfterMs'> }
  | { number: number; defect: Error }
  | { wake: LogRow | undefined }

/** To the log of the process. */
const note = (text: string) => parentPort!.postMessage({ note: text })

const { db, guard, lock } = await openQueueDatabase(path, { ...options, note })
const writeQueue = new WriteQueue(db, guard, options.busyMs)
const inspect = inspector(guard, 'the embedded queue', note)
const queue = new QueueTables(db, writeQueue, options)
const events = new EventsTables(db, writeQueue, options, (row) => {
  for (const { port, follows } of connections) if (follows) port.postMessage({ wake: row } satisfies Reply)
})
await queue.releaseDead()

const timer = setInterval(() => {
  queue.wake()
  inspect()
  try {
    events.refresh()
  } catch (error) {
    // The next look may find it free.
    if (sqliteCode(error) === undefined) throw error
  }
}, refreshMs)

function serve(port: MessagePort): void {
  const connection: Connection = { port, receivers: new Map(), follows: false }
  const calls = callsOf(queue, events, connection)
  connections.add(connection)
  const answer = async ({ number, method, args }: Request) => {
    try {
      const value = await (calls[method] as (...args: unknown[]) => Promise<unknown>)(...args)
      port.postMessage({ number, value } satisfies Reply)
    } catch (error) {
      if (error instanceof SpillwayError) {
        const { code, message, retryAfterMs } = error
        port.postMessage({ number, error: { code, message, retryAfterMs } } satisfies Reply)
      } else {
        port.postMessage({ number, defect: error as Error } satisfies Reply)
      }
    }
  }
  port.on('message', (request: Request) => track(answer(request)))
  port.on('close', () => {
    connections.delete(connection)
    track(leaveAll(connection))
  })
}

async function leaveAll({ receivers }: Connection): Promise<void> {
  // Where that fails, they are handed out again when the lease is over.
  await Promise.allSettled([...receivers.values()].map((receiver) => receiver.closed || queue.lose(receiver)))
}

function track(work: Promise<void>): void {
  underWay.add(work)
  void work.finally(() => underWay.delete(work))
}

async function close(): Promise<void> {
  clearInterval(timer)
  queue.close()
  for (const connection of connections) track(leaveAll(connection))
  while (underWay.size > 0) await Promise.allSettled(underWay)
  await writeQueue.drained()
  for (const { port } of connections) port.close()
  // Closing checkpoints; it may do without where another process reads.
  db.close()
  lock?.close()
  parentPort!.close()
}

parentPort!.on('message', (message: { connect: MessagePort } | 'close') => {
  if (message === 'close') void close()
  else serve(message.connect)
})
parentPort!.postMessage({ open: true })
