/**
 * Suspects: entries that may have crashed their worker. Their attempts are counted durably. Invariant: an entry becomes a dead letter CRASHED
 * only after it crashed the worker, or failed with an unexpected error, `maxAttempts` times alone; crashes with others do not count.
 */
import type { Log } from '../src/model/log.ts'
import type { Model } from '../src/model/model.ts'
import { sleep } from '../src/model/sleep.ts'
import type { Consumer, Entry } from '../src/queue/queue.ts'
import { backoffMs, retry, Stopped, shardPatience } from './backoff.ts'
import { deadLetter } from './outcome.ts'
import type { Partition } from './partition.ts'
import type { Persisted } from './persist.ts'
import type { Publisher } from './publisher.ts'
import type { Sorted, Sorter } from './sort.ts'

interface Deps {
  consumer: Pick<Consumer, 'countAttempt' | 'withdrawAttempt' | 'shardOf' | 'shardCount'>
  partitions: ReadonlyMap<Model, Partition>
  sorter: Sorter
  publisher: Pick<Publisher, 'publish'>
  /** Gets rows after the attempt with them has ended. */
  finish: (partition: Partition, persisted: Persisted) => Promise<void>
  /** Gets sorted entries, of which some may be no rows. */
  finishUnsaved: (sorted: Sorted) => void
}

interface Options {
  maxAttempts: number
  log: Log
  /** After it aborts, nothing is awaited. */
  signal: AbortSignal
}

/** So many are tried together first. Those of an attempt that crashed the worker are tried alone. */
const suspectsPerAttempt = 100
/** An attempt is counted only where a statement on the table succeeded within this time: so the outage of a database that a worker waits
 *  for when it is killed is not counted against its entries. */
const evidenceMs = 1_000

export class Suspects {
  readonly #deps: Deps
  readonly #options: Options
  /** Resolves when the last counted attempt has ended. They run one at a time: after a crash only the entries that caused it are counted.
   *  Never rejects. */
  #counted: Promise<unknown> = Promise.resolve()

  constructor(deps: Deps, options: Options) {
    this.#deps = deps
    this.#options = options
  }

  /** By the model that the beginning of a message names; a message without one is tried with the first model's. */
  byPartition(entries: readonly Entry[]): Map<Partition, Entry[]> {
    const { partitions } = this.#deps
    const byPartition = new Map<Partition, Entry[]>()
    const [first] = partitions.values()
    const byName = new Map([...partitions].map(([{ name }, partition]) => [name, partition]))
    for (const entry of entries) {
      const [, name = ''] = /^\{"v":2,"model":"(\w+)"/.exec(entry.body) ?? []
      const partition = byName.get(name) ?? first!
      const some = byPartition.get(partition)
      if (some) some.push(entry)
      else byPartition.set(partition, [entry])
    }
    return byPartition
  }

  async process(partition: Partition, entries: readonly Entry[]): Promise<void> {
    for (let i = 0; i < entries.length; i += suspectsPerAttempt)
      await this.#processTogether(partition, entries.slice(i, i + suspectsPerAttempt))
  }

  /** Tries the entries together, unless an attempt with one of them crashed its worker before: then that one alone. */
  async #processTogether(partition: Partition, entries: readonly Entry[]): Promise<void> {
    const { crashed, persisted } = await this.#exclusively(partition, async () => {
      const counts = await this.#countAttempts(entries)
      const crashed = entries.filter((_, i) => counts[i]! > 1)
      if (crashed.length === 0) return { crashed, persisted: await this.#tryCounted(entries) }
      await this.#withdrawAttempts(entries)
      return { crashed }
    })
    if (persisted) return await this.#finish(persisted)
    const others = entries.filter((entry) => !crashed.includes(entry))
    if (others.length > 0 && others.length < entries.length) await this.#processTogether(partition, others)
    for (const entry of crashed.length > 0 ? crashed : entries) await this.processAlone(partition, entry)
  }

  async #finish(persisted: readonly [Partition, Persisted][]): Promise<void> {
    for (const [partition, one] of persisted) await this.#deps.finish(partition, one)
  }

  /** Dead-letters the entry after it crashed the worker `maxAttempts` times alone; crashes in a batch do not count. */
  async processAlone(partition: Partition, entry: Entry): Promise<void> {
    const { maxAttempts, log, signal } = this.#options
    for (let attempt = 1; ; attempt += 1) {
      const { crashes, persisted } = await this.#exclusively(partition, async () => {
        const [count] = await this.#countAttempts([entry])
        // Less this attempt and the first one, which was with others.
        const crashes = count! - 2
        return crashes >= maxAttempts ? { crashes } : { crashes, persisted: await this.#tryCounted([entry]) }
      })
      if (persisted) return await this.#finish(persisted)
      if (crashes >= maxAttempts) {
        log.error(
          { id: entry.id, attempts: crashes },
          'the worker crashed at every attempt with this message alone; dead-lettering it',
        )
        const details = { model: this.#deps.sorter.modelOf(entry), attempts: crashes }
        const crashed = deadLetter(entry, 'CRASHED', 'the worker crashed while processing it', details)
        return await this.#deps.publisher.publish({ saved: [], entries: [], deadLetters: [crashed] })
      }
      await sleep(backoffMs(attempt), signal)
      if (signal.aborted) throw new Stopped()
    }
  }

  /** Persists entries whose attempt is counted. The count is withdrawn unless the attempt crashes the worker or fails with an unexpected
   *  error, which is logged; then it returns undefined. */
  async #tryCounted(entries: readonly Entry[]): Promise<[Partition, Persisted][] | undefined> {
    const { sorter, partitions, finishUnsaved } = this.#deps
    const persisted: [Partition, Persisted][] = []
    try {
      const sorted = sorter.sort(entries)
      finishUnsaved(sorted)
      for (const [model, rows] of sorted.rows) {
        const partition = partitions.get(model)!
        persisted.push([partition, await partition.persister.persist(rows, { waits: false })])
      }
    } catch (error) {
      if (error instanceof Stopped) {
        await this.#withdrawAttempts(entries)
        throw error
      }
      this.#options.log.error(
        { err: error, entries: entries.length },
        'redelivered entries failed with an unexpected error',
      )
      return undefined
    }
    await this.#withdrawAttempts(entries)
    return persisted
  }

  #countAttempts(entries: readonly Entry[]): Promise<number[]> {
    return this.#retryEach(entries, (entry) => this.#deps.consumer.countAttempt(entry))
  }

  async #withdrawAttempts(entries: readonly Entry[]): Promise<void> {
    await this.#retryEach(entries, (entry) => this.#deps.consumer.withdrawAttempt(entry))
  }

  #retryEach<T>(entries: readonly Entry[], act: (entry: Entry) => Promise<T>): Promise<T[]> {
    const { log, signal } = this.#options
    const giveUp = shardPatience(this.#deps.consumer)
    const warn = (error: Error) => {
      log.warn({ reason: error.message }, 'counting an attempt failed; retrying')
      giveUp(error)
    }
    return Promise.all(entries.map((entry) => retry(() => act(entry), signal, warn)))
  }

  /** Runs `act` after every counted attempt before it has ended, where a statement on the partition's table has just succeeded. */
  async #exclusively<T>({ table }: Partition, act: () => Promise<T>): Promise<T> {
    for (;;) {
      // Not while other attempts wait: they may be of other models.
      await table.untilTakesRows(evidenceMs)
      const result = this.#counted.then(async () =>
        table.succeededWithin(evidenceMs) ? { value: await act() } : undefined,
      )
      this.#counted = result.catch(() => {})
      const done = await result
      if (done) return done.value
    }
  }
}
