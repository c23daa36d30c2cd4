/**
 * What a worker works with, traced: the queue, the store and the events log, each as it was, and each step with a traced message told
 * to the tracer. The worker knows nothing of it, and without tracing none of this exists. Invariant: what is kept is bounded by what the
 * worker has in hand, and what is told by `mostFollowed` for each step with a batch, however many messages are traced.
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

/** Of one batch: contexts that are followed. Messages that were sent together have one context, and are followed together. */
const mostFollowed = 100

/** Messages of one batch that were sent in one context. */
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
      markSaved: (entries) => consumer.markSaved(entries),
      async ack(entries) {
        await consumer.ack(entries)
        for (const { id } of entries) following.done(id)
      },
      deadLetter: (deadLetters) => consumer.deadLetter(deadLetters),
      extendLease: (entries) => consumer.extendLease(entries),
      countAttempt: (entry) => consumer.countAttempt(entry),
      withdrawAttempt: (entry) => consumer.withdrawAttempt(entry),
      probe: () => consumer.probe(),
      async close() {
        following.close()
        await consumer.close()
      },
    },
    store: {
      get maxRows() {
        return store.maxRows
      },
      get maxBytes() {
        return store.maxBytes
      },
      existing: (ids) => store.existing(ids),
      probe: () => store.probe(),
      insert(rows) {
        const all = following.of(rows.map(({ id }) => id))
        return step(
          () => store.insert(rows),
          (outcome) => {
            const inserted = { ...outcome, count: rows.length }
            for (const { batch, context } of all.keys()) batch.processing.inserted(context, inserted)
          },
        )
      },
    },
    events: {
      async append(entries) {
        const told = entries.flat()
        const all = following.of(told.map(idOf))
        await step(
          () => events.append(entries),
          (outcome) => {
            for (const [{ batch, context }, index] of all) {
              const event = told[index]!
              const failure = event.type === 'failed' ? event.failure.code : undefined
              batch.processing.published(context, { ...outcome, count: told.length, failure })
            }
          },
        )
        // What failed is buried already; what is saved is yet to be settled.
        for (const event of told) if (event.type === 'failed') following.done(event.id)
      },
    },
  }
}

class Following {
  readonly #tracer: Tracer
  /** By the id of the message. */
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
        // Twice in this batch: one row.
        if (before?.batch === batch) continue
        // Given back, and taken once more.
        this.done(id)
        this.#followed.set(id, followed)
        batch.left += 1
      }
    }
  }

  /** Those to whom these ids belong, each once, with the place of its first id. */
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

  /** What is left goes back to the queue. */
  close(): void {
    for (const id of [...this.#followed.keys()]) this.done(id)
  }
}

async function step(act: () => Promise<void>, tell: (outcome: Omit<Step, 'count'>) => void): Promise<void> {
  const startedAt = Date.now()
  const started = performance.now()
  let kind: string | undefined
  try {
    await act()
  } catch (error) {
    kind = kindOf(error)
    throw error
  } finally {
    tell({ startedAt, tookMs: performance.now() - started, error: kind })
  }
}

/** A code, never words: those may quote content and name hosts. */
function kindOf(error: unknown): string {
  if (error instanceof StoreFault) return error.vendorCode ?? error.kind
  return error instanceof SpillwayError ? error.code : '_OTHER'
}

const idOf = (event: KnownEvent) => (event.type === 'saved' ? event.content.id : event.id)
