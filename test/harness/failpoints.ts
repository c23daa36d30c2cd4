/**
 * Preloaded into a process (`node --import …/failpoints.ts`), this module kills the process at a place on the path of a save:
 * SPILLWAY_FAILPOINT=committed:3 the third time a thread reaches `committed`, SPILLWAY_FAILPOINT=inserting:TEXT before a row is inserted
 * whose values contain TEXT. It patches the public methods of the implementations, so the product contains no failpoints. A worker
 * thread inherits `--import` and counts by itself. `spawnSpillway` preloads this module when the environment sets SPILLWAY_FAILPOINT.
 */
import { MemoryCache } from '../../src/cache/memory.ts'
import { RedisCache } from '../../src/cache/redis.ts'
import { PrismaStore } from '../../src/db/prisma.ts'
import { RedisEventLog } from '../../src/events/redis.ts'
import { SqliteEventLog } from '../../src/events/sqlite.ts'
import { dataText, type Model, type Row } from '../../src/model/model.ts'
import type { Consumer, Entry } from '../../src/queue/queue.ts'
import { RedisQueue } from '../../src/queue/redis.ts'
import { SqliteQueue } from '../../src/queue/sqlite.ts'

const places = [
  /** The API calls Queue.enqueue; nothing is sent. */
  'enqueueing',
  /** Queue.enqueue has resolved; the client has no answer. */
  'enqueued',
  /** Consumer.receive has resolved with entries; nothing is written. */
  'received',
  /** The worker calls Store.insert with a row whose values, as JSON text, contain the text. */
  'inserting',
  /** The rows of a batch are committed and its dead letters written; the worker calls Cache.invalidate. */
  'committed',
  /** Consumer.deadLetter has resolved; no event is appended. */
  'dead-lettered',
  /** Cache.invalidate has resolved; the ids are still pending. */
  'invalidated',
  /** Consumer.markSaved has resolved; no event is appended. */
  'marked-saved',
  /** EventLog.append has resolved; the entries are still in the queue. */
  'published',
  /** Consumer.ack has resolved: the entries are out of the queue. */
  'acked',
] as const
export type Place = (typeof places)[number]

const { SPILLWAY_FAILPOINT } = process.env
if (SPILLWAY_FAILPOINT !== undefined) arm(SPILLWAY_FAILPOINT)

function arm(failpoint: string): void {
  const [, place = '', argument = ''] = /^([a-z-]*):?(.*)$/s.exec(failpoint) ?? []
  const text = place === 'inserting' ? argument : ''
  let left = place === 'inserting' ? 1 : Number(argument || 1)
  if (!(places as readonly string[]).includes(place) || !(left >= 1)) {
    throw new Error(`SPILLWAY_FAILPOINT=${failpoint} is none of ${places.join(', ')}, each with ":NUMBER" or ":TEXT"`)
  }
  patch((reached, rows = ['']) => {
    if (reached !== place || !rows.some((row) => row.includes(text))) return
    left -= 1
    // SIGKILL, so that no handler of the process can clean up.
    if (left <= 0) process.kill(process.pid, 'SIGKILL')
  })
}

function patch(reach: (place: Place, rows?: readonly string[]) => void): void {
  for (const { prototype } of [RedisQueue, SqliteQueue]) {
    before(prototype, 'enqueue', () => reach('enqueueing'))
    after(prototype, 'enqueue', () => reach('enqueued'))
    const { consumer } = prototype
    prototype.consumer = function (name: string): Consumer {
      return patchConsumer(consumer.call(this as never, name), reach)
    }
  }
  before(PrismaStore.prototype, 'insert', (model: Model, rows: readonly Row[]) =>
    reach(
      'inserting',
      rows.map((row) => dataText(model, row)),
    ),
  )
  for (const { prototype } of [RedisCache, MemoryCache]) {
    before(prototype, 'invalidate', () => reach('committed'))
    after(prototype, 'invalidate', () => reach('invalidated'))
  }
  for (const { prototype } of [RedisEventLog, SqliteEventLog]) after(prototype, 'append', () => reach('published'))
}

function patchConsumer(consumer: Consumer, reach: (place: Place) => void): Consumer {
  after(consumer, 'receive', (entries: readonly Entry[]) => {
    if (entries.length > 0) reach('received')
  })
  after(consumer, 'deadLetter', () => reach('dead-lettered'))
  after(consumer, 'markSaved', () => reach('marked-saved'))
  after(consumer, 'ack', () => reach('acked'))
  return consumer
}

/** Runs `act` with the arguments of each call of the method, before the method itself. */
function before<A extends unknown[]>(target: object, name: string, act: (...args: A) => void): void {
  replace<A, unknown>(target, name, (method) => (...args) => {
    act(...args)
    return method(...args)
  })
}

/** Runs `act` with what each call of the method resolves to, before the caller gets it. */
function after<R>(target: object, name: string, act: (result: R) => void): void {
  replace<unknown[], R>(target, name, (method) => async (...args) => {
    const result = await method(...args)
    act(result)
    return result
  })
}

type Method<A extends unknown[], R> = (...args: A) => Promise<R>

function replace<A extends unknown[], R>(
  target: object,
  name: string,
  wrap: (method: Method<A, R>) => Method<A, R>,
): void {
  const methods = target as Record<string, Method<A, R>>
  const method = methods[name]
  if (!method) throw new Error(`a failpoint patches the method ${name}, which ${target.constructor.name} does not have`)
  methods[name] = function (...args) {
    return wrap(method.bind(this))(...args)
  }
}
