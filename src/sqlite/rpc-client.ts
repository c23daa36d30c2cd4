/**
 * Calls over a message port to the thread that owns the database. Invariant: every call settles: with what the thread answers, or, where
 * it does not in time or is gone, with QUEUE_UNAVAILABLE for a question and OUTCOME_UNKNOWN for a change.
 */
import type { MessagePort } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'
import type { LogRow } from './events-tables.ts'
import { unavailable, unknown } from './fault.ts'
import type { Calls, Reply, Request } from './rpc-server.ts'

interface Pending {
  promise: Promise<unknown>
  method: keyof Calls
  resolve(value: unknown): void
  reject(error: Error): void
  timer: NodeJS.Timeout
}

/** Well above the time the thread itself waits for a lock: only a disk that hangs takes so long. */
const defaultDeadlineMs = 15_000

const questions: ReadonlySet<keyof Calls> = new Set([
  'probe',
  'find',
  'status',
  'deadLetters',
  'tail',
  'read',
  'follow',
  'receive',
])

export class RpcClient {
  readonly #port: MessagePort
  readonly #pending = new Map<number, Pending>()
  #next = 1
  #gone = false
  /** Called for each wake-up of the events log. */
  onWake: (row: LogRow | undefined) => void = () => {}

  constructor(port: MessagePort) {
    this.#port = port
    port.on('message', (reply: Reply) => this.#receive(reply))
    port.on('close', () => this.#lose())
  }

  call<M extends keyof Calls>(
    method: M,
    args: Parameters<Calls[M]>,
    deadlineMs = defaultDeadlineMs,
  ): ReturnType<Calls[M]> {
    if (this.#gone) return Promise.reject(unavailable('it is closed')) as ReturnType<Calls[M]>
    const number = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const timer = setTimeout(() => this.#giveUp(number, `it has not answered within ${deadlineMs} ms`), deadlineMs)
    this.#pending.set(number, { promise, method, resolve, reject, timer })
    this.#port.postMessage({ number, method, args } satisfies Request)
    return promise as ReturnType<Calls[M]>
  }

  /** Writes as a save is written, and changes nothing. Undefined when it was done; else a code that says why not. Never throws. */
  probe(): Promise<string | undefined> {
    return this.call('probe', []).catch((error) => (this.#gone ? 'CLOSED' : ((error as SpillwayError).code ?? 'ERROR')))
  }

  #receive(reply: Reply): void {
    if ('wake' in reply) {
      this.onWake(reply.wake)
      return
    }
    const pending = this.#remove(reply.number)
    if (!pending) return
    if ('value' in reply) pending.resolve(reply.value)
    else pending.reject('defect' in reply ? reply.defect : revive(reply.error))
  }

  #giveUp(number: number, reason: string): void {
    const pending = this.#remove(number)
    pending?.reject(questions.has(pending.method) ? unavailable(reason) : unknown(reason))
  }

  #remove(number: number): Pending | undefined {
    const pending = this.#pending.get(number)
    clearTimeout(pending?.timer)
    this.#pending.delete(number)
    return pending
  }

  #lose(): void {
    this.#gone = true
    for (const number of [...this.#pending.keys()]) this.#giveUp(number, 'its thread has ended')
  }

  /** Waits for what was asked. May be called twice. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#pending.values()].map(({ promise }) => promise))
    this.#gone = true
    this.#port.close()
  }
}

function revive({
  code,
  message,
  retryAfterMs,
}: Pick<SpillwayError, 'code' | 'message' | 'retryAfterMs'>): SpillwayError {
  return new SpillwayError(code, message, retryAfterMs === undefined ? {} : { retryAfterMs })
}
