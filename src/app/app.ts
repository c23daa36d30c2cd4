/** The use cases and their dependencies: GraphQL and REST call these. */
import type { Cache } from '../cache/cache.ts'
import type { Store } from '../db/store.ts'
import type { EventLog } from '../events/events.ts'
import { Follower } from '../events/follower.ts'
import type { Log } from '../model/log.ts'
import { type Meter, noMeter } from '../model/meter.ts'
import { type Models, maxSizeOf } from '../model/model.ts'
import type { Tracer } from '../model/tracer.ts'
import type { Queue } from '../queue/queue.ts'
import { Bytes } from './bytes.ts'
import { DeadLetters } from './dead-letters.ts'
import { EnqueueBatcher } from './enqueue-batcher.ts'
import { Histories } from './history.ts'
import { Operators } from './operators.ts'
import { Reads } from './reads.ts'
import { Receipts } from './receipts.ts'
import { Rows } from './rows.ts'
import { Saves } from './save.ts'
import { SavedCursor } from './saved-cursor.ts'

export interface App {
  models: Models
  saves: Saves
  rows: Rows
  receipts: Receipts
  deadLetters: DeadLetters
  operators: Operators
  history: Histories
  follower: Follower
  savedCursor: SavedCursor
  queue: Queue
  cache: Cache
  bytes: Bytes
  reads: Reads
}

export function makeApp(deps: {
  models: Models
  queue: Queue
  store: Store
  cache: Cache
  events: EventLog
  log: Log
  meter?: Meter
  tracer?: Tracer | undefined
}): App {
  const { models, queue, store, cache, events, log, meter = noMeter, tracer } = deps
  const follower = new Follower({ events, log })
  const bytes = new Bytes()
  const reads = new Reads({ bytes })
  const rows = new Rows({ models, store, cache, meter, reads })
  const receipts = new Receipts({ models, queue, rows, follower, bytes })
  return {
    models,
    saves: new Saves({ queue, batcher: new EnqueueBatcher({ queue }), receipts, bytes, meter, tracer, log }),
    rows,
    receipts,
    deadLetters: new DeadLetters({
      models,
      queue,
      log,
      within: (deadLetters, read) => reads.page(deadLetters * Math.max(...[...models.values()].map(maxSizeOf)), read),
    }),
    operators: new Operators({ queue, log }),
    history: new Histories({ events, models }),
    follower,
    savedCursor: new SavedCursor({ follower }),
    queue,
    cache,
    bytes,
    reads,
  }
}
