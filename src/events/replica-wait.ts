/** Waits until replicas have what a connection wrote last, for a bounded time: a worker goes on without them (queue/redis-replicas.ts). */
import type { Redis } from 'ioredis'

/** Long enough for the lag of a replica that works. */
const replicasMs = 500
/** Replicas that did not confirm in that time, perhaps because the log's Redis has none, are not waited for again before this time. */
const silentMs = 10_000

export class ReplicaWait {
  readonly #replicas: number
  #from = 0

  /** `replicas`: how many should have it; with 0 nothing waits. */
  constructor(replicas = 0) {
    this.#replicas = replicas
  }

  /** On the connection that has written, with no command in between. */
  async confirm(client: Redis): Promise<void> {
    if (this.#replicas === 0 || performance.now() < this.#from) return
    const confirmed = Number(await client.call('WAIT', this.#replicas, replicasMs))
    if (confirmed < this.#replicas) this.#from = performance.now() + silentMs
  }
}
