/**
 * Dead letters: listed, counted, retried and discarded, by ids or by a filter. Invariants: a run is made of bounded steps of the queue, so
 * that it delays no other work, however many dead letters there are; it changes exactly the dead letters that match, and of these only
 * those that were there when it began: one that fails again during the run is not touched again.
 */
import { badInput, failureCodes, SpillwayError } from '../model/error.ts'
import { decode } from '../model/message.ts'
import { jsonOf, type Models, Undecodable } from '../model/model.ts'
import { type DeadLetter, type DeadLetterRange, handlesAtOnce, type Queue } from '../queue/queue.ts'

/** What a dead letter must have, each of it; a filter without a condition matches all. */
export interface DeadLetterFilter {
  model?: string | null | undefined
  code?: string | null | undefined
  /** At this time or later. */
  failedAfter?: Date | null | undefined
  /** Before this time. */
  failedBefore?: Date | null | undefined
}

export type Selection = { ids: readonly string[] } | { filter: DeadLetterFilter }

export interface DeadLetterChange {
  /** How many dead letters were retried or discarded, or would be in a dry run. */
  count: number
  /** The ids of the first of them, each once, at most `saveIdsLimit`. */
  saveIds: string[]
}

/** The save that a message is. */
interface Save {
  model: string
  input: Record<string, unknown>
  /** Undefined if the message has no possible time. */
  acceptedAt: Date | undefined
}

export interface DecodedDeadLetter extends DeadLetter {
  /** Undefined if the message cannot be decoded. */
  save: Save | undefined
}

export const saveIdsLimit = 1_000
/** What a page may have, as JSON; one dead letter is always in it. */
const pageBytes = 4 * 1024 * 1024

interface Deps {
  models: Models
  queue: Queue
  /** Runs the reading of so many dead letters when there is memory for it. */
  within?: <T>(deadLetters: number, read: () => Promise<T>) => Promise<T>
}

export class DeadLetters {
  readonly #models: Models
  readonly #queue: Queue
  readonly #within: NonNullable<Deps['within']>

  constructor({ models, queue, within = (_, read) => read() }: Deps) {
    this.#models = models
    this.#queue = queue
    this.#within = within
  }

