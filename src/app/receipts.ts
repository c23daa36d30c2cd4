/**
 * Where a save stands. Invariant: never unknown once accepted, and never backwards; an id stands as its first content does, and what a
 * later sender of other content is told concerns that content only. The queue decides first (an id is pending until its row is committed
 * and the cache bumped, and saved before its event is there); only what the queue does not know any more is looked up in the store.
 */
import type { Follower } from '../events/follower.ts'
import type { Content } from '../model/content.ts'
import { type Failure, SpillwayError } from '../model/error.ts'
import { digestOf, type Enqueued, type Item, type Queue, type SaveState } from '../queue/queue.ts'
import type { Contents } from './contents.ts'

export interface Receipt {
  id: string
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  /** Whether the save this answers was a retry of one that is known already. */
  duplicate: boolean
  acceptedAt: Date
  /** How many dead letters with the code ID_CONFLICT the id has. */
  conflicts: number
  /** Of the content that this receipt is for; undefined: for the one that the id stands for. */
  digest: string | undefined
  /** The row, where it is at hand; undefined: look it up, if the status is not QUEUED. */
  content: Content | undefined
  /** With FAILED. */
  failure: Failure | undefined
}

/** Not every end is announced: a worker may die between burying a message and saying so, and nobody takes that up. */
const refreshEveryMs = 5_000

export class Receipts {
  readonly #queue: Pick<Queue, 'find'>
  readonly #contents: Pick<Contents, 'find'>
  readonly #follower: Follower

  constructor(queue: Pick<Queue, 'find'>, contents: Pick<Contents, 'find'>, follower: Follower) {
    this.#queue = queue
    this.#contents = contents
    this.#follower = follower
  }

  /** The receipt of what the id stands for, now; undefined for an id that was never accepted. Throws QUEUE_UNAVAILABLE,
   *  OUTCOME_UNKNOWN, STORE_UNAVAILABLE. */
  find(id: string): Promise<Receipt | undefined> {
    return this.#find(id, undefined)
  }

