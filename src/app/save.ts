/** The use case `save`: check the input, give it an id and a digest, enqueue it. Nothing here waits for the database. */
import { randomFillSync } from 'node:crypto'
import { V7Generator } from 'uuidv7'
import { badInput, SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import { parseId, parseInput } from '../model/input.ts'
import type { Log } from '../model/log.ts'
import { encode } from '../model/message.ts'
import type { Meter } from '../model/meter.ts'
import { dataText, digestOf, type Model } from '../model/model.ts'
import type { Sending, Tracer } from '../model/tracer.ts'
import type { Enqueued, Item, Queue } from '../queue/queue.ts'
import type { Bytes } from './bytes.ts'
import type { EnqueueBatcher } from './enqueue-batcher.ts'
import { type Receipt, type Receipts, receiptOf } from './receipts.ts'

export interface SaveInput {
  /** Of the model's columns, as the client sent them. */
  values: Readonly<Record<string, unknown>>
  id?: unknown
}

/** Whose saves they are: of which model, and with which grant. */
export interface Saving {
  model: Model
  grant: Grant
}

export const saveManyLimit = 1_000
export const waitLimitMs = 60_000

/** The connection that waits for an answer. */
export interface Client {
  /** Calls back when the client closes the connection, until the returned function is called. */
  onLeave(left: () => void): () => void
}

export interface SavesDeps {
  queue: Pick<Queue, 'homeId'>
  batcher: EnqueueBatcher
  receipts: Receipts
  bytes: Bytes
  meter: Meter
  /** Undefined: saves are not traced. */
  tracer: Tracer | undefined
  log: Log
}

export class Saves {
  readonly #deps: SavesDeps
  #refused = 0

  constructor(deps: SavesDeps) {
    this.#deps = deps
  }

  /** Enqueues one save. Throws BAD_USER_INPUT, UNAUTHENTICATED, FORBIDDEN, and as EnqueueBatcher.enqueue does. */
  async save(saving: Saving, input: SaveInput): Promise<Receipt> {
    const sending = this.#deps.tracer?.send()
    const item = this.#itemOf(saving, input, '', sending)
    const [enqueued] = await this.#enqueue(saving, [item], sending)
    return receiptOf(item.id, saving.model, enqueued!, enqueued!.duplicate)
  }

  /**
   * As `save`, but returns only when the row is saved or the save failed, after `waitMs`, or when the client has closed its connection. While
   * unanswered requests use more than half of their account (Bytes.in), it returns at once as `save` does.
   */
  async saveAndWait(saving: Saving, input: SaveInput, waitMs: number, client?: Client): Promise<Receipt> {
    if (waitMs < 0 || waitMs > waitLimitMs) throw badInput(`waitMs must be from 0 to ${waitLimitMs}, got ${waitMs}`)
    const sending = this.#deps.tracer?.send()
    const item = this.#itemOf(saving, input, '', sending)
    const { id } = item
    let watch = this.#deps.receipts.watch([id])
    try {
      const [enqueued] = await this.#enqueue(saving, [item], sending)
      if (item.id !== id) {
        watch.stop()
        watch = this.#deps.receipts.watch([item.id])
      }
      const receipt = receiptOf(item.id, saving.model, enqueued!, enqueued!.duplicate)
      const { held, most } = this.#deps.bytes.in
      if (waitMs === 0 || receipt.status !== 'QUEUED' || held > most / 2) return receipt
      const end = new AbortController()
      const timer = setTimeout(() => end.abort(), waitMs)
      const forget = client?.onLeave(() => end.abort())
      try {
        return await this.#deps.receipts.final(receipt, end.signal, watch)
      } finally {
        clearTimeout(timer)
        forget?.()
      }
    } finally {
      watch.stop()
    }
  }

  /** Enqueues all or none. */
  async saveMany(saving: Saving, inputs: readonly SaveInput[]): Promise<Receipt[]> {
    if (inputs.length > saveManyLimit)
      throw badInput(`at most ${saveManyLimit} inputs may be saved at once, got ${inputs.length}`)
    if (inputs.length === 0) return []
    const sending = this.#deps.tracer?.send()
    const items = inputs.map((input, i) => this.#itemOf(saving, input, `inputs[${i}].`, sending))
    const enqueued = await this.#enqueue(saving, items, sending)
    return enqueued.map((saveState, i) => receiptOf(items[i]!.id, saving.model, saveState, saveState.duplicate))
  }

  #itemOf({ model, grant }: Saving, input: SaveInput, path: string, sending: Sending | undefined): Item {
    const values = parseInput(model, input.values, grant, path)
    const data = dataText(model, values)
    const fresh = input.id === undefined || input.id === null
    const id = fresh ? this.#newId() : parseId(input.id)
    if (id === undefined) throw badInput(`${path}id must be a UUID, such as ${newId()}; leave it out to be given one`)
    const at = Date.now()
    const body = encode({ model, id, at, data, trace: sending?.context })
    return { id, digest: digestOf(model, values, data), at, body, fresh }
  }

  #newId(): string {
    const { queue } = this.#deps
    return queue.homeId?.(newId()) ?? newId()
  }

  async #enqueue({ model }: Saving, items: readonly Item[], sending: Sending | undefined): Promise<Enqueued[]> {
    const { meter } = this.#deps
    const started = performance.now()
    try {
      const enqueued = await this.#enqueueOrFind(model, items)
      meter.enqueued(model.name, items.length, (performance.now() - started) / 1_000)
      sending?.end(items.map(({ id }) => id))
      return enqueued
    } catch (error) {
      const code = error instanceof SpillwayError ? error.code : 'INTERNAL_SERVER_ERROR'
      meter.rejected(model.name, items.length, code)
      sending?.end(
        items.map(({ id }) => id),
        code,
      )
      this.#logRefusal(items.length, code)
      throw error
    }
  }

  /** Every save comes through here: what it costs where nothing is refused, each of them pays. */
  async #enqueueOrFind(model: Model, items: readonly Item[]): Promise<Enqueued[]> {
    try {
      return await this.#deps.batcher.enqueue(items)
    } catch (error) {
      const code = error instanceof SpillwayError ? error.code : undefined
      if (code === 'ID_CONFLICT') return await this.#enqueueUnknown(model, items, error)
      const isRefused = code === 'QUEUE_UNAVAILABLE' || code === 'QUEUE_FULL'
      if (!isRefused || !this.#deps.queue.homeId || !items.every(({ fresh }) => fresh)) throw error
      return await this.#enqueueElsewhere(items)
    }
  }

  /** Where a shard refuses items whose ids are all from this process, they get ids of another shard. */
  async #enqueueElsewhere(items: readonly Item[]): Promise<Enqueued[]> {
    for (const item of items) {
      const id = this.#newId()
      // The first thing in a message that is a UUID.
      item.body = item.body.replace(item.id, id)
      item.id = id
    }
    return await this.#deps.batcher.enqueue(items)
  }

  /** An item that the queue refuses with ID_CONFLICT may be a retry of a save whose id the queue no longer has. */
  async #enqueueUnknown(model: Model, items: readonly Item[], conflict: unknown): Promise<Enqueued[]> {
    const known = await this.#deps.receipts.known(model, items)
    if (known.size === 0) throw conflict
    const rest = items.filter((item) => !known.has(item))
    const enqueued = (rest.length === 0 ? [] : await this.#deps.batcher.enqueue(rest)).values()
    return items.map((item) => known.get(item) ?? enqueued.next().value!)
  }

  /** Logs at most one line a second, whatever the number of refused saves. */
  #logRefusal(saves: number, code: string): void {
    this.#refused += saves
    if (this.#refused > saves) return
    setTimeout(() => {
      this.#deps.log.warn({ saves: this.#refused, code }, 'saves were refused')
      this.#refused = 0
    }, 1_000)
  }
}

/** The package asks the system for random bytes at every other id; asking for a page of them at once makes a save 2 % cheaper. */
const pool = new Uint32Array(1_024)
let used = pool.length

const generator = new V7Generator({
  nextUint32() {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    return pool[used++]!
  },
})

/** An id for a save without one: UUIDv7, ordered by time. */
function newId(): string {
  return generator.generate().toString()
}
