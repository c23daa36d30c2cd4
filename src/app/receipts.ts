/**
 * Receipts: the state of a save. Invariants: a save that was enqueued always has a receipt; its state never goes back; the receipt of an
 * id is that of its first content, and a later sender of other content gets the receipt of that content (its content: its model and
 * values, which the digest stands for). The queue answers first: an id
 * is pending until its row is committed and the cache is invalidated, and it is saved before its event is published. Only ids that the
 * queue no longer has are looked up in the store.
 */
import type { Follower } from '../events/follower.ts'
import { type Failure, SpillwayError } from '../model/error.ts'
import { digestOf, type Model, type Models, modelNameOf, type Row } from '../model/model.ts'
import type { Enqueued, Item, Queue, SaveState } from '../queue/queue.ts'
import { IdWatch } from './id-watch.ts'
import type { Rows } from './rows.ts'

export interface Receipt {
  id: string
  model: Model
  status: 'QUEUED' | 'SAVED' | 'FAILED'
  /** Whether the save was a retry of one that is known already. */
  duplicate: boolean
  acceptedAt: Date
  /** How many dead letters with the code ID_CONFLICT the id has. */
  conflicts: number
  /** Of the content that this receipt is for; undefined: the first content of the id. */
  digest: string | undefined
  /** The row, where it was read already; undefined: look it up, if the status is not QUEUED. */
  row: Row | undefined
  /** With FAILED. */
  failure: Failure | undefined
}

/** Not every failure has an event: a worker may crash after it dead-lettered a message and before it published that. */
const refreshEveryMs = 5_000

export class Receipts {
  readonly #queue: Pick<Queue, 'find'>
  readonly #models: Models
  readonly #rows: Pick<Rows, 'find' | 'findAny'>
  readonly #follower: Follower

  constructor(deps: {
    models: Models
    queue: Pick<Queue, 'find'>
    rows: Pick<Rows, 'find' | 'findAny'>
    follower: Follower
  }) {
    this.#models = deps.models
    this.#queue = deps.queue
    this.#rows = deps.rows
    this.#follower = deps.follower
  }

  /** The receipt of the id's first content; undefined for an id that was never enqueued. Throws QUEUE_UNAVAILABLE, OUTCOME_UNKNOWN,
   *  STORE_UNAVAILABLE. */
  find(id: string): Promise<Receipt | undefined> {
    return this.#find(id, undefined)
  }

