/**
 * Batches saves: those of one tick are enqueued in one call, at most a few calls run at a time, and the number of waiting saves is
 * bounded. Invariant: every group gets exactly one result, and the memory of the process does not grow with the number of clients.
 */
import { SpillwayError } from '../model/error.ts'
import type { Enqueued, Item, Queue } from '../queue/queue.ts'

interface Waiting {
  group: readonly Item[]
  resolve: (enqueued: Enqueued[]) => void
  reject: (error: Error) => void
}

/** The most of one call, unless a single group has more: one script must not block Redis for long. As many items as the largest saveMany
 *  (5 ms of the script), since each call costs a write to disk. */
const itemsPerCall = 1_000
const bytesPerCall = 4 * 1024 * 1024
/** With fewer calls at a time, more saves share one write to disk; with more, a slow call delays fewer others. */
const callsAtOnce = 4
/** As many groups are sent before the tick ends: the queue works on them while this process reads the next requests. */
const flushThreshold = 16
const waitingItems = 20_000
const waitingBytes = 64 * 1024 * 1024

export class EnqueueBatcher {
  readonly #queue: Pick<Queue, 'enqueue'>
  #waiting: Waiting[] = []
  #items = 0
  #bytes = 0
  #calls = 0
  #scheduled = false

  constructor(deps: { queue: Pick<Queue, 'enqueue'> }) {
    this.#queue = deps.queue
  }

  /** Enqueues the group whole or not at all. Rejects as Queue.enqueue does, and with QUEUE_FULL where too many saves wait already. */
  enqueue(group: readonly Item[]): Promise<Enqueued[]> {
    const bytes = sizeOf(group)
    if (this.#items + group.length > waitingItems || this.#bytes + bytes > waitingBytes) {
      const error = new SpillwayError(
        'QUEUE_FULL',
        'Too many saves are waiting for the queue in this process; try again shortly.',
        {
          retryAfterMs: 1_000,
        },
      )
      return Promise.reject(error)
    }
    this.#items += group.length
    this.#bytes += bytes
    return new Promise((resolve, reject) => {
      this.#waiting.push({ group, resolve, reject })
      if (this.#waiting.length >= flushThreshold && this.#calls < callsAtOnce) void this.#send(this.#next())
      else this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#calls >= callsAtOnce || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      while (this.#calls < callsAtOnce && this.#waiting.length > 0) this.#send(this.#next())
    })
  }

  #next(): Waiting[] {
    let items = 0
    let bytes = 0
    let count = 0
    for (const { group } of this.#waiting) {
      items += group.length
      bytes += sizeOf(group)
      if (count > 0 && (items > itemsPerCall || bytes > bytesPerCall)) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  async #send(call: Waiting[]): Promise<void> {
    this.#calls += 1
    try {
      const answers = await this.#queue.enqueue(call.map(({ group }) => group))
      call.forEach(({ resolve, reject }, i) => {
        const answer = answers[i]!
        if (answer instanceof Error) reject(answer)
        else resolve(answer)
      })
    } catch (error) {
      for (const { group, reject } of call) reject(forGroup(error as Error, group))
    } finally {
      this.#calls -= 1
      for (const { group } of call) {
        this.#items -= group.length
        this.#bytes -= sizeOf(group)
      }
      this.#schedule()
    }
  }
}

function sizeOf(group: readonly Item[]): number {
  return group.reduce((sum, { body }) => sum + body.length, 0)
}

/** The error of one group: OUTCOME_UNKNOWN names the ids to retry with. */
function forGroup(error: Error, group: readonly Item[]): Error {
  if (!(error instanceof SpillwayError) || error.code !== 'OUTCOME_UNKNOWN') return error
  const ids = group.map(({ id }) => id)
  return new SpillwayError(
    'OUTCOME_UNKNOWN',
    `${error.message} Retry with the id ${ids[0]}${ids.length > 1 ? ' …' : ''}: it is saved once.`,
    {
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
      ids,
      cause: error,
    },
  )
}
