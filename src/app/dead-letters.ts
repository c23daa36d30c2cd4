/**
 * Dead letters: listed, counted, retried and discarded, by ids or by a filter. Invariants: a run is made of bounded steps of the queue, so
 * that it delays no other work, however many dead letters there are; it changes exactly the dead letters that match, and of these only
 * those that were there when it began: one that fails again during the run is not touched again.
 */
import { badInput, SpillwayError } from '../model/error.ts'
import type { Grant } from '../model/grant.ts'
import type { Log } from '../model/log.ts'
import type { Models } from '../model/model.ts'
import { type DeadLetter, type DeadLetterRange, handlesAtOnce, type Queue } from '../queue/queue.ts'
import { edited } from './dead-letter-edit.ts'
import { type DeadLetterFilter, isEmpty, matcher, type Save, saveOf } from './dead-letter-filter.ts'
import { type Receipt, receiptOf } from './receipts.ts'

export type Selection = { ids: readonly string[] } | { filter: DeadLetterFilter }

export interface DeadLetterChange {
  /** How many dead letters were retried or discarded, or would be in a dry run. */
  count: number
  /** The ids of the first of them, each once, at most `saveIdsLimit`. */
  saveIds: string[]
}

/** How many dead letters match, of each code and of each model: the largest number first. */
export interface DeadLetterCounts {
  total: number
  byCode: { code: string; count: number }[]
  /** The model is null where the message cannot be decoded. */
  byModel: { model: string | null; count: number }[]
}

export interface DecodedDeadLetter extends DeadLetter {
  /** Undefined if the message cannot be decoded. */
  save: Save | undefined
}

/** Which dead letter gets which columns. */
export interface DeadLetterEdit {
  id: string
  /** All columns by name, as `Save.input` has them. */
  input: unknown
}

/** How a run is done, and for whom. */
export interface RunOptions {
  dryRun?: boolean
  /** The subject of the token. The log names it with each change. */
  by?: string | undefined
}

export const saveIdsLimit = 1_000
/** How many dead letters of one id `of` returns. */
export const ofIdLimit = 20
/** How many ids a line of the log names. */
const loggedIds = 20
/** What a page may have, as JSON; one dead letter is always in it. */
const pageBytes = 4 * 1024 * 1024

interface Deps {
  models: Models
  queue: Queue
  /** Every change is logged: who, how many and which, never what they contain. */
  log?: Log
  /** Runs the reading of so many dead letters when there is memory for it. */
  within?: <T>(deadLetters: number, read: () => Promise<T>) => Promise<T>
}

export class DeadLetters {
  readonly #models: Models
  readonly #queue: Queue
  readonly #log: Log | undefined
  readonly #within: NonNullable<Deps['within']>

