/**
 * Questions, answers and notices between the primary and one API process, over the channel that node:cluster gives them. Invariant: a
 * question that is not answered in time, or whose process has ended, rejects; a notice to a process that has ended is dropped.
 */
import type { Worker } from 'node:cluster'

interface Message {
  spillway: 'ask' | 'answer' | 'tell'
  name?: string
  number?: number
  body?: unknown
  error?: string
}

// biome-ignore lint/suspicious/noExplicitAny: both ends are the same release of the same program.
type Handler = (body: any) => unknown

export class Channel {
  readonly #process: Worker
  readonly #handlers = new Map<string, Handler>()
  readonly #asked = new Map<number, PromiseWithResolvers<unknown>>()
  #number = 0

  /** `process`: of the other end, as node:cluster gives it. */
  constructor(process: Worker) {
    this.#process = process
    process.on('message', (message: Message) => void this.#receive(message))
    // The end of the process, or of the primary, is told by other events.
    process.on('error', () => {})
    process.on('disconnect', () => {
      for (const { reject } of this.#asked.values()) reject(new Error('the other process has ended'))
      this.#asked.clear()
    })
  }

  /** Calls `handler` for each question or notice of that name; what it returns, or resolves to, is the answer. */
  on(name: string, handler: Handler): void {
    this.#handlers.set(name, handler)
  }

  /** Resolves when the message was sent, or could not be. */
  tell(name: string, body?: unknown): Promise<void> {
    return this.#send({ spillway: 'tell', name, body }).then(() => {})
  }

  /** Without `withinMs`, it waits for as long as the other end lives. */
  async ask<T>(name: string, body?: unknown, withinMs?: number): Promise<T> {
    const number = this.#number++
    const answer = Promise.withResolvers<unknown>()
    this.#asked.set(number, answer)
    const late = () => answer.reject(new Error(`no answer to "${name}" within ${withinMs} ms`))
    const timer = withinMs === undefined ? undefined : setTimeout(late, withinMs)
    try {
      void this.#send({ spillway: 'ask', name, number, body }).then((error) => error && answer.reject(error))
      return (await answer.promise) as T
    } finally {
      clearTimeout(timer)
      this.#asked.delete(number)
    }
  }

  #send(message: Message): Promise<Error | null> {
    return new Promise((resolve) => void this.#process.send(message, resolve))
  }

  async #receive({ spillway: kind, name, number, body, error }: Message): Promise<void> {
    if (kind === 'answer') {
      const asked = this.#asked.get(number!)
      if (error === undefined) asked?.resolve(body)
      else asked?.reject(new Error(error))
      return
    }
    if (kind !== 'ask' && kind !== 'tell') return
    const handler = this.#handlers.get(name!)
    if (kind === 'tell') {
      await handler?.(body)
      return
    }
    try {
      await this.#send({ spillway: 'answer', number: number!, body: await handler?.(body) })
    } catch (reason) {
      await this.#send({ spillway: 'answer', number: number!, error: (reason as Error).message })
    }
  }
}
