/**
 * Receipts: the state of a save. Invariants: a save that was enqueued always has a receipt; its state never goes back; the receipt of an
 * id is that of its first content, and a later sender of other content gets the receipt of that content (its content: its model and
 * values, which the digest stands for). The queue answers first: an id
 * is pending until its row is committed and the cache is invalidated, and it is saved before its event is published. Only ids that the
 * queue no longer has are looked up in the store.
 */
import type { Follower } from '../events/follower.ts'
import { type Failure, SpillwayError } from '../model/error.ts'
import { digestOf, type Model, type Models, modelNameOf, type Row, sizeOf } from '../model/model.ts'
import type { Enqueued, Item, Queue, SaveState } from '../queue/queue.ts'
import { Account, Bytes, largeBytes } from './bytes.ts'
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
/** What the process keeps of an id that a client watches: the id, its receipt, its places in two maps and a set. */
const bytesOfWatchedId = 600
/** Looking up so many ids takes the event loop no time that others would notice. */
const fewIds = 50
/** Ids that are looked up at once, of those who ask for more than a few. */
const mostIds = 10_000
/** For how long the others wait. */
const patienceMs = 10_000

export class Receipts {
  readonly #queue: Pick<Queue, 'find'>
  readonly #models: Models
  readonly #rows: Pick<Rows, 'find' | 'findAny'>
  readonly #follower: Follower
  readonly #bytes: Bytes
  readonly #lookUps = new Account('receipts', mostIds, 'looking up as many receipts as it may at once', patienceMs)

  constructor(deps: {
    models: Models
    queue: Pick<Queue, 'find'>
    rows: Pick<Rows, 'find' | 'findAny'>
    follower: Follower
    bytes?: Bytes
  }) {
    this.#models = deps.models
    this.#queue = deps.queue
    this.#rows = deps.rows
    this.#follower = deps.follower
    this.#bytes = deps.bytes ?? new Bytes()
  }

  /** The receipt of the id's first content; undefined for an id that was never enqueued. Throws QUEUE_UNAVAILABLE, STORE_UNAVAILABLE. */
  async find(id: string): Promise<Receipt | undefined> {
    const [receipt] = await this.findAll([id])
    return await receipt
  }

  /**
   * As `find`, of each of the ids, in order: one call of the queue, and one read of the store for each model that is asked (Rows.find). An
   * id whose receipt depends on a table, or a shard of the queue, that cannot be read rejects by itself. With a digest: of that content. Many ids wait for a turn of the
   * event loop and for those that are looked up already, so that saves do not wait for them. Throws OVERLOADED where that takes too long.
   */
  async findAll(ids: readonly string[], digest?: string): Promise<Promise<Receipt | undefined>[]> {
    if (ids.length <= fewIds) return await this.#look(ids, digest)
    await this.#lookUps.reserve(ids.length)
    let found: Promise<Receipt | undefined>[] = []
    try {
      await this.#bytes.turn()
      found = await this.#look(ids, digest)
    } finally {
      void Promise.allSettled(found).then(() => this.#lookUps.release(ids.length))
    }
    return found
  }

  async #look(ids: readonly string[], digest: string | undefined): Promise<Promise<Receipt | undefined>[]> {
    const states = await this.#queue.find(ids, digest)
    if (ids.length > fewIds) await this.#bytes.turn()
    const kept = new Kept()
    return ids.map((id, i) => this.#receipt(id, states[i], digest, kept))
  }

  async #receipt(
    id: string,
    saveState: SaveState | SpillwayError | undefined,
    digest: string | undefined,
    kept: Kept,
  ): Promise<Receipt | undefined> {
    if (saveState instanceof SpillwayError) throw saveState
    const model = saveState && this.#modelOf(saveState)
    const receipt = model && { ...receiptOf(id, model, saveState), digest }
    if (receipt?.status === 'QUEUED') return await this.#pending(receipt, saveState!, kept)
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
      row: kept.keep(found.model, found.row),
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
  async #pending(receipt: Receipt, saveState: SaveState, kept: Kept): Promise<Receipt> {
    try {
      const { model } = receipt
      const row = await this.#rows.find(model, receipt.id)
      if (!row) return receipt
      const isSame = digestOf(model, row) === saveState.digest
      const isBefore = isSame ? +row.createdAt !== saveState.at : receipt.digest === undefined
      if (isBefore) return { ...receipt, status: 'SAVED', acceptedAt: row.createdAt, row: kept.keep(model, row) }
    } catch (error) {
      // While the database is unavailable, the receipt says what the queue knows.
      if (!(error instanceof SpillwayError)) throw error
    }
    return receipt
  }