  constructor({ models, queue, log, within = (_, read) => read() }: Deps) {
    this.#models = models
    this.#queue = queue
    this.#log = log
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

  /** Returns how many dead letters there are. */
  async count(): Promise<number> {
    return (await this.#queue.status()).deadLetters
  }

  /** Reads all dead letters, step by step, and counts those that match. */
  async counts(filter: DeadLetterFilter = {}): Promise<DeadLetterCounts> {
    const matches = matcher(filter, this.#models)
    const codes = new Map<string, number>()
    const models = new Map<string | null, number>()
    let total = 0
    for await (const deadLetters of this.#steps({})) {
      for (const { failure, body } of deadLetters.filter(matches)) {
        const model = saveOf(body, this.#models)?.model ?? null
        total += 1
        codes.set(failure.code, (codes.get(failure.code) ?? 0) + 1)
        models.set(model, (models.get(model) ?? 0) + 1)
      }
    }
    const largestFirst = <Key>(counts: Map<Key, number>) => [...counts].sort(([, a], [, b]) => b - a)
    return {
      total,
      byCode: largestFirst(codes).map(([code, count]) => ({ code, count })),
      byModel: largestFirst(models).map(([model, count]) => ({ model, count })),
    }
  }

  /** Returns how many dead letters the id has, and the first ones, at most `ofIdLimit` and about 4 MB: ID_CONFLICTs last. */
  async of(id: string): Promise<{ count: number; deadLetters: DecodedDeadLetter[] }> {
    const [{ count, handles } = { count: 0, handles: [] }] = await this.#queue.deadLettersOf([id])
    const deadLetters: DecodedDeadLetter[] = []
    let bytes = 0
    for (const handle of handles.slice(0, ofIdLimit)) {
      const deadLetter = await this.#within(1, () => this.#queue.deadLetter(handle))
      bytes += deadLetter?.body.length ?? 0
      if (deadLetters.length > 0 && bytes > pageBytes) break
      if (deadLetter) deadLetters.push(this.#decoded(deadLetter))
    }
    return { count, deadLetters }
  }

  /**
   * Enqueues dead letters again: of each id one, those without the code ID_CONFLICT first, and none while the id is pending. A dry run
   * changes nothing, and returns what would be done now. Throws BAD_USER_INPUT, QUEUE_UNAVAILABLE, OUTCOME_UNKNOWN.
   */
  retry(selection: Selection, { dryRun = false, by }: RunOptions = {}): Promise<DeadLetterChange> {
    return this.#run('dead letters were retried', selection, { dryRun, by }, async (run) => {
      for await (const deadLetters of this.#retriable(selection)) {
        let left = deadLetters
        while (left.length > 0) {
          left = left.filter(({ id }) => !run.has(id))
          const step = await this.#queue.retry(handlesOf(left), { dryRun })
          run.add(left, step.changed, { isRetry: true })
          left = left.slice(step.done)
        }
      }
    })
  }

  /** Deletes dead letters permanently: all that match, and of ids all that each has. As `retry`. */
  discard(selection: Selection, { dryRun = false, by }: RunOptions = {}): Promise<DeadLetterChange> {
    return this.#run('dead letters were discarded', selection, { dryRun, by }, async (run) => {
      if ('ids' in selection) return await this.#discardIds(run, selection.ids, dryRun)
      for await (const deadLetters of this.#matching(selection.filter)) {
        if (dryRun) run.add(deadLetters, handlesOf(deadLetters))
        else await this.#discard(run, deadLetters)
      }
    })
  }

  /**
   * Enqueues a dead letter again with other input, under its id and with its time: of several dead letters of an id, the one without the code
   * ID_CONFLICT. Throws NOT_FOUND, BAD_USER_INPUT, and as `Queue.replace` does.
   */
  async edit({ id, input }: DeadLetterEdit, grant: Grant): Promise<Receipt> {
    const deadLetter = await this.#editable(id)
    const { item, model, changed } = edited(deadLetter, input, { models: this.#models, grant })
    const fields = { subject: grant.subject, saveId: id, model: model.name, columns: changed }
    try {
      const state = await this.#queue.replace(deadLetter.handle, item)
      if (!state) throw notFound(id)
      this.#log?.info(fields, 'an operator edited a dead letter')
      return receiptOf(id, model, state)
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'OUTCOME_UNKNOWN')
        this.#log?.info({ ...fields, code: error.code }, 'an operator edited a dead letter')
      throw error
    }
  }

  /** The only dead letter of the id, or the only one without the code ID_CONFLICT. */
  async #editable(id: string): Promise<DeadLetter> {
    const [{ count, handles } = { count: 0, handles: [] }] = await this.#queue.deadLettersOf([id])
    const found = await Promise.all(
      handles.slice(0, 2).map((handle) => this.#within(1, () => this.#queue.deadLetter(handle))),
    )
    const all = found.filter((one) => one !== undefined)
    if (all.length === 0) throw notFound(id)
    const plain = all.filter(({ failure }) => failure.code !== 'ID_CONFLICT')
    const [only, other] = plain.length > 0 ? plain : all
    if (!other) return only!
    throw badInput(
      `The id ${id} has ${count} dead letters, and it is not certain which one is meant. Discard the others, by a filter with the times of their failures, and edit the one that is left.`,
    )
  }

  /** Does it, and logs what was done, also where an error ended it. A dry run is not logged. */
  async #run(
    message: string,
    selection: Selection,
    { dryRun = false, by }: RunOptions,
    act: (run: Run) => Promise<void>,
  ): Promise<DeadLetterChange> {
    const run = new Run()
    let code: string | undefined
    try {
      return await run.of(act, dryRun)
    } catch (error) {
      code = error instanceof SpillwayError ? error.code : 'INTERNAL_SERVER_ERROR'
      throw error
    } finally {
      const { count, saveIds } = run.change
      const isLogged = !dryRun && code !== 'BAD_USER_INPUT'
      if (isLogged)
        this.#log?.info(
          { subject: by, ...logged(selection), count, saveIds: saveIds.slice(0, loggedIds), code },
          message,
        )
    }
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
    return this.change
  }

  get change(): DeadLetterChange {
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

/** A filter as the log has it. The text of a reason is left out, because it may be a part of a content. */
function logged(selection: Selection): object {
  if ('ids' in selection) return {}
  const { reason, ...filter } = selection.filter
  return { filter: reason == null ? filter : { ...filter, reason: 'left out' } }
}

function notFound(id: string): SpillwayError {
  return new SpillwayError(
    'NOT_FOUND',
    `${JSON.stringify(id.slice(0, 50))} is not the id of a dead letter: it may have been edited, retried or discarded. saveLookup shows where it is.`,
  )
}

const handlesOf = (deadLetters: readonly Named[]) => deadLetters.map(({ handle }) => handle)