  async #find(id: string, digest: string | undefined): Promise<Receipt | undefined> {
    const [saveState] = await this.#queue.find([id], digest)
    const receipt = saveState && { ...receiptOf(id, saveState), digest }
    if (receipt?.status === 'QUEUED') return await this.#pending(receipt, saveState!)
    const { conflicts = 0, failure } = receipt ?? {}
    // A dead letter may be a later sender's: for whoever asks without a digest the id stands as its row does.
    if (receipt && !(receipt.status === 'FAILED' && digest === undefined)) return receipt
    const content = await this.#contents.find(id).catch((error) => {
      // Of an ID_CONFLICT it is known that there is a row; of other letters hardly ever is there one.
      if (!receipt || failure?.code === 'ID_CONFLICT' || !(error instanceof SpillwayError)) throw error
      return undefined
    })
    if (!content || (digest !== undefined && digestOf(content.content) !== digest)) return receipt
    return {
      id,
      status: 'SAVED',
      duplicate: false,
      acceptedAt: content.createdAt,
      conflicts,
      digest,
      content,
      failure: undefined,
    }
  }

  /**
   * A pending id is QUEUED, unless it was saved long ago: either it is only sent once more, or what is pending is a later sender's. Then it
   * is SAVED, as it was before. A row of the very message that is pending does not count: the cache may not know it yet, and the queue
   * will say when it does.
   */
  async #pending(receipt: Receipt, saveState: SaveState): Promise<Receipt> {
    try {
      const content = await this.#contents.find(receipt.id)
      if (!content) return receipt
      const isSame = digestOf(content.content) === saveState.digest
      const isBefore = isSame ? +content.createdAt !== saveState.at : receipt.digest === undefined
      if (isBefore) return { ...receipt, status: 'SAVED', acceptedAt: content.createdAt, content }
    } catch (error) {
      // That the database is away is no reason to say less than the queue knows.
      if (!(error instanceof SpillwayError)) throw error
    }
    return receipt
  }

  /**
   * Of items that the queue refused with ID_CONFLICT, those that are known with their own content all the same. The queue forgets what
   * is saved, and then takes a later sender's content under the id: the row tells whose it is. Only where what the queue has may be such a
   * content is the store asked. Throws as `find`.
   */
  async known(items: readonly Item[]): Promise<Map<Item, Enqueued>> {
    const given = items.filter(({ fresh }) => !fresh)
    const standings = await this.#queue.find(given.map(({ id }) => id))
    const known = new Map<Item, Enqueued>()
    const refresh = async (item: Item, saveState: SaveState | undefined) => {
      const { id, digest } = item
      if (saveState?.digest === digest) known.set(item, { ...saveState, duplicate: true })
      if (!saveState || saveState.digest === digest || saveState.status === 'SAVED') return
      const content = await this.#row(id)
      if (!content || digestOf(content.content) !== digest) return
      const { conflicts } = saveState
      known.set(item, { status: 'SAVED', digest, at: +content.createdAt, conflicts, duplicate: true })
    }
    await Promise.all(given.map((item, i) => refresh(item, standings[i])))
    return known
  }

  async #row(id: string): Promise<Content | undefined> {
    try {
      return await this.#contents.find(id)
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code !== 'STORE_UNAVAILABLE') throw error
      throw new SpillwayError(
        'STORE_UNAVAILABLE',
        `The queue has other content under the id ${id}, and the database cannot be asked whether this content is saved under it. Nothing was accepted; try again.`,
        { retryAfterMs: error.retryAfterMs ?? 1_000, cause: error },
      )
    }
  }

  /** The receipt now, then each change, up to SAVED or FAILED. Nothing at all for an id that was never accepted. */
  async *changes(id: string, signal: AbortSignal): AsyncGenerator<Receipt> {
    const first = await this.find(id)
    if (!first) return
    yield first
    if (first.status !== 'QUEUED') return
    const last = await this.final(first, signal)
    if (last.status !== 'QUEUED') yield last
  }

  /** The receipt as soon as it is SAVED or FAILED; as it stands when `signal` aborts before. */
  async final(receipt: Receipt, signal: AbortSignal): Promise<Receipt> {
    if (receipt.status !== 'QUEUED') return receipt
    const watch = this.watch(receipt.id)
    try {
      return await watch.final(receipt, signal)
    } finally {
      watch.stop()
    }
  }

  /** Begins to watch an id, so that nothing is missed between the accept and the wait. */
  watch(id: string): { final(receipt: Receipt, signal: AbortSignal): Promise<Receipt>; stop(): void } {
    let saved: Content | undefined
    let refresh = true
    let wake = () => {}
    const stop = this.#follower.watch(id, (event) => {
      // A failure may be that of other content under this id: the queue tells.
      if (event?.type === 'saved') saved = event.content
      else refresh = true
      wake()
    })
    return {
      stop,
      final: async (receipt, signal) => {
        const { id, digest, duplicate } = receipt
        const abort = () => wake()
        signal.addEventListener('abort', abort)
        const timer = setInterval(async () => {
          // The queue alone is asked: those who wait are not to be felt by the database.
          const [saveState] = await this.#queue.find([receipt.id], digest).catch(() => [])
          if (saveState?.status === 'QUEUED') return
          refresh = true
          wake()
        }, refreshEveryMs)
        try {
          while (!signal.aborted) {
            if (saved && (digest === undefined || digestOf(saved.content) === digest))
              return { ...receipt, status: 'SAVED', content: saved }
            if (refresh || saved) {
              // Once at the start, since it may have happened before the watch began; and whenever an event may have been missed.
              refresh = false
              saved = undefined
              const now = await this.#find(id, digest).catch(() => undefined)
              if (now && now.status !== 'QUEUED') return { ...now, duplicate }
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

export function receiptOf(id: string, saveState: SaveState, duplicate = false): Receipt {
  const { status, digest, at, conflicts, failure } = saveState
  return { id, status, duplicate, acceptedAt: new Date(at), conflicts, digest, content: undefined, failure }
}
