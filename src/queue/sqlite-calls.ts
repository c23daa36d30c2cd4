/** What a port of the embedded queue can ask the thread that owns its file for. Each port has its own consumers. */
import type { Item } from './queue.ts'
import type { DeadLetterInput, QueueTables, Receiver } from './sqlite-tables.ts'

export function queueCalls(queue: QueueTables) {
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
  }
  /** Returns what the port's consumers received and did not acknowledge. What cannot be returned now comes back when its lease ends. */
  const release = async () => {
    await Promise.allSettled([...receivers.values()].map((receiver) => receiver.closed || queue.lose(receiver)))
  }
  return { calls, release }
}

export type QueueCalls = ReturnType<typeof queueCalls>['calls']

/** Those that change nothing. `receive` is among them: what it took and could not hand over comes back. */
export const queueQuestions = ['probe', 'find', 'status', 'deadLetters', 'receive'] as const
