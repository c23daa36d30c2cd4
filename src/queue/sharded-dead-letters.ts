/**
 * The dead letters of a queue of several shards, in one order: by the time in their handles, then by shard, then by the rest of the handle. A
 * handle names its shard.
 */
import { SpillwayError } from '../model/error.ts'
import { noHandle } from './dead-letter-steps.ts'
import type { Layouts } from './layouts.ts'
import {
  type DeadLetter,
  type DeadLetterRange,
  type DeadLetterStep,
  handlesAtOnce,
  type Item,
  type Queue,
  type SaveState,
} from './queue.ts'
import { groupBy, splitHandle, withShardOf } from './shard-of.ts'

type DeadLettersOfShard = Pick<Queue, 'deadLetter' | 'deadLetters' | 'deadLettersOf' | 'retry' | 'replace' | 'discard'>

const pageBytes = 4 * 1024 * 1024
const lastOfTime = '18446744073709551615'
const latest = 2n ** 64n - 1n

export class ShardedDeadLetters implements DeadLettersOfShard {
  readonly #shards: ReadonlyMap<number, DeadLettersOfShard>
  readonly #layouts: Layouts

  constructor(shards: ReadonlyMap<number, DeadLettersOfShard>, layouts: Layouts) {
    this.#shards = shards
    this.#layouts = layouts
  }

  async deadLetters(limit: number, range: DeadLetterRange = {}): ReturnType<Queue['deadLetters']> {
    await this.#layouts.known()
    const { newestFirst = false } = range
    const newer = range.newerThan === undefined ? undefined : bound(range.newerThan)
    const older = range.olderThan === undefined ? undefined : bound(range.olderThan)
    const direction = newestFirst ? -1 : 1
    const pages = await Promise.all(
      [...this.#shards].map(async ([shard, queue]) => {
        const { deadLetters, more } = await queue.deadLetters(limit, {
          newerThan: newer && newerThanIn(shard, newer),
          olderThan: older && olderThanIn(shard, older),
          newestFirst,
        })
        return { more, deadLetters: deadLetters.map((one) => ({ ...one, ...named(shard, one) })) }
      }),
    )
    const all = pages.flatMap(({ deadLetters }) => deadLetters)
    all.sort((a, b) => compareHandles(a.handle, b.handle) * direction)
    // Behind the end of a page that has more, the order is not known.
    const ends = pages.flatMap(({ more, deadLetters }) => (more && deadLetters.length > 0 ? [deadLetters.at(-1)!] : []))
    const page: DeadLetter[] = []
    let bytes = 0
    for (const one of all) {
      const isKnown = ends.every((end) => compareHandles(one.handle, end.handle) * direction <= 0)
      bytes += one.body.length
      if (!isKnown || page.length >= limit || (page.length > 0 && bytes > pageBytes)) break
      page.push(one)
    }
    return { deadLetters: page, more: page.length < all.length || pages.some(({ more }) => more) }
  }

  async deadLetter(text: string): Promise<DeadLetter | undefined> {
    await this.#layouts.known()
    if (!isHandle(text)) return undefined
    const { shard, handle } = splitHandle(text)
    const found = await this.#shards.get(shard)?.deadLetter(handle)
    return found && { ...found, ...named(shard, found) }
  }

  async deadLettersOf(ids: readonly string[]): ReturnType<Queue['deadLettersOf']> {
    await this.#layouts.known()
    const asked = ids.flatMap((id, i) => {
      // A dead letter without an id has its handle for an id.
      if (isHandle(id)) {
        const { shard, handle } = splitHandle(id)
        return [{ i, shard, id: handle }]
      }
      return this.#layouts.shardsOf(id).map((shard) => ({ i, shard, id }))
    })
    const found = ids.map(() => ({ count: 0, handles: [] as string[] }))
    await Promise.all(
      [...groupBy(asked, ({ shard }) => shard)].map(async ([shard, some]) => {
        const queue = this.#shards.get(shard)
        const results = (await queue?.deadLettersOf(some.map(({ id }) => id))) ?? []
        for (const [n, { count, handles }] of results.entries()) {
          const one = found[some[n]!.i]!
          one.count += count
          one.handles.push(...handles.map((handle) => withShardOf(shard, handle)))
        }
      }),
    )
    return found.map(({ count, handles }) => ({ count, handles: handles.slice(0, handlesAtOnce) }))
  }

  retry(handles: readonly string[], options?: { dryRun?: boolean }): Promise<DeadLetterStep> {
    return this.#step(handles, (queue, some) => queue.retry(some, options))
  }

  async replace(text: string, item: Item): Promise<SaveState | undefined> {
    const { shard, handle } = splitHandle(text)
    return await this.#shards.get(shard)?.replace(handle, item)
  }

  discard(handles: readonly string[]): Promise<DeadLetterStep> {
    return this.#step(handles, (queue, some) => queue.discard(some))
  }

  /**
   * One step in each shard, which is atomic there. The step is done with the handles up to the first one that a shard is not done with; those
   * behind it that were changed are in `changed`, and a further step ignores them.
   */
  async #step(
    handles: readonly string[],
    act: (queue: DeadLettersOfShard, some: string[]) => Promise<DeadLetterStep>,
  ): Promise<DeadLetterStep> {
    const split = handles.slice(0, handlesAtOnce).map(splitHandle)
    const left = new Map<number, number>()
    const changed: string[] = []
    const failures: SpillwayError[] = []
    await Promise.all(
      [...groupBy(split, ({ shard }) => shard)].map(async ([shard, some]) => {
        const queue = this.#shards.get(shard)
        // A handle of no shard is unknown, and ignored.
        if (!queue) return left.set(shard, some.length)
        try {
          const step = await act(
            queue,
            some.map(({ handle }) => handle),
          )
          left.set(shard, step.done)
          changed.push(...step.changed.map((handle) => withShardOf(shard, handle)))
        } catch (error) {
          if (!(error instanceof SpillwayError)) throw error
          failures.push(error)
        }
      }),
    )
    let done = 0
    for (const { shard } of split) {
      const rest = left.get(shard) ?? 0
      if (rest === 0) break
      left.set(shard, rest - 1)
      done += 1
    }
    if (done === 0 && failures.length > 0) throw changed.length > 0 ? partly(failures[0]!) : failures[0]!
    return { done, changed: inOrder(handles, changed) }
  }
}

