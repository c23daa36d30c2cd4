/** The calls of a port of the embedded queue to the thread that owns its file. Each port has its own consumers. */

import type { WorkerReport } from './operations.ts'
import type { DeadLetterRange, Item } from './queue.ts'
import type { Receiver } from './sqlite-leases.ts'
import type { DeadLetterInput, QueueTables } from './sqlite-tables.ts'

export function queueCalls(queue: QueueTables) {
  const { leases, operations } = queue
  const receivers = new Map<number, Receiver>()
  const receiver = (number: number, name = ''): Receiver => {
    let known = receivers.get(number)
    if (!known) {
      known = { name, owner: undefined, closed: false }
      receivers.set(number, known)
    }
    return known
  }
  const calls = {
    enqueue: (requests: readonly (readonly Item[])[]) => queue.enqueue(requests),
    find: (ids: readonly string[], digest: string | undefined) => queue.find(ids, digest),
    probe: () => queue.probe(),
    status: () => queue.status(),
    deadLetters: (limit: number, range: DeadLetterRange) => queue.deadLetters(limit, range),
    deadLettersOf: (ids: readonly string[]) => queue.deadLettersOf(ids),
    retry: (handles: readonly string[]) => queue.retry(handles),
    retried: (handles: readonly string[]) => queue.retried(handles),
    replace: (handle: string, item: Item) => queue.replace(handle, item),
    discard: (handles: readonly string[]) => queue.discard(handles),
    pause: (by: string | undefined) => operations.pause(by),
    resume: () => operations.resume(),
    paused: () => operations.paused(),
    report: (report: WorkerReport) => operations.report(report),
    workers: () => operations.workers(),
    receive: (consumer: number, name: string, limit: { rows: number; bytes: number }, waitMs: number) =>
      leases.receive(receiver(consumer, name), limit, waitMs),
    markSaved: (handles: readonly number[]) => queue.markSaved(handles),
    ack: (handles: readonly number[]) => queue.ack(handles),
    deadLetter: (deadLetters: readonly DeadLetterInput[]) => queue.deadLetter(deadLetters),
    extendLease: (consumer: number, handles: readonly number[]) => leases.extendLease(receiver(consumer), handles),
    releaseEntries: (consumer: number, handles: readonly number[]) =>
      leases.releaseEntries(receiver(consumer), handles),
    countAttempt: (handle: number) => leases.countAttempt(handle),
    withdrawAttempt: (handle: number) => leases.withdrawAttempt(handle),
    unregister: (consumer: number) => leases.unregister(receiver(consumer)),
  }
  /** Returns the entries of the port's consumers to the queue. Where that fails, they are received again when their lease has ended. */
  const release = async () => {
    await Promise.allSettled([...receivers.values()].map((receiver) => receiver.closed || leases.release(receiver)))
  }
  return { calls, release }
}

export type QueueCalls = ReturnType<typeof queueCalls>['calls']

/** The calls that change nothing. `receive` is one of them: if its reply is lost, its entries are received again. */
export const queueQuestions = [
  ...(['probe', 'find', 'status', 'deadLetters', 'deadLettersOf', 'retried', 'receive'] as const),
  ...(['paused', 'workers'] as const),
] as const
