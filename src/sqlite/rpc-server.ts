/** Answers the calls of one message port, in the thread that owns a database. A SpillwayError keeps its code. */
import type { MessagePort } from 'node:worker_threads'
import { SpillwayError } from '../model/error.ts'

/** The calls that the thread answers, by name. */
export type Calls<C> = { [M in keyof C]: (...args: never[]) => Promise<unknown> }

export interface Request {
  number: number
  method: string
  args: unknown[]
}

/** `E`: the events that the thread sends by itself. */
export type Reply<E = never> =
  | { number: number; value: unknown }
  | { number: number; error: Pick<SpillwayError, 'code' | 'message' | 'retryAfterMs'> }
  | { number: number; defect: Error }
  | { event: E }

/** `track` is called with each call under way. */
export function answerCalls<C extends Calls<C>>(port: MessagePort, calls: C, track: (call: Promise<void>) => void) {
  port.on('message', (request: Request) => track(answer(port, calls, request)))
}

async function answer<C extends Calls<C>>(port: MessagePort, calls: C, { number, method, args }: Request) {
  const reply = (message: Reply) => port.postMessage(message)
  try {
    const call = calls[method as keyof C] as unknown as (...args: unknown[]) => Promise<unknown>
    reply({ number, value: await call(...args) })
  } catch (error) {
    if (!(error instanceof SpillwayError)) return reply({ number, defect: error as Error })
    const { code, message, retryAfterMs } = error
    reply({ number, error: { code, message, retryAfterMs } })
  }
}