  /**
   * Of the items of a call that the queue refused with ID_CONFLICT, those that are known with their own content, and no longer pending: of
   * pending ones, only the queue's `enqueue` says that they are durable. The queue keeps only the last saved ids, and may have enqueued
   * other content under an older one; the row has the first content. The store is read only if that may have happened. Throws as `find`.
   */
  async known(model: Model, items: readonly Item[]): Promise<Map<Item, Enqueued>> {
    const given = items.filter(({ fresh }) => !fresh)
    const states = await this.#queue.find(given.map(({ id }) => id))
    const known = new Map<Item, Enqueued>()
    const check = async (item: Item, saveState: SaveState | SpillwayError | undefined) => {
      if (saveState instanceof SpillwayError) throw saveState
      const { id, digest } = item
      const isKnown = saveState?.digest === digest && saveState.status !== 'QUEUED'
      if (isKnown) known.set(item, { ...saveState, duplicate: true })
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

  /**
   * The receipts of those ids that are known, then those that changed, up to SAVED or FAILED of all: what is known at the same time comes
   * together. Ids that were never enqueued are left out; if all were, it yields nothing. Throws as `find`, and OVERLOADED.
   */
  async *changes(ids: readonly string[], signal: AbortSignal): AsyncGenerator<Receipt[]> {
    const distinct = [...new Set(ids)]
    const bytes = distinct.length * bytesOfWatchedId
    this.#bytes.subscriptions.hold(bytes, bytes)
    const pending = new Map<string, Receipt>()
    // Before the first look, so that nothing is missed between the two.
    const watch = this.#refreshed(this.watch(distinct), pending)
    try {
      const found = await Promise.all(await this.findAll(distinct))
      const known = found.filter((receipt) => receipt !== undefined)
      for (const receipt of known) if (receipt.status === 'QUEUED') pending.set(receipt.id, receipt)
      if (known.length > 0) yield known
      while (pending.size > 0) {
        const ended = await this.#next(watch, pending, signal)
        if (!ended) return
        if (ended.length > 0) yield ended
      }
    } finally {
      watch.stop()
      this.#bytes.subscriptions.release(bytes)
    }
  }

  /** Begins to watch ids. Called before the enqueue, it misses nothing between the enqueue and `final`. */
  watch(ids: readonly string[]): IdWatch {
    return new IdWatch(this.#follower, ids)
  }

  /** The receipt as soon as it is SAVED or FAILED; unchanged when `signal` aborts before. Ends the watch. */
  async final(receipt: Receipt, signal: AbortSignal, watching = this.watch([receipt.id])): Promise<Receipt> {
    const pending = new Map([[receipt.id, receipt]])
    const watch = this.#refreshed(watching, pending)
    // It may have been saved before the watch began.
    watching.refresh([receipt.id])
    try {
      if (receipt.status !== 'QUEUED') return receipt
      for (;;) {
        const ended = await this.#next(watch, pending, signal)
        if (!ended) return receipt
        if (ended.length > 0) return ended[0]!
      }
    } finally {
      watch.stop()
    }
  }

  /** Waits for news, and moves those receipts out of `pending` that are SAVED or FAILED. Undefined when the signal aborts. */
  async #next(
    watch: Pick<IdWatch, 'next'>,
    pending: Map<string, Receipt>,
    signal: AbortSignal,
  ): Promise<Receipt[] | undefined> {
    const news = await watch.next(signal)
    if (!news) return undefined
    const ended: Receipt[] = []
    const unclear = new Set(news.stale)
    for (const { model, row } of news.saved) {
      const receipt = pending.get(row.id)
      if (!receipt) continue
      const { digest } = receipt
      const isSaved = digest === undefined || digestOf(model, row) === digest
      if (isSaved) ended.push({ ...receipt, model, status: 'SAVED', row })
      if (isSaved) unclear.delete(row.id)
      else unclear.add(row.id)
    }
    ended.push(...(await this.#ended([...unclear].flatMap((id) => pending.get(id) ?? []))))
    for (const { id } of ended) pending.delete(id)
    return ended
  }

  /** Those that are SAVED or FAILED by now; they are of one digest, or of none. One that cannot be looked up is left out. */
  async #ended(receipts: readonly Receipt[]): Promise<Receipt[]> {
    if (receipts.length === 0) return []
    const ids = receipts.map(({ id }) => id)
    const found = await this.findAll(ids, receipts[0]!.digest).catch(() => [])
    const looked = await Promise.allSettled(found)
    return looked.flatMap((result, i) => {
      const now = result.status === 'fulfilled' ? result.value : undefined
      return now && now.status !== 'QUEUED' ? [{ ...now, duplicate: receipts[i]!.duplicate }] : []
    })
  }

  /** Asks the queue alone for what is pending, now and then, so that waiting clients cost the database nothing. */
  #refreshed(watch: IdWatch, pending: ReadonlyMap<string, Receipt>): Pick<IdWatch, 'next' | 'stop'> {
    const refresh = async () => {
      const [first] = pending.values()
      if (!first) return
      const ids = [...pending.keys()]
      const states = await this.#queue.find(ids, first.digest).catch(() => undefined)
      if (states) watch.refresh(ids.filter((_, i) => !isPending(states[i])))
    }
    const timer = setInterval(refresh, refreshEveryMs)
    return {
      next: (signal) => watch.next(signal),
      stop: () => {
        clearInterval(timer)
        watch.stop()
      },
    }
  }
}

/** The rows that the receipts of one call keep, up to a total size. Further ones are looked up again where they are asked for. */
class Kept {
  #bytes = 0

  keep(model: Model, row: Row): Row | undefined {
    this.#bytes += sizeOf(model, row)
    return this.#bytes > largeBytes ? undefined : row
  }
}

/** Or not known now. */
function isPending(saveState: SaveState | SpillwayError | undefined): boolean {
  return saveState instanceof SpillwayError || saveState?.status === 'QUEUED'
}

export function receiptOf(id: string, model: Model, saveState: SaveState, duplicate = false): Receipt {
  const { status, digest, at, conflicts, failure } = saveState
  return { id, model, status, duplicate, acceptedAt: new Date(at), conflicts, digest, row: undefined, failure }
}
