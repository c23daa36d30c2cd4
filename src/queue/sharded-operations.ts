/**
 * The pause and the reports of the workers of a queue of several shards. Each shard has the pause: one shard that has it pauses all, so that it
 * holds while any other one is unavailable. The reports are in shard 0.
 */
import { SpillwayError } from '../model/error.ts'
import type { Operations, Pause, SeenWorker, WorkerReport } from './operations.ts'

export class ShardedOperations implements Operations {
  readonly #shards: () => readonly Operations[]

  /** `shards` returns those that are known now, of every layout. */
  constructor(shards: () => readonly Operations[]) {
    this.#shards = shards
  }

  pause(by: string | undefined): Promise<void> {
    return this.#all('paused', (shard) => shard.pause(by))
  }

  resume(): Promise<void> {
    return this.#all('resumed', (shard) => shard.resume())
  }

  async #all(done: string, act: (shard: Operations) => Promise<void>): Promise<void> {
    const results = await Promise.allSettled(this.#shards().map(act))
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    if (reasons.length === 0) return
    const defect = reasons.find((reason) => !(reason instanceof SpillwayError))
    if (defect !== undefined || reasons.length === results.length) throw defect ?? reasons[0]
    throw new SpillwayError(
      'OUTCOME_UNKNOWN',
      `Persisting is not ${done} in every shard: ${reasons.length} of ${results.length} are unavailable. Repeat the call when they are back.`,
      { retryAfterMs: 1_000, cause: reasons[0] },
    )
  }

  /** Of the shards that answer, the first pause. Rejects if none does. */
  async paused(): Promise<Pause | undefined> {
    const results = await Promise.allSettled(this.#shards().map((shard) => shard.paused()))
    const known = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (known.length === 0) throw (results[0] as PromiseRejectedResult).reason
    return firstOf(known)
  }

  report(report: WorkerReport): Promise<void> {
    return this.#shards()[0]!.report(report)
  }

  workers(): Promise<SeenWorker[]> {
    return this.#shards()[0]!.workers()
  }
}

export function firstOf(pauses: readonly (Pause | undefined)[]): Pause | undefined {
  return pauses.filter((pause) => pause !== undefined).sort((a, b) => a.since - b.since)[0]
}
