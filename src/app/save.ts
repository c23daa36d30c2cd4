/** The use case `save`: check, number, digest, accept. Nothing here waits for the database. */
import { parseId, problemOf } from '../model/content.ts'
import { SpillwayError } from '../model/error.ts'
import type { Log } from '../model/log.ts'
import { encode } from '../model/message.ts'
import type { Meter } from '../model/meter.ts'
import type { Accepted, Item } from '../queue/queue.ts'
import { digestOf } from './digest.ts'
import type { Intake } from './intake.ts'
import { newId } from './new-id.ts'
import { type Receipt, type Receipts, receiptOf } from './receipts.ts'

export interface SaveInput {
  content: unknown
  id?: unknown
}

export const saveManyLimit = 1_000
export const waitLimitMs = 60_000

export class Saves {
  readonly #intake: Intake
  readonly #receipts: Receipts
  readonly #options: { contentMaxBytes: number; meter: Meter; log: Log }
  #refused = 0

  constructor(intake: Intake, receipts: Receipts, options: { contentMaxBytes: number; meter: Meter; log: Log }) {
    this.#intake = intake
    this.#receipts = receipts
    this.#options = options
  }

  /** Accepts one content. Throws BAD_USER_INPUT, and as Intake.accept says. */
  async save(input: SaveInput): Promise<Receipt> {
    const item = this.#item(input, '')
    const [accepted] = await this.#accept([item])
    return receiptOf(item.id, accepted!, accepted!.duplicate)
  }

  /** As save, but answers only when it is saved or failed, or after `waitMs`. */
  async saveAndWait(input: SaveInput, waitMs: number): Promise<Receipt> {
    if (waitMs < 0 || waitMs > waitLimitMs) throw badInput(`waitMs must be from 0 to ${waitLimitMs}, got ${waitMs}`)
    const item = this.#item(input, '')
    const watch = this.#receipts.watch(item.id)
    try {
      const [accepted] = await this.#accept([item])
      const receipt = receiptOf(item.id, accepted!, accepted!.duplicate)
      if (waitMs === 0 || receipt.status !== 'QUEUED') return receipt
      return await watch.settled(receipt, AbortSignal.timeout(waitMs))
    } finally {
      watch.stop()
    }
  }

  /** Accepts all or none. */
  async saveMany(inputs: readonly SaveInput[]): Promise<Receipt[]> {
    if (inputs.length > saveManyLimit)
      throw badInput(`at most ${saveManyLimit} inputs may be saved at once, got ${inputs.length}`)
    if (inputs.length === 0) return []
    const items = inputs.map((input, i) => this.#item(input, `inputs[${i}].`))
    const accepted = await this.#accept(items)
    return accepted.map((standing, i) => receiptOf(items[i]!.id, standing, standing.duplicate))
  }

  async #accept(items: readonly Item[]): Promise<Accepted[]> {
    const { meter } = this.#options
    const started = performance.now()
    try {
      const accepted = await this.#intake.accept(items)
      meter.accepted(items.length, (performance.now() - started) / 1_000)
      return accepted
    } catch (error) {
      const code = error instanceof SpillwayError ? error.code : 'INTERNAL_SERVER_ERROR'
      meter.rejected(items.length, code)
      this.#logRefusal(items.length, code)
      throw error
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

  #item({ content, id: given }: SaveInput, path: string): Item {
    const problem = problemOf(content, this.#options.contentMaxBytes)
    if (problem) throw badInput(`${path}${problem}`)
    const id = given === undefined || given === null ? newId() : parseId(given)
    if (id === undefined) throw badInput(`${path}id must be a UUID, such as ${newId()}; leave it out to be given one`)
    const text = content as string
    const at = Date.now()
    return { id, digest: digestOf(text), at, body: encode({ v: 1, type: 'content', id, at, content: text }) }
  }
}

export function badInput(message: string): SpillwayError {
  return new SpillwayError('BAD_USER_INPUT', message)
}
