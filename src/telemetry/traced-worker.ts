/**
 * Wraps the consumer, the store and the events log of a worker, so that each step of a traced message is reported to the tracer. No code
 * in worker/ traces. Invariant: memory is bounded by the entries that the worker has received and not acknowledged, and the spans of
 * one step by `mostFollowed`, however many messages are traced.
 */
import { StoreFault, type Writer } from '../db/store.ts'
import type { EventLog, KnownEvent } from '../events/events.ts'
import { SpillwayError } from '../model/error.ts'
import { traceOf } from '../model/message.ts'
import type { Processing, Step, Tracer } from '../model/tracer.ts'
import type { Consumer, Entry } from '../queue/queue.ts'

export interface Traceable {
  consumer: Consumer
  store: Writer
  events: Pick<EventLog, 'append'>
}

/** How many contexts of one batch are traced. Messages that were sent together share a context. */
const mostFollowed = 100

/** The messages of one batch that share a context. */
interface Followed {
  context: string
  batch: { processing: Processing; left: number }
}

export function traced({ consumer, store, events }: Traceable, tracer: Tracer): Traceable {
  const following = new Following(tracer)
  return {
    consumer: {
      async receive(limit, waitMs) {
        const entries = await consumer.receive(limit, waitMs)
        following.received(entries)
        return entries
      },
      ...(consumer.shardOf && {
        shardOf: (entry) => consumer.shardOf!(entry),
        shardCount: () => consumer.shardCount!(),
      }),
      markSaved: (entries) => consumer.markSaved(entries),
      async ack(entries) {
        await consumer.ack(entries)
        for (const { id } of entries) following.done(id)
      },
      deadLetter: (deadLetters) => consumer.deadLetter(deadLetters),
      extendLease: (entries) => consumer.extendLease(entries),
      async release(entries) {
        for (const { id } of entries) following.done(id)
        await consumer.release(entries)
      },
      countAttempt: (entry) => consumer.countAttempt(entry),
      withdrawAttempt: (entry) => consumer.withdrawAttempt(entry),
      probe: () => consumer.probe(),
      async close() {
        following.close()
        await consumer.close()
      },
    },
    store: {
      limits: (model) => store.limits(model),
      existing: (model, ids) => store.existing(model, ids),
      probe: (model) => store.probe(model),
      insert(model, rows) {
        const all = following.of(rows.map(({ id }) => id))
        return step(
          () => store.insert(model, rows),
          (outcome) => {
            const inserted = { ...outcome, count: rows.length, table: model.table }
            for (const { batch, context } of all.keys()) batch.processing.inserted(context, inserted)
          },
        )
      },
    },
    events: {
      async append(entries) {
        const published = entries.flat()
        const all = following.of(published.map(idOf))
        await step(
          () => events.append(entries),
          (outcome) => {
            for (const [{ batch, context }, index] of all) {
              const event = published[index]!
              const failure = event.type === 'failed' ? event.failure.code : undefined
              batch.processing.published(context, { ...outcome, count: published.length, failure })
            }
          },
        )
        // A failed message is dead-lettered already; a saved one is acknowledged later.
        for (const event of published) if (event.type === 'failed') following.done(event.id)
      },
    },
  }
}

class Following {
  readonly #tracer: Tracer
  /** By message id. */
  readonly #followed = new Map<string, Followed>()

  constructor(tracer: Tracer) {
    this.#tracer = tracer
  }

  received(entries: readonly Entry[]): void {
    const contexts = new Map<string, string[]>()
    for (const { id, body } of entries) {
      const context = id === undefined ? undefined : traceOf(body)
      if (context === undefined) continue
      const ids = contexts.get(context)
      if (ids) ids.push(id!)
      else if (contexts.size < mostFollowed) contexts.set(context, [id!])
    }
    if (contexts.size === 0) return
    const batch = { processing: this.#tracer.process([...contexts.keys()], entries.length), left: 0 }
    for (const [context, ids] of contexts) {
      const followed = { context, batch }
      for (const id of ids) {
        const before = this.#followed.get(id)
        // The batch has the id twice, for one row.
        if (before?.batch === batch) continue
        // The queue has delivered it again.
        this.done(id)
        this.#followed.set(id, followed)
        batch.left += 1
      }
    }
  }

  /** The followed contexts of these ids, each once, with the index of its first id. */
  of(ids: readonly string[]): Map<Followed, number> {
    const all = new Map<Followed, number>()
    if (this.#followed.size === 0) return all
    ids.forEach((id, index) => {
      const followed = this.#followed.get(id)
      if (followed && !all.has(followed)) all.set(followed, index)
    })
    return all
  }

  done(id: string | undefined): void {
    const followed = id === undefined ? undefined : this.#followed.get(id)
    if (!followed) return
    this.#followed.delete(id!)
    followed.batch.left -= 1
    if (followed.batch.left === 0) followed.batch.processing.end()
  }

  /** Ends the spans of entries that stay in the queue. */
  close(): void {
    for (const id of [...this.#followed.keys()]) this.done(id)
  }
}

async function step(act: () => Promise<void>, report: (outcome: Omit<Step, 'count'>) => void): Promise<void> {
  const startedAt = Date.now()
  const started = performance.now()
  let kind: string | undefined
  try {
    await act()
  } catch (error) {
    kind = kindOf(error)
    throw error
  } finally {
    report({ startedAt, tookMs: performance.now() - started, error: kind })
  }
}

/** A code, never a message, which may quote content or name a host. */
function kindOf(error: unknown): string {
  if (error instanceof StoreFault) return error.vendorCode ?? error.kind
  return error instanceof SpillwayError ? error.code : '_OTHER'
}

const idOf = (event: KnownEvent) => (event.type === 'saved' ? event.row.id : event.id)
