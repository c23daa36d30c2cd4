/**
 * Calls over a message port to the thread that owns a database. Invariant: every call resolves or rejects: with the thread's answer, or, if
 * the thread has ended or does not answer in time, with QUEUE_UNAVAILABLE for a question and OUTCOME_UNKNOWN for a change.
 */
import type { MessagePort } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'
import { unavailable, unknown } from './fault.ts'
import type { Calls, Reply, Request } from './rpc-server.ts'

interface Pending {
  promise: Promise<unknown>
  method: string
  resolve(value: unknown): void
  reject(error: Error): void
  timer: NodeJS.Timeout
}

/** Well above the time that the thread itself waits for a lock: only a disk that hangs needs so long. */
const defaultDeadlineMs = 15_000

/** `C`: the calls that the thread answers; `E`: the events that it sends by itself. */
export class RpcClient<C extends Calls<C>, E = never> {
  readonly #port: MessagePort
  /** Calls that change nothing. */
  readonly #questions: ReadonlySet<keyof C & string>
  readonly #pending = new Map<number, Pending>()
  #next = 1
  #isClosed = false
  /** Called for each event that the thread sends. */
  onEvent: (event: E) => void = () => {}

  constructor(port: MessagePort, questions: readonly (keyof C & string)[]) {
    this.#port = port
    this.#questions = new Set(questions)
    port.on('message', (reply: Reply<E>) => this.#receive(reply))
    port.on('close', () => this.#lose())
  }

  call<M extends keyof C & string>(
    method: M,
    args: Parameters<C[M]>,
    deadlineMs = defaultDeadlineMs,
  ): ReturnType<C[M]> {
    if (this.#isClosed) return Promise.reject(unavailable('it is closed')) as ReturnType<C[M]>
    const number = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const timer = setTimeout(() => this.#giveUp(number, `it has not answered within ${deadlineMs} ms`), deadlineMs)
    this.#pending.set(number, { promise, method, resolve, reject, timer })
    this.#port.postMessage({ number, method, args } satisfies Request)
    return promise as ReturnType<C[M]>
  }

  /** Returns what `probe` returns, or the code of its error. Never rejects. */
  async codeOf(probe: () => Promise<string | undefined>): Promise<string | undefined> {
    try {
      return await probe()
    } catch (error) {
      return this.#isClosed ? 'CLOSED' : ((error as SpillwayError).code ?? 'ERROR')
    }
  }

  #receive(reply: Reply<E>): void {
    if ('event' in reply) {
      this.onEvent(reply.event)
      return
    }
    const pending = this.#remove(reply.number)
    if (!pending) return
    if ('value' in reply) pending.resolve(reply.value)
    else pending.reject('defect' in reply ? reply.defect : revive(reply.error))
  }

  #giveUp(number: number, reason: string): void {
    const pending = this.#remove(number)
    pending?.reject(this.#questions.has(pending.method as keyof C & string) ? unavailable(reason) : unknown(reason))
  }

  #remove(number: number): Pending | undefined {
    const pending = this.#pending.get(number)
    clearTimeout(pending?.timer)
    this.#pending.delete(number)
    return pending
  }

  #lose(): void {
    this.#isClosed = true
    for (const number of [...this.#pending.keys()]) this.#giveUp(number, 'its thread has ended')
  }

  /** Waits for the calls under way. May be called twice. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#pending.values()].map(({ promise }) => promise))
    this.#isClosed = true
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