  async #find(id: string, digest: string | undefined): Promise<Receipt | undefined> {
    const [saveState] = await this.#queue.find([id], digest)
    const model = saveState && this.#modelOf(saveState)
    const receipt = model && { ...receiptOf(id, model, saveState), digest }
    if (receipt?.status === 'QUEUED') return await this.#pending(receipt, saveState!)
    const { conflicts = 0, failure } = receipt ?? {}
    // A dead letter may have the content of a later sender. Without a digest the row decides.
    if (receipt && !(receipt.status === 'FAILED' && digest === undefined)) return receipt
    const found = await this.#rows.findAny(id, model).catch((error) => {
      // A dead letter ID_CONFLICT proves that there is a row; with other dead letters there is hardly ever one.
      if (!receipt || failure?.code === 'ID_CONFLICT' || !(error instanceof SpillwayError)) throw error
      return undefined
    })
    if (!found || (digest !== undefined && digestOf(found.model, found.row) !== digest)) return receipt
    return {
      id,
      model: found.model,
      status: 'SAVED',
      duplicate: false,
      acceptedAt: found.row.createdAt,
      conflicts,
      digest,
      row: found.row,
      failure: undefined,
    }
  }

  /** The model of a save. A save of release 0.1, whose digest names none, is of the first model; one of a newer release is of none here. */
  #modelOf({ digest }: SaveState): Model | undefined {
    const name = modelNameOf(digest)
    return name === undefined ? this.#models.values().next().value : this.#models.get(name)
  }

  /**
   * A pending id is QUEUED, unless it was saved long ago and the pending message is a retry, or has the content of a later sender: then
   * the receipt stays SAVED. A row that the pending message itself wrote does not count: cached pages may lack it until the queue says
   * SAVED. Tables of other models are not asked: one that is locked must not delay the receipts of every pending save.
   */
  async #pending(receipt: Receipt, saveState: SaveState): Promise<Receipt> {
    try {
      const { model } = receipt
      const row = await this.#rows.find(model, receipt.id)
      if (!row) return receipt
      const isSame = digestOf(model, row) === saveState.digest
      const isBefore = isSame ? +row.createdAt !== saveState.at : receipt.digest === undefined
      if (isBefore) return { ...receipt, status: 'SAVED', acceptedAt: row.createdAt, row }
    } catch (error) {
      // While the database is unavailable, the receipt says what the queue knows.
      if (!(error instanceof SpillwayError)) throw error
    }
    return receipt
  }

  /**
   * Of the items of a call that the queue refused with ID_CONFLICT, those that are known with their own content. The queue keeps only the
   * last saved ids, and may have enqueued other content under an older one; the row has the first content. The store is read only if
   * that may have happened. Throws as `find`.
   */
  async known(model: Model, items: readonly Item[]): Promise<Map<Item, Enqueued>> {
    const given = items.filter(({ fresh }) => !fresh)
    const states = await this.#queue.find(given.map(({ id }) => id))
    const known = new Map<Item, Enqueued>()
    const check = async (item: Item, saveState: SaveState | undefined) => {
      const { id, digest } = item
      if (saveState?.digest === digest) known.set(item, { ...saveState, duplicate: true })
      if (!saveState || saveState.digest === digest) return
      // Of this model, the content that the queue remembers as saved is the row's.
      if (saveState.status === 'SAVED' && this.#modelOf(saveState) === model) return
      const row = await this.#row(model, id)
      if (!row || digestOf(model, row) !== digest) return
      const { conflicts } = saveState
      known.set(item, { status: 'SAVED', digest, at: +row.createdAt, conflicts, duplicate: true })
    }
    await Promise.all(given.map((item, i) => check(item, states[i])))
    return known
  }

  async #row(model: Model, id: string): Promise<Row | undefined> {
    try {
      return await this.#rows.find(model, id)
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code !== 'STORE_UNAVAILABLE') throw error
      throw new SpillwayError(
        'STORE_UNAVAILABLE',
        `The queue has other content under the id ${id}, and the database cannot be asked whether this content is saved under it. Nothing was enqueued; try again.`,
        { retryAfterMs: error.retryAfterMs ?? 1_000, cause: error },
      )
    }
  }

  /** The receipt, then each change up to SAVED or FAILED. Yields nothing for an id that was never enqueued. */
  async *changes(id: string, signal: AbortSignal): AsyncGenerator<Receipt> {
    const first = await this.find(id)
    if (!first) return
    yield first
    if (first.status !== 'QUEUED') return
    const last = await this.final(first, signal)
    if (last.status !== 'QUEUED') yield last
  }

  /** Begins to watch an id. Called before the enqueue, it misses nothing between the enqueue and `final`. */
  watch(id: string): IdWatch {
    return new IdWatch(this.#follower, id)
  }

  /** The receipt as soon as it is SAVED or FAILED; unchanged when `signal` aborts before. Ends the watch. */
  async final(receipt: Receipt, signal: AbortSignal, watch = this.watch(receipt.id)): Promise<Receipt> {
    const { id, digest, duplicate } = receipt
    const timer = setInterval(() => this.#refresh(watch, id, digest), refreshEveryMs)
    try {
      if (receipt.status !== 'QUEUED') return receipt
      for (let news = await watch.next(signal); news; news = await watch.next(signal)) {
        const { saved } = news
        const isSaved = saved && (digest === undefined || digestOf(saved.model, saved.row) === digest)
        if (isSaved) return { ...receipt, model: saved.model, status: 'SAVED', row: saved.row }
        const now = await this.#find(id, digest).catch(() => undefined)
        if (now && now.status !== 'QUEUED') return { ...now, duplicate }
      }
      return receipt
    } finally {
      clearInterval(timer)
      watch.stop()
    }
  }

  /** Asks the queue alone, so that waiting clients cost the database nothing. */
  async #refresh(watch: IdWatch, id: string, digest: string | undefined): Promise<void> {
    const [saveState] = await this.#queue.find([id], digest).catch(() => [])
    if (saveState?.status !== 'QUEUED') watch.refresh()
  }
}

export function receiptOf(id: string, model: Model, saveState: SaveState, duplicate = false): Receipt {
  const { status, digest, at, conflicts, failure } = saveState
  return { id, model, status, duplicate, acceptedAt: new Date(at), conflicts, digest, row: undefined, failure }
}