  /** Returns at most `limit` dead letters of the range that match, fewer if they are large, and whether there are more of them. */
  async page(
    limit: number,
    range: DeadLetterRange,
    filter: DeadLetterFilter = {},
  ): Promise<{ deadLetters: DecodedDeadLetter[]; more: boolean }> {
    const matches = matcher(filter, this.#models)
    if (isEmpty(filter)) {
      const { deadLetters, more } = await this.#within(limit, () => this.#queue.deadLetters(limit, range))
      return { deadLetters: deadLetters.map(this.#decoded), more }
    }
    const page: DecodedDeadLetter[] = []
    let bytes = 0
    for await (const deadLetters of this.#steps(range)) {
      for (const deadLetter of deadLetters.filter(matches)) {
        bytes += deadLetter.body.length
        if (page.length >= limit || (page.length > 0 && bytes > pageBytes)) return { deadLetters: page, more: true }
        page.push(this.#decoded(deadLetter))
      }
    }
    return { deadLetters: page, more: false }
  }

  /** Returns how many dead letters match. With a filter it reads all of them, step by step. */
  async count(filter: DeadLetterFilter = {}): Promise<number> {
    const matches = matcher(filter, this.#models)
    if (isEmpty(filter)) return (await this.#queue.status()).deadLetters
    let count = 0
    for await (const deadLetters of this.#steps({})) count += deadLetters.filter(matches).length
    return count
  }

  /**
   * Enqueues dead letters again: of each id one, those without the code ID_CONFLICT first, and none while the id is pending. A dry run
   * changes nothing, and returns what would be done now. Throws BAD_USER_INPUT, QUEUE_UNAVAILABLE, OUTCOME_UNKNOWN.
   */
  retry(selection: Selection, { dryRun = false } = {}): Promise<DeadLetterChange> {
    return new Run().of(async (run) => {
      for await (const deadLetters of this.#retriable(selection)) {
        let left = deadLetters
        while (left.length > 0) {
          left = left.filter(({ id }) => !run.has(id))
          const step = await this.#queue.retry(handlesOf(left), { dryRun })
          run.add(left, step.changed, { isRetry: true })
          left = left.slice(step.done)
        }
      }
    }, dryRun)
  }

  /** Deletes dead letters permanently: all that match, and of ids all that each has. As `retry`. */
  discard(selection: Selection, { dryRun = false } = {}): Promise<DeadLetterChange> {
    return new Run().of(async (run) => {
      if ('ids' in selection) return await this.#discardIds(run, selection.ids, dryRun)
      for await (const deadLetters of this.#matching(selection.filter)) {
        if (dryRun) run.add(deadLetters, handlesOf(deadLetters))
        else await this.#discard(run, deadLetters)
      }
    }, dryRun)
  }

  async #discard(run: Run, deadLetters: readonly Named[]): Promise<void> {
    let left = deadLetters
    while (left.length > 0) {
      const { changed, done } = await this.#queue.discard(handlesOf(left))
      run.add(left, changed)
      left = left.slice(done)
    }
  }

  /** A look-up returns some of the handles of an id only, so that an id with many dead letters needs several. */
  async #discardIds(run: Run, ids: readonly string[], dryRun: boolean): Promise<void> {
    for (const some of chunksOf(ids)) {
      for (let left = some; left.length > 0; ) {
        const found = await this.#queue.deadLettersOf(left)
        const before = run.count
        if (dryRun) for (const [n, { count }] of found.entries()) run.addOf(left[n]!, count)
        else await this.#discard(run, named(left, found))
        if (dryRun || run.count === before) break
        left = left.filter((_, n) => found[n]!.count > found[n]!.handles.length)
      }
    }
  }

  /** What a retry tries, in steps: of each of the ids the first dead letter, or all that match a filter. */
  async *#retriable(selection: Selection): AsyncGenerator<readonly Named[]> {
    if ('filter' in selection) return yield* this.#matching(selection.filter)
    for (const some of chunksOf(selection.ids)) {
      const found = await this.#queue.deadLettersOf(some)
      yield named(
        some,
        found.map(({ handles }) => ({ handles: handles.slice(0, 1) })),
      )
    }
  }

  /** The dead letters that match, oldest first, without those that are added from now on. */
  async *#matching(filter: DeadLetterFilter): AsyncGenerator<readonly Named[]> {
    const matches = matcher(filter, this.#models)
    // Without the bodies, which are large.
    const matching = (deadLetters: readonly DeadLetter[]) =>
      deadLetters.filter(matches).map(({ handle, id }) => ({ handle, id }))
    const { deadLetters: newest } = await this.#within(1, () => this.#queue.deadLetters(1, { newestFirst: true }))
    if (newest.length === 0) return
    for await (const deadLetters of this.#steps({ olderThan: newest[0]!.handle })) yield matching(deadLetters)
    yield matching(newest)
  }

  readonly #decoded = (deadLetter: DeadLetter): DecodedDeadLetter => ({
    ...deadLetter,
    save: saveOf(deadLetter.body, this.#models),
  })

  /** All dead letters of a range, in pages. */
  async *#steps(range: DeadLetterRange): AsyncGenerator<readonly DeadLetter[]> {
    for (let rest = range; ; ) {
      const { deadLetters, more } = await this.#within(handlesAtOnce, () =>
        this.#queue.deadLetters(handlesAtOnce, rest),
      )
      if (deadLetters.length > 0) yield deadLetters
      if (!more) return
      const last = deadLetters.at(-1)!.handle
      rest = range.newestFirst ? { ...range, olderThan: last } : { ...range, newerThan: last }
    }
  }
}

type Named = Pick<DeadLetter, 'handle' | 'id'>

/** What a retry or a discard has done so far. */
class Run {
  count = 0
  readonly #saveIds = new Set<string>()
  /** The ids that were retried, about 100 bytes each: of an id, a run retries one dead letter only. */
  readonly #retried = new Set<string>()

  has(id: string): boolean {
    return this.#retried.has(id)
  }

  add(deadLetters: readonly Named[], changed: readonly string[], { isRetry = false } = {}): void {
    const handles = new Set(changed)
    for (const { handle, id } of deadLetters) {
      if (!handles.has(handle)) continue
      this.addOf(id, 1)
      if (isRetry) this.#retried.add(id)
    }
  }

  addOf(id: string, count: number): void {
    this.count += count
    if (count > 0 && this.#saveIds.size < saveIdsLimit) this.#saveIds.add(id)
  }

  /** Does it, and returns what was done. If an error comes after the first changes, it is OUTCOME_UNKNOWN. */
  async of(act: (run: Run) => Promise<void>, dryRun: boolean): Promise<DeadLetterChange> {
    try {
      await act(this)
    } catch (error) {
      throw this.count > 0 && !dryRun && error instanceof SpillwayError ? this.#partlyDone(error) : error
    }
    return { count: this.count, saveIds: [...this.#saveIds] }
  }

  #partlyDone(cause: SpillwayError): SpillwayError {
    return new SpillwayError(
      'OUTCOME_UNKNOWN',
      `${this.count} dead letters are done; of the others it is unknown, because the queue failed with ${cause.code}. Repeat the call for the others.`,
      { retryAfterMs: cause.retryAfterMs ?? 1_000, cause },
    )
  }
}

/** The ids, each once, in parts for one call of the queue. */
function* chunksOf(ids: readonly string[]): Generator<string[]> {
  const all = [...new Set(ids)]
  for (let i = 0; i < all.length; i += handlesAtOnce) yield all.slice(i, i + handlesAtOnce)
}

const named = (ids: readonly string[], found: readonly { handles: readonly string[] }[]): Named[] =>
  found.flatMap(({ handles }, n) => handles.map((handle) => ({ handle, id: ids[n]! })))

const handlesOf = (deadLetters: readonly Named[]) => deadLetters.map(({ handle }) => handle)

function saveOf(body: string, models: Models): Save | undefined {
  const message = decode(body, models)
  if (message instanceof Undecodable) return undefined
  const { model, at, values } = message
  const acceptedAt = new Date(at)
  return {
    model: model.name,
    input: jsonOf(model, values),
    acceptedAt: Number.isNaN(+acceptedAt) ? undefined : acceptedAt,
  }
}

/** Whether the filter has no condition. */
export function isEmpty({ model, code, failedAfter, failedBefore }: DeadLetterFilter): boolean {
  return (model ?? code ?? failedAfter ?? failedBefore) == null
}

/** Checks the filter and returns its test. Throws BAD_USER_INPUT where nothing could match it. */
function matcher({ model, code, failedAfter, failedBefore }: DeadLetterFilter, models: Models) {
  if (model != null) checkOneOf('model', model, [...models.keys()])
  if (code != null) checkOneOf('code', code, failureCodes)
  if (failedAfter && failedBefore && failedAfter >= failedBefore)
    throw badInput(
      `failedAfter must be before failedBefore, got ${failedAfter.toISOString()} and ${failedBefore.toISOString()}`,
    )
  return ({ failure, body }: DeadLetter): boolean =>
    (code == null || failure.code === code) &&
    (failedAfter == null || failure.failedAt >= failedAfter) &&
    (failedBefore == null || failure.failedAt < failedBefore) &&
    (model == null || saveOf(body, models)?.model === model)
}

function checkOneOf(name: string, value: string, known: readonly string[]): void {
  if (known.includes(value)) return
  throw badInput(`${name} must be one of ${known.join(', ')}, got ${JSON.stringify(value.slice(0, 50))}`)
}
