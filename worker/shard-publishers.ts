/**
 * Publishes the outcome of a batch with a publisher for each shard of the queue. Invariant: a shard that is unavailable holds up no entries of
 * others. Its entries are let go of: they stay in it, and are redelivered and published when it is back.
 */
import type { Log } from '../src/model/log.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { ShardUnavailable } from './backoff.ts'
import type { Outcome } from './outcome.ts'
import type { Publisher } from './publisher.ts'

interface Deps {
  consumer: Pick<Consumer, 'release' | 'shardOf' | 'shardCount'>
  open: () => Publisher
  log: Log
}

export class ShardPublishers implements Pick<Publisher, 'publish'> {
  readonly #deps: Deps
  readonly #publishers = new Map<number, Publisher>()

  constructor(deps: Deps) {
    this.#deps = deps
  }

  /** As Publisher.publish; resolves also when a shard is unavailable. */
  async publish(outcome: Outcome): Promise<void> {
    if (this.#deps.consumer.shardCount?.() === 1) return await this.#publish(0, outcome)
    const parts = [...this.#split(outcome)].map(([shard, part]) => this.#publish(shard, part))
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  async #publish(shard: number, part: Outcome): Promise<void> {
    let publisher = this.#publishers.get(shard)
    if (!publisher) {
      publisher = this.#deps.open()
      this.#publishers.set(shard, publisher)
    }
    try {
      await publisher.publish(part)
    } catch (error) {
      if (!(error instanceof ShardUnavailable)) throw error
      const entries = [...part.entries, ...part.deadLetters.map(({ entry }) => entry)]
      this.#deps.log.warn(
        { shard, entries: entries.length, reason: error.message },
        'a shard of the queue is unavailable; its entries stay in it and are received again',
      )
      this.#deps.consumer.release(entries).catch(() => {})
    }
  }

  #split({ saved, entries, deadLetters }: Outcome): Map<number, Outcome> {
    const parts = new Map<number, Outcome>()
    const partOf = (shard: number) => {
      let part = parts.get(shard)
      if (!part) {
        part = { saved: [], entries: [], deadLetters: [] }
        parts.set(shard, part)
      }
      return part
    }
    const shardOf = (entry: Entry) => this.#deps.consumer.shardOf?.(entry) ?? 0
    const ofIds = new Map<string | undefined, number>()
    for (const entry of entries) {
      const shard = shardOf(entry)
      ofIds.set(entry.id, shard)
      partOf(shard).entries.push(entry)
    }
    for (const one of deadLetters) partOf(shardOf(one.entry)).deadLetters.push(one)
    for (const one of saved) partOf(ofIds.get(one.row.id) ?? 0).saved.push(one)
    return parts
  }
}
