/** The pause and the reports of the workers on Redis, of one shard: ShardedOperations joins them. */
import type { Redis } from 'ioredis'
import type { RedisConnection } from '../redis/connection.ts'
import {
  forgetAfterMs,
  mostWorkers,
  type Operations,
  type Pause,
  type SeenWorker,
  type WorkerReport,
} from './operations.ts'
import type { ReplicatedWrites } from './redis-replicas.ts'
import type { QueueKeys, Scripts } from './redis-scripts.ts'

interface Deps {
  connection: RedisConnection
  scripts: Redis & Scripts
  writes: ReplicatedWrites
  keys: QueueKeys
}

export class RedisOperations implements Operations {
  readonly #deps: Deps

  constructor(deps: Deps) {
    this.#deps = deps
  }

  async pause(by: string | undefined): Promise<void> {
    const pause: Pause = { since: Date.now(), by }
    await this.#set(JSON.stringify(pause))
  }

  async resume(): Promise<void> {
    await this.#set('')
  }

  /** Also on a full server, and while replicas are missing: then it is in effect, and the error says that a failover may undo it. */
  async #set(pause: string): Promise<void> {
    const { keys, writes } = this.#deps
    const { unconfirmed } = await writes.writeAnyway('spillPause', [keys.paused, keys.fence, pause])
    if (unconfirmed) throw unconfirmed
  }

  async paused(): Promise<Pause | undefined> {
    const { connection, keys } = this.#deps
    return pauseOf(await connection.read((client) => client.get(keys.paused)))
  }

  async report(report: WorkerReport): Promise<void> {
    const { connection, scripts, keys } = this.#deps
    const args = [report.name, JSON.stringify(report), mostWorkers, forgetAfterMs]
    await connection.ask(() => scripts.spillReportWorker(keys.workerNames, keys.workers, ...args))
  }

  async workers(): Promise<SeenWorker[]> {
    const { connection, scripts, keys } = this.#deps
    const [now, values] = await connection.read(() => scripts.spillWorkers(keys.workerNames, keys.workers))
    return values.flatMap((value) => {
      const separator = value?.indexOf(' ') ?? -1
      if (value == null || separator < 0) return []
      const seenAt = Number(value.slice(0, separator))
      const silentMs = Math.max(0, Number(now) - seenAt)
      return silentMs > forgetAfterMs ? [] : [{ report: JSON.parse(value.slice(separator + 1)), seenAt, silentMs }]
    })
  }
}

/** Whatever the key has: that it exists is what pauses. */
export function pauseOf(value: string | null): Pause | undefined {
  if (value === null) return undefined
  try {
    const { since, by } = JSON.parse(value) as Partial<Pause>
    return { since: Number(since) || 0, by: typeof by === 'string' ? by : undefined }
  } catch {
    return { since: 0, by: undefined }
  }
}
