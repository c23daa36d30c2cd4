/**
 * Batches saves: those of one tick are enqueued in one call, at most a few calls of one shard run at a time, and the number of waiting saves is
 * bounded. Invariant: every request gets exactly one result, and the memory of the process does not grow with the number of clients.
 */
import { SpillwayError } from '../model/error.ts'
import type { Enqueued, Item, Queue } from '../queue/queue.ts'

interface Waiting {
  request: readonly Item[]
  resolve: (enqueued: Enqueued[]) => void
  reject: (error: Error) => void
}

/** The most of one call, unless a single request has more: one script must not block Redis for long. As many items as the largest saveMany
 *  (5 ms of the script), since each call costs a write to disk. */
const itemsPerCall = 1_000
const bytesPerCall = 1024 * 1024
/** With fewer calls at a time, more saves share one write to disk; with more, a slow call delays fewer others. */
const callsAtOnce = 4
/** With as many bytes in calls, no further one starts: a slow network has to carry them all within the deadline of the first one. */
const bytesAtOnce = 4 * 1024 * 1024
/** As many requests are sent before the tick ends: the queue works on them while this process reads from other clients. */
const flushThreshold = 16
const waitingItems = 20_000
const waitingBytes = 64 * 1024 * 1024

/** The requests of one shard: they wait for no other. A queue without shards has one lane. */
interface Lane {
  waiting: Waiting[]
  calls: number
  /** Of the calls. */
  bytes: number
  scheduled: boolean
}

export class EnqueueBatcher {
  readonly #queue: Pick<Queue, 'enqueue' | 'shardOf'>
  readonly #lanes: Lane[] = []
  #items = 0
  #bytes = 0

  constructor(deps: { queue: Pick<Queue, 'enqueue' | 'shardOf'> }) {
    this.#queue = deps.queue
  }

  /** Enqueues the request whole or not at all. Rejects as Queue.enqueue does, and with QUEUE_FULL where too many saves wait already. */
  enqueue(request: readonly Item[]): Promise<Enqueued[]> {
    const bytes = sizeOf(request)
    if (this.#items + request.length > waitingItems || this.#bytes + bytes > waitingBytes) {
      const error = new SpillwayError(
        'QUEUE_FULL',
        'Too many saves are waiting for the queue in this process; try again shortly.',
        {
          retryAfterMs: 1_000,
        },
      )
      return Promise.reject(error)
    }
    this.#items += request.length
    this.#bytes += bytes
    const lane = this.#lane(this.#queue.shardOf?.(request) ?? 0)
    return new Promise((resolve, reject) => {
      lane.waiting.push({ request, resolve, reject })
      if (lane.waiting.length >= flushThreshold && maySend(lane)) void this.#send(lane)
      else this.#schedule(lane)
    })
  }

  #lane(shard: number): Lane {
    this.#lanes[shard] ??= { waiting: [], calls: 0, bytes: 0, scheduled: false }
    return this.#lanes[shard]
  }

  #schedule(lane: Lane): void {
    if (lane.scheduled || !maySend(lane)) return
    lane.scheduled = true
    setImmediate(() => {
      lane.scheduled = false
      while (maySend(lane)) void this.#send(lane)
    })
  }

  async #send(lane: Lane): Promise<void> {
    const call = next(lane.waiting)
    const bytes = call.reduce((sum, { request }) => sum + sizeOf(request), 0)
    lane.calls += 1
    lane.bytes += bytes
    try {
      const answers = await this.#queue.enqueue(call.map(({ request }) => request))
      call.forEach(({ request, resolve, reject }, i) => {
        const answer = answers[i]!
        if (answer instanceof Error) reject(errorFor(answer, request))
        else resolve(answer)
      })
    } catch (error) {
      for (const { request, reject } of call) reject(errorFor(error as Error, request))
    } finally {
      lane.calls -= 1
      lane.bytes -= bytes
      this.#bytes -= bytes
      for (const { request } of call) this.#items -= request.length
      this.#schedule(lane)
    }
  }
}

const maySend = ({ waiting, calls, bytes }: Lane): boolean =>
  waiting.length > 0 && calls < callsAtOnce && bytes < bytesAtOnce

/** Takes the requests of the next call. */
function next(waiting: Waiting[]): Waiting[] {
  let items = 0
  let bytes = 0
  let count = 0
  for (const { request } of waiting) {
    items += request.length
    bytes += sizeOf(request)
    if (count > 0 && (items > itemsPerCall || bytes > bytesPerCall)) break
    count += 1
  }
  return waiting.splice(0, count)
}

function sizeOf(request: readonly Item[]): number {
  return request.reduce((sum, { body }) => sum + body.length, 0)
}

/** The error of one request: OUTCOME_UNKNOWN names the ids to retry with. */
function errorFor(error: Error, request: readonly Item[]): Error {
  if (!(error instanceof SpillwayError) || error.code !== 'OUTCOME_UNKNOWN') return error
  const ids = request.map(({ id }) => id)
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
