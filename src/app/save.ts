/** The use case `save`: check, number, digest, accept. Nothing here waits for the database. */
import { parseId, problemOf } from '../model/content.ts'
import { badInput, SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { encode, type Message } from '../model/message.ts'
import type { Meter } from '../model/meter.ts'
import type { Sending, Tracer } from '../model/tracer.ts'
import { digestOf, type Enqueued, type Item } from '../queue/queue.ts'
import type { Bytes } from './bytes.ts'
import type { EnqueueBatcher } from './enqueue-batcher.ts'
import { newId } from './new-id.ts'
import { type Receipt, type Receipts, receiptOf } from './receipts.ts'

export interface SaveInput {
  content: unknown
  id?: unknown
}

export const saveManyLimit = 1_000
export const waitLimitMs = 60_000

/** Whoever waits for an answer. */
export interface Client {
  /** Calls back when the client is gone, until the function that it returns is called. */
  onLeave(left: () => void): () => void
}

export interface SavesOptions {
  contentMaxBytes: number
  bytes: Bytes
  meter: Meter
  /** undefined: nothing is traced. */
  tracer: Tracer | undefined
  log: Log
}

export class Saves {
  readonly #batcher: EnqueueBatcher
  readonly #receipts: Receipts
  readonly #options: SavesOptions
  #refused = 0

  constructor(batcher: EnqueueBatcher, receipts: Receipts, options: SavesOptions) {
    this.#batcher = batcher
    this.#receipts = receipts
    this.#options = options
  }

  /** Accepts one content. Throws BAD_USER_INPUT, and as Intake.accept says. */
  async save(input: SaveInput): Promise<Receipt> {
    const sending = this.#options.tracer?.send()
    const item = this.#item(input, '', sending)
    const [enqueued] = await this.#enqueue([item], sending)
    return receiptOf(item.id, enqueued!, enqueued!.duplicate)
  }

  /**
   * As save, but answers only when it is saved or failed, or after `waitMs`, or when the client has left. While the requests that wait for
   * an answer take half of the room there is for them, it answers as save does.
   */
  async saveAndWait(input: SaveInput, waitMs: number, client?: Client): Promise<Receipt> {
    if (waitMs < 0 || waitMs > waitLimitMs) throw badInput(`waitMs must be from 0 to ${waitLimitMs}, got ${waitMs}`)
    const sending = this.#options.tracer?.send()
    const item = this.#item(input, '', sending)
    const watch = this.#receipts.watch(item.id)
    try {
      const [enqueued] = await this.#enqueue([item], sending)
      const receipt = receiptOf(item.id, enqueued!, enqueued!.duplicate)
      const { held, most } = this.#options.bytes.in
      if (waitMs === 0 || receipt.status !== 'QUEUED' || held > most / 2) return receipt
      const enough = new AbortController()
      const timer = setTimeout(() => enough.abort(), waitMs)
      const stay = client?.onLeave(() => enough.abort())
      try {
        return await watch.final(receipt, enough.signal)
      } finally {
        clearTimeout(timer)
        stay?.()
      }
    } finally {
      watch.stop()
    }
  }

  /** Accepts all or none. */
  async saveMany(inputs: readonly SaveInput[]): Promise<Receipt[]> {
    if (inputs.length > saveManyLimit)
      throw badInput(`at most ${saveManyLimit} inputs may be saved at once, got ${inputs.length}`)
    if (inputs.length === 0) return []
    const sending = this.#options.tracer?.send()
    const items = inputs.map((input, i) => this.#item(input, `inputs[${i}].`, sending))
    const enqueued = await this.#enqueue(items, sending)
    return enqueued.map((saveState, i) => receiptOf(items[i]!.id, saveState, saveState.duplicate))
  }

  async #enqueue(items: readonly Item[], sending: Sending | undefined): Promise<Enqueued[]> {
    const { meter } = this.#options
    const started = performance.now()
    try {
      const enqueued = await this.#acceptOrKnow(items)
      meter.enqueued(items.length, (performance.now() - started) / 1_000)
      sending?.end(items.map(({ id }) => id))
      return enqueued
    } catch (error) {
      const code = error instanceof SpillwayError ? error.code : 'INTERNAL_SERVER_ERROR'
      meter.rejected(items.length, code)
      sending?.end(
        items.map(({ id }) => id),
        code,
      )
      this.#logRefusal(items.length, code)
      throw error
    }
  }

  /** What the queue refuses may be the retry of a save that it has forgotten. */
  async #acceptOrKnow(items: readonly Item[]): Promise<Enqueued[]> {
    try {
      return await this.#batcher.enqueue(items)
    } catch (error) {
      if (!(error instanceof SpillwayError) || error.code !== 'ID_CONFLICT') throw error
      const known = await this.#receipts.known(items)
      if (known.size === 0) throw error
      const rest = items.filter((item) => !known.has(item))
      const enqueued = (rest.length === 0 ? [] : await this.#batcher.enqueue(rest)).values()
      return items.map((item) => known.get(item) ?? enqueued.next().value!)
    }
  }

  /** One line a second at the most, however many are refused. */
  #logRefusal(saves: number, code: string): void {
    this.#refused += saves
    if (this.#refused > saves) return
    setTimeout(() => {
      this.#options.log.warn({ saves: this.#refused, code }, 'saves were refused')
      this.#refused = 0
    }, 1_000)
  }

  #item({ content, id: given }: SaveInput, path: string, sending: Sending | undefined): Item {
    const problem = problemOf(content, this.#options.contentMaxBytes)
    if (problem) throw badInput(`${path}${problem}`)
    const id = given === undefined || given === null ? newId() : parseId(given)
    if (id === undefined) throw badInput(`${path}id must be a UUID, such as ${newId()}; leave it out to be given one`)
    const text = content as string
    const at = Date.now()
    const message: Message = { v: 1, type: 'content', id, at, content: text }
    if (sending) message.trace = sending.context
    return { id, digest: digestOf(text), at, body: encode(message), fresh: given === undefined || given === null }
  }
}