function inOrder(handles: readonly string[], changed: readonly string[]): string[] {
  const all = new Set(changed)
  return [...new Set(handles)].filter((handle) => all.has(handle))
}

function partly(cause: SpillwayError): SpillwayError {
  return new SpillwayError('OUTCOME_UNKNOWN', 'One shard of the queue failed, and others did their part.', {
    retryAfterMs: cause.retryAfterMs ?? 1_000,
    cause,
  })
}

/** The handle of a dead letter with its shard, and its id: one that is a handle gets its shard, too. */
function named(shard: number, { id, handle }: DeadLetter): Pick<DeadLetter, 'id' | 'handle'> {
  return { handle: withShardOf(shard, handle), id: isHandle(id) ? withShardOf(shard, id) : id }
}

const isHandle = (text: string) => /^(\d{1,2}\/)?\d+-\d+$/.test(text)

interface Bound {
  shard: number
  time: bigint
  /** As the shard knows it. */
  handle: string
}

function bound(text: string): Bound {
  const split = splitHandle(text)
  const [, time] = /^(\d{1,20})-\d{1,20}$/.exec(split.handle) ?? []
  if (time === undefined || BigInt(time) > latest) throw noHandle()
  return { shard: split.shard, time: BigInt(time), handle: split.handle }
}

/** The bound as another shard's handle: at equal times, the lower shard comes first. */
function newerThanIn(shard: number, { shard: of, time, handle }: Bound): string | undefined {
  if (shard === of) return handle
  if (shard < of) return `${time}-${lastOfTime}`
  return time === 0n ? undefined : `${time - 1n}-${lastOfTime}`
}

function olderThanIn(shard: number, { shard: of, time, handle }: Bound): string | undefined {
  if (shard === of) return handle
  if (shard > of) return `${time}-0`
  return time === latest ? undefined : `${time + 1n}-0`
}

function compareHandles(a: string, b: string): number {
  const [one, other] = [keyOf(a), keyOf(b)]
  for (const n of [0, 1, 2] as const) if (one[n] !== other[n]) return one[n] < other[n] ? -1 : 1
  return 0
}

function keyOf(text: string): [time: bigint, shard: bigint, rest: bigint] {
  const { shard, handle } = splitHandle(text)
  const [time = '0', rest = '0'] = handle.split('-')
  return [BigInt(time), BigInt(shard), BigInt(rest)]
}
