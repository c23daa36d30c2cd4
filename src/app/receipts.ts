/**
 * Where a save stands. Invariant: never unknown once accepted, and never backwards. The queue decides first (an id is pending until its
 * row is committed and the cache bumped, and saved before its event is there); only what the queue does not know any more is looked up in
 * the store.
 */
import type { Follower } from '../events/follower.ts'
import type { Content } from '../model/content.ts'
import { type Failure, SpillwayError } from '../model/error.ts'
import type { Queue, Standing } from '../queue/queue.ts'
import type { Contents } from './contents.ts'
import { digestOf } from './digest.ts'

export interface Receipt {
  id: string
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  /** Whether the save this answers was a retry of one that is known already. */
  duplicate: boolean
  acceptedAt: Date
  /** The row, where it is at hand; undefined: look it up, if the status is not QUEUED. */
  content: Content | undefined
  /** With FAILED. */
  failure: Failure | undefined
}

/** Not every end is announced: a worker may die between burying a message and saying so, and nobody takes that up. */
const lookAgainMs = 5_000

export class Receipts {
  readonly #queue: Pick<Queue, 'find'>
  readonly #contents: Pick<Contents, 'find'>
  readonly #follower: Follower

  constructor(queue: Pick<Queue, 'find'>, contents: Pick<Contents, 'find'>, follower: Follower) {
    this.#queue = queue
    this.#contents = contents
    this.#follower = follower
  }

  /** The receipt now; undefined for an id that was never accepted. Throws QUEUE_UNAVAILABLE, OUTCOME_UNKNOWN, STORE_UNAVAILABLE. */
  async find(id: string): Promise<Receipt | undefined> {
    const [standing] = await this.#queue.find([id])
    if (standing?.status === 'QUEUED') return await this.#pending(id, standing)
    if (standing) return receiptOf(id, standing)
    const content = await this.#contents.find(id)
    if (!content) return undefined
    return { id, status: 'SAVED', duplicate: false, acceptedAt: content.createdAt, content, failure: undefined }
  }

  /**
   * A pending id is QUEUED, unless it was saved long ago and is only sent once more: then it is SAVED, as it was before. A row of the very
   * message that is pending does not count: the cache may not know it yet, and the queue will say when it does.
   */
  async #pending(id: string, standing: Standing): Promise<Receipt> {
    const receipt = receiptOf(id, standing)
    try {
      const content = await this.#contents.find(id)
      const resent = content && digestOf(content.content) === standing.digest && +content.createdAt !== standing.at
      if (resent) return { ...receipt, status: 'SAVED', acceptedAt: content.createdAt, content }
    } catch (error) {
      // That the database is away is no reason to say less than the queue knows.
      if (!(error instanceof SpillwayError)) throw error
    }
    return receipt
  }

  /** The receipt now, then each change, up to SAVED or FAILED. Nothing at all for an id that was never accepted. */
  async *changes(id: string, signal: AbortSignal): AsyncGenerator<Receipt> {
    const first = await this.find(id)
    if (!first) return
    yield first
    if (first.status !== 'QUEUED') return
    const last = await this.settled(first, signal)
    if (last.status !== 'QUEUED') yield last
  }

  /** The receipt as soon as it is SAVED or FAILED; as it stands when `signal` aborts before. */
  async settled(receipt: Receipt, signal: AbortSignal): Promise<Receipt> {
    if (receipt.status !== 'QUEUED') return receipt
    const watch = this.watch(receipt.id)
    try {
      return await watch.settled(receipt, signal)
    } finally {
      watch.stop()
    }
  }

  /** Begins to watch an id, so that nothing is missed between the accept and the wait. */
  watch(id: string): { settled(receipt: Receipt, signal: AbortSignal): Promise<Receipt>; stop(): void } {
    let settled: Partial<Receipt> | undefined
    let look = true
    let wake = () => {}
    const stop = this.#follower.watch(id, (event) => {
      if (event?.type === 'saved') settled = { status: 'SAVED', content: event.content }
      else if (event?.type === 'failed') settled = { status: 'FAILED', failure: event.failure }
      else look = true
      wake()
    })
    return {
      stop,
      settled: async (receipt, signal) => {
        const abort = () => wake()
        signal.addEventListener('abort', abort)
        const timer = setInterval(async () => {
          // The queue alone is asked: those who wait are not to be felt by the database.
          const [standing] = await this.#queue.find([receipt.id]).catch(() => [])
          if (standing?.status === 'QUEUED') return
          look = true
          wake()
        }, lookAgainMs)
        try {
          while (!signal.aborted) {
            if (settled) return { ...receipt, ...settled }
            if (look) {
              // Once at the start, since it may have happened before the watch began; and whenever an event may have been missed.
              look = false
              const now = await this.find(receipt.id).catch(() => undefined)
              if (now && now.status !== 'QUEUED') return { ...now, duplicate: receipt.duplicate }
              continue
            }
            await new Promise<void>((resolve) => {
              wake = resolve
            })
          }
          return receipt
        } finally {
          clearInterval(timer)
          signal.removeEventListener('abort', abort)
        }
      },
    }
  }
}

export function receiptOf(id: string, standing: Standing, duplicate = false): Receipt {
  const { status, at, failure } = standing
  return { id, status, duplicate, acceptedAt: new Date(at), content: undefined, failure }
}
