/**
 * What stands between many saves and the queue: the saves of one tick go to it in one call, a few calls at a time, and a bounded number
 * of them waits. Invariant: every group gets exactly one answer, and the process' memory does not grow with the number of clients.
 */
import { SpillwayError } from '../model/error.ts'
import type { Enqueued, Item, Queue } from '../queue/queue.ts'

interface Waiting {
  group: readonly Item[]
  resolve: (enqueued: Enqueued[]) => void
  reject: (error: Error) => void
}

/** So much a call at the most, unless one group is more: one script of Redis must not keep the others waiting for long. As many as the
 *  largest saveMany brings (5 ms of the script); each call has a write to disk of its own. */
const itemsPerCall = 1_000
const bytesPerCall = 4 * 1024 * 1024
/** With fewer calls at a time more saves share one write to disk; with more, one slow call does not hold up the next. */
const callsAtOnce = 4
/** So many need not wait for the end of the tick: the queue is at them while this process reads the next requests. */
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

  constructor(queue: Pick<Queue, 'enqueue'>) {
    this.#queue = queue
  }

  /** Accepts the group whole or not at all. Rejects as Queue.accept says; with QUEUE_FULL, too, when the queue is slower than the saves. */
  enqueue(group: readonly Item[]): Promise<Enqueued[]> {
    const bytes = sizeOf(group)
    if (this.#items + group.length > waitingItems || this.#bytes + bytes > waitingBytes) {
      const error = new SpillwayError(
        'QUEUE_FULL',
        'More saves are waiting for the queue than this process may hold; try again shortly.',
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

/** The error as one group's own: an unknown outcome names the ids to retry with. */
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
