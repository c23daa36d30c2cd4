/** What the shards of a queue know of ids, those of other numbers of shards included (layouts.ts). */
import { SpillwayError } from '../model/error.ts'
import type { Layouts } from './layouts.ts'
import type { Enqueued, Item, SaveState } from './queue.ts'
import type { RedisQueue } from './redis.ts'
import { groupBy, shardOf } from './shard-of.ts'

export class ShardedStates {
  readonly #queues: ReadonlyMap<number, Pick<RedisQueue, 'find' | 'confirm'>>
  readonly #layouts: Layouts
  readonly #shards: number

  /** `shards`: the present number of them. */
  constructor(queues: ReadonlyMap<number, Pick<RedisQueue, 'find' | 'confirm'>>, layouts: Layouts, shards: number) {
    this.#queues = queues
    this.#layouts = layouts
    this.#shards = shards
  }

  /** As Queue.find; of an id whose shard does not answer, the error. */
  async find(ids: readonly string[], digest = ''): Promise<(SaveState | SpillwayError | undefined)[]> {
    const found = await this.#findBy(ids, digest, (id) => shardOf(id, this.#shards))
    if (!this.#layouts.hasOthers) return found
    const unknown = ids.flatMap((id, i) => (found[i] === undefined ? [{ id, i }] : []))
    if (unknown.length === 0) return found
    const elsewhere = await this.#findElsewhere(
      unknown.map(({ id }) => id),
      digest,
    )
    for (const [n, { i }] of unknown.entries()) found[i] = elsewhere[n]
    return found
  }

  /**
   * Looks ids of clients up where they were with other numbers of shards, so that a retry across such a change is a duplicate, too. Returns,
   * for the requests that have such ids, what their items are, or why the request is refused. A shard that does not answer is left out: the
   * database then decides, as for ids that the queue has forgotten.
   */
  async ofOtherLayouts(
    requests: readonly (readonly Item[])[],
  ): Promise<Map<readonly Item[], Map<Item, Enqueued> | SpillwayError> | undefined> {
    if (!this.#layouts.hasOthers) return undefined
    const given = requests.flat().filter(({ fresh }) => !fresh)
    if (given.length === 0) return undefined
    const ids = [...new Set(given.map(({ id }) => id))]
    const states = new Map<string, SaveState>()
    for (const [i, state] of (await this.#findElsewhere(ids, '')).entries())
      if (state && !(state instanceof SpillwayError)) states.set(ids[i]!, state)
    if (states.size === 0) return undefined
    const isPending = [...states.values()].some(({ status }) => status === 'QUEUED')
    const unconfirmed = isPending ? await this.#unconfirmed() : undefined
    const own = await this.#ownStates(given, states)
    const known = new Map<readonly Item[], Map<Item, Enqueued> | SpillwayError>()
    for (const request of requests) {
      const ofRequest = new Map<Item, Enqueued>()
      for (const item of request) {
        const state = item.fresh ? undefined : states.get(item.id)
        if (!state) continue
        if (unconfirmed && state.status === 'QUEUED' && state.digest === item.digest) known.set(request, unconfirmed)
        else if (state.digest === item.digest) ofRequest.set(item, { ...state, duplicate: true })
        else if (own.has(item)) ofRequest.set(item, { ...own.get(item)!, duplicate: true })
        else if (state.failure?.code !== 'ID_CONFLICT') known.set(request, conflictOf(item.id))
      }
      if (ofRequest.size > 0 && !known.has(request)) known.set(request, ofRequest)
    }
    return known
  }

  /** Of items whose ids have other content, the states of their own content: a dead letter may have that of a later sender. */
  async #ownStates(items: readonly Item[], states: ReadonlyMap<string, SaveState>): Promise<Map<Item, SaveState>> {
    const own = new Map<Item, SaveState>()
    // At the same time: a call of a thousand items waits for one round trip.
    await Promise.all(
      items.map(async (item) => {
        const state = states.get(item.id)
        if (!state || state.digest === item.digest) return
        const [found] = await this.#findElsewhere([item.id], item.digest)
        if (found && !(found instanceof SpillwayError)) own.set(item, found)
      }),
    )
    return own
  }

  /** Why duplicates that `find` has found must not be acknowledged: replicas may lack them. */
  async #unconfirmed(): Promise<SpillwayError | undefined> {
    const each = await Promise.all([...this.#queues.values()].map((queue) => settled(queue.confirm())))
    return each.find((error) => error instanceof SpillwayError)
  }

  /** Looks ids up in the shards that they had in other layouts. */
  async #findElsewhere(ids: readonly string[], digest: string): Promise<(SaveState | SpillwayError | undefined)[]> {
    const found: (SaveState | SpillwayError | undefined)[] = ids.map(() => undefined)
    for (const shards of this.#layouts.others) {
      const asked = ids.flatMap((id, i) => {
        const isElsewhere = shardOf(id, shards) !== shardOf(id, this.#shards)
        const isOpen = found[i] === undefined || found[i] instanceof SpillwayError
        return isElsewhere && isOpen ? [{ id, i }] : []
      })
      const states = await this.#findBy(
        asked.map(({ id }) => id),
        digest,
        (id) => shardOf(id, shards),
      )
      for (const [n, { i }] of asked.entries()) found[i] = states[n] ?? found[i]
    }
    return found
  }

  async #findBy(ids: readonly string[], digest: string, shardOfId: (id: string) => number) {
    const found: (SaveState | SpillwayError | undefined)[] = ids.map(() => undefined)
    const groups = groupBy([...ids.keys()], (i) => shardOfId(ids[i]!))
    await Promise.all(
      [...groups].map(async ([shard, indexes]) => {
        const some = indexes.map((i) => ids[i]!)
        const states = await settled(this.#queues.get(shard)!.find(some, digest))
        for (const [n, i] of indexes.entries()) found[i] = states instanceof SpillwayError ? states : states[n]
      }),
    )
    return found
  }
}

/** The value, or the error that the promise rejects with. */
export function settled<T>(promise: Promise<T>): Promise<T | SpillwayError> {
  return promise.catch((error) => {
    if (error instanceof SpillwayError) return error
    throw error
  })
}

function conflictOf(id: string): SpillwayError {
  return new SpillwayError(
    'ID_CONFLICT',
    `The id ${id} is already used for other content; use a new id for each content.`,
  )
}
